"""Sandboxes that die, fail or cannot be had, while a roller rolls out: no rollout is lost or scored as 0."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpo_rollers as made
import psutil
import pytest
from grpo_rollers import (
    RIGHT,
    ToldSandbox,
    asked,
    coded,
    member_of,
    roller_over,
    says,
    scripted,
)
from waiting import until

from thyme.config.sandbox import SandboxConfig
from thyme.engines.base import Request
from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox import open_sandbox
from thyme.sandbox.broker import Broker
from thyme.types import Execution


def zygotes(opened: list[Broker]) -> Callable[[], Any]:
    """Opens real sandboxes and notes them."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def open_one() -> Any:
        async with open_sandbox(SandboxConfig(pool=1)) as sandbox:
            opened.append(sandbox)
            yield sandbox

    return open_one


def test_a_sandbox_that_dies_under_running_code_spoils_nothing() -> None:
    """Its end looks like that of the code; it is told apart, and what comes in the end is what would have come."""
    opened: list[Broker] = []
    killed = threading.Event()

    def kill_it() -> None:
        while not (opened and opened[0]._sessions and psutil.Process(opened[0].zygote_pid).children()):
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(opened[0].zygote_pid, signal.SIGKILL)
        killed.set()

    script = coded("import time\ntime.sleep(1)\nx = 7\nprint(x)", "print(x)")
    with roller_over(says(*script), zygotes(opened)) as roller:
        killer = threading.Thread(target=kill_it)
        killer.start()
        groups = roller.roll(None, asked(1), step=0, group=3)
        killer.join()
        counts = roller.counters
    assert killed.is_set()
    assert made.rewards(groups) == [(2.0,) * 3]
    for member in groups[0].members:
        assert [o.execution.error for o in member.trajectory.observations] == [None, None]
        assert [o.execution.stdout.strip() for o in member.trajectory.observations] == ["7", "7"]
    assert counts["sandbox_failures"] == counts["retries"] >= 1
    assert (counts["reopened_sandboxes"], opened[0].deaths, len(opened)) == (0, 1, 1)  # it heals itself


def test_a_sandbox_that_dies_between_two_blocks_is_told_apart_too() -> None:
    opened: list[Broker] = []

    def script(request: Request) -> Sequence[str]:
        if len(request.segments) == 3 and opened[0].deaths == 0:  # the first block has run
            sessions = psutil.Process(opened[0].zygote_pid).children(recursive=True)
            os.kill(opened[0].zygote_pid, signal.SIGKILL)
            psutil.wait_procs(sessions, timeout=10)
        return coded("x = 7\nprint(x)", "print(x)")

    with roller_over(scripted(script), zygotes(opened)) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=1)
    (member,) = group.members
    assert [o.execution.stdout.strip() for o in member.trajectory.observations] == ["7", "7"]
    assert member.attempts == 2
    assert group.rewards == (2.0,)


def test_code_that_ends_its_own_session_is_a_result() -> None:
    opened: list[Broker] = []
    engine = says(*coded("import ctypes\nctypes.string_at(0)"))
    with roller_over(engine, zygotes(opened)) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
        assert (roller.counters["sandbox_failures"], opened[0].deaths) == (0, 0)
    for member in group.members:
        error = member.trajectory.observations[0].execution.error
        assert error is not None
        assert error.type == "Killed"
        assert member.attempts == 1


def test_a_sandbox_that_fails_is_opened_anew_while_others_use_the_old_one() -> None:
    first = ToldSandbox(made.prints_seven)
    second = ToldSandbox(made.prints_seven)
    sandboxes = iter((first, second))
    failures = iter((SandboxError("no room on the disk"),))

    async def fails_once(source: str) -> Execution:
        if (failure := next(failures, None)) is not None:
            raise failure
        return Execution(code=source, stdout="7")

    first._run = fails_once
    with roller_over(says(*coded("x")), lambda: next(sandboxes).opened(), concurrency=1) as roller:
        groups = roller.roll(None, asked(1), step=0, group=3)
        counts = roller.counters
        assert (first.closed, second.closed) == (1, 0)
    assert (first.closed, second.closed) == (1, 1)
    assert made.rewards(groups) == [(2.0,) * 3]
    assert (counts["sandbox_failures"], counts["reopened_sandboxes"], counts["unscored"]) == (1, 1, 0)


def test_a_sandbox_that_was_given_up_is_closed_with_its_last_rollout_and_not_kept_for_the_run() -> None:
    """One rollout loses the first sandbox while another is at work in it, and must not lose it, too."""
    opened: list[ToldSandbox] = []
    closed_at_work: list[int] = []

    async def run(source: str) -> Execution:
        if source == "fails":
            raise SandboxError("no room on the disk")
        await until(lambda: len(opened) >= 2)
        closed_at_work.append(opened[0].closed)
        return Execution(code=source, stdout="7")

    def script(request: Request) -> Sequence[str]:
        fails = member_of(request).endswith("-0") and "+" not in request.trajectory_id
        return coded("fails" if fails else "works")

    def opening() -> Any:
        opened.append(ToldSandbox(run))
        return opened[-1].opened()

    with roller_over(scripted(script), opening) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
        assert (closed_at_work[0], [sandbox.closed for sandbox in opened]) == (0, [1, 0])
        roller.roll(None, asked(1), step=1, group=2)
        assert [sandbox.closed for sandbox in opened] == [1, 1, 0]
    assert [sandbox.closed for sandbox in opened] == [1, 1, 1]
    assert [member.attempts for member in group.members] == [2, 1]


def test_a_sandbox_that_keeps_dying_leaves_the_rollout_unscored() -> None:
    async def dies(source: str) -> Execution:
        raise SandboxDiedError("the zygote does not answer")

    with roller_over(says(*coded("x")), ToldSandbox(dies).opened, retries=1) as roller:
        (group,) = roller.roll(None, asked(1), step=0, group=2)
        assert roller.counters["sandbox_failures"] == 4
    assert group.rewards == (None, None)
    assert "the zygote does not answer" in group.members[0].score.note


def test_a_sandbox_that_cannot_be_had_is_an_error_of_the_run() -> None:
    def refuse() -> Any:
        raise SandboxError("no namespaces here")

    with roller_over(says(RIGHT), refuse) as roller, pytest.raises(SandboxError, match="no namespaces here"):
        roller.roll(None, asked(1), step=0, group=2)
