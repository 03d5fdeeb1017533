"""Count the bytes of all living tensors: what a step really takes, beside `thyme.train.memory.estimate`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch has it
    """Inside its context, the most bytes that tensors took together, on any device.

    Storages are counted once, whatever looks at them, from the operation that makes them until they are let go. What a
    kernel needs inside of itself is not seen.
    """

    def __init__(self, already: Iterable[torch.Tensor] = ()) -> None:
        """Count.

        Args:
            already: Tensors that are there before, such as the parameters of a model.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # as torch has it
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in already:
            self._add(tensor)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count what it made."""
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf)
        return made

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
