"""Is an answer mathematically the same as the reference: math-verify, in processes that can be stopped.

Its own time-outs are signals, which work in the main thread only and do not interrupt a long multiplication. Here it
runs in programs of their own, started anew (never forked, since this process may hold torch and its threads), used
again and again, and killed when an expression takes too long.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import queue
import re
import selectors
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyme.errors import MissingExtraError, ThymeError
from thyme.rewards.answer import number
from thyme.types import Problem

START_S = 120.0
"""Longest time that a process may take to be ready; it imports sympy."""
MAX_CHARS = 500
"""Longest expression that is looked at."""
MAX_TEXT = 2000
"""Longest text in which one is looked for."""


_WORKED = 0.1
"""Share of the time-out that a process must have worked for the expression to be to blame; most take milliseconds."""


class StoppedError(ThymeError):
    """An expression took too long, or ended the process that looked at it."""


def installed() -> bool:
    """Whether math-verify is there."""
    return importlib.util.find_spec("math_verify") is not None


# --- what is an expression --------------------------------------------------------------------------------------------

_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|(\\boxed\{.+\})", re.DOTALL)
_SIGNS = re.compile(r"[\\^=+*π√∞≤≥]")
_UNWORDED = re.compile(
    r"\\(?:text|mathrm|mathbf|mbox|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+|\b(?:a?(?:sin|cos|tan)h?|cot|log|ln|exp|pi|sqrt)\b"
    r"|\s*[^\W\d_]{1,12}\.?$"  # a unit at the end
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBERED = re.compile(r"(?<![\w^{])\.?\d")
"""Beside a delimited expression: another answer."""
_APART = re.compile(r"\d\s+\d")
_PLAIN = (
    ("−", "-"),
    ("×", r" \times "),
    ("·", r" \cdot "),
    ("÷", "/"),
    ("π", r" \pi "),
    ("∞", r" \infty "),
    ("≤", r" \le "),
    ("≥", r" \ge "),
)
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\w+))")
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|exp|pi)\b")


def expressions(problem: Problem, answer: str) -> tuple[str, str] | None:
    r"""Reference and answer as LaTeX, where mathematics may find them equal; None where it has no say.

    Both must be expressions, or hold a single one between ``$`` signs and no number beside it; running text, several
    numbers side by side and multiple choice are left to the other rules. The reference must look like mathematics
    (``\frac{1}{2}``, ``x^2``, ``x = 3``), or be a number that the answer writes as something to be computed.
    """
    reference = _expression(problem.answer or "")
    given = _expression(answer)
    if reference is None or given is None:
        return None
    if not _SIGNS.search(reference) and (number(problem, "") is None or not _SIGNS.search(given)):
        return None
    return _latex(reference), _latex(given)


def _expression(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return None
    found = list(_DELIMITED.finditer(text))
    if len(found) > 1 or (found and _NUMBERED.search(text[: found[0].start()] + " " + text[found[0].end() :])):
        return None
    inner = next(group for group in found[0].groups() if group) if found else text
    plain = inner.strip().removesuffix(".")
    readable = plain and len(plain) <= MAX_CHARS and not _APART.search(plain)
    return plain if readable and not _WORD.search(_UNWORDED.sub(" ", plain)) else None


def _latex(text: str) -> str:
    for sign, command in _PLAIN:
        text = text.replace(sign, command)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match.group(1) or match.group(2)}}}", text)
    return _FUNCTION.sub(r"\\\1", text)


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    """What mathematics says of an answer."""

    equal: bool
    value: float | None = None
    """Of the answer, where it is a number."""


class MathVerifier:
    """Compares expressions in a few processes, which are started when they are first needed.

    May be used from any thread and from any event loop; no call takes longer than the time-out once a process is ready.
    """

    def __init__(self, timeout_s: float, *, processes: int = 2) -> None:
        """Start nothing yet.

        Args:
            timeout_s: Of one comparison, seconds of wall clock.
            processes: How many comparisons run at once; more wait.
        """
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)
        self._alive: set[_Process] = set()
        self._gate = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="thyme-math")

    async def compare(self, reference: str, answer: str) -> Comparison:
        """`compare_now` without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.compare_now, reference, answer)

    def compare_now(self, reference: str, answer: str) -> Comparison:
        """Compare two expressions.

        Args:
            reference: LaTeX.
            answer: LaTeX.

        Raises:
            StoppedError: It took too long, or ended two processes one after the other.
            MissingExtraError: math-verify is not installed.
            ThymeError: No process could be started, or the machine left it no time to work.
        """
        process = self._idle.get()
        try:
            for _ in range(2):  # a process that somebody else ended is no fault of the expression
                if process is None:
                    process = self._start()
                try:
                    return process.compare(reference, answer, self._timeout_s)
                except BaseException as error:  # whatever it was: a reply that nobody read must not be the next one's
                    self._end(process)
                    process = None
                    if not isinstance(error, _DiedError):
                        raise
            raise StoppedError("the expression ended the process that looked at it")
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes, also those at work."""
        with self._gate:
            self._closed = True
            ending = list(self._alive)
        for process in ending:
            self._end(process)
        self._threads.shutdown(wait=True)

    def _start(self) -> _Process:
        with self._gate:
            self._require_open()
            process = _Process()
            self._alive.add(process)
        try:
            process.wait_ready()
        except BaseException:
            self._end(process)
            self._require_open()
            raise
        return process

    def _require_open(self) -> None:
        if self._closed:
            raise ThymeError("the scorer is closed")

    def _end(self, process: _Process) -> None:
        process.end()
        with self._gate:
            self._alive.discard(process)


class _DiedError(Exception):
    """The process is gone."""


class _Process:
    """One `math_worker`. Used by one thread at a time; `end` may come from any."""

    def __init__(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
        self._popen = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("math_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},  # no keys
            bufsize=0,
            start_new_session=True,  # an interrupt at the terminal is for who asked
        )
        self._ending = threading.Lock()
        self._reading = threading.Lock()

    def wait_ready(self) -> None:
        try:
            self._read(START_S)
        except _DiedError:
            if not installed():
                raise MissingExtraError("comparing mathematics", "train") from None
            raise ThymeError(
                f"the process that compares mathematics ended at its start (exit status {self._popen.wait()}); "
                "is math-verify installed whole, and is there memory left?"
            ) from None
        except StoppedError:
            raise ThymeError(f"the process that compares mathematics was not ready after {START_S:g} s") from None

    def compare(self, reference: str, answer: str, timeout_s: float) -> Comparison:
        request = {"reference": reference, "answer": answer, "cpu_s": timeout_s}
        before = self._cpu_s()
        try:
            assert self._popen.stdin is not None
            self._popen.stdin.write(json.dumps(request).encode() + b"\n")
        except (OSError, ValueError) as error:  # ValueError: closed by `end`
            raise _DiedError from error
        try:
            reply = self._read(timeout_s)
        except StoppedError:
            spent = self._cpu_s() - before
            if spent < _WORKED * timeout_s:  # the machine was slow, not the expression hard
                raise ThymeError(
                    f"no result after {timeout_s:g} s, of which the process could work {spent:.1f} s: the machine is "
                    "busy; raise rewards.math_timeout_s"
                ) from None
            raise
        return Comparison(reply["equal"], reply["value"])

    def _cpu_s(self) -> float:
        """Processor time of the process so far; without limit once it is gone."""
        try:
            fields = Path(f"/proc/{self._popen.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except (OSError, ValueError):
            return math.inf
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill it and wait for it."""
        with self._ending:
            self._popen.kill()
            self._popen.wait()
            with self._reading:  # a reader sees the end of the pipe, but would wait for ever for one closed under it
                for pipe in (self._popen.stdin, self._popen.stdout):
                    assert pipe is not None
                    pipe.close()

    def _read(self, timeout_s: float) -> dict[str, Any]:
        """The next line."""
        deadline = time.monotonic() + timeout_s
        received = b""
        try:
            assert self._popen.stdout is not None
            with self._reading, selectors.DefaultSelector() as selector:
                descriptor = self._popen.stdout.fileno()
                selector.register(descriptor, selectors.EVENT_READ)
                while not received.endswith(b"\n"):
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        raise StoppedError(f"no result after {timeout_s:g} s")
                    if not (piece := os.read(descriptor, 4096)):
                        raise _DiedError
                    received += piece
        except (OSError, ValueError) as error:  # closed by `end`
            raise _DiedError from error
        reply: dict[str, Any] = json.loads(received)
        return reply
