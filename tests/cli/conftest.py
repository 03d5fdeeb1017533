"""A scripted model and a picture for the command's tests: no torch, but the real sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sample_records as samples
from command_helpers import CROP, block


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., str]:
    """Makes a script file of continuations, and gives the name of the model that follows it."""

    def make(*continuations: str) -> str:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(continuations), encoding="utf-8")
        return f"scripted:{path}"

    return make


@pytest.fixture
def crops(scripted: Callable[..., str]) -> str:
    """A model that crops the sign out of the picture and reads it."""
    return scripted(block(CROP), "Now I can read it.</think>\n<answer>KX 47</answer>")


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A picture with a sign."""
    path = tmp_path / "street.png"
    samples.picture().save(path)
    return path
