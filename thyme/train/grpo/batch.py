"""From rollouts to the micro-batches of a step.

Shapes: B rows, L tokens of the longest. A row is a whole trajectory, padded on the right; position t of a target array
of width L - 1 belongs to token t + 1 of its row, which the logits at t predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from thyme.config.grpo import CodePolicy
from thyme.errors import EncodeError, UsageError
from thyme.families import Family, Grid
from thyme.train.batches.collate import collate
from thyme.train.batches.dummy_vision import with_unseen_image
from thyme.train.batches.vision import ImageSource
from thyme.train.encode import Encoded, MaskPolicy, Span, encode, turn_end_id
from thyme.types import Generated, ImageRecord, Trajectory

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXT: Final = 1
CODE: Final = 2
"""Kinds of generated tokens; 0 is everything else."""


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A trajectory of L tokens as the loss reads it."""

    encoded: Encoded
    """Ids, images, and the loss mask under the code policy."""
    temperatures: NDArray[np.float32]
    """(L,) tau of each generated token, 0 counted as 1; 1 elsewhere."""
    logprobs: NDArray[np.float32]
    """(L,) the sampler's log-probability of each generated token; not a number where unknown or not generated."""
    kinds: NDArray[np.int8]
    """(L,) `TEXT` and `CODE` where the model wrote the token, else 0."""
    greedy: NDArray[np.bool_]
    """(L,) True where tau was 0."""

    def __len__(self) -> int:
        """Tokens."""
        return len(self.encoded)

    @property
    def ids(self) -> NDArray[np.int32]:
        """(L,) token ids."""
        return self.encoded.ids

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """(L,) True where the token is in the loss, and in the normaliser."""
        return self.encoded.loss_mask

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """In the order of their placeholders."""
        return self.encoded.images

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Of the images, in patches."""
        return self.encoded.grids


def encode_rollout(trajectory: Trajectory, family: Family, code_policy: CodePolicy) -> Rollout | None:
    """Read a trajectory as it was recorded: its ids are those the engine was fed and drew, nothing is tokenised.

    No end of turn is added where the model did not write one.

    Args:
        trajectory: The record, images loaded.
        family: Of the model in training.
        code_policy: What code tokens do in the loss; see `thyme.config.grpo.GRPOSettings`.

    Returns:
        The rollout; None where the model wrote nothing.

    Raises:
        EncodeError: It was not recorded by this model's tokenizer or under its pixel limits.
        UsageError: Code was greedy, and the policy is ``tempered``.
    """
    generated = trajectory.generated
    if not generated:
        return None
    if trajectory.fingerprints.tokenizer != family.fingerprint or not all(s.token_ids for s in trajectory.segments):
        raise EncodeError(
            f"trajectory {trajectory.id} has no token ids of this model's tokenizer; a rollout to train on comes from "
            "an engine that records them (transformers, vllm)",
            reason="other_tokenizer",
        )
    if code_policy == "tempered" and any(s.kind == "code" and s.temperature == 0 for s in generated):
        raise UsageError("code_policy = 'tempered' needs a temperature above 0 in code: what is greedy was not drawn")
    full = encode(trajectory, family, MaskPolicy.ALL)
    spans = full.spans[: len(trajectory.segments) + 1]  # without an end that the model did not write
    return _rollout(full, spans, trajectory, code_policy)


def _rollout(full: Encoded, spans: Sequence[Span], trajectory: Trajectory, code_policy: CodePolicy) -> Rollout:
    length = spans[-1].end
    mask, greedy = np.zeros(length, dtype=np.bool_), np.zeros(length, dtype=np.bool_)
    temperatures = np.ones(length, dtype=np.float32)
    logprobs = np.full(length, np.nan, dtype=np.float32)
    kinds = np.zeros(length, dtype=np.int8)
    for span, segment in zip(spans[1:], trajectory.segments, strict=True):
        if not isinstance(segment, Generated):
            continue
        place = slice(span.start, span.end)
        kinds[place] = CODE if segment.kind == "code" else TEXT
        mask[place] = segment.kind != "code" or code_policy != "mask"
        temperatures[place] = segment.temperature or 1.0
        greedy[place] = segment.temperature == 0
        if segment.logprobs is not None:
            logprobs[place] = segment.logprobs
    encoded = Encoded(full.ids[:length], mask, full.images, full.grids, tuple(spans))
    return Rollout(encoded, temperatures, logprobs, kinds, greedy)


def filler(family: Family) -> Rollout:
    """A row without anything to learn, where a process has nothing left and the others go on: two tokens."""
    ids = np.full(2, turn_end_id(family), dtype=np.int32)
    nothing = np.zeros(2, dtype=np.bool_)
    ones, unknown = np.ones(2, dtype=np.float32), np.full(2, np.nan, dtype=np.float32)
    return Rollout(Encoded(ids, nothing), ones, unknown, np.zeros(2, dtype=np.int8), nothing)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A rollout in the loss, with its advantage."""

    rollout: Rollout
    advantage: float
    name: str
    """Of its problem, for messages; empty for a filler."""

    def __len__(self) -> int:
        """Tokens."""
        return len(self.rollout)


def micro_batches(rows: Sequence[Row], count: int) -> list[list[Row]]:
    """Cut rows into `count` batches as even as can be, each with rows of like length, longest first.

    Args:
        rows: At least `count` rows.
        count: Forward passes.
    """
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    return [[rows[i] for i in part] for part in np.array_split(np.asarray(order), count)]


def collate_rows(
    rows: Sequence[Row],
    images: ImageSource,
    family: Family,
    *,
    tokens: int,
    pad_to_multiple: int = 1,
    always_an_image: bool = False,
) -> dict[str, Any]:
    """Make a micro-batch.

    Args:
        rows: B rows.
        images: Where the pixels, or the features, of the images come from.
        family: Says which of the tensors its models take.
        tokens: The normaliser: tokens in the loss, of the whole step in all processes.
        pad_to_multiple: L is a multiple of this.
        always_an_image: See `thyme.train.batches.dummy_vision`.

    Returns:
        ``forward``: what the model takes. Then, (B, L - 1): ``targets`` ids; ``wanted``, whether the model wrote the
        token; ``taus``; ``sampled`` log-probabilities; ``kinds``; ``greedy``. Then what TRL's loss reads:
        ``prompt_ids``, ``prompt_mask`` (B, 1), the first token of each row; ``completion_ids``, ``completion_mask``,
        ``tool_mask``, the loss mask (B, L - 1); ``advantages`` (B,); ``num_items_in_batch``. And ``names``.
    """
    samples = [[row.rollout.encoded] for row in rows]
    if always_an_image:
        samples = with_unseen_image(samples, family)
    forward = collate([row[0] for row in samples], images, family, pad_to_multiple=pad_to_multiple)
    forward.pop("labels")
    ids, attended = forward["input_ids"], forward["attention_mask"]
    rollouts = [row.rollout for row in rows]
    width = ids.shape[1]
    kinds = _padded([r.kinds for r in rollouts], width, 0)
    return {
        "forward": forward,
        "wanted": kinds != 0,
        "taus": _padded([r.temperatures for r in rollouts], width, 1.0),
        "sampled": _padded([r.logprobs for r in rollouts], width, float("nan")),
        "kinds": kinds,
        "greedy": _padded([r.greedy for r in rollouts], width, False),
        "prompt_ids": ids[:, :1],
        "prompt_mask": attended[:, :1],
        "completion_ids": ids[:, 1:],
        "completion_mask": attended[:, 1:],
        "tool_mask": _padded([r.loss_mask.astype(np.int64) for r in rollouts], width, 0),
        "advantages": torch.tensor([row.advantage for row in rows], dtype=torch.float32),
        "num_items_in_batch": torch.tensor(tokens),
        "names": [row.name for row in rows if row.name],
    }


def _padded(arrays: Sequence[NDArray[Any]], width: int, value: float | bool) -> torch.Tensor:
    """(B, width - 1): the arrays without their first token, which nothing predicts."""
    made = np.full((len(arrays), width - 1), value, dtype=arrays[0].dtype)
    for row, array in zip(made, arrays, strict=True):
        row[: len(array) - 1] = array[1:]
    return torch.from_numpy(made)
