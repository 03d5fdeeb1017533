"""Asking on behalf of a draft: its pictures, its costs, and what is the fault of the draft alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from thyme.data.drafts import Costs, Draft, Rejection, Said
from thyme.data.stages import reasons
from thyme.data.stages.base import Context, Reply, UnansweredError, Workbench
from thyme.engines.openai_errors import POLICY, ImageRefusedError, NoVisionError, RefusedFieldError
from thyme.engines.openai_messages import bounded_size, data_url, message, prompt_images
from thyme.errors import ContextFullError
from thyme.types import ImageRecord, Observation


async def ask(
    draft: Draft, context: Context, stage: str, who: str, messages: list[dict[str, Any]], seed: int
) -> tuple[Draft, Reply] | Rejection:
    """One turn, and the draft with what it cost; a rejection where the request itself is why there is none.

    Raises:
        EngineError: The endpoint failed.
        BudgetError: Nothing is left to spend.
    """
    try:
        reply = await context.teachers.ask(who, messages, seed=seed)
    except ContextFullError as error:
        return Rejection.of(draft, stage, reasons.CONTEXT_FULL, str(error))
    except (ImageRefusedError, NoVisionError) as error:
        return Rejection.of(draft, stage, reasons.IMAGE_REFUSED, str(error))
    except UnansweredError as error:
        return Rejection.of(draft, stage, reasons.UNANSWERED, str(error))
    except RefusedFieldError as error:
        reason = reasons.REFUSED if POLICY.search(str(error)) else reasons.REQUEST_REFUSED
        return Rejection.of(draft, stage, reason, str(error))
    return draft.model_copy(update={"costs": _with(draft.costs, reply)}), reply


def _with(costs: Costs, reply: Reply) -> Costs:
    return costs.model_copy(
        update={
            "requests": costs.requests + (not reply.recorded),
            "recorded": costs.recorded + reply.recorded,
            "prompt_tokens": costs.prompt_tokens + reply.prompt_tokens,
            "completion_tokens": costs.completion_tokens + reply.completion_tokens,
            "usd": costs.usd + reply.usd,
        }
    )


def bench_of(draft: Draft, context: Context) -> Workbench:
    """The draft's workbench."""
    return context.benches.setdefault(draft.id, Workbench())


def images_of(draft: Draft) -> dict[str, ImageRecord]:
    """Every picture of a draft by its id: the problem's, and those that code made."""
    made = (image for s in draft.segments if isinstance(s, Observation) for image in s.execution.images)
    return {image.id: image for image in (*draft.problem.images, *made)}


def chat(draft: Draft, bench: Workbench, max_pixels: int | None) -> list[dict[str, Any]]:
    """The conversation of a draft as the messages of a chat request. It encodes pictures: call it in a thread."""
    images = images_of(draft)
    return [_message(said, [images[name] for name in said.images], bench, max_pixels) for said in draft.conversation]


def _message(said: Said, images: Sequence[ImageRecord], bench: Workbench, max_pixels: int | None) -> dict[str, Any]:
    parts = prompt_images(said.text, images) if said.role == "user" else [said.text]
    return shown(said.role, parts, bench, max_pixels)


def shown(role: str, parts: Iterable[str | ImageRecord], bench: Workbench, max_pixels: int | None) -> dict[str, Any]:
    """A message with pictures, each of which is encoded once a draft."""

    def url(image: ImageRecord) -> str:
        key = f"{image.id}/{max_pixels}"
        if key not in bench.shown:
            bench.shown[key] = data_url(image, bounded_size(*image.size, None, max_pixels))
        return bench.shown[key]

    return message(role, list(parts), url)
