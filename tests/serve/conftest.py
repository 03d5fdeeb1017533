"""Fixtures that the server's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from replayed import serving_nano
from ui_server import SCRIPT, Served, Unhurried, serving

from thyme.config.serve import ServeConfig


@pytest.fixture(scope="session")
def nano_url() -> Iterator[str]:
    """A server of the embedded model, set up as docs/evaluation_tools.md says: short limits are raised."""
    with serving_nano(min_tokens=512) as url:
        yield url


@pytest.fixture(scope="module")
def scripted() -> Iterator[Served]:
    """A scripted model that writes 4 characters every two milliseconds, and small limits."""
    config = ServeConfig(
        ui=True,
        max_images=3,
        max_body_mb=2,
        max_image_pixels=1_000_000,
        max_concurrent=2,
        max_queued=0,
        keep_alive_s=0.3,
    )
    with serving(lambda: Unhurried(SCRIPT, delay_s=0.002, max_side=320), config) as served:
        yield served
