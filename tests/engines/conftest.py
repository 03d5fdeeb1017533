"""Fixtures of the engines' tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token ends a turn: spans run until they are stopped."""
    from thyme.families.qwen_vl import QwenVLFamily

    monkeypatch.setattr(QwenVLFamily, "end_ids", property(lambda _: ()))
