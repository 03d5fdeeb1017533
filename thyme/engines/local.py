"""What every engine over weights of our own shares: prompt, observation, room, and how a span ends. No tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thyme.config.engine import EngineConfig
from thyme.engines.base import Chunk, ChunkStop, Request, seen_images, written_last
from thyme.engines.span_text import SpanText
from thyme.engines.token_sequence import TokenSequence, request_sequence
from thyme.errors import ContextFullError, ModelNotFoundError, UsageError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint
from thyme.families.qwen_vl import QwenVLFamily
from thyme.markup import observation_parts, observation_text
from thyme.types import Execution, ImageRecord, Observation, Prompt


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint that was found."""

    folder: Path
    family: QwenVLFamily
    """The engines here know how such models read images and positions, and no others."""
    name: str
    """What records call it, without any absolute path."""
    prompts: str | None
    """Folder of prompt files that it brings with it, if any."""

    @classmethod
    def find(cls, model: str | Path, config: EngineConfig, *, name: str | None = None) -> LocalCheckpoint:
        """Find a checkpoint and load its family; no weights.

        Args:
            model: Folder or hub id.
            config: Pixel limits.
            name: What records call it; None is the folder's own name, or the hub id.

        Raises:
            ModelNotFoundError: No such checkpoint, or one of a family that these engines cannot run.
            MissingExtraError: transformers is not installed.
            UsageError: Pixel limits that contradict each other.
        """
        folder = find_checkpoint(model)
        family = load_family(folder, min_pixels=config.min_pixels, max_pixels=config.max_pixels)
        if not isinstance(family, QwenVLFamily):
            raise ModelNotFoundError(
                f"'{folder.name}' is a model of type '{family.name}', which is trained here but not run: serve it with "
                "vLLM, or another OpenAI-compatible server, and give the server's address: http://HOST:PORT/v1#NAME"
            )
        is_folder = Path(model).expanduser().is_dir()
        prompts = folder / "prompts"
        return cls(
            folder,
            family,
            name or (folder.resolve().name if is_folder else str(model)),
            str(prompts.resolve()) if prompts.is_dir() else None,
        )


class LocalEngine:
    """The half of an engine that needs no model: what it would be fed."""

    def __init__(self, family: Family, max_context: int) -> None:
        """Prepare.

        Args:
            family: The checkpoint's tokenizer and image settings.
            max_context: Tokens that a trajectory may have.
        """
        self.family = family
        self._max_context = max_context

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels at which the model sees an image of this size (pixel limits applied)."""
        return self.family.seen_size(width, height)

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """Make the prompt record, tokenised.

        Args:
            system: System turn.
            user: User turn with one ``<image>`` for each image, in order.
            images: The problem's images.

        Raises:
            ContextFullError: It does not fit.
            UsageError: The user turn does not name every image once.
        """
        span = self.family.encode_parts(self.family.prompt_parts(system, user, images))
        self._check_room(len(span.ids))
        return Prompt(system=system, user=user, images=seen_images(images, self.seen_size), token_ids=span.ids)

    def observation(self, execution: Execution) -> Observation:
        """Render a sandbox result as the model will read it, tokenised."""
        return Observation(
            execution=execution,
            text=observation_text(execution),
            token_ids=self.family.encode_parts(observation_parts(execution)).ids,
            seen_sizes=tuple(self.seen_size(*image.size) for image in execution.images),
        )

    def _sequence(self, request: Request) -> TokenSequence:
        """What stands before the first token to generate.

        Raises:
            UsageError: A negative temperature, or no tokens asked for.
            ContextFullError: There is no room for one more token.
            EngineError: The trajectory does not fit this model.
        """
        if request.temperature < 0 or request.max_tokens < 1:
            raise UsageError(f"temperature {request.temperature} and max_tokens {request.max_tokens} make no request")
        sequence = request_sequence(request, self.family)
        self._check_room(len(sequence.ids))
        return sequence

    def _span_text(self, request: Request) -> SpanText:
        return SpanText(
            self.family.token_bytes,
            stop=request.stop,
            blocked=request.blocked,
            before=written_last(request.segments),
        )

    def _check_room(self, tokens: int) -> None:
        if tokens >= self._max_context:
            raise ContextFullError(
                f"{tokens} tokens leave no room in a context of {self._max_context}; "
                "ask for less, show smaller images (max_pixels) or raise max_context"
            )


def token_chunk(text: SpanText, token: int, logprob: float, *, end: bool, full: bool, last: bool) -> Chunk:
    """Chunk of the next token of a span; it says whether the span ends with it.

    Args:
        text: The span's text so far; takes the token.
        token: Its id.
        logprob: Its log-probability.
        end: Whether it ends the turn.
        full: Whether the context is full with it.
        last: Whether it is the last that was asked for.
    """
    piece, stop_string = text.push(token)
    stop: ChunkStop | None = None
    if stop_string is not None:
        stop = "stop"
    elif end:
        stop = "end"
    elif full:
        stop = "context"
    elif last:
        stop = "length"
    if stop is not None:
        piece += text.flush()
    return Chunk(piece, (token,), (logprob,), stop, stop_string)
