"""Groups are rolled out and scored, whatever fails: nothing is lost, mixed up, waited for in vain, or scored as 0."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import grpo_rollers as made
import psutil
import pytest
from grpo_rollers import (
    RIGHT,
    WRONG,
    FixedPolicy,
    ToldSandbox,
    asked,
    coded,
    member_of,
    roller_over,
    says,
    scripted,
)
from PIL import Image
from waiting import until

from thyme.config import RolloutConfig
from thyme.config.rewards import JudgeSettings, RewardSettings
from thyme.config.sandbox import SandboxConfig
from thyme.engines.base import Request
from thyme.errors import EngineError, TrainingError
from thyme.train.grpo.draws import member_seed
from thyme.train.grpo.roller import COUNTERS, GroupRoller
from thyme.types import Execution, ImageRecord, Problem, StopReason

# --- what a roll gives ------------------------------------------------------------------------------------------------


def test_groups_come_in_order_with_their_own_seeds_and_names() -> None:
    with roller_over(says(RIGHT), seed=5) as roller:
        groups = roller.roll(None, asked(3, first=4), step=2, group=4)
    assert [group.asked.place for group in groups] == [4, 5, 6]
    for group in groups:
        for number, member in enumerate(group.members):
            trajectory = member.trajectory
            assert trajectory.problem.id == f"p{group.asked.place}"
            assert trajectory.seed == member_seed(5, 2, group.asked.place, 0, number)
            where = {"step": 2, "place": group.asked.place, "attempt": 0, "member": number}
            assert trajectory.meta["grpo"] == where
            assert member.attempts == 1
    names = [t.id for t in made.trajectories(groups)]
    assert len(set(names)) == 12
    assert len({t.seed for t in made.trajectories(groups)}) == 12
    assert made.rewards(groups) == [(2.0,) * 4] * 3


def test_rewards_are_those_of_the_settings() -> None:
    def script(request: Request) -> Sequence[str]:
        return [RIGHT if member_of(request).endswith(("-0", "-2")) else WRONG]

    with roller_over(scripted(script), rewards=RewardSettings(result=1.0, consistency=0.0, format=0.25)) as roller:
        groups = roller.roll(None, asked(2), step=0, group=3)
    assert made.rewards(groups) == [(1.25, 0.25, 1.25)] * 2
    assert groups[0].members[0].score.parts["result"] == 1.0


def test_code_runs_and_pays(tmp_path: Any) -> None:
    engine = says(*coded("print(3 + 4)"))
    with roller_over(engine, SandboxConfig(pool=1), rewards=RewardSettings(tool_cost=0.1)) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
    for member in group.members:
        assert member.trajectory.observations[0].execution.stdout.strip() == "7"
        assert member.score.value == pytest.approx(1.9)


def test_the_policy_is_told_the_model_and_the_step() -> None:
    policy, model = FixedPolicy(says(RIGHT)), object()
    options = {"config": RolloutConfig(), "sandbox": ToldSandbox(made.prints_seven).opened}
    roller = GroupRoller(policy, made.WORDS, rewards=RewardSettings(), **options)  # type: ignore[arg-type]
    roller.roll(model, asked(1), step=7, group=2)
    roller.roll(model, [], step=7, group=2)
    roller.close()
    roller.close()
    assert policy.asked == [(model, 7), (model, 7)]
    assert policy.closed == 1
    with pytest.raises(TrainingError, match="the roller is closed"):
        roller.roll(model, asked(1), step=8, group=2)


def test_no_more_are_under_way_than_wanted() -> None:
    sandbox = ToldSandbox(made.prints_seven)
    with roller_over(says(*coded("x")), sandbox.opened, concurrency=3) as roller:
        roller.roll(None, asked(4), step=0, group=4)
    assert sandbox.most_open == 3
    assert (sandbox.open_now, sandbox.closed) == (0, 1)


# --- nobody waits for another -----------------------------------------------------------------------------------------


def test_rollouts_do_not_wait_for_code_of_others() -> None:
    """One program ends only when every other rollout has ended. Were anybody to wait for it, nobody ever would."""
    over: list[str] = []

    async def run(source: str) -> Execution:
        if "slow" in source:
            await until(lambda: len(over) == 7)
        return Execution(code=source, stdout="7")

    def script(request: Request) -> Sequence[str]:
        return coded("slow" if member_of(request) == "000000-0000-0-0" else "fast")

    engine = scripted(script)
    release = engine.release

    async def noting(trajectory_id: str) -> None:
        over.append(trajectory_id)
        await release(trajectory_id)

    engine.release = noting  # type: ignore[method-assign]
    with roller_over(engine, ToldSandbox(run).opened, concurrency=2) as roller:
        groups = roller.roll(None, asked(2), step=0, group=4)
    assert over[-1] == "000000-0000-0-0"
    assert made.rewards(groups) == [(2.0,) * 4] * 2


def test_judges_are_asked_while_others_are_still_written() -> None:
    """The last rollout goes on only when a judge has been asked about the first."""
    with made.judge() as judge:
        waited: list[int] = []

        async def run(source: str) -> Execution:
            await until(lambda: len(judge.asked_at) >= 2)  # one is the check before the run
            waited.append(len(judge.asked_at))
            return Execution(code=source, stdout="7")

        def script(request: Request) -> Sequence[str]:
            return [RIGHT] if member_of(request).endswith("-0") else coded("wait")

        with roller_over(scripted(script), ToldSandbox(run).opened, rewards=judge.settings) as roller:
            groups = roller.roll(None, asked(1), step=0, group=2)
    assert waited
    assert made.rewards(groups) == [(1.5, 1.5)]


def test_a_place_is_not_held_while_a_judge_thinks() -> None:
    """One rollout at a time, and a judge that answers only when it has been asked about all of them."""
    with made.judge() as judge:
        all_asked = threading.Event()

        def script(request: Request) -> Sequence[str]:
            return [RIGHT.replace("It is", f"Number {member_of(request)[-1]} says it is")]

        judge.hold = lambda asked_at: len(asked_at) == 1 or all_asked.wait(30)
        judge.seen = lambda asked_at: all_asked.set() if len(asked_at) == 4 else None
        with roller_over(scripted(script), rewards=judge.settings, concurrency=1) as roller:
            groups = roller.roll(None, asked_about(3), step=0, group=1)
    assert made.rewards(groups) == [(1.5,)] * 3


def asked_about(count: int) -> list[Any]:
    """Different questions: what is asked twice, a judge is asked once."""
    return [asked(1, first=place, question=f"Which number is at {place}?")[0] for place in range(count)]


# --- what fails -------------------------------------------------------------------------------------------------------


class Failing:
    """A script that fails for some rollouts as often as wanted."""

    def __init__(self, times: int, *, only: str = "", after_code: bool = False) -> None:
        self.times, self.only, self.after_code = times, only, after_code
        self.failed: Counter[str] = Counter()

    def __call__(self, request: Request) -> Sequence[Any]:
        name = member_of(request)
        if self.only in name and len(request.segments) == (3 if self.after_code else 0):
            self.failed[name] += 1
            if self.failed[name] <= self.times:
                error = EngineError("out of memory")
                return [coded("x")[0], error] if self.after_code else [error]
        return coded("x")


@pytest.mark.parametrize("after_code", [False, True])
def test_a_rollout_that_the_engine_failed_in_is_begun_again(after_code: bool) -> None:
    """With its own seed: what comes of it is what would have come of it."""
    with roller_over(scripted(Failing(1, only="-0001-0-2", after_code=after_code))) as roller:
        groups = roller.roll(None, asked(2), step=0, group=4)
        counts = roller.counters
    with roller_over(scripted(Failing(0))) as roller:
        undisturbed = roller.roll(None, asked(2), step=0, group=4)
    assert made.written(groups) == made.written(undisturbed)
    assert [t.seed for t in made.trajectories(groups)] == [t.seed for t in made.trajectories(undisturbed)]
    assert [m.attempts for g in groups for m in g.members] == [1] * 6 + [2, 1]
    assert counts["rollouts"] == 9
    assert (counts["retries"], counts["engine_failures"], counts["unscored"]) == (1, 1, 0)


def test_what_keeps_failing_is_unscored_and_says_why() -> None:
    with roller_over(scripted(Failing(99, only="-0000-0-1")), retries=2) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=3)
        counts = roller.counters
    failed = group.members[1]
    assert group.rewards == (2.0, None, 2.0)
    assert (failed.trajectory.stop, failed.attempts) == (StopReason.ERROR, 3)
    assert "out of memory" in failed.score.note
    assert (counts["rollouts"], counts["retries"], counts["engine_failures"], counts["unscored"]) == (5, 2, 3, 1)
    assert counts["rescored"] == 0  # there is nothing to score


def test_a_mistake_costs_one_rollout_and_not_the_step(caplog: pytest.LogCaptureFixture) -> None:
    def script(request: Request) -> Sequence[str]:
        if member_of(request).endswith("-1"):
            raise KeyError("nobody thought of that")
        return [RIGHT]

    with roller_over(scripted(script), retries=0) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
    assert group.rewards == (2.0, None)
    assert "nobody thought of that" in group.members[1].score.note
    assert "KeyError" in caplog.text


def test_a_question_that_cannot_be_asked_is_not_asked_again() -> None:
    """It is told from a failure of the machinery: no other attempt would help."""

    def refuse(system: str, user: str, images: Any) -> Any:
        raise EngineError("three images, and the template has room for two")

    engine = says(RIGHT)
    engine.prompt = refuse  # type: ignore[method-assign]
    with roller_over(engine, retries=3) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
        assert roller.counters["rollouts"] == 2
    assert group.rewards == (None, None)


def test_without_a_reference_nothing_is_scored() -> None:
    with roller_over(says(RIGHT)) as roller:
        (group,) = roller.roll(None, asked(1, answer=None), step=0, group=2)
        assert roller.counters["rescored"] == 0
    assert group.rewards == (None, None)


def test_counters_are_those_of_the_last_step() -> None:
    with roller_over(scripted(Failing(1, only="000000-"))) as roller:
        roller.roll(None, asked(1), step=0, group=2)
        roller.roll(None, asked(1, first=1), step=0, group=2)
        first = roller.counters
        roller.roll(None, asked(1), step=1, group=2)
        second = roller.counters
    assert set(COUNTERS) <= set(first)
    assert (first["rollouts"], first["retries"], first["scorer_scored"]) == (8, 4, 4)
    assert (second["rollouts"], second["retries"], second["scorer_scored"]) == (2, 0, 2)


# --- judges -----------------------------------------------------------------------------------------------------------


def test_a_judge_that_comes_back_is_asked_again_and_nothing_is_rolled_out_again() -> None:
    with made.judge() as judge:
        engine = says(RIGHT)
        with roller_over(engine, rewards=judge.settings, retries=8) as roller:
            roller.roll(None, asked(1, question="Before?"), step=0, group=1)
            judge.down = True
            threading.Timer(0.3, lambda: setattr(judge, "down", False)).start()
            groups = roller.roll(None, asked_about(2), step=1, group=2)
            counts = roller.counters
    assert made.rewards(groups) == [(1.5, 1.5)] * 2
    assert all(member.attempts == 1 for group in groups for member in group.members)
    assert (counts["rollouts"], counts["retries"]) == (4, 0)
    assert counts["rescored"] >= 4
    assert counts["scorer_outages"] >= 1


def test_a_judge_that_stays_away_leaves_everything_unscored() -> None:
    with made.judge() as judge, roller_over(says(RIGHT), rewards=judge.settings, retries=1) as roller:
        roller.roll(None, asked(1, question="Before?"), step=0, group=1)
        judge.down = True
        groups = roller.roll(None, asked(2), step=1, group=2)
        assert roller.counters["unscored"] == 4
    assert made.rewards(groups) == [(None, None)] * 2
    assert all(member.score.note for group in groups for member in group.members)


def test_a_run_does_not_begin_with_a_judge_that_is_out() -> None:
    with made.judge() as judge:
        judge.down = True
        with roller_over(says(RIGHT), rewards=judge.settings) as roller, pytest.raises(Exception, match="503"):
            roller.roll(None, asked(1), step=0, group=2)


# --- the end ----------------------------------------------------------------------------------------------------------


def interrupt_once(ready: Callable[[], bool]) -> None:
    """Ctrl-C as soon as something is so; after a minute in any case."""
    end = time.monotonic() + 60
    while not ready() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_the_rollouts_and_leaves_nothing_behind() -> None:
    threads, processes = set(threading.enumerate()), set(psutil.Process().children(recursive=True))
    engine = says(*coded("import time\ntime.sleep(60)"))
    with roller_over(engine, SandboxConfig(pool=1, timeout_s=100), concurrency=8) as roller:
        started = threading.Thread(target=interrupt_once, args=(lambda: len(engine.requests) == 8,))
        started.start()
        with pytest.raises(KeyboardInterrupt):
            roller.roll(None, asked(2), step=0, group=4)
        started.join()
        assert engine.running == 0
        assert len(engine.released) == 8  # every rollout was ended before the interrupt went on
        engine._script = [RIGHT]
        groups = roller.roll(None, asked(2), step=0, group=4)  # it still works, were anybody to catch that
        assert made.rewards(groups) == [(2.0,) * 4] * 2
    assert set(psutil.Process().children(recursive=True)) == processes
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive()


def test_pictures_are_let_go_with_the_groups() -> None:
    picture = Image.new("RGB", (64, 64), (200, 10, 10))
    seen = weakref.ref(picture)
    problem = Problem(id="p", question="Which colour?", answer="7", images=(ImageRecord.of(picture),))
    engine = says(*coded("x"))
    with roller_over(engine) as roller:
        groups = roller.roll(None, [made.Asked(0, problem)], step=0, group=2)
        assert seen() is not None
        engine.requests.clear()  # which it keeps for tests
        del picture, problem, groups
        gc.collect()
        assert seen() is None


def test_its_fingerprint_is_that_of_what_decides_about_rollouts() -> None:
    def fingerprint(**options: Any) -> str:
        with roller_over(says(RIGHT), **({"sandbox": SandboxConfig()} | options)) as roller:
            return roller.fingerprint

    same = fingerprint()
    assert fingerprint() == same
    assert fingerprint(concurrency=3, retries=9) == same
    others = (
        {"config": RolloutConfig(text_temperature=0.5)},
        {"rewards": RewardSettings(gating="additive")},
        {"sandbox": SandboxConfig(repairs=())},
        {"seed": 4},
    )
    assert len({same, *(fingerprint(**other) for other in others)}) == 5
    assert fingerprint(sandbox=SandboxConfig(pool=0, max_sessions=3)) == same
    judged = [judge_at(*where) for where in (("a", "m"), ("b", "m"), ("a", "n"))]
    first, moved, another = (fingerprint(rewards=rewards) for rewards in judged)
    assert first == moved != another


def judge_at(host: str, name: str) -> RewardSettings:
    return RewardSettings(judge=JudgeSettings(model=f"http://{host}/v1#{name}"), result_by="judge")


async def test_it_works_where_an_event_loop_runs_already() -> None:
    with roller_over(says(RIGHT)) as roller:
        groups = await asyncio.to_thread(roller.roll, None, asked(1), step=0, group=2)
    assert made.rewards(groups) == [(2.0, 2.0)]
