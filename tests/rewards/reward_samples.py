"""Trajectories for tests of rewards, as short as they can be, and a judge on this machine that does as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from chat_server import ChatServer, Says, chatting

from thyme.config.rewards import JudgeSettings, RewardSettings
from thyme.markup import observation_text
from thyme.types import (
    Execution,
    ExecutionError,
    Generated,
    Observation,
    Problem,
    Prompt,
    RolloutFailure,
    Sampling,
    StopReason,
    Trajectory,
)

SAMPLING = Sampling(text_temperature=1.0, code_temperature=0.0, max_rounds=4, max_round_tokens=512, max_tokens=1024)


@dataclass(frozen=True)
class Ran:
    """A code block, and what came of it."""

    code: str
    stdout: str = ""
    error: str = ""


def rollout(
    *pieces: str | Ran,
    reference: str | None = "42",
    choices: tuple[str, ...] = (),
    question: str = "How many?",
    stop: StopReason = StopReason.ANSWER,
    **meta: object,
) -> Trajectory:
    """What the model wrote, and the code that ran between."""
    segments: list[Generated | Observation] = []
    for piece in pieces:
        if isinstance(piece, str):
            segments.append(Generated(kind="text", text=piece, temperature=1.0))
            continue
        error = ExecutionError(type="ValueError", message=piece.error) if piece.error else None
        execution = Execution(code=piece.code, stdout=piece.stdout, error=error)
        segments.append(Generated(kind="code", text=f"\n{piece.code}\n</code>", temperature=0.0))
        segments.append(Observation(execution=execution, text=observation_text(execution)))
    failed = RolloutFailure(type="SandboxError", message="the sandbox fell over", where="sandbox")
    return Trajectory(
        id="t",
        problem=Problem(id="p", question=question, answer=reference, choices=choices, meta=meta),
        prompt=Prompt(system="", user=question),
        segments=tuple(segments),
        stop=stop,
        error=failed if stop is StopReason.ERROR else None,
        sampling=SAMPLING,
    )


def answered(answer: str, thought: str = "I count 42.", **problem: Any) -> Trajectory:
    """One that is well-formed and ran no code."""
    return rollout(f"<think>{thought}</think>\n<answer>{answer}</answer>", **problem)


# --- a judge ----------------------------------------------------------------------------------------------------------


@dataclass
class Reply(Says):
    """Says that an answer is right, unless told otherwise."""

    text: str = '{"correct": 1}'


@dataclass
class JudgeServer(ChatServer):
    """What is set to ask it, and what it was shown."""

    always: Says | Callable[[dict[str, Any]], Says] = field(default_factory=Reply)

    @property
    def materials(self) -> list[dict[str, Any]]:
        """What the judge was shown, request by request."""
        return [json.loads(request["messages"][1]["content"]) for request in self.requests]

    def settings(self, **fields: Any) -> JudgeSettings:
        quick = {"retries": 2, "backoff_s": 0.001, "timeout_s": 10.0}
        return JudgeSettings(model=f"{self.url}#toy", **(quick | fields))

    def rewards(self, judge: dict[str, Any] | None = None, **fields: Any) -> RewardSettings:
        return RewardSettings(judge=self.settings(**(judge or {})), **fields)


def judging() -> AbstractContextManager[JudgeServer]:
    """Serve until the context ends."""
    return chatting(JudgeServer())
