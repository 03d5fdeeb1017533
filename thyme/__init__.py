"""Thyme: a vision-language model thinks with images by writing Python."""

from __future__ import annotations

__version__ = "0.1.0"
