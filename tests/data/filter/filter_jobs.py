"""What other processes do in tests."""

from __future__ import annotations

import os

from thyme.errors import StoreError


def die(number: int) -> int:
    os._exit(9)


def fail(number: int) -> int:
    raise StoreError("no such thing")
