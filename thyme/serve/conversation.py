"""From a client's messages to one question about images.

The agent has a system turn and a user turn of its own, so what a client wrote becomes the question: system texts first,
then, where there are earlier turns, the conversation so far, then the last user turn. Pictures of all turns are the
problem's images, in their order; where there are several and text stands before or between them, ``[Image 2]`` marks
the place of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from thyme.serve.protocol import Message
from thyme.serve.refusal import Refusal


@dataclass(frozen=True)
class ImageUrl:
    """A picture as the client names it."""

    url: str
    param: str
    """Where it stands in the request."""


@dataclass(frozen=True)
class Asked:
    """A question, and the pictures it is about."""

    question: str
    images: tuple[ImageUrl, ...]


@dataclass
class _Turn:
    role: str
    pieces: list[str | int] = field(default_factory=list)
    """Texts, and positions of images from 0."""

    def text(self, marked: bool) -> str:
        texts = [piece if isinstance(piece, str) else f"[Image {piece + 1}]" for piece in self.pieces]
        kept = [
            text
            for text, piece in zip(texts, self.pieces, strict=True)
            if text.strip() and (marked or isinstance(piece, str))
        ]
        return "\n".join(kept).strip()


def read_conversation(messages: Sequence[Message]) -> Asked:
    """Make one question of a conversation.

    Raises:
        Refusal: A part is of a kind that cannot be read, the last turn is not the user's, or it asks nothing.
    """
    images: list[ImageUrl] = []
    systems: list[str] = []
    turns: list[_Turn] = []
    for index, message in enumerate(messages):
        pieces = _pieces(message, f"messages[{index}].content", images)
        if message.role in {"system", "developer"}:
            systems.append(_Turn("system", pieces).text(marked=False))
        elif turns and turns[-1].role == message.role:
            turns[-1].pieces += pieces
        else:
            turns.append(_Turn(message.role, pieces))
    if not turns or turns[-1].role != "user":
        message_ = "the last message must be the user's; a reply that is begun cannot be continued here"
        raise Refusal(400, message_, code="invalid_value", param="messages")
    marked = len(images) > 1 and not _images_lead(turns)
    texts = [turn.text(marked) for turn in turns]
    if not turns[-1].text(marked=False):
        raise Refusal(400, "the last user message has no text: ask something", code="no_question", param="messages")
    return Asked("\n\n".join(filter(None, [*systems, _conversation(turns, texts)])), tuple(images))


def _conversation(turns: Sequence[_Turn], texts: Sequence[str]) -> str:
    *earlier, last = zip(turns, texts, strict=True)
    if not earlier:
        return last[1]
    names = {"user": "User", "assistant": "Assistant"}
    said = [f"{names[turn.role]}: {text}" for turn, text in earlier]
    return "\n\n".join(["The conversation so far:", *said, "The user now says:", last[1]])


def _images_lead(turns: Sequence[_Turn]) -> bool:
    """Whether all pictures stand before all text, so that their order says enough."""
    pieces = turns[0].pieces
    leading = next((at for at, piece in enumerate(pieces) if isinstance(piece, str)), len(pieces))
    return not any(isinstance(piece, int) for piece in [*pieces[leading:], *_pieces_of(turns[1:])])


def _pieces_of(turns: Sequence[_Turn]) -> list[str | int]:
    return [piece for turn in turns for piece in turn.pieces]


def _pieces(message: Message, param: str, images: list[ImageUrl]) -> list[str | int]:
    """Texts and pictures of one message; the pictures are added to `images`."""
    if message.content is None or isinstance(message.content, str):
        return [message.content] if message.content else []
    pieces: list[str | int] = []
    for index, part in enumerate(message.content):
        where = f"{param}[{index}]"
        kind = part.get("type")
        if kind == "text" or (kind == "refusal" and message.role == "assistant"):
            pieces.append(_string(part.get(str(kind)), where, str(kind)))
        elif kind == "image_url" and message.role == "user":
            pieces.append(len(images))
            images.append(ImageUrl(_url(part.get("image_url"), where), f"{where}.image_url"))
        else:
            raise _unreadable(kind, message.role, where)
    return pieces


def _url(value: Any, where: str) -> str:
    """The URL of a part, which is an object in the standard and a plain string with some clients."""
    return _string(value.get("url") if isinstance(value, dict) else value, f"{where}.image_url", "url")


def _string(value: Any, where: str, name: str) -> str:
    if isinstance(value, str):
        return value
    raise Refusal(400, f"{where}: {name} must be a string", code="invalid_value", param=where)


def _unreadable(kind: Any, role: str, where: str) -> Refusal:
    if kind == "image_url":
        message = f"{where}: images belong into messages of the user, not of the role {role}"
    else:
        message = f"{where}: a part of type {str(kind)[:40]!r} cannot be read; send text and image_url"
    return Refusal(400, message, code="unsupported_content", param=where)
