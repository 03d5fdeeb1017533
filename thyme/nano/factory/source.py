"""The embedded world as a source of problems for the data factory; ``world = "nano"`` in a recipe.

Rows are a function of the recipe's seed and their place. Scenes come upright and at full contrast: turning and paling
them is what scenarios do, and `Problem.meta` says which turns and shares of contrast the embedded model knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from thyme.config.data import SourceSettings
from thyme.data.sources.base import Facts
from thyme.errors import ConfigError
from thyme.nano.factory.reader import face_width
from thyme.nano.world import LOW_CONTRAST, Kind, Split, problem
from thyme.types import Problem

FactoryKind = Literal["easy", "medium", "zoom", "two_round", "arithmetic", "measure"]
KINDS: Final[tuple[FactoryKind, ...]] = get_args(FactoryKind)
"""Of rows. ``measure`` asks how wide a plate is, which code has to count; the others are the world's own."""
MEASURE: Final = "How wide is the {a} plate, in pixels?"
DEFAULT_ROWS: Final = 10_000
PREPARE: Final[dict[str, Any]] = {"angles": (90, 180, 270), "contrast": LOW_CONTRAST, "factors": (8.0, 12.0)}
"""What scenarios may do to a scene: turns in degrees, share of the contrast, sides of a first look beside a plate's."""


@dataclass(frozen=True)
class NanoRows:
    """Scenes and questions, drawn when asked for; kinds alternate. Fulfils `thyme.data.sources.base.Source`."""

    name: str
    kinds: tuple[FactoryKind, ...]
    split: Split
    seed: int
    rows: int

    @property
    def fingerprint(self) -> str:
        """What decides about the rows, in words."""
        return f"nano/{self.split}/{self.seed}/{','.join(self.kinds)}/{self.rows}"

    def __len__(self) -> int:
        """Number of rows."""
        return self.rows

    def facts(self, index: int) -> Facts:
        """What is known of a row without drawing it.

        Raises:
            IndexError: There is no such row.
        """
        kind = self._kind(index)
        pictured = kind != "arithmetic"
        return Facts(images=int(pictured), answer=True, box=pictured, kind=kind)

    def problem(self, index: int) -> Problem:
        """Draw a row.

        Raises:
            IndexError: There is no such row.
        """
        kind = self._kind(index)
        drawn_as: Kind = "easy" if kind == "measure" else kind
        # Measured scenes are others than those that are read, whose stream has the same name.
        seed = self.seed + 1_000_003 if kind == "measure" else self.seed
        drawn = problem(self.split, seed, index // len(self.kinds), drawn_as)
        told = {"question": drawn.question, "answer": drawn.answer}
        if kind == "measure":
            color = drawn.meta["colors"][0]
            width = face_width(drawn.images[0].image, color)
            told = {"question": MEASURE.format(a=color), "answer": str(width)}
        meta = {**drawn.meta, "prepare": PREPARE} if drawn.images else drawn.meta
        return drawn.model_copy(update={**told, "id": f"{self.name}-{index}", "kind": kind, "meta": meta})

    def _kind(self, index: int) -> FactoryKind:
        if not 0 <= index < self.rows:
            raise IndexError(f"source '{self.name}' has {self.rows} rows, none with the index {index}")
        return self.kinds[index % len(self.kinds)]


def open_nano(name: str, settings: SourceSettings, seed: int) -> NanoRows:
    """A source of the embedded world.

    Args:
        name: In the recipe.
        settings: ``columns.kind`` names kinds, separated by commas (all of them where it is not given), ``count`` the
            rows.
        seed: Of the recipe.

    Raises:
        ConfigError: There is no such kind or split.
    """
    if settings.split not in get_args(Split):
        raise ConfigError(f"sources.{name}.split: nano has {', '.join(get_args(Split))}, not '{settings.split}'")
    named = tuple(part.strip() for part in settings.columns.get("kind", "").split(",") if part.strip())
    unknown = [kind for kind in named if kind not in KINDS] + [key for key in settings.columns if key != "kind"]
    if unknown:
        raise ConfigError(
            f"sources.{name}.columns: nano has no '{unknown[0]}'; write kind = \"zoom,easy\", of {', '.join(KINDS)}"
        )
    return NanoRows(
        name=name,
        kinds=cast(tuple[FactoryKind, ...], named) or KINDS,
        split=cast(Split, settings.split),
        seed=seed,
        rows=settings.count or DEFAULT_ROWS,
    )
