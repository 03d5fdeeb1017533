"""What the agent server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thyme.types import Execution, Trajectory

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("thyme_requests", "Requests by what came of them.", ["outcome"], registry=registry)
        self.refused = Counter("thyme_refused", "Requests refused, by reason.", ["code"], registry=registry)
        self.disconnects = Counter(
            "thyme_client_disconnects", "Clients that went away before their answer.", registry=registry
        )
        self.first_text = Histogram(
            "thyme_first_text_seconds", "From arrival to the model's first text.", buckets=_BUCKETS, registry=registry
        )
        self.seconds = Histogram(
            "thyme_request_seconds", "From arrival to the end of the rollout.", buckets=_BUCKETS, registry=registry
        )
        self.running = Gauge("thyme_running", "Rollouts that run now.", registry=registry)
        self.queued = Gauge("thyme_queued", "Requests that wait for a place.", registry=registry)
        self.rounds = Counter("thyme_rounds", "Rounds of code that ended with an observation.", registry=registry)
        self.code_blocks = Counter(
            "thyme_code_blocks", "Code blocks that ran, by outcome (ok, failed).", ["outcome"], registry=registry
        )
        self.code_repaired = Counter("thyme_code_blocks_repaired", "Code blocks that were repaired.", registry=registry)
        self.tokens = Counter("thyme_tokens", "Tokens (prompt, generated, observation).", ["kind"], registry=registry)
        self.stops = Counter("thyme_stops", "Rollouts by why they ended.", ["reason"], registry=registry)
        self.draining = Gauge("thyme_draining", "1 after SIGTERM.", registry=registry)
        for kind in ("prompt", "generated", "observation"):
            self.tokens.labels(kind)
        for outcome in ("ok", "failed"):
            self.code_blocks.labels(outcome)

    def ran(self, execution: Execution) -> None:
        """Count one code block."""
        self.rounds.inc()
        self.code_blocks.labels("ok" if execution.error is None else "failed").inc()
        if execution.repairs:
            self.code_repaired.inc()

    def ended(self, trajectory: Trajectory) -> None:
        """Count one rollout, also one that was cancelled."""
        usage = trajectory.usage
        self.stops.labels(trajectory.stop.value).inc()
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("generated").inc(usage.generated_tokens)
        self.tokens.labels("observation").inc(usage.observation_tokens)

    def watch(self, running: Callable[[], float], queued: Callable[[], float]) -> None:
        """Read these when asked."""
        self.running.set_function(running)
        self.queued.set_function(queued)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
