"""The eyes: patches of pictures made beside the model's thread, and what the vision tower makes of them, kept a while.

Eight answers to one question often crop the same box and turn the same picture the same way: what the tower has seen
once is not shown to it again, until it is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from thyme.engines.transformers_model import Features
from thyme.families import Family
from thyme.families.tensors import pixels
from thyme.types import ImageRecord

Patches = tuple[torch.Tensor, torch.Tensor]
"""Patches of one image and its grid; see `thyme.families.qwen_vl_tensors.pixels`."""

KEPT_TOKENS = 16_384
"""Tokens of pictures whose features are kept; 117 MB in bfloat16 where the model is 3584 wide."""


@dataclass(frozen=True, eq=False)
class Look:
    """A picture that a row is going to be shown."""

    image: str
    """Content id."""
    seen: Future[Patches] | Features
    """Its patches, or what the tower made of it before."""

    @property
    def ready(self) -> bool:
        """Whether it can be shown."""
        return isinstance(self.seen, Features) or self.seen.done()

    def drop(self) -> None:
        """Give up on patches that nobody waits for any more."""
        if isinstance(self.seen, Future):
            self.seen.cancel()


class Pictures:
    """Shows pictures to a vision tower; all but the making of patches happens on the model's thread."""

    def __init__(self, tower: Callable[[torch.Tensor, torch.Tensor], Features], family: Family) -> None:
        """Prepare.

        Args:
            tower: Runs over the patches and the grid of one picture.
            family: How patches are made.
        """
        self._tower, self._family = tower, family
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="thyme-pixels")
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self.passes = 0
        """How often the tower ran."""

    def prepare(self, image: ImageRecord, done: Callable[[], object]) -> Look:
        """Begin to make the patches of a picture, unless the tower knows it.

        Args:
            image: The picture.
            done: Called, on another thread, when the patches are there.
        """
        kept = self._kept.get(image.id)
        if kept is not None:
            self._kept.move_to_end(image.id)
            return Look(image.id, kept)
        patches = self._worker.submit(pixels, self._family, (image,))
        patches.add_done_callback(lambda _: done())
        return Look(image.id, patches)

    def see(self, look: Look) -> Features:
        """What the tower makes of a picture that is ready."""
        if isinstance(look.seen, Features):
            return look.seen
        kept = self._kept.pop(look.image, None)  # another row was shown it meanwhile
        if kept is None:
            kept = self._tower(*look.seen.result())
            self.passes += 1
        self._kept[look.image] = kept
        while sum(map(len, self._kept.values())) > KEPT_TOKENS:
            self._kept.popitem(last=False)
        return kept

    def forget(self) -> None:
        """Keep nothing, because the tower changed or nobody is there who would be shown the same."""
        self._kept.clear()

    def close(self) -> None:
        """Make no more patches."""
        self._worker.shutdown(cancel_futures=True)
