"""What families over a byte-level tokenizer and a chat template share: ids of text, images and prompts. No tensors.

A family adds its constants, the grid of an image, what it takes in tokens, and positions.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from jinja2 import TemplateError

from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError
from thyme.families.byte_level import vocabulary_bytes
from thyme.families.checkpoint import chat_template, image_processor_config, read_json
from thyme.families.spans import Control, Grid, Part, TokenSpan
from thyme.tags import IMAGE
from thyme.types import ImageRecord

_END_TOKENS = "<|im_end|>", "<|endoftext|>"
_OPENED_THINKING = re.compile(r"<think>\s*(</think>\s*)?$")
_SLOT = "\ue000{}\ue001"
"""Stands for a text while the chat template is rendered, so that template and text can be told apart."""


class ChatSettings(TypedDict):
    """The fields of `ChatFamily`."""

    name: str
    tokenizer: Any
    template: str
    image_config: dict[str, Any]
    extra_end_ids: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class ChatFamily(ABC):
    """Tokenizer, chat template and image settings of one checkpoint."""

    name: str
    """Checkpoint type (``model_type`` of config.json)."""
    tokenizer: Any = field(repr=False)
    """The checkpoint's tokenizer (transformers, fast)."""
    template: str = field(repr=False)
    """Its chat template (Jinja)."""
    image_config: dict[str, Any] = field(repr=False)
    """Settings of the image processor, as the checkpoint gives them."""
    extra_end_ids: tuple[int, ...] = ()
    """End ids named by the checkpoint's generation settings."""

    image_marks: ClassVar[tuple[str, str, str]]
    """Special tokens of an image: what opens it, the placeholder of each of its tokens, what closes it."""
    image_in_template: ClassVar[str]
    """What the chat template writes for an image, without what it may write behind each."""
    vision_tokens: ClassVar[tuple[str, ...]]
    """Special tokens that stand for images and video; a checkpoint may lack some."""

    def __post_init__(self) -> None:
        """Check that the tokenizer has what images are written with.

        Raises:
            ModelNotFoundError: It has not.
        """
        if missing := [token for token in self.image_marks if token not in self._special_ids]:
            raise ModelNotFoundError(
                f"the tokenizer has no special token {', '.join(missing)}, which models of type '{self.name}' need for "
                "images; take the tokenizer that was published with the checkpoint"
            )

    @abstractmethod
    def grid(self, width: int, height: int) -> Grid:
        """Grid of an image of this size, pixels."""

    @abstractmethod
    def image_tokens(self, grid: Grid) -> int:
        """Placeholders that an image of this grid takes."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the tokenizer's serialised form: equal prints mean equal ids."""
        content = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # These two are switches of the last call, not part of the tokenizer.
        content.pop("truncation", None)
        content.pop("padding", None)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    @cached_property
    def image_token_id(self) -> int:
        """The placeholder that is repeated once for each token of an image."""
        return self._special_ids[self.image_marks[1]]

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end the model's turn."""
        named = {self._special_ids[token] for token in _END_TOKENS if token in self._special_ids}
        eos = self.tokenizer.eos_token_id
        return tuple(sorted(named | set(self.extra_end_ids) | ({eos} if eos is not None else set())))

    @cached_property
    def never_sampled(self) -> tuple[int, ...]:
        """Ids that stand for images and video; a model's own text never holds them."""
        return tuple(sorted(self._special_ids[token] for token in self.vision_tokens if token in self._special_ids))

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        """Special tokens by their text."""
        return {token.content: index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(t) for t in sorted(self._special_ids, key=len, reverse=True)))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of text from a person, a model or a sandbox: special tokens spelled out in it stay plain text."""
        return list(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids: special tokens are spelled out, but the end of a turn has no text."""
        return b"".join(self.token_bytes[index] for index in ids).decode("utf-8", "replace")

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """Bytes of each token by id; the end of a turn has none. A byte-level tokenizer is nothing but this table."""
        return vocabulary_bytes(self.tokenizer, silent=self.end_ids)

    def encode_parts(self, parts: Sequence[Part]) -> TokenSpan:
        """Token ids of text and images.

        Neighbouring texts are tokenised as one; special tokens count in `Control` texts only. What the chat template
        writes behind an image stands behind each, in an observation too.

        Args:
            parts: Text and images in order.
        """
        images = tuple(part for part in parts if isinstance(part, ImageRecord))
        grids = tuple(self.grid(image.width, image.height) for image in images)
        remaining = iter(grids)
        pieces: list[str | list[int]] = []
        for part in parts:
            if isinstance(part, ImageRecord):
                pieces += [self._image_ids(next(remaining)), *self._split_control(self._behind_image)]
            else:
                pieces += self._split_control(part)
        ids: list[int] = []
        text = ""
        for piece in (*pieces, list[int]()):
            if isinstance(piece, str):
                text += piece
            else:
                ids += self.encode_text(text) + piece
                text = ""
        return TokenSpan(tuple(ids), images, grids)

    def prompt_parts(self, system: str, user: str, images: Sequence[ImageRecord]) -> list[Part]:
        """The prompt as the checkpoint's chat template writes it, up to and including the assistant's header.

        A ``<think>`` that the template opens for the model is left out: the model writes its own.

        Args:
            system: System turn; empty: none is given, and the template may put its own.
            user: User turn with one ``<image>`` for each image, in order.
            images: The images.

        Raises:
            UsageError: The user turn does not name every image once.
            ModelNotFoundError: The chat template is broken, or refuses such a conversation.
        """
        texts = user.split(IMAGE)
        if len(texts) != len(images) + 1:
            raise UsageError(
                f"the user turn has {len(texts) - 1} {IMAGE} for {len(images)} images; it needs one for each"
            )
        rendered = self._render(len(texts), with_system=bool(system))
        slots = {_SLOT.format("s"): system} | {_SLOT.format(i): text for i, text in enumerate(texts)}
        image = self.image_in_template + self._behind_image if images else _SLOT.format("no image")
        if {rendered.count(image), rendered.count(self.image_in_template)} != {len(images)}:
            raise ModelNotFoundError(
                f"the checkpoint's chat template does not write images as models of type '{self.name}' take them: "
                f"'{self.image_in_template}' once for each, and the same behind each"
            )
        parts: list[Part] = []
        shown = iter(images)
        for piece in re.split(f"({'|'.join(map(re.escape, (*slots, image)))})", rendered):
            if piece == image:
                parts.append(next(shown))
            elif piece:
                parts.append(slots[piece] if piece in slots else Control(piece))
        return parts

    @cached_property
    def _behind_image(self) -> Control:
        """What the chat template writes behind each image (InternVL: a line break); part of the image everywhere.

        A server renders images in the model's own turn by the same template.
        """
        between = re.escape(self.image_in_template) + r"([^\ue000]*)" + re.escape(_SLOT.format(1))
        found = re.search(between, self._render(2, with_system=False))
        return Control(found.group(1) if found else "")

    def _split_control(self, text: str) -> list[str | list[int]]:
        """Plain text, and the ids of the special tokens that count."""
        if not isinstance(text, Control):
            return [text]
        pieces: list[str | list[int]] = []
        at = 0
        for match in self._special_pattern.finditer(text):
            pieces += [text[at : match.start()], [self._special_ids[match.group()]]]
            at = match.end()
        return [piece for piece in (*pieces, text[at:]) if piece]

    def _image_ids(self, grid: Grid) -> list[int]:
        start, pad, end = (self._special_ids[token] for token in self.image_marks)
        return [start, *[pad] * self.image_tokens(grid), end]

    def _render(self, texts: int, *, with_system: bool) -> str:
        """The chat template with a slot for the system turn and for each text around the images."""
        content: list[dict[str, str]] = []
        for index in range(texts):
            content += [{"type": "image"}] if index else []
            content.append({"type": "text", "text": _SLOT.format(index)})
        messages: list[dict[str, Any]] = [{"role": "system", "content": _SLOT.format("s")}] if with_system else []
        messages.append({"role": "user", "content": content if texts > 1 else content[0]["text"]})
        try:
            rendered = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise ModelNotFoundError(f"the checkpoint's chat template cannot be used: {error}") from error
        return _OPENED_THINKING.sub("", str(rendered))


def chat_settings(folder: Path) -> ChatSettings:
    """What every family reads of a checkpoint folder.

    Raises:
        ModelNotFoundError: It has no tokenizer or chat template.
        MissingExtraError: transformers is not installed.
    """
    tokenizer = _load_tokenizer(folder)
    template = chat_template(folder) or tokenizer.chat_template
    template = template.get("default") if isinstance(template, dict) else template  # one of several, by name
    if not isinstance(template, str):
        raise ModelNotFoundError(
            f"'{folder.name}' has no chat template; put its chat_template.jinja beside config.json"
        )
    return ChatSettings(
        name=read_json(folder / "config.json").get("model_type", ""),
        tokenizer=tokenizer,
        template=template,
        image_config=image_processor_config(folder),
        extra_end_ids=_end_ids(folder),
    )


def _load_tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        # transformers would make an empty one of nothing
        raise ModelNotFoundError(f"'{folder.name}' has no tokenizer; put its tokenizer.json beside config.json")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("a local model", "local") from error
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"the tokenizer of '{folder.name}' cannot be loaded: {error}") from error


def _end_ids(folder: Path) -> tuple[int, ...]:
    """End ids of the generation settings: one, several or none."""
    ids = read_json(folder / "generation_config.json").get("eos_token_id")
    return tuple(ids) if isinstance(ids, list) else () if ids is None else (int(ids),)
