"""The Python API: `Thyme` for scripts and notebooks, `AsyncThyme` for programs with an event loop.

`AsyncThyme` is the implementation; `Thyme` keeps one in an event loop in a thread of its own, as
`thyme.sandbox.Sandbox` does with the asynchronous sandbox, so that nothing is written twice.
"""

from __future__ import annotations

from thyme.api.asynchronous import AsyncThyme
from thyme.api.result import Result
from thyme.api.synchronous import Thyme
from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent

__all__ = ["AsyncThyme", "Event", "ExecutionEvent", "FinishedEvent", "GeneratedEvent", "Result", "Thyme"]
