"""``compat="released"``: what a model is shown is what the released sandbox was seen to show (tests/data/repairs)."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.sandbox.jail.released import SMALLEST_SIDE, align_first_line, widened
from thyme.types import ImageRecord

FILE = Path(__file__).parents[1] / "data" / "repairs" / "released.toml"
FACTS: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["snippet"]
INPUT = ImageRecord.of(Image.fromarray(np.full((480, 640, 3), 90, np.uint8)))
SIDES = st.integers(-900, 900) | st.floats(-900, 900)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def released() -> AsyncIterator[Broker]:
    async with open_sandbox(SandboxConfig(compat="released", timeout_s=30, pool=1)) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("fact", [pytest.param(fact, id=fact["name"]) for fact in FACTS])
async def test_model_is_shown_what_the_released_sandbox_showed(released: Broker, fact: dict[str, Any]) -> None:
    async with released.session([INPUT]) as session:
        executions = [await session.run(code) for code in fact["rounds"]]
    assert [execution.stdout for execution in executions] == fact["text"]
    assert [[list(image.image.size) for image in execution.images] for execution in executions] == fact["sizes"]
    assert [execution.error is not None for execution in executions] == fact["failed"]
    assert {repair.name for execution in executions for repair in execution.repairs} <= {"released"}


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 300), st.integers(1, 300))
def test_widened_box_lies_inside_and_is_as_large_as_it_must(
    left: float, upper: float, right: float, lower: float, width: int, height: int
) -> None:
    x1, y1, x2, y2 = widened((left, upper, right, lower), width, height)
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert x2 - x1 >= min(SMALLEST_SIDE, width)
    assert y2 - y1 >= min(SMALLEST_SIDE, height)


@pytest.mark.parametrize(
    ("code", "aligned"),
    [
        ("x = 1", "x = 1"),
        ("x = 1\n    y = 2", "    x = 1\n    y = 2"),
        ("\n  x = 1\n\ny = 2", "\nx = 1\n\ny = 2"),
        ("if x:\n    y = 2", "    if x:\n    y = 2"),
    ],
)
def test_first_line_stands_where_the_second_does(code: str, aligned: str) -> None:
    assert align_first_line(code) == aligned
