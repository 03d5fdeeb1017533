"""What every model family gives: the contract between engines, trainers and the checkpoints' ways of writing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal, Protocol

from thyme.families.positions import Ids, IntArray
from thyme.families.spans import Grid, Part, TokenSpan
from thyme.types import ImageRecord

CoordinateSystem = Literal["pixels", "per_mille"]
"""How models name places in an image: pixels of the image as they see it, or thousandths of its sides."""


class Family(Hashable, Protocol):
    """Tokenizer, chat template and image geometry of one checkpoint; no tensors."""

    @property
    def name(self) -> str:
        """Checkpoint type (``model_type`` of config.json)."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer (transformers, fast)."""
        ...

    @property
    def image_config(self) -> dict[str, Any]:
        """Settings of the image processor, as the checkpoint gives them."""
        ...

    @property
    def coordinates(self) -> CoordinateSystem:
        """How models of this family name places in an image."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the tokenizer's serialised form: equal prints mean equal ids."""
        ...

    @property
    def image_token_id(self) -> int:
        """The placeholder that is repeated once for each token of an image."""
        ...

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end the model's turn."""
        ...

    @property
    def never_sampled(self) -> tuple[int, ...]:
        """Ids that stand for images and video; a model's own text never holds them."""
        ...

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        """Bytes of each token by id; the end of a turn has none."""
        ...

    @property
    def grid_key(self) -> str | None:
        """Name under which the model's forward takes the grids of images; None: it takes none."""
        ...

    @property
    def token_types(self) -> bool:
        """Whether the model's forward needs ``mm_token_type_ids`` (1 at image placeholders, 0 elsewhere)."""
        ...

    @property
    def position_axes(self) -> int:
        """Axes of a position: 3 for M-RoPE (time, height, width), 1 otherwise."""
        ...

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels at which the model sees an image of this size."""
        ...

    def grid(self, width: int, height: int) -> Grid:
        """Grid of an image of this size."""
        ...

    def image_tokens(self, grid: Grid) -> int:
        """Placeholders that an image of this grid takes."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Token ids of text from a person, a model or a sandbox: special tokens spelled out in it stay plain text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids: special tokens are spelled out, but the end of a turn has no text."""
        ...

    def encode_parts(self, parts: Sequence[Part]) -> TokenSpan:
        """Token ids of text and images; special tokens count in `thyme.families.Control` texts only."""
        ...

    def prompt_parts(self, system: str, user: str, images: Sequence[ImageRecord]) -> list[Part]:
        """The prompt as the checkpoint's chat template writes it, up to and including the assistant's header."""
        ...

    def positions(self, ids: Ids, grids: Sequence[Grid], start: int) -> tuple[IntArray, int]:
        """Rotary positions of a chunk of L tokens that begins at `start`.

        Returns:
            Positions of shape (axes, L), and where the next chunk starts.

        Raises:
            ValueError: Placeholders and grids do not match.
        """
        ...
