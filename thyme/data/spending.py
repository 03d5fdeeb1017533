"""What a build has spent, and how fast: one small SQLite file that all of its processes share.

What was sent is counted when it is sent, its tokens and price when it is answered; until then they are held back as
guessed. What a process held that was killed is free again when its requests would have timed out.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from thyme.config.data import BudgetSettings
from thyme.errors import BudgetError, StoreError

FILE = "spending.sqlite"
"""Under the folder of a build."""
MINUTE_S = 60.0
POLL_S = 0.2
"""Pause of a request that waits for those under way to say what they cost."""
LOCK_S = 60.0
"""Longest wait for another process."""

_TABLE = """CREATE TABLE IF NOT EXISTS spending (
    who TEXT PRIMARY KEY, requests INTEGER NOT NULL DEFAULT 0, answers INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0, next_request REAL NOT NULL DEFAULT 0, next_tokens REAL NOT NULL DEFAULT 0)"""
_HELD = """CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tokens INTEGER NOT NULL, usd REAL NOT NULL, until REAL NOT NULL)"""


@dataclass(frozen=True)
class Pace:
    """How fast somebody may be asked."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    first_tokens: int = 1024
    """Tokens that a request is expected to need until something was answered; from then on it is the answers' mean."""
    first_usd: float = 0.0
    """US dollars that it is expected to cost, likewise."""
    timeout_s: float = 300.0
    """After which it will not be answered any more, so that nothing is held back for it."""


@dataclass(frozen=True)
class Admission:
    """Whether a request may be sent now."""

    wait_s: float
    """Seconds to wait before asking again; 0.0: it may, and is counted."""
    tokens: int = 0
    """That it is expected to need."""
    held: int | None = None
    """Row of what is held back for it; None where the budget bounds neither tokens nor price."""


@dataclass(frozen=True)
class Spent:
    """What was spent on somebody, or on all."""

    requests: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class Ledger:
    """Counts requests, tokens and price, and spreads requests over time. Its methods block for a moment."""

    def __init__(self, path: Path | None, budget: BudgetSettings, clock: Callable[[], float] = time.time) -> None:
        """Open it; the file is made when it is first needed.

        Args:
            path: The file; None counts for this object alone.
            budget: What may be spent at most.
            clock: Seconds; the same for all processes.
        """
        self._path, self._clock = path, clock
        self._bounds: dict[str, float] = budget.model_dump(exclude_none=True)
        self._holds = not self._bounds.keys() <= {"requests"}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def admit(self, who: str, pace: Pace) -> Admission:
        """Ask to send one request now; what is admitted must be settled or taken back.

        Raises:
            BudgetError: Nothing is left.
        """
        with self._changing() as changes:
            used = self._used(changes)
            changes.execute("INSERT OR IGNORE INTO spending (who) VALUES (?)", (who,))
            answers, tokens, usd, next_request, next_tokens = changes.execute(
                "SELECT answers, prompt_tokens + completion_tokens, usd, next_request, next_tokens FROM spending "
                "WHERE who = ?",
                (who,),
            ).fetchone()
            now = self._clock()
            if (wait := max(next_request, next_tokens) - now) > 0:
                return Admission(wait)
            tokens = round(tokens / answers) if answers else pace.first_tokens
            usd = usd / answers if answers else pace.first_usd
            if not self._has_room(changes, used, {"requests": 1, "tokens": tokens, "usd": usd}):
                return Admission(POLL_S)
            changes.execute(
                "UPDATE spending SET requests = requests + 1, next_request = ?, next_tokens = ? WHERE who = ?",
                (now + _seconds(1, pace.requests_per_minute), now + _seconds(tokens, pace.tokens_per_minute), who),
            )
            return Admission(0.0, tokens, self._hold(changes, tokens, usd, now + pace.timeout_s))

    def settle(self, who: str, pace: Pace, admission: Admission, tokens: tuple[int, int], usd: float) -> None:
        """Count an answer.

        Args:
            who: Who gave it.
            pace: As for `admit`.
            admission: What `admit` gave.
            tokens: Prompt and completion.
            usd: What they cost.
        """
        with self._changing() as changes:
            changes.execute(
                "UPDATE spending SET answers = answers + 1, prompt_tokens = prompt_tokens + ?, "
                "completion_tokens = completion_tokens + ?, usd = usd + ? WHERE who = ?",
                (*tokens, usd, who),
            )
            self._free(changes, who, pace, admission, sum(tokens))

    def take_back(self, who: str, pace: Pace, admission: Admission) -> None:
        """Free what an admitted request held that was not answered; it stays counted as sent."""
        with self._changing() as changes:
            self._free(changes, who, pace, admission, 0)

    def hold_off(self, who: str, seconds: float) -> None:
        """Let nobody ask for some seconds, as the server wants it."""
        with self._changing() as changes:
            changes.execute(
                "UPDATE spending SET next_request = max(next_request, ?) WHERE who = ?", (self._clock() + seconds, who)
            )

    def spent(self) -> dict[str, Spent]:
        """By who was asked."""
        with self._changing() as changes:
            rows = changes.execute(
                "SELECT who, requests, answers, prompt_tokens, completion_tokens, usd FROM spending ORDER BY who"
            ).fetchall()
        return {who: Spent(*counts) for who, *counts in rows}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _used(self, changes: sqlite3.Connection) -> dict[str, float]:
        """What was spent on all, by the names of the budget.

        Raises:
            BudgetError: One of them is used up.
        """
        requests, tokens, usd = changes.execute(
            "SELECT coalesce(sum(requests), 0), coalesce(sum(prompt_tokens + completion_tokens), 0), "
            "coalesce(sum(usd), 0.0) FROM spending"
        ).fetchone()
        said = {
            "requests": f"{requests} requests were sent",
            "tokens": f"{tokens} tokens were read and written",
            "usd": f"{usd:.4g} US dollars were spent",
        }
        used = {"requests": requests, "tokens": tokens, "usd": usd}
        for name, bound in self._bounds.items():
            if used[name] >= bound:
                raise BudgetError(
                    f"the budget is used up: {said[name]}, of {bound}; raise budget.{name} and build again, which goes "
                    "on where it ended"
                )
        return used

    def _has_room(self, changes: sqlite3.Connection, used: Mapping[str, float], more: Mapping[str, float]) -> bool:
        """Whether a request fits beside those under way. One alone always does, so that all can be spent."""
        if not self._holds:
            return True
        changes.execute("DELETE FROM held WHERE until <= ?", (self._clock(),))
        count, tokens, usd = changes.execute(
            "SELECT count(*), coalesce(sum(tokens), 0), coalesce(sum(usd), 0.0) FROM held"
        ).fetchone()
        held = {"requests": 0, "tokens": tokens, "usd": usd}
        return not count or all(used[n] + held[n] + more[n] <= bound for n, bound in self._bounds.items())

    def _hold(self, changes: sqlite3.Connection, tokens: int, usd: float, until: float) -> int | None:
        if not self._holds:
            return None
        row = changes.execute("INSERT INTO held (tokens, usd, until) VALUES (?, ?, ?)", (tokens, usd, until))
        return row.lastrowid

    def _free(self, changes: sqlite3.Connection, who: str, pace: Pace, admission: Admission, tokens: int) -> None:
        """End what an admission holds; the pace is that of the tokens that were really needed."""
        changes.execute("DELETE FROM held WHERE id = ?", (admission.held,))
        more = _seconds(tokens - admission.tokens, pace.tokens_per_minute)
        changes.execute("UPDATE spending SET next_tokens = next_tokens + ? WHERE who = ?", (more, who))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """The file, while no other process changes it."""
        with self._lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(
                    f"{self._path}: what was spent cannot be counted ({error}); is the disk full?"
                ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                ":memory:" if self._path is None else self._path,
                timeout=LOCK_S,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing by it
            connection.execute(_TABLE)
            connection.execute(_HELD)
            self._connection = connection
        return self._connection


def _seconds(count: int, per_minute: int | None) -> float:
    return 0.0 if per_minute is None else count * MINUTE_S / per_minute
