r"""Thyme's loop, sandbox and rewards inside of verifiers: a taskset and the harness that plays it.

    vf-eval verifiers_thyme --env.agent.harness.id verifiers_thyme --env.agent.runtime.type subprocess -m MODEL \
      --client.base-url http://localhost:8000/v1 --client.api-key-var KEY --no-push

The harness is Thyme's rollout with a model that is asked through the endpoint which verifiers hands to every harness,
so verifiers records each call; code runs in Thyme's sandbox, never in verifiers' runtime. The task's
reward is Thyme's. Written for verifiers 0.4 (`verifiers.v1`); docs/extend/verifiers.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import verifiers.v1 as vf
from own_engine import TurnEngine, Write

from thyme.agent import rollout
from thyme.config import RolloutConfig, SandboxConfig
from thyme.config.rewards import RewardSettings
from thyme.engines.base import Request
from thyme.engines.openai_messages import data_url, in_turns
from thyme.images import load_image
from thyme.nano.world import problems
from thyme.prompts import PromptSet
from thyme.rewards import open_scorer
from thyme.sandbox import open_sandbox
from thyme.sandbox.remote import open_remote
from thyme.tags import ANSWER_CLOSE, ANSWER_OPEN, CODE_CLOSE, CODE_OPEN
from thyme.types import Problem, Trajectory

__all__ = ["ThymeHarness", "ThymeTaskset"]

RECORD = "thyme"
"""Where a trace keeps the trajectory (``trace.info``)."""


class ThymeData(vf.TaskData):
    """What a task is on the wire: a problem, its pictures as PNG in Base64."""

    answer: str
    pictures: list[str]

    @property
    def as_problem(self) -> Problem:
        """The problem with its pixels."""
        images = tuple(load_image(base64.b64decode(picture)) for picture in self.pictures)
        return Problem(id=self.id or "", question=self.prompt_text, images=images, answer=self.answer)


class ThymeTask(vf.Task[ThymeData]):
    """A problem, and what its trajectory is worth."""

    @vf.reward
    async def thyme(self, trace: vf.Trace) -> float:
        """The paper's reward. What could not be scored is an error of the rollout, never a 0."""
        trajectory = Trajectory.model_validate(trace.info[RECORD])
        async with open_scorer(RewardSettings()) as scorer:
            score = await scorer.score(trajectory)
        if score.value is None:
            raise ValueError(f"not scored: {score.note}")
        return score.value

    @vf.metric
    async def code_blocks(self, trace: vf.Trace) -> float:
        """Blocks that ran."""
        return float(len(Trajectory.model_validate(trace.info[RECORD]).observations))


class ThymeTasksetConfig(vf.TasksetConfig):
    """Which problems."""

    seed: int = 0
    per_kind: int = 2


class ThymeTaskset(vf.Taskset[ThymeTask, ThymeTasksetConfig]):
    """Problems of the embedded world; put yours in their place."""

    def load(self) -> Iterator[ThymeTask]:
        """A task a problem."""
        for problem in problems("train", self.config.seed, self.config.per_kind, ("easy", "zoom")):
            pictures = [data_url(image, image.size).partition(",")[2] for image in problem.images]
            told = {"prompt": problem.question, "answer": problem.answer, "pictures": pictures}
            yield ThymeTask(ThymeData(id=problem.id, **told), self.config.task)


class ThymeHarnessConfig(vf.HarnessConfig):
    """Bounds of a rollout, and where code runs."""

    max_rounds: int = 4
    sandbox_url: str = ""
    """A ``thyme sandbox serve``, its token in THYME_SANDBOX_TOKEN; empty: the strongest level of this machine."""
    keep_stop: bool = True
    """Whether each request says ``include_stop_str_in_output``. It has vLLM leave ``</code>`` where it is: what is sent
    back is then what was drawn, and a trace is one branch. False for servers that refuse fields they do not know."""


class ThymeHarness(vf.Harness[ThymeHarnessConfig]):
    """Plays a task in this process; the runtime that verifiers provides stays empty."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """One rollout; the trajectory goes into the trace."""
        assert isinstance(data, ThymeData)
        config = RolloutConfig(max_rounds=self.config.max_rounds)
        url = self.config.sandbox_url
        async with (
            httpx.AsyncClient(headers={"authorization": f"Bearer {secret}"}, timeout=600) as client,
            open_remote(url) if url else open_sandbox(SandboxConfig(pool=0)) as sandbox,
        ):
            engine = TurnEngine(asking(client, endpoint, ctx.model, keep_stop=self.config.keep_stop), ctx.model)
            made = await rollout(data.as_problem, engine, sandbox, config, prompts=PromptSet.load(None))
        trace.info[RECORD] = json.loads(made.model_dump_json())
        if made.error is not None:
            return vf.ProgramResult(1, "", f"{made.error.type}: {made.error.message}")
        return vf.ProgramResult(0, made.response, "")


def asking(client: httpx.AsyncClient, endpoint: str, model: str, *, keep_stop: bool) -> Write:
    """What writes the next turn by asking an OpenAI-compatible endpoint; sampling is the endpoint's business."""

    async def write(request: Request) -> str:
        body = {
            "model": model,
            "messages": in_turns(request, lambda image: data_url(image, image.size)),
            "stop": [CODE_CLOSE, ANSWER_CLOSE],
            **({"include_stop_str_in_output": True} if keep_stop else {}),
        }
        reply = await client.post(f"{endpoint.rstrip('/')}/chat/completions", json=body)
        reply.raise_for_status()
        (choice,) = reply.json()["choices"]
        text: str = choice["message"]["content"] or ""
        return closed(text) if choice["finish_reason"] == "stop" else text

    return write


def closed(text: str) -> str:
    """A turn with the stop string that servers take out; where one leaves it, without what is behind it."""
    for opening, closing in ((CODE_OPEN, CODE_CLOSE), (ANSWER_OPEN, ANSWER_CLOSE)):
        if closing in text:
            return text[: text.index(closing) + len(closing)]
        if opening in text:
            return text + closing
    return text
