"""The corpus of snippets as a model writes them: right ones keep their meaning, slightly wrong ones run.

tests/data/repairs holds them: ``right.toml`` works as it is, ``wrong.toml`` needs the repairs that stand in ``needs``,
and ``beyond.toml`` is not put right; the error says what helps. Each record says what comes out, round by round.
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from thyme.config.sandbox import ALL_REPAIRS, RepairName
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.types import Execution, ImageRecord

FOLDER = Path(__file__).parents[1] / "data" / "repairs"
LEAST_SHARE = 0.9
"""Of the slightly wrong snippets that must run; all of `WRONG` do, `BEYOND` counts against it."""


def load(name: str) -> list[dict[str, Any]]:
    """The records of one file."""
    records: list[dict[str, Any]] = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["snippet"]
    return records


RIGHT, WRONG, BEYOND = load("right"), load("wrong"), load("beyond")


def street(shift: int = 0) -> Image.Image:
    rows, columns = np.mgrid[0:480, 0:640]
    texture = (rows * 7 + columns * 13) % 23
    pixels = np.stack([90 + texture, 120 + rows // 8 % 40, 60 + columns // 8 % 80], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.rectangle((100 + shift, 80, 180 + shift, 140), fill=(200, 20, 20))
    draw.rectangle((60, 300, 200, 420), fill=(20, 40, 190))
    draw.ellipse((480, 40, 560, 120), fill=(230, 220, 60))
    return image


def page() -> Image.Image:
    image = Image.new("L", (800, 600), 245)
    draw = ImageDraw.Draw(image)
    for line in range(5):
        for word in range(6):
            draw.rectangle((60 + word * 110, 60 + line * 80, 140 + word * 110, 90 + line * 80), fill=30)
    return image


def picture(name: str) -> Image.Image:
    """One of the images that the snippets are about."""
    if name == "tall":
        return Image.linear_gradient("L").resize((300, 900)).convert("RGB")
    if name == "logo":
        logo = Image.new("RGBA", (200, 120), (0, 0, 0, 0))
        ImageDraw.Draw(logo).ellipse((20, 10, 180, 110), fill=(10, 120, 220, 200))
        return logo
    if name == "grey":
        return Image.linear_gradient("L")
    if name == "flat":
        flat = Image.new("RGB", (100, 80), (240, 240, 240))
        flat.paste((30, 60, 200), (10, 10, 60, 50))
        return flat
    return {"street": street, "street2": lambda: street(40), "page": page}[name]()


IMAGES = {name: ImageRecord.of(picture(name)) for name in ("street", "street2", "tall", "logo", "grey", "flat", "page")}


class Sandboxes:
    """One sandbox for each set of repairs, started when it is asked for."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack, self._open = stack, dict[frozenset[str], Broker]()

    async def run(self, record: dict[str, Any], without: frozenset[str]) -> list[Execution]:
        """Run the rounds of a snippet with all repairs on but some."""
        if without not in self._open:
            repairs: tuple[RepairName, ...] = tuple(name for name in ALL_REPAIRS if name not in without)
            config = SandboxConfig(repairs=repairs, timeout_s=30, pool=1)
            self._open[without] = await self._stack.enter_async_context(open_sandbox(config))
        images = [IMAGES[name] for name in record["images"]]
        async with self._open[without].session(images, seed=3) as session:
            return [await session.run(code) for code in record["rounds"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandboxes() -> AsyncIterator[Sandboxes]:
    async with AsyncExitStack() as stack:
        yield Sandboxes(stack)


def outcome(executions: list[Execution]) -> dict[str, Any]:
    """What a record states about its rounds."""
    return {
        "stdout": [execution.stdout for execution in executions],
        "sizes": [[list(image.image.size) for image in execution.images] for execution in executions],
        "errors": [execution.error.type if execution.error else "" for execution in executions],
    }


def stated(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("stdout", "sizes", "errors")}


def used(executions: list[Execution]) -> set[str]:
    return {repair.name for execution in executions for repair in execution.repairs}


NOTHING: frozenset[str] = frozenset()
EVERYTHING = frozenset(ALL_REPAIRS)


def named(records: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(record, id=record["name"]) for record in records]


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    records = [*RIGHT, *WRONG, *BEYOND]
    assert len({record["name"] for record in records}) == len(records) >= 220
    assert len(RIGHT) >= 100
    assert len(WRONG) >= 100
    assert len(WRONG) / (len(WRONG) + len(BEYOND)) >= LEAST_SHARE
    assert {name for record in WRONG for name in record["needs"]} == set(ALL_REPAIRS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("record", named(RIGHT))
async def test_right_code_is_the_same_with_and_without_repairs(sandboxes: Sandboxes, record: dict[str, Any]) -> None:
    on, off = await sandboxes.run(record, NOTHING), await sandboxes.run(record, EVERYTHING)
    assert used(on) == used(off) == set()
    assert outcome(on) == outcome(off) == stated(record)
    for one, other in zip(on, off, strict=True):
        assert (one.images, one.error, one.ran) == (other.images, other.error, other.ran)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("record", named(WRONG))
async def test_slightly_wrong_code_runs_with_its_repairs_only(sandboxes: Sandboxes, record: dict[str, Any]) -> None:
    on = await sandboxes.run(record, NOTHING)
    assert used(on) == set(record["needs"])
    assert outcome(on) == stated(record)
    assert not any(execution.error for execution in on)
    stand_ins = {"whitespace"} if "indentation" in record["needs"] else set()  # it can do most of what that does
    off = await sandboxes.run(record, frozenset(record["needs"]) | stand_ins)
    assert used(off) == set()
    assert outcome(off) != stated(record), "it works as it is, so that it belongs to the right ones"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("record", named(BEYOND))
async def test_what_is_not_put_right_gets_an_error_that_helps(sandboxes: Sandboxes, record: dict[str, Any]) -> None:
    executions = await sandboxes.run(record, NOTHING)
    assert outcome(executions) == stated(record)
    error = executions[-1].error
    assert error is not None
    assert record["hint"] in error.message
    assert len(error.message) < 600
