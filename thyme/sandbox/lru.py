"""A memory of values by key that forgets the least recently used beyond so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteLru(Generic[V]):
    """Values with their sizes, for any thread. A value larger than the whole memory is not kept at all."""

    def __init__(self, most_bytes: int) -> None:
        """Keep at most `most_bytes` bytes."""
        self._most, self._held = most_bytes, 0
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._values)

    def get(self, key: str) -> V | None:
        """The value, which is now the most recently used."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: str, value: V, size: int) -> None:
        """Remember a value of `size` bytes."""
        with self._lock:
            self._drop(key)
            self._values[key] = (value, size)
            self._held += size
            while self._held > self._most:
                self._drop(next(iter(self._values)))

    def drop(self, key: str) -> None:
        """Forget a value, if it is known."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._held -= found[1]
