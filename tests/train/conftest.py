"""What all tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Tiny models are slower on two threads, and sums differ in their last digits."""
