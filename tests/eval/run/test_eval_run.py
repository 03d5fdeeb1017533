"""A run asks each problem once under each arm, whatever interrupts it, and ends with the same items."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import shutil
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run_helpers import House, facts, problem, says, source

from thyme.engines.base import Request
from thyme.errors import EngineError, StoreError, UsageError
from thyme.eval.benchmarks.base import Benchmark, left_to_judge
from thyme.eval.items import NO_VERDICT
from thyme.eval.judging import AnswerScorer, Scored
from thyme.eval.run.folder import read_items, read_run, trajectory_files
from thyme.eval.run.sources import Shard, Wanted
from thyme.store import read_trajectories
from thyme.types import Problem, Score

ALL = ("tools", "no_tools", "crop_only", "placebo", "repairs_off", "withheld", "swapped", "blanked", "retry")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a run finds that nothing interrupts."""
    return facts(asyncio.run(House().run(tmp_path_factory.mktemp("whole"), arms=ALL)))


async def test_every_problem_under_every_arm(tmp_path: Path) -> None:
    house = House()
    run = await house.run(tmp_path, arms=("tools", "no_tools"))
    assert [(item.arm, item.problem) for item in run.items] == [
        (arm, f"p{place}") for arm in ("tools", "no_tools") for place in range(9)
    ]
    assert run.missing == {}
    tools = {item.problem: item for item in run.items if item.arm == "tools"}
    assert [tools[f"p{i}"].score for i in range(4)] == [1.0, 0.0, 1.0, 0.0]
    assert tools["p1"].blocks == tools["p1"].ran == 1
    assert tools["p1"].image_sizes == ((64, 48),)
    blocked = {item.problem: item for item in run.items if item.arm == "no_tools"}
    assert (blocked["p2"].score, blocked["p2"].blocks, blocked["p0"].score) == (0.0, 0, 1.0)
    assert run.manifest.seconds is not None
    assert (run.manifest.model, run.manifest.isolation) == ("scripted", "scripted")
    assert run.manifest.benchmarks[0].problems == 9


async def test_every_trajectory_is_kept_with_its_images(tmp_path: Path) -> None:
    run = await House().run(tmp_path)
    (path,) = trajectory_files(tmp_path, "Toy", "tools")
    stored = {trajectory.id: trajectory for trajectory in read_trajectories(path)}
    assert {item.trajectory for item in run.items} == set(stored)
    assert stored["Toy.tools.p1"].observations[0].execution.images[0].loaded
    assert stored["Toy.tools.p1"].meta == {"benchmark": "Toy", "arm": "tools"}


async def test_what_could_not_differ_is_not_asked_again(tmp_path: Path) -> None:
    """A greedy rollout without code is the same in every arm that changes code's results only."""
    house = House()
    run = await house.run(tmp_path, arms=("tools", "crop_only"))
    assert not [id for id in house.asked if id in {"Toy.crop_only.p0", "Toy.crop_only.p3"}]
    item = next(item for item in run.items if (item.arm, item.problem) == ("crop_only", "p0"))
    assert (item.trajectory, item.score) == ("Toy.tools.p0", 1.0)
    warm = House()
    await warm.run(tmp_path / "warm", arms=("tools", "crop_only"), rollout={"text_temperature": 1.0})
    assert "Toy.crop_only.p0" in warm.asked, "with draws there is no such certainty"


async def test_a_finished_run_opens_nothing(tmp_path: Path) -> None:
    first = await House().run(tmp_path, mode="retry")
    house = House()
    assert facts(await house.run(tmp_path, mode="retry")) == facts(first)
    assert (house.models, house.sandboxes) == ([], [])


class Killed(BaseException):
    """What a killed process does: nothing more."""


@pytest.mark.parametrize("after", [1, 14, 36, 54])
async def test_killed_anywhere_nothing_is_asked_twice(tmp_path: Path, whole: list[dict[str, Any]], after: int) -> None:
    spans = 0

    def dies(request: Request) -> list[str]:
        nonlocal spans
        spans += 1
        if spans > after:
            raise Killed
        return says(request)

    out = tmp_path / "killed"
    first = House(dies)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - alone or in a group, as TaskGroup has it
        await first.run(out, arms=ALL)
    assert "Killed" in repr(caught.value)
    kept = {t.id for path in out.glob("trajectories/*/*.jsonl") for t in read_trajectories(path, images=False)}
    second = House()
    run = await second.run(out, arms=ALL)
    assert facts(run) == whole
    assert not kept & set(second.asked), "what was stored is asked again"


async def test_lines_cut_off_by_a_kill_are_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = await House().run(tmp_path / "whole")
    out = tmp_path / "cut"
    await House().run(out)
    for path in (*out.glob("items/*/*.jsonl"), *out.glob("trajectories/*/*.jsonl")):
        path.write_bytes(path.read_bytes()[:-40])
    house = House()
    run = await house.run(out)
    assert facts(run) == facts(whole)
    assert len(house.asked) == 1
    assert "no whole item" in caplog.text


async def test_a_trajectory_without_its_item_is_scored_not_asked(tmp_path: Path) -> None:
    """The process died between the two."""
    whole = await House().run(tmp_path, arms=("tools", "retry"))
    for path in tmp_path.glob("items/*/*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:5]))
    house = House()
    assert facts(await house.run(tmp_path, arms=("tools", "retry"))) == facts(whole)
    assert house.asked == []


async def test_at_temperature_0_the_same_twice(tmp_path: Path, whole: list[dict[str, Any]]) -> None:
    """Whatever is under way at the same time."""
    assert facts(await House(delay_s=0.0005).run(tmp_path, arms=ALL, concurrency=7)) == whole


async def test_parts_equal_the_whole(tmp_path: Path, whole: list[dict[str, Any]]) -> None:
    """Also where one problem is shown what another part's problem gave."""
    out = tmp_path / "parts"
    parts = [House() for _ in range(3)]
    first = await parts[0].run(out, arms=ALL, shard=Shard(0, 3))
    assert first.missing[("Toy", "tools")] == 6
    assert first.missing[("Toy", "swapped")] == 9, "that waits for the other parts"
    await asyncio.gather(*(parts[i].run(out, arms=ALL, shard=Shard(i, 3)) for i in (1, 2)))
    for number in range(3):
        await parts[number].run(out, arms=ALL, shard=Shard(number, 3))
    run = read_run(out)
    assert facts(run) == whole
    assert run.manifest.shards == 3
    asked = [id for house in parts for id in house.asked]
    assert len(asked) == len(set(asked))


async def test_the_whole_run_finishes_what_parts_left(tmp_path: Path, whole: list[dict[str, Any]]) -> None:
    await House().run(tmp_path, arms=ALL, shard=Shard(1, 2))
    house = House()
    run = await house.run(tmp_path, arms=ALL)
    assert run.missing == {}
    assert facts(run) == whole


async def test_arms_and_benchmarks_may_be_added(tmp_path: Path) -> None:
    await House().run(tmp_path)
    house = House()
    run = await house.run(tmp_path, source(), source(4, "Other"), arms=("no_tools",))
    assert run.manifest.arms == ("tools", "no_tools")
    assert [use.name for use in run.manifest.benchmarks] == ["Toy", "Other"]
    assert run.missing == {("Other", "tools"): 4}
    assert not any(".tools." in id for id in house.asked)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"rollout": {"max_rounds": 2}}, "rollout.max_rounds was 4, is now 2"),
        ({"sandbox": {"timeout_s": 3}}, r"sandbox.timeout_s was 10.0, is now 3.0"),
        ({"engine": {"model": "other"}}, "model was 'scripted', is now 'other'"),
        ({"engine": {"model": "scripted", "max_pixels": 9999}}, "max_pixels was None, is now 9999"),
        ({"judge": {"model": "http://localhost:1/v1#big"}}, "judge was None, is now 'big'"),
        ({"coverage": 0.9}, "coverage was 0.5, is now 0.9"),
    ],
)
async def test_other_settings_are_refused_by_name(tmp_path: Path, settings: dict[str, object], named: str) -> None:
    await House().run(tmp_path)
    house = House()
    with pytest.raises(UsageError, match=named):
        await house.run(tmp_path, **settings)
    assert house.models == [], "before a model is loaded"


async def test_benchmarks_with_like_names_are_kept_apart(tmp_path: Path) -> None:
    run = await House().run(tmp_path, source(3, "my set"), source(3, "my_set"))
    assert len({item.trajectory for item in run.items}) == 6


async def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    await House().run(tmp_path)
    with pytest.raises(UsageError, match="benchmark Toy, digest was '0', is now '1'"):
        await House().run(tmp_path, source(digest="1"))


async def test_faster_settings_are_no_others(tmp_path: Path) -> None:
    first = await House().run(tmp_path)
    again = await House().run(tmp_path, engine={"model": "scripted", "max_batch": 2}, sandbox={"pool": 0})
    assert facts(again) == facts(first)


async def test_failures_are_counted_never_scored_and_asked_again(tmp_path: Path) -> None:
    def fails(request: Request) -> list[str]:
        if "crop 4?" in request.prompt.user:
            raise EngineError("the server is gone")
        return says(request)

    run = await House(fails).run(tmp_path, arms=("tools", "withheld", "retry"))
    broken = [item for item in run.items if item.problem == "p4"]
    assert [(item.score, item.failed, item.note) for item in broken] == [(None, True, "failed: the server is gone")] * 3
    assert run.missing == {}
    again = House()
    assert facts(await again.run(tmp_path, arms=("tools", "withheld", "retry"))) == facts(
        await House().run(tmp_path / "whole", arms=("tools", "withheld", "retry"))
    )
    assert {id.split(".")[2] for id in again.asked} == {"p4"}


async def test_a_server_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    def gone(request: Request) -> list[str]:
        raise EngineError("nobody there")

    with pytest.raises(EngineError, match=r"5 rollouts failed one after the other.*nobody there"):
        await House(gone).run(tmp_path, stop_after_failures=5)
    assert len(read_items(tmp_path)) <= 5


async def test_one_folder_one_process(tmp_path: Path) -> None:
    house = House(delay_s=0.01)
    running = asyncio.create_task(house.run(tmp_path))
    await asyncio.sleep(0.05)
    with pytest.raises(UsageError, match="another process works on"):
        await House().run(tmp_path)
    with pytest.raises(UsageError, match="another process works on"):
        await House().run(tmp_path, shard=Shard(0, 2))
    await running


async def test_the_untrained_model_is_asked_in_the_same_words(tmp_path: Path) -> None:
    house = House()
    run = await house.run(tmp_path, arms=("tools", "untrained"), untrained="base")
    assert house.models == ["scripted", "base"]
    one, other = house.engines
    assert {r.prompt.user for r in other.requests} == {r.prompt.user for r in one.requests}
    assert (run.manifest.untrained, run.manifest.untrained_fingerprint) == ("base", other.info.fingerprints.model)
    with pytest.raises(UsageError, match="--untrained MODEL"):
        await House().run(tmp_path / "no", arms=("untrained",))
    with pytest.raises(UsageError, match="there is no arm tolls"):
        await House().run(tmp_path / "no", arms=("tolls",))


async def test_counterfactuals_bring_the_arm_they_are_held_against(tmp_path: Path) -> None:
    run = await House().run(tmp_path, arms=("withheld",))
    assert run.manifest.arms == ("tools", "withheld")
    withheld = {item.problem: item for item in run.items if item.arm == "withheld"}
    assert withheld["p2"].prediction == "nothing seen"
    assert withheld["p2"].changed == 1


async def test_repairs_off_has_a_sandbox_of_its_own(tmp_path: Path) -> None:
    house = House()
    await house.run(tmp_path, arms=("tools", "no_tools", "repairs_off"))
    assert [bool(config.repairs) for config in house.sandboxes] == [True, False]


async def test_no_more_problems_at_once_than_allowed(tmp_path: Path) -> None:
    most = 0

    def counted(request: Request) -> list[str]:
        nonlocal most
        most = max(most, house.engines[-1].running)
        return says(request)

    house = House(counted, delay_s=0.0005)
    await house.run(tmp_path, source(20), concurrency=4)
    assert most == 4


async def test_pixels_are_let_go(tmp_path: Path) -> None:
    """A thousand pictures would not fit; those under way, and the next, must."""
    most, made = 0, 0
    pictures: list[weakref.ref[Image.Image]] = []

    def read(wanted: Wanted) -> Iterator[tuple[int, Problem]]:
        nonlocal most, made
        for place in range(30):
            one = problem(place)
            pictures.append(weakref.ref(one.images[0].image))
            made += 1
            gc.collect()
            most = max(most, sum(picture() is not None for picture in pictures))
            yield place, one

    streamed = dataclasses.replace(source(), count=30, read=read)
    gc.collect()
    gc.freeze()  # or each collection would look at all that other tests have imported
    try:
        await House(forgets=True).run(tmp_path, streamed, arms=("tools", "withheld"), concurrency=3)
    finally:
        gc.unfreeze()
    assert made == 30
    assert 1 <= most <= 3 + 2, "those under way, the one that is read, and one that the reader still names"


def test_parts_are_read_from_words() -> None:
    assert Shard.parse("1/4") == Shard(1, 4)
    for text in ("4/4", "-1/4", "1", "a/b", "1/2/3", ""):
        with pytest.raises(UsageError, match="I/N"):
            Shard.parse(text)
    assert [place for place in range(9) if Shard(1, 4).holds(place)] == [1, 5]


async def test_progress_tells_the_score_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await House().run(tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "9/9" in shown.err
    assert "tools 55.6" in shown.err


async def test_what_nobody_can_score_is_done_nevertheless(tmp_path: Path) -> None:
    """Free answers without a judge have no score, and no other run would give them one."""
    one = source(3)
    free = dataclasses.replace(one.benchmark, score=lambda problem, answer: left_to_judge("free answer", None))
    run = await House().run(tmp_path, dataclasses.replace(one, benchmark=free))
    assert [item.score for item in run.items] == [None] * 3
    house = House()
    await house.run(tmp_path, dataclasses.replace(one, benchmark=free))
    assert house.models == []


async def test_an_arm_may_be_added_when_the_rollouts_are_gone(tmp_path: Path) -> None:
    """They are the largest part of a folder; the items say what the arm with code came to."""
    first = await House().run(tmp_path)
    shutil.rmtree(tmp_path / "trajectories")
    run = await House().run(tmp_path, arms=("crop_only",))
    scores = {item.problem: item.score for item in first.items}
    plain = [item for item in run.items if item.arm == "crop_only" and not item.blocks]
    assert [(item.problem, item.score) for item in plain] == [(id, scores[id]) for id in ("p0", "p3", "p6")]
    assert run.missing == {}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "item"), "item: No space left on device; what was asked is"),
        (BlockingIOError(errno.EAGAIN, "try again"), "try again"),
    ],
)
async def test_a_folder_that_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    def full(path: Path, item: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("thyme.eval.run.ledger.append_item", full)
        with pytest.raises(StoreError, match=told):
            await House().run(tmp_path)
    house = House()
    assert (await house.run(tmp_path)).missing == {}
    assert not {"Toy.tools.p0"} & set(house.asked), "its rollout was kept"


async def test_a_verdict_that_was_not_to_be_had_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict, not the model."""
    there = False

    class Scorer(AnswerScorer):
        async def score(self, benchmark: Benchmark, problem: Problem, answer: str | None) -> Scored:
            if problem.id == "p2" and not there:
                return Scored(Score(value=None, note=f"open; {NO_VERDICT}the judge is gone"))
            return await super().score(benchmark, problem, answer)

    @asynccontextmanager
    async def opened(judge: object, *, cache: Path) -> AsyncIterator[AnswerScorer]:
        yield Scorer()

    monkeypatch.setattr("thyme.eval.run.run.open_answer_scorer", opened)
    run = await House().run(tmp_path, arms=("tools", "withheld"))
    unscored = [item for item in run.items if item.score is None]
    assert [(item.arm, item.problem, item.failed) for item in unscored] == [
        ("tools", "p2", False), ("withheld", "p2", False),
    ]  # fmt: skip
    assert all(item.waits_for_verdict for item in unscored)
    there = True
    house = House()
    again = await house.run(tmp_path, arms=("tools", "withheld"))
    assert house.asked == []
    assert [item.score for item in again.items if item.problem == "p2"] == [1.0, 0.0]
