"""The events of a rollout; they live in `thyme.events`, below the views that read them."""

from __future__ import annotations

from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent

__all__ = ["Event", "ExecutionEvent", "FinishedEvent", "GeneratedEvent"]
