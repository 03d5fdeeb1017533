"""Where images and questions come from: folders, files, saved data sets, and the worlds that others bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thyme.config.data import DataRecipe, SourceSettings
from thyme.data.sources.base import Facts, Source
from thyme.data.sources.files import open_files
from thyme.errors import ConfigError

__all__ = ["Facts", "Source", "World", "open_source", "open_sources"]

World = Callable[[str, SourceSettings, int], Source]
"""Makes a built-in source of its name in the recipe, its settings and the recipe's seed."""


def open_source(
    name: str, settings: SourceSettings, seed: int = 0, worlds: Mapping[str, World] | None = None
) -> Source:
    """Open a source.

    Args:
        name: In the recipe.
        settings: Of the source.
        seed: Of the recipe; worlds draw with it.
        worlds: Built-in sources by name; this package has none below `thyme.nano`, the command brings them.

    Raises:
        ConfigError: There is nothing that can be read; the message says why and what to name instead.
        MissingExtraError: Its files need the extra ``data``.
        StoreError: What is there is damaged.
    """
    if not settings.world:
        return open_files(name, settings)
    known = worlds or {}
    if settings.world not in known:
        raise ConfigError(f"sources.{name}.world: no world '{settings.world}'; known are {', '.join(known) or 'none'}")
    return known[settings.world](name, settings, seed)


def open_sources(recipe: DataRecipe, worlds: Mapping[str, World] | None = None) -> dict[str, Source]:
    """All sources of a recipe by name; the errors are those of `open_source`."""
    return {name: open_source(name, settings, recipe.seed, worlds) for name, settings in recipe.sources.items()}
