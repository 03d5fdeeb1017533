"""From a trajectory to what a trainer reads: token ids, loss mask, images.

Text that the model wrote itself is never tokenised again: where the record's tokenizer is the family's (by
fingerprint), the recorded ids are taken as they are. Elsewhere, and where a segment has no ids, each segment is
tokenised on its own, so that no token ever straddles the border of two segments.

The loss mask is a function of the segments: the prompt and what the sandbox gave back are never trained on, what the
model wrote is, and `MaskPolicy` says what happens to the earlier rounds of a trajectory that has several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np

from thyme.errors import EncodeError, TooLongError, UsageError
from thyme.families import Family, Grid, Part
from thyme.markup import IMAGE, observation_parts
from thyme.types import Generated, ImageRecord, Observation, Prompt, Segment, StopReason, Trajectory

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["prompt", "text", "code", "observation", "end"]

IGNORED = -100
"""Label of a token that is not trained on."""
FINISHED = frozenset({StopReason.ANSWER, StopReason.END})
"""Stops after which the end of the turn is the model's own; any other cut the turn."""


class MaskPolicy(StrEnum):
    """Which rounds are trained on, where a trajectory has two or more observations."""

    ALL = "all"
    """Every round. Right for maths, where each round is worth learning."""
    RELEASED = "released"
    """Everything up to and including the second-to-last observation is masked (the released code)."""
    PAPER = "paper"
    """Everything up to and including the last observation is masked (the paper's text)."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a piece of the sample lies in its ids: ``ids[start:end]``."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One training sample of L tokens and K images."""

    ids: NDArray[np.int32]
    """(L,) token ids, image placeholders expanded."""
    loss_mask: NDArray[np.bool_]
    """(L,) True where the token is a target of the loss."""
    images: tuple[ImageRecord, ...] = ()
    """K images in the order of their placeholders."""
    grids: tuple[Grid, ...] = ()
    """K grids, in patches."""
    spans: tuple[Span, ...] = ()
    """Consecutive pieces that cover the ids."""

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def labels(self) -> NDArray[np.int32]:
        """(L,) the id where it is trained on, -100 elsewhere; not shifted."""
        return np.where(self.loss_mask, self.ids, np.int32(IGNORED))

    @property
    def trained(self) -> int:
        """Number of tokens that are trained on."""
        return int(self.loss_mask.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Dialogue:
    """Plain questions and answers on the same images; see `encode_turns`."""

    turns: tuple[tuple[str, str], ...]
    """Questions and answers in order."""
    images: tuple[ImageRecord, ...] = ()
    system: str = ""
    """System turn; empty: none is given, and the chat template may put its own."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One span before it has its place."""

    kind: Kind
    ids: Sequence[int]
    images: tuple[ImageRecord, ...] = ()
    grids: tuple[Grid, ...] = ()
    trained: bool = False


def encode(
    trajectory: Trajectory,
    family: Family,
    policy: MaskPolicy = MaskPolicy.RELEASED,
    *,
    max_tokens: int | None = None,
) -> Encoded:
    """Make a training sample of a trajectory.

    The end-of-turn token follows the last segment. It is trained on only if the trajectory ended by itself, with its
    answer or the end of the turn: a cut one must not teach the model to stop there.

    Args:
        trajectory: The record; its images must be loaded.
        family: Tokenizer and image geometry of the model that is trained.
        policy: Which rounds are trained on.
        max_tokens: Longest sample allowed.

    Raises:
        TooLongError: It has more tokens than `max_tokens`. Nothing is ever cut.
        EncodeError: Text or recorded ids do not fit the images, or no token is left to train on.
    """
    known = bool(family.fingerprint) and trajectory.fingerprints.tokenizer == family.fingerprint
    segments = trajectory.segments
    first = first_trained_segment(segments, policy)
    pieces = [
        _prompt_piece(trajectory.prompt, family, known),
        *(_segment_piece(segment, family, known, trained=i >= first) for i, segment in enumerate(segments)),
    ]
    if not (pieces[-1].ids and pieces[-1].ids[-1] in family.end_ids):
        pieces.append(_Piece("end", (turn_end_id(family),), trained=trajectory.stop in FINISHED))
    return _assemble(pieces, family, max_tokens)


def encode_turns(
    turns: Sequence[tuple[str, str]],
    images: Sequence[ImageRecord],
    family: Family,
    *,
    system: str = "",
    max_tokens: int | None = None,
) -> Encoded:
    """Make a training sample of plain questions and answers on the same images, such as a replay of perception.

    Every answer and the end of its turn are trained on; system turn and questions are not.

    Args:
        turns: Questions and answers in order. The first question holds one ``<image>`` for each image; where it holds
            none, the images come before it.
        images: The images; may be empty.
        family: Tokenizer and image geometry of the model that is trained.
        system: System turn.
        max_tokens: Longest sample allowed.

    Raises:
        TooLongError: It has more tokens than `max_tokens`.
        EncodeError: There is no turn, nothing to train on, or an ``<image>`` without image or the other way round.
    """
    if not turns:
        raise EncodeError("there is no question to encode")
    end = turn_end_id(family)
    pieces: list[_Piece] = []
    for i, (question, answer) in enumerate(turns):
        pieces.append(_question_piece(question, images, family, system) if i == 0 else _next_piece(question, family))
        pieces.append(_Piece("text", [*family.encode_text(answer), end], trained=True))
    return _assemble(pieces, family, max_tokens)


def encode_item(
    item: Trajectory | Dialogue,
    family: Family,
    policy: MaskPolicy = MaskPolicy.RELEASED,
    *,
    max_tokens: int | None = None,
) -> Encoded:
    """Make a training sample of either kind of record: `encode` or `encode_turns`.

    Args:
        item: A trajectory, or a dialogue, every answer of which is trained on.
        family: Tokenizer and image geometry of the model that is trained.
        policy: Which rounds of a trajectory are trained on.
        max_tokens: Longest sample allowed.

    Raises:
        TooLongError: It has more tokens than `max_tokens`. Nothing is ever cut.
        EncodeError: It cannot be encoded, or no token is left to train on.
    """
    if isinstance(item, Dialogue):
        return encode_turns(item.turns, item.images, family, system=item.system, max_tokens=max_tokens)
    return encode(item, family, policy, max_tokens=max_tokens)


def encode_all(
    trajectories: Iterable[Trajectory],
    family: Family,
    policy: MaskPolicy = MaskPolicy.RELEASED,
    *,
    max_tokens: int | None = None,
) -> tuple[list[Encoded], Counter[str]]:
    """Encode what can be encoded, and count the rest.

    Returns:
        The samples, and how many trajectories were dropped, by the name of the error (`TooLongError`, `EncodeError`).
    """
    samples: list[Encoded] = []
    drops: Counter[str] = Counter()
    for trajectory in trajectories:
        try:
            samples.append(encode(trajectory, family, policy, max_tokens=max_tokens))
        except EncodeError as error:
            drops[type(error).__name__] += 1
    return samples, drops


def first_trained_segment(segments: Sequence[Segment], policy: MaskPolicy) -> int:
    """Index of the segment from which on the policy trains; 0 where there are fewer than two observations."""
    observations = [i for i, segment in enumerate(segments) if isinstance(segment, Observation)]
    if policy is MaskPolicy.ALL or len(observations) < 2:
        return 0
    return observations[-2 if policy is MaskPolicy.RELEASED else -1] + 1


@lru_cache(maxsize=8)
def turn_end_id(family: Family) -> int:
    """The token with which the chat template ends a turn, the model's own included.

    Raises:
        EncodeError: The template ends a user turn with something that does not end the model's.
    """
    after_user = family.encode_parts(family.prompt_parts("", "?", ())[-1:]).ids
    if not after_user or after_user[0] not in family.end_ids:
        raise EncodeError("the chat template ends a turn with a token that does not end the model's own")
    return after_user[0]


def _question_piece(question: str, images: Sequence[ImageRecord], family: Family, system: str) -> _Piece:
    user = question if IMAGE in question else IMAGE * len(images) + question
    return _parts_piece("prompt", _asked(system, user, images, family), family)


def _next_piece(question: str, family: Family) -> _Piece:
    """A later question: what the template writes after the end of a turn, without that turn's end token."""
    after_system = _asked("?", question, (), family)[2:]
    return _Piece("prompt", family.encode_parts(after_system).ids[1:])


def _asked(system: str, user: str, images: Sequence[ImageRecord], family: Family) -> Sequence[Part]:
    """The prompt's parts; one record that does not name its images is that record's failure, not the user's."""
    try:
        return family.prompt_parts(system, user, images)
    except UsageError as error:
        raise EncodeError(str(error), reason="images_not_named") from error


def _prompt_piece(prompt: Prompt, family: Family, known: bool) -> _Piece:
    images = tuple(seen.image for seen in prompt.images)
    if known and prompt.token_ids:
        return _known_piece("prompt", prompt.token_ids, images, family)
    return _parts_piece("prompt", _asked(prompt.system, prompt.user, images, family), family)


def _segment_piece(segment: Segment, family: Family, known: bool, *, trained: bool) -> _Piece:
    if isinstance(segment, Generated):
        ids = segment.token_ids if known and segment.token_ids else family.encode_text(segment.text)
        return _Piece(segment.kind, ids, trained=trained)
    if known and segment.token_ids:
        return _known_piece("observation", segment.token_ids, segment.execution.images, family)
    return _parts_piece("observation", _observed_parts(segment), family)


def _observed_parts(observation: Observation) -> Sequence[Part]:
    """What the model was fed: the recorded text with its images put in, or the rendering where none is recorded."""
    images = observation.execution.images
    texts = observation.text.split(IMAGE)
    if not observation.text or len(texts) != len(images) + 1:
        return observation_parts(observation.execution)
    return [part for i, text in enumerate(texts) for part in ((images[i - 1], text) if i else (text,)) if part != ""]


def _parts_piece(kind: Kind, parts: Sequence[Part], family: Family) -> _Piece:
    span = family.encode_parts(parts)
    return _Piece(kind, span.ids, span.images, span.grids)


def _known_piece(kind: Kind, ids: Sequence[int], images: tuple[ImageRecord, ...], family: Family) -> _Piece:
    """Recorded ids; their runs of placeholders must be those that the images need here."""
    grids = tuple(family.grid(image.width, image.height) for image in images)
    needed = [family.image_tokens(grid) for grid in grids]
    found = placeholder_runs(ids, family.image_token_id)
    if found != needed:
        raise EncodeError(
            f"the {kind} holds runs of {found} image placeholders, but its images need {needed}: "
            "it was recorded under other pixel limits, or its images are not those it was made with",
            reason="other_pixel_limits",
        )
    return _Piece(kind, ids, images, grids)


def placeholder_runs(ids: Sequence[int], image_token_id: int) -> list[int]:
    """Lengths of the runs of image placeholders, in order."""
    return [sum(1 for _ in run) for is_image, run in groupby(ids, lambda i: i == image_token_id) if is_image]


def _assemble(pieces: Sequence[_Piece], family: Family, max_tokens: int | None) -> Encoded:
    length = sum(len(piece.ids) for piece in pieces)
    if max_tokens is not None and length > max_tokens:
        raise TooLongError(f"the sample has {length} tokens, {max_tokens} are allowed; it is dropped, never cut")
    sample = Encoded(
        ids=np.concatenate([np.asarray(piece.ids, dtype=np.int32) for piece in pieces]),
        loss_mask=np.repeat([piece.trained for piece in pieces], [len(piece.ids) for piece in pieces]),
        images=tuple(image for piece in pieces for image in piece.images),
        grids=tuple(grid for piece in pieces for grid in piece.grids),
        spans=tuple(_spans(pieces)),
    )
    if sample.loss_mask[sample.ids == family.image_token_id].any():
        raise EncodeError("generated text holds an image placeholder; it cannot be trained on", reason="image_in_text")
    if not sample.trained:
        raise EncodeError("no token is left to train on under this mask policy", reason="nothing_to_train_on")
    return sample


def _spans(pieces: Sequence[_Piece]) -> Iterator[Span]:
    start = 0
    for piece in pieces:
        yield Span(piece.kind, start, start + len(piece.ids))
        start += len(piece.ids)
