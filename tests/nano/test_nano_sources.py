"""The embedded world as a source: drawn once, gone on with after an interruption, the same whatever the limit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from thyme.config.training import DataSource
from thyme.errors import ConfigError
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.nano import sources as module
from thyme.nano.sources import Demonstrations, DrawnRows, drawn_problem, nano_problems, nano_readers
from thyme.nano.tuning import REPLAYED, SHARES
from thyme.nano.world import KINDS, problem
from thyme.prompts import PromptSet
from thyme.train.encode import Dialogue, MaskPolicy, encode_item
from thyme.types import Trajectory


def open_source(cache: Path, **settings: Any) -> DrawnRows:
    prompts = PromptSet.load(checkpoint_path("final") / "prompts")
    reader = nano_readers(cache, checkpoint_path("base"), prompts, lambda line: None)["nano"]
    rows: DrawnRows = reader(DataSource(format="nano", **settings))
    return rows


def test_demonstrations_ran_their_code_and_can_be_encoded(tmp_path: Path) -> None:
    rows = open_source(tmp_path, subset="zoom, arithmetic", limit=4)
    assert len(rows) == 4
    assert not list(tmp_path.iterdir())  # nothing is drawn before it is asked for
    family = load_family(checkpoint_path("base"))
    for index, row in enumerate(rows):
        assert isinstance(row, Trajectory)
        assert row.id == drawn_problem(0, index, ("zoom", "arithmetic")).id
        assert [observation.execution.error for observation in row.observations] == [None]
        assert encode_item(row, family, MaskPolicy.ALL).trained > 0
    assert {row.problem.kind for row in rows} == {"zoom", "arithmetic"}


def test_rows_are_the_same_whatever_the_limit_and_however_often_drawing_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(open_source(tmp_path / "a", subset="arithmetic", limit=5))
    part = list(open_source(tmp_path / "b", subset="arithmetic", limit=2))
    file = next((tmp_path / "b").rglob("rows.jsonl"))
    lines = file.read_bytes()
    file.write_bytes(lines[:-20])  # killed in the middle of a line
    drawn: list[range] = []
    draw = Demonstrations._draw
    monkeypatch.setattr(Demonstrations, "_draw", lambda self, todo: [drawn.append(todo), draw(self, todo)][1])
    resumed = list(open_source(tmp_path / "b", subset="arithmetic", limit=5))
    assert drawn == [range(1, 5)]
    assert [row.id for row in resumed] == [row.id for row in whole]
    assert [row.segments[1] for row in resumed] == [row.segments[1] for row in whole]
    assert [row.id for row in part] == [row.id for row in whole[:2]]
    list(open_source(tmp_path / "b", subset="arithmetic", limit=3))
    assert len(drawn) == 1  # fewer than there are: nothing is drawn


def test_perception_stands_under_the_bases_own_prompt(tmp_path: Path) -> None:
    rows = open_source(tmp_path, subset="perception", limit=6, seed=3)
    family = load_family(checkpoint_path("base"))
    for row in rows:
        assert isinstance(row, Dialogue)
        assert row.system == "Look and answer."
        assert [image.size for image in row.images] == [(128, 128)]
        assert encode_item(row, family).trained > 0
    again = open_source(tmp_path / "other", subset="perception", limit=2, seed=3)
    assert [row.turns for row in again] == [row.turns for row in rows][:2]


def test_perception_is_mixed_as_for_the_shipped_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chances of keeping a view bring the kinds to the shares of `REPLAYED`."""
    kinds: Counter[str] = Counter()

    def note(rng: Any, view: Any, phase: str, count: int) -> list[tuple[str, str]]:
        kinds[view.kind] += 1
        return [("?", "!")]

    monkeypatch.setattr(module, "turns", note)
    monkeypatch.setattr(module, "_as_png", lambda pixels: "")
    monkeypatch.setattr(module, "draw_views", bare_views)
    rows = open_source(tmp_path, subset="perception", limit=6000)
    with pytest.raises(Exception, match="image"):  # the pictures were left out; the lines are all there
        rows[0]
    assert len(json.loads((tmp_path / "perception-0.jsonl").read_text().splitlines()[-1])["turns"]) == 1
    whole, named = sum(kinds.values()), sum(REPLAYED.values())
    for kind, share in REPLAYED.items():
        assert kinds[kind] / whole == pytest.approx(share / named, abs=0.035), kind


def bare_views(rng: Any) -> list[tuple[None, None, Any]]:
    """The kinds of `thyme.nano.perception.views.draw_views` without its pictures."""
    from thyme.nano.perception.views import View

    style = rng.choices(("large", "mixed", "small"), (0.40, 0.22, 0.38))[0]
    small = {"large": 0, "mixed": rng.randint(1, 2), "small": 2}[style]
    kinds = [style, *["crop"] * small]
    if style == "large" and rng.random() < 0.4:
        kinds.append("turned")
    if style == "large" and rng.random() < 0.35:
        kinds += ["faint", "enhanced"]
    return [(None, None, View(kind, 0, ())) for kind in kinds]


def test_the_kinds_come_in_the_shares_of_the_shipped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "problem", lambda split, seed, index, kind: kind)
    found = Counter(map(str, (drawn_problem(1, index, KINDS) for index in range(4000))))
    for kind, share in SHARES.items():
        assert found[kind] / 4000 == pytest.approx(share / sum(SHARES.values()), abs=0.03), kind


def test_problems_are_those_of_the_world_and_never_of_its_training_split() -> None:
    drawn = nano_problems(DataSource(format="nano", split="test", subset="zoom,easy", limit=3, seed=7))
    assert [p.id for p in drawn] == [
        p.id for p in (problem("test", 7, i, k) for i, k in ((0, "easy"), (0, "zoom"), (1, "easy")))
    ]
    assert [p.id for p in drawn[1:]] == [drawn[1].id, drawn[-1].id]
    with pytest.raises(IndexError):
        drawn[3]
    with pytest.raises(ConfigError, match="no measure"):
        nano_problems(DataSource(format="nano"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": "zoom,zom"}, "no kind 'zom'; its kinds are easy, .*perception"),
        ({"split": "test"}, "of the split 'train', not 'test'"),
    ],
)
def test_what_the_world_does_not_have_is_named(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(tmp_path, **settings)
