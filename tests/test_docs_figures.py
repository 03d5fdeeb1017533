"""No document quotes a figure that no stored result holds, but for a list of those that are still to be stored.

`docs/reproduction.md` is held to the letter against what its results give, those of the ablations row by row. Elsewhere
every number with a unit must be a figure of the document's result files, or stand in `quoted_figures.toml` with the
command that printed it.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from quoted_figures import Quoted, holds, numbers, printed, quoted

from scripts import ablation_pages, record
from thyme.nano import CHECKPOINTS
from thyme.reproduce.graph import Store
from thyme.reproduce.writing import markdown

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SOURCES = {
    "README.md": ("results/shipped.json",),
    "ablation_sft.md": ("results/sft-ablation.json",),
    "ablation_grpo.md": ("results/grpo-ablation.json",),
}
"""Result files of each document; of one that is not there yet nothing is held."""
EXACT = {"reproduction.md"}
"""Documents that are held to the letter."""
EXEMPT = tomllib.loads(Path(__file__).with_name("quoted_figures.toml").read_text(encoding="utf-8"))["figures"]


def stored(document: str) -> set[float]:
    """All figures in the result files of a document; of a step's result not what it says of the machine."""
    files = [DOCS / name for name in SOURCES.get(document, ())]
    told = (json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists())
    return {figure for one in told for figure in numbers(one.get("figures", one))}


def recorded(text: str) -> list[str]:
    """Names of the records that a document shows."""
    return [place[1] for place in record.MEASURED.finditer(text)]


def lacking(path: Path) -> set[Quoted]:
    """Figures of a document that no result holds."""
    text, figures = path.read_text(encoding="utf-8"), stored(path.name)
    figures |= {figure for name in recorded(text) for figure in printed(record.read(name)[0])}
    return {found for found in quoted(text) if not holds(figures, found)}


def exempt(document: str) -> set[Quoted]:
    """Figures that the list names."""
    return {Quoted(one["heading"], text) for one in EXEMPT if one["document"] == document for text in one["figures"]}


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in EXACT], ids=lambda path: path.name)
def test_every_figure_has_a_result_or_is_listed_with_its_command(path: Path) -> None:
    found, listed = lacking(path), exempt(path.name)
    assert found - listed == set(), "store a result, or list the figure in tests/quoted_figures.toml with its command"
    assert listed - set(quoted(path.read_text(encoding="utf-8"))) == set(), "no longer quoted: take it off the list"


def test_the_list_names_documents_that_are_there_and_why() -> None:
    assert {one["document"] for one in EXEMPT} <= {path.name for path in DOCUMENTS}
    assert all(one.get("why", "").strip() or one.get("records") for one in EXEMPT)


@pytest.mark.parametrize("entry", [one for one in EXEMPT if "records" in one], ids=lambda one: one["records"][0])
def test_what_was_recorded_holds_what_is_quoted_of_it(entry: dict[str, Any]) -> None:
    figures = {figure for name in entry["records"] for figure in printed(record.read(name)[0])}
    missing = [text for text in entry["figures"] if not holds(figures, Quoted(entry["heading"], text))]
    assert missing == [], "quote what was printed, or record it again: python scripts/record.py NAME"


def test_every_record_is_shown_and_says_where_it_comes_from() -> None:
    names = {path.stem for path in record.RECORDS.glob("*.json")}
    assert names == {name for path in DOCUMENTS for name in recorded(path.read_text(encoding="utf-8"))}
    for name in sorted(names):
        _, how = record.read(name)
        assert how.command
        assert how.commit
        assert how.processor
        assert how.memory_gib


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_shows_its_records_as_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == record.fill(text), "write it with `python scripts/record.py --docs`"
    assert len(recorded(text)) == text.count("<!-- measured:") == text.count("<!-- end of measured -->")


@pytest.mark.parametrize("name", sorted(EXACT))
def test_the_reproduction_is_what_its_results_give(name: str) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page == markdown(Store(DOCS)), "written by hand, or by older code: run `thyme reproduce --docs docs` again"


def test_every_result_says_where_it_comes_from() -> None:
    store, found = Store(DOCS), 0
    for path in sorted((DOCS / "results").glob("[!_]*.json")):
        result = store.read(path.stem)
        assert result is not None
        for name in ("commit", "processor", "memory_gib"):
            assert getattr(result.how, name) is not None, f"{path.name}: {name}"
        assert result.how.command
        assert result.how.seeds or not result.settings.get("seed")
        found += 1
    assert found


@pytest.mark.parametrize(("step", "name"), ablation_pages.PAGES.items())
def test_the_page_of_an_ablation_is_what_its_result_gives(step: str, name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page == ablation_pages.filled(page, ablation_pages.tables(DOCS, step)), (
        "write it with `python scripts/ablation_pages.py`"
    )


def test_the_table_of_the_readme_is_what_its_result_gives() -> None:
    result = Store(DOCS).read("shipped")
    assert result is not None
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for kind, told in result.figures["kinds"].items():
        tools = told["tools"]
        rates = (tools["accuracy"], tools["tool_rate"], tools["executable_rate"])
        rates += (told["no_tools"]["accuracy"], told["direct"]["accuracy"])
        cells = ("–" if rate is None else f"{100 * rate:.0f} %" for rate in rates)
        assert f"| {kind.replace('_', ' ')} | {' | '.join(cells)} |" in page


@pytest.mark.parametrize("name", ["final", "direct"])
def test_the_cards_of_the_shipped_weights_are_what_their_result_gives(name: str) -> None:
    result = Store(DOCS).read("shipped")
    assert result is not None
    card = (CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
    for kind, told in result.figures["kinds"].items():
        tools = told["tools"]
        ran = "-" if tools["executable_rate"] is None else f"{100 * tools['executable_rate']:.1f}"
        rates = tools["accuracy"], told["no_tools"]["accuracy"], told["direct"]["accuracy"]
        right, blocked, direct = (re.escape(f"{100 * rate:.1f}") + r" \[\d+, \d+\]" for rate in rates)
        row = rf"^\| {kind} \| {right} \| {100 * tools['tool_rate']:.1f} \| {ran} \| {blocked} \| {direct} \|$"
        assert re.search(row, card, re.MULTILINE), kind


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It took 12 minutes.", ["12 minutes"]),
        ("| easy | 96.5 % | 0 % |", ["96.5 %", "0 %"]),
        ("about 10 000 MB, −3.5 points", ["10 000 MB", "-3.5 points"]),
        ("size 10 x 20, version 3", []),
        ("    thyme bench 5 s", []),
        ("```\n5 s\n```", []),
        ("5 seconds and 5 s/step", ["5 seconds"]),
    ],
)
def test_figures_are_found(text: str, found: list[str]) -> None:
    assert [one.text.replace("−", "-") for one in quoted(f"# Head\n{text}\n")] == found


def test_a_figure_that_no_result_holds_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "ablation_sft.md"
    page.write_text("# Head\n\nIt reached 12.345678 %.\n")
    assert lacking(page) == {Quoted("Head", "12.345678 %")}


@pytest.mark.parametrize(
    ("text", "figures", "held"),
    [
        ("96 %", {0.964}, True),
        ("96.4 %", {0.964}, True),
        ("97 %", {0.964}, False),
        ("2 minutes", {120.0}, True),
        ("-66 points", {-0.66}, True),
        ("5.0 ms", {5.04}, True),
        ("5.1 ms", {5.04}, False),
    ],
)
def test_a_figure_is_held_as_it_is_rounded(text: str, figures: set[float], held: bool) -> None:
    assert holds(figures, Quoted("", text)) is held
