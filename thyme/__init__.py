"""Thyme: a vision-language model thinks with images by writing Python.

``from thyme import Thyme`` is the whole of it for a script or a notebook; see docs/python.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thyme.api import AsyncThyme, Thyme

__version__ = "0.1.0"
__all__ = ["AsyncThyme", "Thyme", "__version__"]

_LAZY = ("AsyncThyme", "Thyme")
"""Imported when they are first asked for, so that ``import thyme`` stays light."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'thyme' has no attribute '{name}'")
    from thyme import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
