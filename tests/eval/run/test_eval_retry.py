"""The retry mode: failing code is rolled back, a turn without an answer starts over; who is right is not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_helpers import House, source

from thyme.engines.base import Request
from thyme.eval.items import ItemResult
from thyme.eval.run.folder import read_items
from thyme.types import Generated, Observation

LOOK = "<think>I look.\n<code>\nlook()\n</code>"
BROKEN = " Again.\n<code>\nbroken()\n</code>"
GIVES_UP = " I cannot.</think>"


def answer(text: str) -> str:
    return f" So.</think>\n<answer>{text}</answer>"


def fails(code: str) -> bool:
    return "broken" in code


def written(request: Request) -> int:
    """Rounds that the trajectory has."""
    return sum(isinstance(segment, Observation) for segment in request.segments)


async def one(out: Path, script: Any, **settings: Any) -> tuple[dict[str, ItemResult], House]:
    """The first problem that asks for code, in both modes."""
    house = House(script, fails=fails)
    run = await house.run(out, source(1), mode="retry", **settings)
    return {item.arm: item for item in run.items}, house


async def test_a_failing_block_is_rolled_back_and_tried_again_warmer(tmp_path: Path) -> None:
    def script(request: Request) -> list[str]:
        warm = request.temperature == 1.0
        return [LOOK, " Better.\n<code>\nlook()\n</code>" if warm else BROKEN, answer("0"), answer("0")]

    items, house = await one(tmp_path, script)
    assert (items["tools"].attempts, items["tools"].blocks, items["tools"].ran) == (1, 2, 1)
    retry = items["retry"]
    assert (retry.attempts, retry.blocks, retry.ran, retry.score) == (2, 4, 3, 1.0)
    second = [r for r in house.engines[0].requests if r.trajectory_id == "Toy.retry.p0.2"]
    assert [s.text for s in second[0].segments if isinstance(s, Generated)] == [
        "<think>I look.\n<code>",
        "\nlook()\n</code>",
    ]
    assert written(second[0]) == 1, "the good round is kept, and only what failed is written again"
    assert {r.temperature for r in second} == {1.0}


async def test_each_attempt_draws_otherwise_in_a_session_of_the_same_seed(tmp_path: Path) -> None:
    def script(request: Request) -> list[str]:
        return [LOOK, BROKEN, answer("0")]

    items, house = await one(tmp_path, script, retry={"attempts": 4})
    assert items["retry"].attempts == 4
    first = {
        number: next(r.seed for r in house.engines[0].requests if r.trajectory_id == f"Toy.retry.p0.{number}")
        for number in (2, 3, 4)
    }
    assert len(set(first.values())) == 3
    seeds = {s.seed for s in _stored(tmp_path)}
    assert len(seeds) == 1
    assert (items["retry"].score, items["retry"].prediction) == (1.0, "0"), "an answer behind failing code still counts"


def _stored(out: Path) -> list[Any]:
    from thyme.store import read_trajectories

    return [t for path in out.glob("trajectories/*/*.jsonl") for t in read_trajectories(path, images=False)]


async def test_no_answer_starts_over(tmp_path: Path) -> None:
    def script(request: Request) -> list[str]:
        return [LOOK, answer("0") if request.temperature else GIVES_UP]

    items, house = await one(tmp_path, script)
    assert (items["tools"].prediction, items["tools"].score) == (None, 0.0)
    assert (items["retry"].prediction, items["retry"].score, items["retry"].attempts) == ("0", 1.0, 2)
    second = next(r for r in house.engines[0].requests if r.trajectory_id == "Toy.retry.p0.2")
    assert second.segments == ()


async def test_what_nobody_answered_is_asked_in_plain_words(tmp_path: Path) -> None:
    def script(request: Request) -> list[str]:
        return ["It is 0"] if "helpful assistant" in request.prompt.system else [LOOK, GIVES_UP]

    items, house = await one(tmp_path, script)
    retry = items["retry"]
    assert (retry.attempts, retry.prediction, retry.score) == (6, "It is 0", 1.0)
    plain = next(r for r in house.engines[0].requests if r.trajectory_id == "Toy.retry.p0.6")
    assert (plain.prompt.system, plain.prompt.user) == ("You are a helpful assistant.", "<image>\nplain 0?")
    assert (plain.blocked, plain.temperature) == (("<code>",), 0.0)
    without, _ = await one(tmp_path / "without", script, retry={"plain": False})
    assert (without["retry"].attempts, without["retry"].prediction) == (5, None)


async def test_wrong_answers_are_not_asked_again(tmp_path: Path) -> None:
    items, house = await one(tmp_path, lambda request: [LOOK, answer("wrong")])
    assert (items["retry"].attempts, items["retry"].score) == (1, 0.0)
    assert house.asked == ["Toy.tools.p0"]
    assert items["retry"].trajectory == items["tools"].trajectory


async def test_one_run_reports_both(tmp_path: Path) -> None:
    """And the mode adds no more than its arm."""
    script = [LOOK, answer("0")]
    items, _ = await one(tmp_path, lambda request: script)
    assert set(items) == {"tools", "retry"}
    assert len(read_items(tmp_path)) == 2
