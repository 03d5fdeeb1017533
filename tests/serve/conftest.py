"""Fixtures that the server's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from replayed import serving_nano


@pytest.fixture(scope="session")
def nano_url() -> Iterator[str]:
    """A server of the embedded model, set up as docs/evaluation_tools.md says: short limits are raised."""
    with serving_nano(min_tokens=512) as url:
        yield url
