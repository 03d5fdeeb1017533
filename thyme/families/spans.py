"""Text and images on their way to token ids."""

from __future__ import annotations

from dataclasses import dataclass

from thyme.types import ImageRecord

Grid = tuple[int, int, int]
"""Patches of one image along time, height and width, before merging. Where a family cuts an image into tiles, each of
which is seen alone, the tiles stand in the place of time."""


class Control(str):
    """Text whose special tokens count: it comes from a chat template.

    Any other text may come from a person, a model or a sandbox, and a special token spelled out in it stays plain text:
    nobody can forge a turn or an image by printing its token.
    """

    __slots__ = ()


Part = str | ImageRecord
"""What is fed to a model: text (`Control` where special tokens count) or an image."""


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Token ids of some text and images, whole: a span never ends inside an image."""

    ids: tuple[int, ...]
    """Image placeholders expanded."""
    images: tuple[ImageRecord, ...] = ()
    grids: tuple[Grid, ...] = ()
    """One for each image, in order."""
