"""Rewards of one's own: where the functions come from, what they add, and what is said where they do not pay."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from reward_samples import answered

from thyme.config.load import overridden
from thyme.config.rewards import OwnReward, RewardSettings
from thyme.errors import ConfigError
from thyme.rewards import combine, open_scorer
from thyme.rewards.own import load_own, own_fingerprint
from thyme.types import Score

SOURCE = """
from beside import WORTH

calls = []

def fixed(trajectory):
    calls.append(trajectory.id)
    return WORTH

async def later(trajectory):
    return True

def silent(trajectory):
    return None

def broken(trajectory):
    return trajectory.nothing

def wordy(trajectory):
    return "much"

NUMBER = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    (tmp_path / "beside.py").write_text("WORTH = 0.5\n")
    return path


def settings(source: Path | str, name: str, weight: float = 0.2, *, only_right: bool = False) -> RewardSettings:
    own = OwnReward(function=f"{source}:{name}", weight=weight, only_right=only_right)
    return RewardSettings(own={"mine": own})


async def score(made: RewardSettings, answer: str = "42") -> tuple[Score, int]:
    async with open_scorer(made) as scorer:
        return await scorer.score(answered(answer)), scorer.counters["own_failures"]


async def test_it_is_added_by_its_weight(source: Path) -> None:
    paid, failures = await score(settings(source, "fixed"))
    assert (paid.value, paid.parts["mine"], failures) == (pytest.approx(2.1), 0.5, 0)
    assert combine(paid.parts, settings(source, "fixed")) == paid.value
    wrong, _ = await score(settings(source, "fixed", -1), "43")
    assert wrong.value == pytest.approx(0.0)
    later, _ = await score(settings(source, "later"))
    assert (later.value, later.parts["mine"]) == (pytest.approx(2.2), 1.0)


async def test_it_is_not_called_where_it_pays_nothing(source: Path) -> None:
    calls = load_own(settings(source, "fixed").own)["mine"]._pay.__globals__["calls"]  # type: ignore[attr-defined]
    calls.clear()
    gated, _ = await score(settings(source, "fixed", only_right=True), "43")
    unweighted, _ = await score(settings(source, "fixed", 0))
    assert (gated.value, gated.parts["mine"], calls) == (0.5, None, [])
    assert unweighted.value == 2.0
    right, _ = await score(settings(source, "fixed", only_right=True))
    assert (right.value, calls) == (pytest.approx(2.1), ["t"])


@pytest.mark.parametrize(
    ("name", "note", "failed"),
    [
        ("silent", "no mine", 0),
        ("broken", "AttributeError: .*; mine.py, line 17", 1),
        ("wordy", "it gave 'much', which is no number", 1),
    ],
)
async def test_what_does_not_pay_leaves_the_rollout_unscored(source: Path, name: str, note: str, failed: int) -> None:
    unpaid, failures = await score(settings(source, name))
    assert (unpaid.value, unpaid.parts["mine"], failures) == (None, None, failed)
    assert re.search(note, unpaid.note)


async def test_a_slow_one_is_called_one_at_a_time_and_stops_nobody(tmp_path: Path) -> None:
    """Twice at once would be an error of the function; the event loop goes on meanwhile."""
    path = tmp_path / "slow.py"
    path.write_text(
        "import time\nbusy = []\ndef slow(trajectory):\n    assert not busy\n"
        "    busy.append(1)\n    time.sleep(0.1)\n    busy.pop()\n    return 1\n"
    )
    async with open_scorer(settings(path, "slow")) as scorer:
        scoring = asyncio.gather(*(scorer.score(answered("42")) for _ in range(3)))
        begun, turns = time.perf_counter(), 0
        while not scoring.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert time.perf_counter() - begun >= 0.3
        assert turns > 3  # of the loop; it would be one if a call held it up
        assert [one.parts["mine"] for one in await scoring] == [1.0, 1.0, 1.0]


async def test_a_module_is_taken_by_its_name() -> None:
    paid, _ = await score(settings("thyme.rewards.consistency", "reasoning"))
    assert "it gave ('I count 42.',), which is no number" in paid.note


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("missing.py:f", "no file 'missing.py'; a path counts from the folder that the command runs in"),
        ("no_such_module_here:f", "needs the module 'no_such_module_here'.*PYTHONPATH"),
        ("{folder}/mine.py:fixd", "mine.py has no such function"),
        ("{folder}/mine.py:NUMBER", "'NUMBER' is no function"),
        ("{folder}/typo.py:f", r"typo.py cannot be run \(SyntaxError"),
        ("{folder}/needs.py:f", "needs the module 'no_such_thing'"),
        ("{folder}/reads.py:f", r"reads.py cannot be run \(FileNotFoundError: .*words.txt'; reads.py, line 1"),
    ],
)
def test_a_function_that_is_not_to_be_had_is_said(source: Path, named: str, said: str) -> None:
    (source.parent / "typo.py").write_text("def f(:\n")
    (source.parent / "needs.py").write_text("import no_such_thing\n")
    (source.parent / "reads.py").write_text("WORDS = open('words.txt').read()\n")
    where, _, name = named.format(folder=source.parent).rpartition(":")
    with pytest.raises(ConfigError, match=f"rewards.own.mine.function.*{said}"):
        load_own(settings(where, name).own)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("own.mine={function='mine.py',weight=1}", "FILE.py:NAME or package.module:NAME"),
        ("own.mine={function='mine.py:f'}", "'own.mine.weight' is missing"),
        ("own.mine={function='mine.py:f',weight=inf}", "own.mine.weight"),
        ("own.mine={function='mine.py:f',weight=1,wieght=1}", "did you mean 'own.mine.weight'"),
        ("own.result={function='mine.py:f',weight=1}", "rewards.result is a setting already"),
        ("own={'a b'={function='mine.py:f',weight=1}}", "'a b' is no name of a part"),
    ],
)
def test_settings_that_cannot_be_are_said(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        overridden(RewardSettings(), [override])


def test_another_function_is_another_run_and_none_is_as_before(source: Path) -> None:
    assert "own" not in RewardSettings().model_dump()
    assert "own" not in RewardSettings().model_dump_json()
    prints = {own_fingerprint(settings(source, name, weight).own) for name, weight in (("fixed", 1), ("fixed", 2))}
    prints.add(own_fingerprint(settings(source, "later", 1).own))
    source.write_text(SOURCE + "# another\n")
    prints.add(own_fingerprint(settings(source, "fixed", 1).own))
    assert len(prints) == 4
    assert RewardSettings.model_validate_json(settings(source, "fixed").model_dump_json()) == settings(source, "fixed")
