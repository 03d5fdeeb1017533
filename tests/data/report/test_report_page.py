"""The page of a build shows what is in it and no more, holds all it needs, reads well; nothing in a record can act."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import drafted
import pytest
import report_build as made
from chromium import contrasts, is_dark, needs_browser, open_tab
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.data.drafts import Draft, Rejection, Said, Verdict
from thyme.data.folders import IMAGES
from thyme.data.report.counts import Funnel
from thyme.data.report.write import FIGURES, PAGE, write_report
from thyme.types import ImageRecord

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ATTACK = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'|{{ 7*7 }}\x1b[2J"


def hostile() -> list[Draft | Rejection]:
    """Attacks wherever a model, a picture or a row has a say."""
    draft = made.record(0)
    problem = draft.problem.model_copy(update={"question": ATTACK, "answer": ATTACK, "kind": ATTACK})
    said = (Said(role="user", text=ATTACK), Said(role="assistant", text=ATTACK))
    update = {
        "problem": problem,
        "hints": {"boxes": ATTACK, ATTACK: 1},
        "conversation": said,
        "teacher": ATTACK,
        "source": ATTACK,
        "verdicts": (Verdict(judge=ATTACK, reason=ATTACK),),
    }
    bad = draft.model_copy(update=update)
    return [bad, made.dropped(bad.model_copy(update={"id": "photos-0000001-crop"}), "accept", ATTACK, ATTACK)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = made.store(tmp_path_factory.mktemp("build"), [*made.usual(), made.record(10, "computation", blocks=0)])
    write_report(out)
    return out


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return (out / PAGE).read_text(encoding="utf-8")


def test_every_link_has_its_target(page: str) -> None:
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert len(targets) > 12
    assert targets <= set(re.findall(r'id="([^"]+)"', page))
    assert len(re.findall(r'\bid="([^"]+)"', page)) == len(set(re.findall(r'\bid="([^"]+)"', page)))


def test_reasons_stand_there_with_meaning_and_examples(page: str) -> None:
    assert "no crop holds nine tenths of the target" in page
    assert "accept: misses_target<small>2 of 2</small>" in page
    assert page.count("<b>misses_target</b>: no crop holds it") == 2
    assert "The sign lies at (400, 120, 470, 160)." in page


def test_what_was_made_of_nothing_is_shown_as_it_came(page: str) -> None:
    assert "&lt;think&gt;well&lt;/think&gt; KX, I think" in page


def test_pictures_are_inside_and_nothing_is_fetched(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page


def pictures(page: str, alt: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:[^;]+;base64,([^"]+)" alt="([^"]*)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data, told in found if alt in told]


def test_what_the_teacher_was_told_is_drawn_around_its_target(page: str) -> None:
    plain, marked = pictures(page, "Input image 1, 800")[0], pictures(page, "what the teacher was told")[0]
    assert plain.size == marked.size == (480, 360)
    colour, factor = (0, 224, 192), 480 / 800
    left, top, right, bottom = (round(side * factor) for side in drafted.BOX)
    middle = (top + bottom) // 2
    drawn = marked.convert("RGB")
    assert drawn.getpixel((left - 4, middle)) == drawn.getpixel((right + 3, middle)) == colour
    inside = drawn.crop((left, top, right, bottom)).getcolors(10000)
    assert inside is not None
    assert colour not in {value for _, value in inside}


def test_a_duplicate_stands_beside_what_it_is_like(page: str) -> None:
    (sort,) = re.findall(r'<section class="sort" id="k\d+">\s*<h3>draw: duplicate.*?</section>', page, re.DOTALL)
    assert len(pictures(sort, "Image of the earlier item")) == 1
    assert "of photos-0000000-crop" in sort


def test_figures_are_those_of_the_file(out: Path, page: str) -> None:
    funnel = Funnel.model_validate_json((out / FIGURES).read_bytes())
    assert (funnel.total.drawn, funnel.total.kept) == (11, 5)
    assert "<span>11</span>" in page
    assert "<span>5</span><small>45.5\N{NO-BREAK SPACE}%</small>" in page
    assert "2 h 0 min" in page


def test_a_page_is_written_where_pictures_are_gone_or_cannot_be_read(tmp_path: Path) -> None:
    made.store(tmp_path, [made.record(0)])
    for path in (tmp_path / IMAGES).rglob("*.*"):
        path.write_bytes(b"torn")
    write_report(tmp_path)
    assert "no picture" in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_an_empty_build_has_a_page(tmp_path: Path) -> None:
    made.store(tmp_path, [], planned=10, state="begun")
    assert write_report(tmp_path).total.drawn == 0
    assert "No record has an outcome yet." in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    write_report(made.store(tmp_path, hostile()))
    written = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<script" not in written
    assert "<img src=x" not in written
    assert "\x1b" not in written
    assert "{{ 7*7 }}" in written


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    noise = Image.effect_noise((1200, 900), 80).convert("RGB")
    problem = drafted.question(images=(ImageRecord.of(noise),))
    draft = drafted.ready("no_code", problem).model_copy(update={"id": "photos-0000000-no_code"})
    write_report(made.store(tmp_path, [made.dropped(draft, "generate", "refused")]))
    (shown,) = pictures((tmp_path / PAGE).read_text(encoding="utf-8"), "Input image")
    assert shown.size == (480, 360)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_funnel_and_writes_both_files(tmp_path: Path) -> None:
    made.store(tmp_path, made.usual())
    result = CliRunner().invoke(app, ["data", "report", str(tmp_path)])
    assert result.exit_code == 0
    assert re.search(r"accept\s+7\s+3\s+4", result.stdout)
    assert "2  accept: misses_target" in result.stdout
    assert "careful: 3 accepted records were not looked at by a model." in result.stdout
    assert (tmp_path / PAGE).exists()
    told = CliRunner().invoke(app, ["data", "report", str(tmp_path), "--json"])
    assert Funnel.model_validate_json(told.stdout) == Funnel.model_validate_json((tmp_path / FIGURES).read_bytes())


def test_a_folder_without_a_build_is_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "report", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no build" in result.stderr


# --- in a browser -----------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_page_reads_well_and_fits(out: Path, browser: Browser, width: int, scheme: str) -> None:
    tab = open_tab(browser, (out / PAGE).as_uri(), width=width, scheme=scheme)
    assert [url for url in tab.requests if not url.startswith("data:")] == [(out / PAGE).as_uri()]
    assert tab.messages == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert is_dark(tab) is (scheme == "dark")
    assert {name: value for name, value in contrasts(tab).items() if value < 4.5} == {}
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@needs_browser
def test_hostile_text_does_not_act(tmp_path: Path, browser: Browser) -> None:
    write_report(made.store(tmp_path, hostile()))
    tab = open_tab(browser, (tmp_path / PAGE).as_uri())
    assert tab.evaluate("typeof window.owned") == "undefined"
    assert tab.evaluate("document.scripts.length") == 0
