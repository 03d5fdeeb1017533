"""Thyme's sandbox as a tool of verl, and Thyme's result and format as its reward function.

In verl's configuration of tools (``actor_rollout_ref.rollout.multi_turn.tool_config_path``)::

    tools:
      - class_name: verl_thyme.ThymeTool
        config: {type: native, sandbox_url: "http://sandbox.internal:8765"}

and ``reward.custom_reward_function.path=examples/extend/verl_thyme.py``. Written for verl 0.9; docs/extend/verl.md.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from thyme.config import SandboxConfig
from thyme.images import load_image, to_record
from thyme.markup import extract_answer, observation_text
from thyme.rewards.answer import score_answer
from thyme.rewards.format import FORMATS
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox, Session
from thyme.sandbox.remote import open_remote
from thyme.types import ImageRecord, Problem

SCHEMA = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Runs Python. image_path is the picture; save pictures and print their paths to see them.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program"}},
            "required": ["code"],
        },
    },
}
MOST_SESSIONS = 64
"""Trajectories whose variables are kept; the one that waited longest is forgotten."""


class _Opened:
    """A session, and what ends with it. No dataclass: verl runs this file without entering it into ``sys.modules``."""

    def __init__(self, session: Session, resources: AsyncExitStack) -> None:
        self.session, self.resources, self.lock = session, resources, asyncio.Lock()


class ThymeTool(BaseTool):  # type: ignore[misc]  # verl has no types
    """Runs code in a session that lives as long as its trajectory.

    verl makes and releases a tool's instance for each call, so sessions go by the trajectory
    (``agent_data.request_id``). It does not say when one is over: the oldest is ended where there are more than
    `MOST_SESSIONS`.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None) -> None:
        """Keep the settings; the sandbox is opened with the first call."""
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(SCHEMA))
        self._sandbox: Sandbox | None = None
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._sessions: OrderedDict[str, _Opened] = OrderedDict()
        self._images: dict[str, tuple[ImageRecord, ...]] = {}

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        """Take the pictures of a trajectory: ``tools_kwargs.python.create_kwargs.images`` of a row of the data set."""
        instance_id = instance_id or str(uuid4())
        images = kwargs.get("create_kwargs", {}).get("images", ())
        self._images[instance_id] = tuple(_read(image) for image in images)
        return instance_id, ToolResponse()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Run a block; an error of its own is text for the model, and only a sandbox that failed raises."""
        data = kwargs.get("agent_data")
        opened = await self._opened(getattr(data, "request_id", instance_id), self._images.get(instance_id, ()))
        async with opened.lock:
            execution = await opened.session.run(str(parameters.get("code", "")))
        shown = [one.image for one in execution.images]
        text = observation_text(execution).replace("<image>", "").strip()
        facts = {"failed": float(execution.error is not None), "repaired": float(bool(execution.repairs))}
        return ToolResponse(text=text, **({"image": shown} if shown else {})), 0.0, facts

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """Forget the call; its trajectory's session goes on."""
        self._images.pop(instance_id, None)

    async def aclose(self) -> None:
        """End every session and the sandbox."""
        while self._sessions:
            await self._sessions.popitem()[1].resources.aclose()
        await self._resources.aclose()

    async def _opened(self, trajectory: str, images: Sequence[ImageRecord]) -> _Opened:
        async with self._opening:
            if trajectory not in self._sessions:
                resources = AsyncExitStack()
                sandbox = await self._running()
                session = await resources.enter_async_context(sandbox.session(images))
                self._sessions[trajectory] = _Opened(session, resources)
            self._sessions.move_to_end(trajectory)
            while len(self._sessions) > MOST_SESSIONS:
                await self._sessions.popitem(last=False)[1].resources.aclose()
            return self._sessions[trajectory]

    async def _running(self) -> Sandbox:
        if self._sandbox is None:
            url = self.config.get("sandbox_url", "")
            settings = SandboxConfig(max_sessions=MOST_SESSIONS + 1)
            opened = open_remote(url) if url else open_sandbox(settings)
            self._sandbox = await self._resources.enter_async_context(opened)
        return self._sandbox


def _read(image: Any) -> ImageRecord:
    """A picture as rows of a data set hold it: base64, bytes, or a Pillow image."""
    if isinstance(image, str):
        return load_image(base64.b64decode(image))
    return to_record(image)


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """What verl pays a response: the paper's result and format; consistency wants the whole trajectory.

    Args:
        data_source: Name of the data set; not looked at.
        solution_str: What the model wrote, tool calls included.
        ground_truth: Reference answer.
        extra_info: ``choices``, where the question has options.

    Raises:
        ValueError: There is no reference.
    """
    choices = tuple((extra_info or {}).get("choices", ()))
    problem = Problem(id="verl", question="", answer=ground_truth, choices=choices)
    result = score_answer(problem, extract_answer(solution_str)).value
    if result is None:
        raise ValueError("a row without ground truth cannot be scored, and 0 would be a verdict")
    form = FORMATS["released"](solution_str)  # which does not look at code: verl's tool calls are not Thyme's
    return {"score": result + 0.5 * form, "result": result, "format": form}
