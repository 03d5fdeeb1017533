"""Token rows for the language model: encoding, batching, the loss, and a small greedy decoder for gates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from thyme.nano.model import IMAGE_TOKENS, NanoVL, positions_of
from thyme.nano.perception.questions import Turn
from thyme.nano.tokenizer import END, IMAGE_PAD, START, VISION_END, VISION_START, token_id

_CACHE = 60_000


@dataclass
class Row:
    """One sequence."""

    ids: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    """Which ids the loss counts."""
    images: list[int] = field(default_factory=list)
    """Index of the features of each image, in reading order."""

    def add(self, ids: Sequence[int], *, trained: bool) -> None:
        """Append a span."""
        self.ids.extend(ids)
        self.trained.extend([trained] * len(ids))


class Encoder:
    """Turns strings into ids, remembering what it has seen, and conversations into rows."""

    def __init__(self, tokenizer: Tokenizer, system: str = "Look and answer.") -> None:
        """Use `system` as the system turn of every conversation."""
        self._tokenizer = tokenizer
        self._cache: dict[str, list[int]] = {}
        self._system = f"{START}system\n{system}{END}\n"
        self.image_id = token_id(tokenizer, IMAGE_PAD)
        self.end_id = token_id(tokenizer, END)
        self._image = self.encode(VISION_START) + [self.image_id] * IMAGE_TOKENS + self.encode(VISION_END)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; control tokens in it are control tokens."""
        found = self._cache.get(text)
        if found is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            found = self._cache[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens shown."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def conversation(self, turns: Sequence[Turn], image: int | None) -> Row:
        """Questions and answers about one image, or none; only answers are trained."""
        row = Row()
        row.add(self.encode(f"{self._system}{START}user\n"), trained=False)
        for index, (question, answer) in enumerate(turns):
            if index:
                row.add(self.encode(f"\n{START}user\n"), trained=False)
            elif image is not None:
                row.add(self._image, trained=False)
                row.images.append(image)
                question = f"\n{question}"
            row.add(self.encode(f"{question}{END}\n{START}assistant\n"), trained=False)
            row.add([*self.encode(answer), self.end_id], trained=True)
        return row


@dataclass(frozen=True)
class Batch:
    """Padded rows. B rows, T tokens."""

    ids: Tensor
    trained: Tensor
    positions: Tensor
    image_mask: Tensor
    features: Tensor | None


def collate(rows: Sequence[Row], features: Tensor | None, image_id: int, multiple: int = 32) -> Batch:
    """Pad rows on the right, to a multiple of `multiple` tokens.

    Args:
        rows: What to put together.
        features: (images, IMAGE_TOKENS, hidden), which `Row.images` index.
        image_id: The image placeholder.
        multiple: Few different lengths keep memory and compiled code few.
    """
    length = -(-max(len(row.ids) for row in rows) // multiple) * multiple
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    trained = torch.zeros(len(rows), length, dtype=torch.bool)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        size = len(row.ids)
        ids[index, :size] = torch.tensor(row.ids)
        trained[index, :size] = torch.tensor(row.trained)
        positions[:, index, :size] = torch.from_numpy(positions_of(row.ids, image_id))
    images = [image for row in rows for image in row.images]
    chosen = features[torch.tensor(images)] if images and features is not None else None
    return Batch(ids, trained, positions, ids == image_id, chosen)


def loss_of(model: NanoVL, batch: Batch) -> Tensor:
    """Mean cross-entropy of the trained tokens."""
    hidden = model(batch.ids, batch.positions, batch.image_mask, batch.features)
    counted = batch.trained[:, 1:]
    logits = model.logits(hidden[:, :-1][counted]).float()
    return functional.cross_entropy(logits, batch.ids[:, 1:][counted])


@torch.no_grad()
def greedy(
    model: NanoVL, encoder: Encoder, rows: Sequence[Row], features: Tensor | None, max_new: int, batch: int = 32
) -> list[str]:
    """Continue rows greedily until the end of the turn, recomputing everything each step: for short answers only.

    Args:
        model: What answers.
        encoder: Its encoder.
        rows: Ending where the assistant starts.
        features: See `collate`.
        max_new: Tokens at most.
        batch: Rows at a time.
    """
    texts: list[str] = []
    for start in range(0, len(rows), batch):
        part = [Row(list(r.ids), list(r.trained), list(r.images)) for r in rows[start : start + batch]]
        prompts = [len(row.ids) for row in part]
        for _ in range(max_new):
            made = collate(part, features, encoder.image_id)
            hidden = model(made.ids, made.positions, made.image_mask, made.features)
            last = torch.tensor([len(row.ids) - 1 for row in part])
            chosen = model.logits(hidden[torch.arange(len(part)), last]).float().argmax(-1).tolist()
            for row, token in zip(part, chosen, strict=True):
                row.add([token], trained=False)
        for row, size in zip(part, prompts, strict=True):
            ids = row.ids[size:]
            texts.append(encoder.decode(ids[: ids.index(encoder.end_id)] if encoder.end_id in ids else ids))
    return texts


@torch.no_grad()
def features_of(model: NanoVL, pixels: np.ndarray, batch: int = 64) -> Tensor:
    """Features of many views, once: (n, IMAGE_TOKENS, hidden) in the model's type."""
    parts: Iterable[Tensor] = (
        model.see(torch.from_numpy(np.array(pixels[start : start + batch]))) for start in range(0, len(pixels), batch)
    )
    return torch.cat(list(parts))
