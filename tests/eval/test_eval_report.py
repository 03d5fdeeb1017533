"""The report says what was measured and no more, holds all it needs, reads well; nothing written into it can act."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import evaluation_items as made
import pytest
import sample_records as samples
from chromium import contrasts, is_dark, needs_browser, open_tab

from thyme.config.rollout import RolloutConfig, SpanConfig
from thyme.errors import UsageError
from thyme.eval.items import Faithfulness, ItemResult
from thyme.eval.manifest import RunManifest
from thyme.eval.report.cells import against_published, bar, p_value, scale_of, share
from thyme.eval.report.markdown import render_markdown
from thyme.eval.report.page import render_page
from thyme.eval.report.picks import SORTS, pick
from thyme.eval.report.words import cautions, findings
from thyme.eval.report.write import write_report
from thyme.eval.results import Results, make_results
from thyme.eval.run.folder import append_item, items_file, trajectories_file
from thyme.eval.statistics import Estimate, compare_pairs, correct
from thyme.store import append_trajectory, write_text
from thyme.types import Trajectory

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ATTACK = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'|{{ 7*7 }}\x1b[2J"
ARMS = ("tools", "no_tools", "placebo", "withheld", "retry")


@pytest.fixture(scope="module")
def items() -> list[ItemResult]:
    return made.run_items(n=40, arms=ARMS) + made.run_items("thyme-mini", n=20, arms=("tools", "no_tools"), seed=5)


@pytest.fixture(scope="module")
def results(items: list[ItemResult]) -> Results:
    return make_results(made.manifest(items), items)


def store(folder: Path, manifest: RunManifest, items: Sequence[ItemResult]) -> Path:
    """A run as it lies in its folder, with a trajectory for every item."""
    write_text(folder / "run.json", manifest.model_dump_json())
    for item in items:
        append_item(items_file(folder, item.benchmark, item.arm, 0), item)
        record = samples.trajectory(id=item.trajectory, question=f"What does sign {item.problem} say?")
        append_trajectory(trajectories_file(folder, item.benchmark, item.arm, 0), record)
    return folder


# --- figures ----------------------------------------------------------------------------------------------------------


def test_results_come_back_as_they_were(results: Results) -> None:
    assert Results.model_validate_json(results.model_dump_json()) == results


def test_every_arm_is_held_against_the_one_with_code(results: Results) -> None:
    vstar = results.benchmarks[0]
    assert [arm.arm for arm in vstar.arms] == ["tools", "no_tools", "placebo", "withheld", "retry"]
    assert vstar.arms[0].versus is None
    assert all(arm.versus is not None and arm.versus.adjusted is not None for arm in vstar.arms[1:])
    assert results.comparisons == 5  # four here, one of thyme-mini
    assert [change.arm for change in vstar.changes] == ["withheld"]
    worst = [arm.versus for one in results.benchmarks for arm in one.arms if arm.versus]
    assert [one.adjusted for one in correct(worst)] == [one.adjusted for one in worst]  # one family


def test_groups_are_a_family_of_their_own(results: Results) -> None:
    cut = [group.versus for one in results.benchmarks for group in one.groups if group.versus]
    assert results.exploratory == len(cut) > results.comparisons
    assert [one.adjusted for one in correct(cut)] == [one.adjusted for one in cut]


def test_an_unfinished_run_says_so(items: list[ItemResult]) -> None:
    part = [item for item in items if item.arm == "tools" or item.place < 10]
    found = make_results(made.manifest(items), part)
    assert found.benchmarks[0].missing == {"no_tools": 30, "placebo": 30, "withheld": 30, "retry": 30}
    assert any("30 problems were not asked yet" in sentence for sentence in cautions(found))


def test_arms_and_benchmarks_that_nobody_asked_yet_are_named(items: list[ItemResult]) -> None:
    part = [item for item in items if item.benchmark == "VStarBench" and item.arm != "withheld"]
    found = make_results(made.manifest(items), part)
    assert found.benchmarks[0].missing == {"withheld": 40}
    told = cautions(found)
    assert any("output withheld: 40 problems were not asked yet" in sentence for sentence in told)
    assert any(sentence.startswith("thyme-mini: nothing was asked yet") for sentence in told)


def test_nothing_is_called_with_code_where_that_arm_was_not_run() -> None:
    items = made.run_items(n=12, arms=["no_tools", "placebo"])
    found = make_results(made.manifest(items), items)
    assert [arm.versus for arm in found.benchmarks[0].arms] == [None, None]
    assert "What the tools are worth" not in render_page(found)


def test_a_run_without_any_arm_to_compare_has_scores_alone() -> None:
    items = made.run_items(n=12, arms=["no_tools"])
    found = make_results(made.manifest(items), items)
    assert found.comparisons == 0
    page = render_page(found)
    assert "without code" in page
    assert "What the tools are worth" not in page


def test_all_that_failed_gives_dashes_and_no_zeros() -> None:
    items = [item.model_copy(update={"score": None, "prediction": None}) for item in made.run_items(n=6, arms=ARMS)]
    found = make_results(made.manifest(items), items)
    assert {estimate.value for arm in found.benchmarks[0].arms for estimate in arm.figures.values()} == {None}
    assert found.benchmarks[0].arms[1].versus is not None
    assert found.benchmarks[0].arms[1].versus.p is None
    page = render_page(found)
    assert "5 of 6" in page  # the sixth failed
    assert "have no score" in page
    assert "<dd><span>– %</span>" in page


# --- words and cells --------------------------------------------------------------------------------------------------


def test_findings_are_the_figures(results: Results) -> None:
    told = findings(results)
    without = results.benchmarks[0].arm("no_tools")
    assert without is not None
    assert without.versus is not None
    assert without.versus.first is not None
    assert told["V*"][0].startswith(f"{100 * without.versus.first:.1f} % with code")
    assert "The paper reports 82.2 for Thyme-7B" in told["V*"][-1]
    assert not any("paper" in sentence for sentence in told["thyme-mini"])


def test_a_difference_of_means_is_not_taken_for_one_of_published_figures() -> None:
    """HallusionBench's figure is no mean over problems, the comparison of arms is."""
    items = made.run_items("HallusionBench", n=12, arms=("tools", "no_tools"))
    found = make_results(made.manifest(items), items)
    assert findings(found)["HallusionBench"][0].startswith("Mean score a problem, which is not the published figure: ")
    assert "points of mean score against no code" in render_page(found)


def test_cautions_name_what_makes_a_figure_weak(results: Results) -> None:
    told = " ".join(cautions(results))
    assert "40 of 191 problems were asked" in told
    assert "failed in engine or sandbox" in told
    assert "this run asked none" in told
    assert "fewer than 100 independent problems" in told


def test_a_run_is_called_greedy_only_where_nothing_is_drawn(items: list[ItemResult]) -> None:
    greedy = RolloutConfig(text_temperature=0.0)
    drawn = greedy.model_copy(update={"spans": (SpanConfig(open="<json>", close="</json>", temperature=0.7),)})
    for rollout, said in ((greedy, "greedy"), (drawn, "τ 0.0 in text, 0.0 in code, 0.7 in &lt;json&gt;")):
        manifest = made.manifest(items, rollout=rollout.model_dump(mode="json"))
        assert f"<dt>sampling</dt><dd>{said}</dd>" in render_page(make_results(manifest, items))


def test_a_share_without_cases_is_a_dash() -> None:
    assert share(Estimate(value=None)).value == "–"
    assert share(Estimate(value=0.0, low=0.0, high=0.1)).value == "0.0"


def test_the_papers_figure_is_coloured_outside_of_the_interval_only() -> None:
    ours = Estimate(value=0.8, low=0.75, high=0.85)
    assert [against_published(ours, score).verdict for score in (74.9, 75.1, 84.9, 85.1)] == ["better", "", "", "worse"]
    assert against_published(ours, 90.0).note == "−10.0 ours"
    assert against_published(ours, None).value == "–"
    assert against_published(Estimate(value=None), 90.0).verdict == ""


def test_bars_stay_on_their_scale() -> None:
    one = correct([compare_pairs([1.0] * 30, [0.0] * 20 + [1.0] * 10)])[0]
    assert scale_of([one]) >= 0.8
    drawn = bar(one, scale_of([one]))
    assert drawn is not None
    assert -50 <= drawn.low <= drawn.middle <= drawn.high <= 50
    assert drawn.verdict == "better"
    assert bar(None, 0.1) is None
    assert scale_of([]) == 0.05


def test_small_p_is_not_printed_as_zero() -> None:
    assert [p_value(p) for p in (0.0002, 0.0312, 1.0, None)] == ["< 0.001", "0.031", "1.000", "–"]


# --- examples ---------------------------------------------------------------------------------------------------------


def test_examples_are_chosen_by_hash_and_spread_over_benchmarks(items: list[ItemResult]) -> None:
    picked = pick(items, seed=1)
    again = pick(list(reversed(items)), seed=1)
    names = [[one.item.problem for one in sort.picks] for sort in picked]
    assert names == [[one.item.problem for one in sort.picks] for sort in again]
    assert names != [[one.item.problem for one in sort.picks] for sort in pick(items, seed=2)]
    helped = next(sort for sort in picked if sort.sort.name == "helped")
    assert {one.item.benchmark for one in helped.picks} == {"VStarBench", "thyme-mini"}
    assert helped.count > len(helped.picks) == 3
    assert sum(len(sort.picks) for sort in picked) <= 12


def test_a_sort_holds_what_its_words_say() -> None:
    right, wrong = made.item(blocks=1, ran=1), made.item(score=0.0, blocks=1, ran=1)
    without = (made.item(arm="no_tools"), made.item(arm="no_tools", score=0.0), None)
    fits = {sort.name: sort.fits for sort in SORTS}
    assert [fits["helped"](right, other) for other in without] == [False, True, False]
    assert [fits["hurt"](wrong, other) for other in without] == [True, False, False]
    assert not fits["helped"](made.item(), without[1])  # it ran no code
    assert fits["broke"](made.item(score=0.0, blocks=2, ran=1), without[1])
    assert not fits["hurt"](made.item(score=None, blocks=1), without[0])


def test_a_sort_is_counted_whole_even_where_it_is_shown_under_another_or_not_at_all() -> None:
    """Every one of these hurt, looked at the target and had a failing block; twelve pages are taken by other sorts."""
    looked = Faithfulness(boxes=((0, 0, 9, 9),), coverage=1.0, iou=0.5, covered=True)
    hurt = [made.item(str(place), score=0.0, blocks=2, ran=1, faithfulness=looked) for place in range(7)]
    others = [made.item(str(place), "no_tools") for place in range(7)]
    picked = {one.sort.name: one for one in pick([*hurt, *others], most=3)}
    assert {name: one.count for name, one in picked.items()} == {"hurt": 7, "blind": 7, "broke": 7}
    assert {name: len(one.picks) for name, one in picked.items()} == {"hurt": 3, "blind": 0, "broke": 0}


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_report_of_a_folder(tmp_path: Path, items: list[ItemResult]) -> None:
    few = [item for item in items if item.place < 12 and item.arm in {"tools", "no_tools", "withheld"}]
    folder = store(tmp_path / "run", made.manifest(few), few)
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What does sign" in page
    assert "data:image/" in page
    assert json.loads((folder / "results.json").read_text())["benchmarks"][0]["name"] == "VStarBench"
    assert (folder / "report.md").read_text().startswith("# Evaluation: made-up-7B")
    assert (folder / "submission" / "single" / "made-up-7B_VStarBench.tsv").exists()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    write_report(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_missing_trajectory_is_said_and_ends_nothing(tmp_path: Path, items: list[ItemResult]) -> None:
    few = [item for item in items if item.place < 12 and item.arm in {"tools", "no_tools"}]
    folder = store(tmp_path, made.manifest(few), few)
    for path in folder.glob("trajectories/*/*.jsonl"):
        path.unlink()
    write_report(folder)
    assert "Not every record could be read" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_folder_without_items_is_an_error(tmp_path: Path, items: list[ItemResult]) -> None:
    write_text(tmp_path / "run.json", made.manifest(items).model_dump_json())
    with pytest.raises(UsageError, match="no item yet"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="holds no evaluation"):
        write_report(tmp_path / "nowhere")


def test_a_backslash_does_not_take_the_guard_from_the_sign_after_it(items: list[ItemResult]) -> None:
    text = render_markdown(make_results(made.manifest(items, model="a\\|b\\<i>"), items))
    assert text.startswith("# Evaluation: a\\\\\\|b\\\\\\<i\\>\n")


def test_markdown_has_rows_of_equal_length_whatever_a_model_is_called(items: list[ItemResult]) -> None:
    text = render_markdown(make_results(made.manifest(items, model=ATTACK), items))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "<script" not in text.replace("\\<script", "")
    assert "\x1b" not in text


# --- the page ---------------------------------------------------------------------------------------------------------


def hostile(items: Sequence[ItemResult]) -> str:
    """The page of a run in which every foreign text is an attack."""
    bad = [item.model_copy(update={"kind": f"{item.kind} {ATTACK}", "benchmark": f"{ATTACK}"}) for item in items[:200]]
    record = samples.trajectory(question=ATTACK, answer=ATTACK, kind=ATTACK)

    def find(item: ItemResult) -> Trajectory:
        return record

    return render_page(make_results(made.manifest(bad, model=ATTACK, judge=ATTACK), bad), pick(bad), find)


def test_the_page_is_one_file_without_script(items: list[ItemResult], results: Results) -> None:
    for page in (render_page(results), hostile(items)):
        assert page.startswith("<!DOCTYPE html>")
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "\x1b" not in page.partition('id="examples"')[0]
        links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
        assert all(link.startswith(("data:image/", "#")) for link in links)


def test_the_page_without_matplotlib_has_no_plots(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    page = render_page(results)
    assert "Accuracy against" not in page
    assert "Use and cost" in page


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_reads_well(
    browser: Browser, tmp_path: Path, items: list[ItemResult], scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(hostile(items), encoding="utf-8")
    page = open_tab(browser, path.as_uri(), width=width, scheme=scheme)
    assert page.requests == [path.as_uri(), *(one for one in page.requests[1:] if one.startswith("data:"))]
    assert page.messages == []
    assert page.evaluate("window.owned") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert is_dark(page) == (scheme == "dark")
    weak = {name: ratio for name, ratio in contrasts(page).items() if ratio < 4.5}
    assert weak == {}
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    missing = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert page.evaluate(f"{missing}.length") == 0
    page.close()
