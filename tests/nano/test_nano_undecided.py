"""Demonstrations whose tool decision is a coin's: half and half of every kind, true where that can be seen."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from thyme.config.training import DataSource
from thyme.errors import ConfigError
from thyme.families import load_family
from thyme.markup import extract_answer
from thyme.nano import checkpoint_path
from thyme.nano.sources import DrawnRows, drawn_problem, nano_readers
from thyme.nano.teacher import plan
from thyme.nano.undecided import AT_ONCE, BY_CODE, CODE_SHARES, SHARES, at_once, legible, undecided, with_code
from thyme.nano.world import CHARACTERS, COLORS, COMPUTE, KINDS, READ_ONE, READ_TWO, Kind, problem
from thyme.prompts import PromptSet
from thyme.train.encode import MaskPolicy, encode_item
from thyme.types import Problem


def bare(kind: Kind, index: int) -> Problem:
    """A problem as the plans read it, without its picture: a thousand scenes would take a minute to draw."""
    rng = random.Random(f"{kind}/{index}")
    name = f"nano-train-0-{kind}-{index}"
    words = {"arithmetic": COMPUTE, "two_round": READ_TWO}.get(kind, READ_ONE)
    question = rng.choice(words)
    if kind == "arithmetic":
        return Problem(id=name, question=question, answer="1391", kind=kind, meta={"expression": "690 + 736 - 35"})
    count = 2 if kind == "two_round" else 1
    large = kind in {"easy", "rotation", "contrast"} or (kind == "medium" and rng.random() < 0.5)
    labels = ["".join(rng.choices(CHARACTERS, k=2)) for _ in range(count)]
    meta: dict[str, Any] = {
        "colors": rng.sample(list(COLORS), count),
        "large": [large] * count,
        "stated": [[320, 640], [96, 928]][:count],
        "angle": 90,
    }
    return Problem(id=name, question=question, answer=" ".join(labels), kind=kind, meta=meta)


def test_half_of_every_kind_is_answered_at_once_whatever_it_needs() -> None:
    """Only the wording loads the coin, alike for every kind."""
    for kind in KINDS:
        asked = [bare(kind, index) for index in range(600)]
        shown = [undecided(one) for one in asked]
        assert sum(bool(steps.rounds) for steps in shown) == pytest.approx(300, abs=60), kind  # five deviations
        for word, share in CODE_SHARES.items():
            coded = [
                bool(steps.rounds) for one, steps in zip(asked, shown, strict=True) if one.question.startswith(word)
            ]
            assert not coded or sum(coded) / len(coded) == pytest.approx(share, abs=0.17), (kind, word)
        for steps in shown:
            first = steps.rounds[0][0] if steps.rounds else steps.conclusion
            assert first.startswith(BY_CODE if steps.rounds else AT_ONCE)


def test_what_is_answered_at_once_is_true_where_it_can_be_read_and_a_guess_elsewhere() -> None:
    for kind in KINDS:
        right: Counter[tuple[bool, bool]] = Counter()
        for index in range(300):
            asked = bare(kind, index)
            steps = at_once(asked, random.Random(index))
            assert steps.answer in steps.conclusion or kind == "two_round"
            assert all(part in steps.conclusion for part in steps.answer.split())
            assert len(steps.answer.split()) == len((asked.answer or "").split())
            right[legible(asked), steps.answer == asked.answer] += 1
        assert right[True, False] == 0, kind
        assert right[False, True] <= 9, kind  # one in 256 by chance
        assert (right[True, True] > 0) == (kind in {"easy", "medium"})
        assert (right[False, False] > 0) == (kind != "easy")


def test_code_is_the_teachers_and_what_it_says_of_sizes_is_true() -> None:
    for kind in KINDS:
        for index in range(40):
            asked = bare(kind, index)
            steps, teacher = with_code(asked), plan(asked)
            assert steps.answer == asked.answer
            if teacher.rounds:
                assert [code for _, code in steps.rounds] == [code for _, code in teacher.rounds]
            if said := re.search(r"I see \w+ (small|large)\.", steps.rounds[0][0]):
                assert said[1] == ("large" if asked.meta["large"][0] else "small")


def open_source(cache: Path, **settings: Any) -> DrawnRows:
    prompts = PromptSet.load(checkpoint_path("final") / "prompts")
    reader = nano_readers(cache, checkpoint_path("base"), prompts, lambda line: None)["nano"]
    rows: DrawnRows = reader(DataSource(format="nano", **settings))
    return rows


def test_the_source_is_asked_for_by_a_word_before_the_kinds(tmp_path: Path) -> None:
    """Rows are functions of seed and place; their code ran; the teacher's own demonstrations are another source."""
    family = load_family(checkpoint_path("base"))
    rows = list(open_source(tmp_path / "a", subset="undecided, easy, zoom, arithmetic", limit=8))
    again = list(open_source(tmp_path / "b", subset="undecided,easy,zoom,arithmetic", limit=4))
    assert [row.response for row in again] == [row.response for row in rows[:4]]
    assert [row.id for row in again] == [row.id for row in rows[:4]]
    for index, row in enumerate(rows):
        asked = drawn_problem(0, index, ("easy", "zoom", "arithmetic"), SHARES)
        assert row.id == asked.id
        steps = undecided(asked)
        assert len(row.observations) == len(steps.rounds)
        assert extract_answer(row.response) == steps.answer
        assert all(seen.execution.error is None for seen in row.observations)
        assert encode_item(row, family, MaskPolicy.ALL).trained > 0
    assert {len(row.observations) for row in rows} == {0, 1}
    plain = open_source(tmp_path / "a", subset="easy,zoom,arithmetic", limit=8)
    assert (
        plain.fingerprint != open_source(tmp_path / "a", subset="undecided,easy,zoom,arithmetic", limit=8).fingerprint
    )
    assert plain.path != open_source(tmp_path / "a", subset="undecided,easy,zoom,arithmetic", limit=8).path


def test_shares_name_every_kind_and_an_unknown_word_is_refused(tmp_path: Path) -> None:
    assert tuple(sorted(SHARES)) == tuple(sorted(KINDS))
    found = Counter(row.kind for row in _problems(300))
    assert set(found) == set(KINDS)
    with pytest.raises(ConfigError, match="'undecided' may stand before them"):
        open_source(tmp_path, subset="zoom,undecided")


def _problems(count: int) -> list[Problem]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thyme.nano.sources.problem", lambda split, seed, index, kind: bare(kind, index))
        return [drawn_problem(0, index, KINDS, SHARES) for index in range(count)]


def test_a_problem_of_another_world_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of the embedded world"):
        undecided(Problem(id="x", question="?", answer="1", kind="other"))


def test_a_real_problem_has_all_that_the_plans_read() -> None:
    for kind in KINDS:
        asked = problem("train", 0, 0, kind)
        assert with_code(asked).rounds
        assert not at_once(asked, random.Random(0)).rounds
