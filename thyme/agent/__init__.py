"""The agent: the loop between model and sandbox, its temperatures by kind of span, its loop detector."""

from __future__ import annotations

from thyme.agent.rollout import rollout, rollout_events
from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent

__all__ = ["Event", "ExecutionEvent", "FinishedEvent", "GeneratedEvent", "rollout", "rollout_events"]
