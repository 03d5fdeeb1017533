"""What a rollout tells while it runs: written by `thyme.agent`, read by views, servers and commands."""

from __future__ import annotations

from dataclasses import dataclass

from thyme.types import GeneratedKind, Observation, Trajectory


@dataclass(frozen=True, slots=True)
class GeneratedEvent:
    """The model wrote something."""

    kind: GeneratedKind
    text: str
    """New text; the texts of one kind in a row concatenate to the segment's text."""


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """A code block ran, and its result became part of the trajectory."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """The last event of every rollout that was not cancelled."""

    trajectory: Trajectory


Event = GeneratedEvent | ExecutionEvent | FinishedEvent
