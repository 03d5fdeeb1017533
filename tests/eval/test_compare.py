"""Two runs: what differs is named, pairs are of the same problems and content, the sign is second less first."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import evaluation_items as made
import pytest
from rich.console import Console

from thyme.eval.compare import compare_items
from thyme.eval.items import ItemResult
from thyme.eval.manifest import RunManifest
from thyme.eval.report.comparison import comparison_table, render_comparison
from thyme.eval.submission import hallusion_bench, mm_vet, vlmevalkit_table, write_submissions

ARMS = ("tools", "no_tools")


@pytest.fixture(scope="module")
def first() -> list[ItemResult]:
    return made.run_items(n=40, arms=ARMS)


def better(items: list[ItemResult]) -> list[ItemResult]:
    """The same, every wrong answer with code put right, the first 12 of them."""
    wrong = [item.problem for item in items if item.arm == "tools" and item.score == 0][:12]
    fix = {"score": 1.0, "prediction": "A"}
    return [item.model_copy(update=fix) if item.arm == "tools" and item.problem in wrong else item for item in items]


def test_a_run_against_itself_differs_in_nothing(first: list[ItemResult]) -> None:
    manifest = made.manifest(first)
    found = compare_items(manifest, first, manifest.model_copy(update={"seconds": 1.0, "name": "again"}), first)
    assert found.settings == ()
    for row in found.rows:
        assert row.versus is not None
        assert (row.versus.difference.value, row.versus.p, row.same_answers) == (0.0, 1.0, 1.0)
        assert row.first == row.second


def test_the_second_less_the_first(first: list[ItemResult]) -> None:
    second, manifest = better(first), made.manifest(first)
    found = compare_items(manifest, first, manifest.model_copy(update={"model": "better"}), second)
    assert [(one.name, one.first, one.second) for one in found.settings] == [("model", "made-up-7B", "better")]
    tools, without = found.rows
    assert tools.versus is not None
    assert without.versus is not None
    turned = [old.problem for old, new in zip(first, second, strict=True) if old != new]
    assert turned
    assert tools.versus.gained == len(turned)
    assert tools.versus.lost == 0
    assert set(tools.gained) == set(turned)
    assert tools.versus.difference.value == pytest.approx(len(turned) / tools.versus.difference.n)
    assert without.versus.verdict == ""
    page = render_comparison(found)
    assert "made-up-7B" in page
    assert "<script" not in page
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(comparison_table(found))
    assert "better" in console.export_text()


def test_other_content_is_not_paired(first: list[ItemResult]) -> None:
    one = made.manifest(first)
    use = one.benchmarks[0].model_copy(update={"digest": "0" * 32})
    other = RunManifest(**{**one.model_dump(), "benchmarks": [use.model_dump()]})
    found = compare_items(one, first, other, first)
    assert [setting.name for setting in found.settings] == ["benchmarks.VStarBench.digest"]
    assert [row.versus for row in found.rows] == [None, None]
    assert all("content differs" in row.note for row in found.rows)
    assert "content differs" in render_comparison(found)


def test_what_only_one_has_is_named(first: list[ItemResult]) -> None:
    tools = [item for item in first if item.arm == "tools"]
    found = compare_items(made.manifest(first), first, made.manifest(tools), tools)
    assert (found.only_first, found.only_second) == (("VStarBench, no_tools",), ())
    assert "Only in the first" in render_comparison(found)


# --- submissions ------------------------------------------------------------------------------------------------------


def test_the_table_of_predictions_survives_tabs_and_lines() -> None:
    items = [made.item("1", prediction='tab\there "and" line\nbreak'), made.item("2", score=0.0, prediction=None)]
    rows = list(csv.DictReader(io.StringIO(vlmevalkit_table(items)), dialect="excel-tab"))
    assert [row["prediction"] for row in rows] == ['tab\there "and" line\nbreak', ""]
    assert list(rows[0]) == ["index", "category", "answer", "prediction"]


def test_a_carriage_return_ends_no_row_for_readers_that_take_it_for_a_line() -> None:
    items = [made.item("1", prediction="one\rtwo\r\nthree"), made.item("2", prediction="x")]
    lines = io.StringIO(vlmevalkit_table(items), newline="")
    rows = list(csv.DictReader(lines, dialect="excel-tab"))
    assert [(row["index"], row["prediction"]) for row in rows] == [("1", "one\rtwo\r\nthree"), ("2", "x")]


def test_mm_vet_names_its_questions() -> None:
    assert mm_vet([made.item("0", prediction="x"), made.item("v1_7", prediction=None)]) == {"v1_0": "x", "v1_7": ""}


def test_hallusion_bench_has_its_rows() -> None:
    meta = {"l2_category": "chart", "set": "1", "figure": "0", "question": "2"}
    items = [made.item("VS_chart_x_1_0_2", kind="VS", meta=meta, reference="Yes", prediction="No, it is not.")]
    assert hallusion_bench(items) == [
        {
            "category": "VS",
            "subcategory": "chart",
            "set_id": "1",
            "figure_id": "0",
            "question_id": "2",
            "gt_answer": "1",
            "model_prediction": "No, it is not.",
        }
    ]


def test_both_modes_are_written_and_names_stay_in_the_folder(tmp_path: Path) -> None:
    items = [
        made.item("1", arm, benchmark=name) for arm in ("tools", "retry", "no_tools") for name in ("MMVet", "../up")
    ]
    paths = write_submissions(tmp_path / "s", made.manifest(items, model="../../m"), items)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in paths) == [
        "s/retry/m_MMVet.json",
        "s/retry/m_MMVet.tsv",
        "s/retry/m_up.tsv",
        "s/single/m_MMVet.json",
        "s/single/m_MMVet.tsv",
        "s/single/m_up.tsv",
    ]
    assert json.loads((tmp_path / "s/single/m_MMVet.json").read_text()) == {"v1_1": "A"}
