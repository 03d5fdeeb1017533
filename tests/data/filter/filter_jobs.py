"""What other processes do in tests."""

from __future__ import annotations

import os
import threading

from thyme.errors import StoreError


def die(number: int) -> int:
    os._exit(9)


def die_later(number: int) -> int:
    """Answer, and end the process before the next job."""
    threading.Timer(0.5, os._exit, (9,)).start()
    return number


def fail(number: int) -> int:
    raise StoreError("no such thing")
