"""What the rule-based teacher reads off pictures is what the world drew, also turned and nearly grey."""

from __future__ import annotations

import pytest
from PIL import Image

from thyme.config.data import SourceSettings
from thyme.data.scenarios.pictures import paled, turned
from thyme.data.sources.base import Source
from thyme.errors import ConfigError
from thyme.nano.factory.reader import expression_of, read_picture, true_answer
from thyme.nano.factory.source import KINDS, PREPARE, open_nano


def rows(kind: str = "", **fields: object) -> Source:
    columns = {"kind": kind} if kind else {}
    return open_nano("drawn", SourceSettings.model_validate({"world": "nano", "columns": columns, **fields}), 11)


@pytest.mark.parametrize("kind", ["easy", "medium", "zoom", "two_round", "measure"])
def test_reads_what_was_drawn(kind: str) -> None:
    for row in range(4):
        problem = rows(kind).problem(row)
        assert true_answer(problem.question, read_picture(problem.images[0].image)) == problem.answer


@pytest.mark.parametrize("angle", PREPARE["angles"])
def test_reads_turned_pictures_and_says_by_how_much(angle: int) -> None:
    problem = rows("easy").problem(angle)
    sight = read_picture(turned(problem.images[0].image, angle, (0, 0, 0)))
    assert sight.angle == angle
    assert true_answer(problem.question, sight) == problem.answer


@pytest.mark.parametrize("share", PREPARE["contrast"])
def test_reads_faint_pictures_and_says_how_faint(share: float) -> None:
    for row in range(4):
        problem = rows("easy").problem(row)
        sight = read_picture(paled(problem.images[0].image, share))
        assert sight.contrast == pytest.approx(share, abs=0.01)
        assert true_answer(problem.question, sight) == problem.answer


def test_calculates_without_a_picture() -> None:
    assert true_answer("What is 12 * 13 + 4?", None) == "160"
    assert true_answer("What is 121 + 13 - 200?", None) == "-66"
    assert expression_of("Read the red plate.") is None
    assert true_answer("Read the red plate.", None) is None
    problem = rows("arithmetic").problem(0)
    assert true_answer(problem.question, None) == problem.answer


def test_says_nothing_of_what_is_not_there() -> None:
    problem = rows("zoom").problem(0)
    sight = read_picture(problem.images[0].image)
    gone = next(color for color in ("red", "green", "blue", "pink", "cyan", "orange") if color not in sight.plates)
    assert true_answer(f"Read the {gone} plate.", sight) is None
    with pytest.raises(ValueError, match="1024 x 1024"):
        read_picture(Image.new("RGB", (64, 64)))


def test_a_source_is_a_function_of_seed_and_place() -> None:
    source = rows()
    assert isinstance(source, Source)
    assert [source.facts(place).kind for place in range(len(KINDS))] == list(KINDS)
    assert source.problem(7).model_dump() == rows().problem(7).model_dump()
    assert source.fingerprint != open_nano("drawn", SourceSettings(world="nano"), 12).fingerprint
    facts = source.facts(KINDS.index("arithmetic"))
    assert (facts.images, facts.box, facts.answer) == (0, False, True)
    assert not source.problem(KINDS.index("arithmetic")).images
    with pytest.raises(IndexError):
        source.facts(len(source))


def test_measured_scenes_are_not_those_that_are_read() -> None:
    assert rows("measure").problem(3).images[0].id != rows("easy").problem(3).images[0].id


@pytest.mark.parametrize("fields", [{"split": "holiday"}, {"columns": {"kind": "hard"}}, {"columns": {"image": "a"}}])
def test_names_what_it_does_not_know(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"sources\.drawn"):
        rows(**fields)
