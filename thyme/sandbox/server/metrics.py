"""What the server counts, for Prometheus."""

from __future__ import annotations

import builtins
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from thyme.types import Execution

CONTENT_TYPE = CONTENT_TYPE_LATEST

_LIMITS = {"Timeout", "MemoryLimit", "DiskLimit", "ThreadLimit", "CodeTooLong", "Killed"}
_KNOWN_ERRORS = _LIMITS | {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}
"""Names of errors that become labels. Code can make up as many others as it likes; they are counted as one."""
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("thyme_sandbox_sessions", "Sessions that are open.", registry=registry)
        self.opened = Counter("thyme_sandbox_sessions_opened", "Sessions that were opened.", registry=registry)
        self.lost = Counter(
            "thyme_sandbox_sessions_lost", "Runs that lost the variables of their session.", registry=registry
        )
        self.expired = Counter("thyme_sandbox_sessions_expired", "Sessions that stood idle.", registry=registry)
        self.waiting = Gauge("thyme_sandbox_sessions_waiting", "New sessions in line.", registry=registry)
        self.runs = Counter("thyme_sandbox_runs", "Code blocks that ran.", registry=registry)
        self.seconds = Histogram("thyme_sandbox_run_seconds", "Duration of a run.", buckets=_BUCKETS, registry=registry)
        self.repairs = Counter("thyme_sandbox_repairs", "Repairs of code.", ["name"], registry=registry)
        self.errors = Counter("thyme_sandbox_errors", "Runs that failed.", ["type"], registry=registry)
        self.refused = Counter("thyme_sandbox_refused", "Requests refused.", ["reason"], registry=registry)
        self.pool = Gauge("thyme_sandbox_pool", "Locked sessions that wait for a trajectory.", registry=registry)
        self.draining = Gauge("thyme_sandbox_draining", "1 after SIGTERM.", registry=registry)

    def ran(self, execution: Execution) -> None:
        """Count one run."""
        self.runs.inc()
        self.seconds.observe(execution.duration_s)
        for repair in execution.repairs:
            self.repairs.labels(repair.name).inc(repair.count)
        if execution.error is not None:
            self.errors.labels(execution.error.type if execution.error.type in _KNOWN_ERRORS else "other").inc()
        if execution.session_lost:
            self.lost.inc()

    def watch(self, sessions: Callable[[], float], waiting: Callable[[], float], pool: Callable[[], float]) -> None:
        """Read these when asked."""
        self.sessions.set_function(sessions)
        self.waiting.set_function(waiting)
        self.pool.set_function(pool)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
