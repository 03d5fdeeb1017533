"""The report holds the run's figures, needs nothing beside it, and nothing that was written into it can act."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import run_reports as runs
from chromium import contrasts, is_dark, needs_browser, open_tab

from thyme.train.report.page import REPORT_PAGE, render_report, write_report
from thyme.train.run.records import Point

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ATTACK = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'</pre>&lt;b&gt;{{ 7*7 }}$\\frac{x$"
NAME = ATTACK + "\x1b\x00"


@cache
def whole_page() -> str:
    """Two stages, evaluated, with an example; drawn once."""
    return render_report(runs.report(), runs.samples(1, right=False), runs.samples(1))


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def cells(page: str, kind: str) -> list[str]:
    """Cells of a row of the evaluation table."""
    row = re.search(rf'<th scope="row">{kind}</th>(.*?)</tr>', page, re.DOTALL)
    assert row is not None
    return [text_of(cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[1], re.DOTALL)]


def path_of(figure: str) -> str:
    """The first line of a figure, as SVG draws it."""
    line = re.search(r'd="([^"]*)"[^>]*style="[^"]*stroke: var\(--accent\)', figure)
    assert line is not None
    return line[1]


def test_the_evaluation_before_and_after_each_stage_with_intervals() -> None:
    """6, 18 and 26 of 40; the intervals are Wilson's, as on any page of statistics."""
    page = whole_page()
    right = cells(page, "zoom")[::2]
    assert right == ["15.0 % 7 to 29 %", "45.0 % 31 to 60 %", "65.0 % 50 to 78 %"]
    assert "before" in page
    assert "after images" in page
    assert "after maths" in page
    assert cells(page, "arithmetic") == ["–"] * 6  # a rate without cases is no zero
    assert page.count('class="better"') == 4
    assert 'class="worse"' not in page


def test_a_loss_of_accuracy_shows_too() -> None:
    report = runs.report(["images"])
    points = (runs.evaluation("images", 0, 38), runs.evaluation("images", 200, 10))
    assert render_report(report.model_copy(update={"evaluations": points})).count('class="worse"') == 2


def test_headline_data_and_drops() -> None:
    text = text_of(whole_page()).replace("\N{NARROW NO-BREAK SPACE}", "")
    assert "15.0 → 65.0 % 50 to 78 %, 40 problems" in text
    assert "1.972 → 0.365" in text
    assert "20 TooLongError, 3 EncodeError" in text
    assert "0: 100, 1: 900, 2: 180" in text
    assert "3.00 GiB" in text
    assert "adapters, rank 16" in text
    assert "2.13.0" in text


def test_every_curve_is_drawn_to_its_points() -> None:
    """A polyline of the loss has as many corners as the record has points, in the colours of the page."""
    page = render_report(runs.report(["images"], evaluated=False))
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 4
    names = []
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.attrib["role"] == "img"
        names.append(root.attrib["aria-label"])
        assert "var(--accent)" in figure
        assert "#01020" not in figure
    assert names == ["Loss", "Tokens guessed right", "Learning rate", "Gradient norm"]
    assert len(re.findall(r"[ML]", path_of(figures[0]))) == 40


def test_names_in_figures_are_unlike_each_other() -> None:
    page = whole_page()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_what_is_no_number_is_left_out() -> None:
    one = runs.stage("images")
    points = (*one.curve[:3], Point(step=99, loss=math.nan, learning_rate=1e-5))
    broken = one.model_copy(update={"curve": points, "validation": ()})
    page = render_report(runs.report(["images"], stages=(broken,)))
    line = re.search(
        r'd="([^"]*)"[^>]*style="[^"]*stroke: var\(--accent\)', re.findall(r"<svg.*?</svg>", page, re.DOTALL)[2]
    )
    assert line is not None
    assert "nan" not in line[1].lower()


@pytest.mark.parametrize("stages", [[], ["images"], [f"s{i}" for i in range(4)]])
@pytest.mark.parametrize("evaluated", [True, False])
def test_any_number_of_stages(tmp_path: Path, stages: list[str], evaluated: bool) -> None:
    path = write_report(runs.report(stages, evaluated=evaluated), tmp_path / "run")
    assert path == tmp_path / "run" / REPORT_PAGE
    page = path.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert ("What the model answers" in page) == (evaluated and bool(stages))
    assert page.count('class="stage">') == (2 * len(stages) + 1 if stages else 0)


def test_a_stage_that_logged_and_measured_little() -> None:
    bare = runs.stage("images", validated=False)
    points = (Point(step=1, loss=2.0, learning_rate=1e-5),)
    bare = bare.model_copy(
        update={"curve": points, "peak_memory_bytes": None, "tokens_per_second": None, "sources": ()}
    )
    page = render_report(runs.report(["images"], stages=(bare,), evaluations=()))
    assert page.count("<svg") == 2
    assert "validation loss" not in page
    assert "peak memory" not in page.partition("<main")[0]
    empty = bare.model_copy(update={"curve": ()})
    assert "No step was logged." in render_report(runs.report(["images"], stages=(empty,), evaluations=()))


def test_examples_stand_beside_each_other_by_problem() -> None:
    """Paired by the problem, whatever the order; a problem without an answer afterwards stands alone."""
    before, after = runs.samples(3, right=False), runs.samples(2)[::-1]
    page = render_report(runs.report([]), before, after)
    assert page.count('class="example"') == 3
    assert page.count(">before training<") == 3
    assert page.count(">after training<") == 2
    first = page[page.index('class="pair"') :].partition('class="example"')[0]
    assert 'class="verdict wrong"' in first
    assert 'class="verdict right"' in first
    assert "data:image/png;base64," in first


def test_the_page_is_one_file_without_paths() -> None:
    page = whole_page()
    links = [
        link for link in re.findall(r"(?:src|href)=\"([^\"]*)\"", page) if not link.startswith("http://www.w3.org")
    ]
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert "<script" not in page
    assert "/home/" not in page
    assert "/tmp/" not in page


@cache
def hostile() -> str:
    report = runs.report([NAME], name=NAME, model=NAME, recipe={NAME: NAME}, versions={NAME: NAME})
    (stage,) = report.stages
    (source,) = stage.sources
    wild = source.model_copy(update={"name": NAME, "format": NAME, "drops": {NAME: 1}, "rounds": {NAME: 1}})
    kinds = {NAME: runs.rates(1, 2, 1)}
    points = tuple(point.model_copy(update={"kinds": kinds}) for point in report.evaluations)
    changed = {"stages": (stage.model_copy(update={"sources": (wild,)}),), "evaluations": points}
    return render_report(report.model_copy(update=changed), runs.samples(1), runs.samples(1, thought=ATTACK))


def test_foreign_text_is_text() -> None:
    page = hostile()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
    assert "\x1b" not in page
    assert "\x00" not in page
    for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(figure)


# --- in a browser -----------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """No message, no request, nothing that ran, text that can be read, nothing wider than a phone."""
    for name, page in {
        "full": whole_page(),
        "hostile": hostile(),
        "empty": render_report(runs.report([])),
    }.items():
        path = tmp_path / f"{name}.html"
        path.write_text(page, encoding="utf-8")
        tab = open_tab(browser, path.as_uri(), scheme=scheme)
        assert tab.messages == []
        assert tab.requests == [path.as_uri()]
        assert tab.evaluate("window.owned") is None
        assert is_dark(tab) == (scheme == "dark")
        low = {place: ratio for place, ratio in contrasts(tab).items() if ratio < 4.5}
        assert low == {}
        tab.set_viewport_size({"width": 390, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.close()
