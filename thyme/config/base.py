"""Base of every config model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen; an unknown key is an error, never ignored; the docstring under a field is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe_folder: ClassVar[str] = ""
    """Where the shipped recipes of this schema lie, under ``thyme/recipes``: named as the command that reads them."""

    @classmethod
    def places(cls, path: Sequence[str], values: Mapping[str, Any]) -> list[Sequence[str]]:
        """Keys that an override means: the one that it names, unless a recipe has shorthands.

        Args:
            path: What the override names.
            values: The recipe so far.
        """
        return [path]
