"""The page of a run holds its figures, alarms and rollouts, needs nothing beside it, and nothing in it can act."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import grpo_runs as runs
import pytest
import sample_records
from chromium import contrasts, is_dark, needs_browser, open_tab

from thyme.config.grpo import AlarmSettings, GRPOSettings
from thyme.config.training import TrackingSettings
from thyme.errors import StoreError
from thyme.train.grpo.kept import FOLDER, Kept, keep, over_time
from thyme.train.grpo.monitors import METRICS, tracked
from thyme.train.grpo.records import StepRecord
from thyme.train.grpo.report import REPORT_PAGE, LivePage, render_grpo_report, write_grpo_report
from thyme.train.report.plots import smoothed
from thyme.train.run.tracking import open_trackers
from thyme.types import Score, StopReason

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ATTACK = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'</pre>&lt;b&gt;{{ 7*7 }}$\\frac{x$"
NAME = ATTACK + "\x1b\x00"
CROP = (sample_records.good_execution(),)


def kept(step: int, *, kind: str = "zoom", right: bool = True, **options: object) -> Kept:
    trajectory = runs.rollout(executions=CROP if right else (), answer="KX 47" if right else "B7", kind=kind, **options)  # type: ignore[arg-type]  # options of the helper
    score = Score(value=1.5 if right else 0.5, parts={"result": float(right), "format": 1.0, "tool_cost": 1.0})
    return Kept(step, trajectory, score, 0.75 if right else -1.25, (score.value, 0.0, None, 2.0), 0)


def bare(record: StepRecord, *metrics: str) -> StepRecord:
    """A record with these figures alone: there is less to draw."""
    kept = {name: record.metrics[name] for name in metrics}
    return record.model_copy(update={"metrics": {**dict.fromkeys(METRICS), **kept}})


@cache
def whole_page() -> str:
    """Sixty steps with two alarms, one of which is over; drawn once."""
    steps = [
        runs.healthy(step, stop__truncated=0.5 if 20 <= step < 40 else 0.0, gap__kl=1e-5 if step < 50 else 0.05)
        for step in range(1, 61)
    ]
    return render_grpo_report(runs.report(steps), [kept(60), kept(1, right=False), kept(30, kind="easy")])


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\N{NO-BREAK SPACE}", " ")


def cells(page: str, region: str, kind: str) -> list[str]:
    """Cells of a row of a table."""
    table = page[page.index(f'aria-label="{region}"') :]
    row = re.search(rf'<th scope="row">{kind}</th>(.*?)</tr>', table, re.DOTALL)
    assert row is not None
    return [text_of(cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[1], re.DOTALL)]


def test_what_ran_stands_at_the_top() -> None:
    head = text_of(whole_page()[: whole_page().index('id="alarms"')])
    assert "from nano:undecided · 60 of 60 steps" in head
    assert "τ 1 in text" in head
    assert "τ 0 in code: greedy" in head
    assert "mask code tokens have no gradient, and do not count in the normaliser" in head
    bare_recipe = runs.report([runs.healthy(1)], recipe={"model": "nano"}, evaluations=())
    assert "τ 1 in text" in text_of(render_grpo_report(bare_recipe))
    assert "answers right 59 % → 80 % evaluation: 70 to 87 %, 80 problems" in head


def test_alarms_with_advice_those_that_last_first() -> None:
    text = text_of(whole_page()[whole_page().index('id="alarms"') :])
    lasting, over = text.index("Sampler and trainer disagree since step 51"), text.index("Rollouts are cut step")
    assert lasting < over
    assert re.search(r"Rollouts are cut step 26 to \d+, over", text)
    assert "What to do. Stop: the gradient is not that of what was rolled out." in text


def test_an_alarm_that_comes_again_is_one_notice() -> None:
    """Six windows of two steps, broken and mended in turn."""
    settings = runs.SETTINGS.model_copy(update={"alarms": AlarmSettings(window=2)})
    steps = [runs.healthy(step, stop__truncated=0.6 if (step - 1) // 4 % 2 else 0.0) for step in range(1, 25)]
    steps = [bare(step, "stop/truncated") for step in steps]
    text = text_of(render_grpo_report(runs.report(steps, settings=settings, evaluations=())))
    assert text.count("Rollouts are cut") == 1
    assert "Rollouts are cut since step 22; before that 14 to 18, 6 to 10" in text


def test_start_and_end_by_kind_with_intervals() -> None:
    """14 and 31 of 40; the intervals are Wilson's."""
    right_first, _, right_last, _ = cells(whole_page(), "Evaluation", "zoom")
    assert right_first == "35.0 % 22 to 50 %"
    assert right_last == "77.5 % 62 to 88 %"
    assert whole_page().count('class="better"') == 2  # zoom, and all


def test_rollouts_of_the_first_and_last_steps_by_kind() -> None:
    """Ten constant steps, then ten others."""
    steps = [runs.healthy(step, code__tool_rate=0.2 if step <= 10 else 0.6 + 0.1 * (step % 2)) for step in range(1, 21)]
    steps = [bare(step) for step in steps]
    page = render_grpo_report(runs.report(steps, evaluations=()))
    first, last = cells(page, "Rollouts by kind", "zoom")[4:6]
    assert first == "20 % ± 0"
    assert last == "65 % ± 3"  # twice .0527 / sqrt(10)


def test_every_curve_there_is_a_value_for() -> None:
    page = whole_page()
    titles = [text_of(one).strip() for one in re.findall(r"<figcaption>(.*?)</figcaption>\s*<svg", page, re.DOTALL)]
    for title in ("Reward", "easy right ran code", "Blocks that ran without error", "Loss", "Learning rate"):
        assert title in titles
    assert "Judged parts" not in page  # nothing was judged
    assert re.search(r"Rollouts that ended without answering.*too many rounds.*repeated", text_of(page))


def test_every_metric_is_drawn_or_is_one_that_others_tell() -> None:
    from thyme.train.grpo.curves import FIGURES

    drawn = {metric for figures in FIGURES.values() for figure in figures for metric, _ in figure.lines}
    drawn |= {"speed/rollouts", "speed/tokens", "speed/engine_s", "speed/sandbox_s"}
    assert drawn <= set(METRICS)
    assert set(METRICS) - drawn == {
        "reward/std",
        "reward/tool_cost",
        "length/generated",
        "group/dropped",
        "advantage/positive",
        "gap/drawn_largest",
        "gap/greedy_largest",
    }


def test_rollouts_over_time_with_what_they_earned() -> None:
    text = text_of(whole_page()[whole_page().index('id="samples"') :])
    assert text.index("easy step 30") < text.index("zoom step 1, step 60")
    assert "reward 1.5 result 1 format 1 advantage +0.75" in text  # a tool cost without weight is not shown
    assert "rewards of its group: 1.5 0 – 2" in text
    assert "KX 47 right" in text
    assert "B7 wrong" in text  # though its reward is above 0, for its form


def test_a_run_that_goes_on_and_one_that_did_nothing() -> None:
    running = render_grpo_report(runs.report([bare(runs.healthy(1))], planned=60, finished=False, evaluations=()))
    assert "1 of 60 steps so far; reload the page" in text_of(running)
    assert "Alarms None." in text_of(running)
    nothing = text_of(render_grpo_report(runs.report([], planned=60, finished=False, evaluations=())))
    assert "None yet: no step was made" in nothing
    assert "What rollouts earned" not in nothing


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    assert smoothed([1.0, 2.0, 6.0, 0.0], 3) == pytest.approx([1.0, 1.5, 3.0, 8 / 3])
    assert smoothed([], 3) == []


def test_a_page_is_put_in_place_whole(tmp_path: Path) -> None:
    path = write_grpo_report(runs.report([], name="first"), tmp_path / "run")
    first = path.read_text(encoding="utf-8")
    again = write_grpo_report(runs.report([], name="second"), tmp_path / "run")
    assert path == again == tmp_path / "run" / REPORT_PAGE
    assert [file.name for file in (tmp_path / "run").iterdir()] == [REPORT_PAGE]
    assert again.read_text(encoding="utf-8") != first


def test_a_page_of_a_run_that_goes_on_costs_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a second and a page that takes two: the first after 1 / .1 seconds, then one in 2 / .1."""
    clock, written = [0.0], list[float]()

    def write() -> None:
        written.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    page = LivePage(write, share=0.1)
    for _ in range(60):
        clock[0] += 1.0
        page.step()
    assert written == [10.0, 32.0, 54.0]


def test_a_page_that_cannot_be_written_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tried = [0.0], list[float]()

    def write() -> None:
        tried.append(clock[0])
        raise StoreError("a picture is gone")

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    page = LivePage(write, share=0.1)
    for _ in range(25):
        clock[0] += 1.0
        page.step()
    assert len(tried) > 1
    assert "a page could not be written; the run goes on" in caplog.text


@cache
def hostile() -> str:
    record = bare(runs.healthy(1), "reward/mean", "code/tool_rate")
    record = record.model_copy(
        update={"kinds": {NAME: record.kinds["zoom"]}, "counts": {NAME: 3}, "seconds": {NAME: 1.0}}
    )
    failed = sample_records.failed_execution()
    bad = failed.model_copy(update={"code": ATTACK, "ran": ATTACK, "stdout": ATTACK})
    shown = kept(1)
    trajectory = runs.rollout(executions=(bad,), answer=ATTACK, kind=NAME, thought=ATTACK, stop=StopReason.ANSWER)
    problem = trajectory.problem.model_copy(update={"question": NAME, "choices": (NAME,), "answer": ATTACK})
    trajectory = trajectory.model_copy(update={"problem": problem})
    shown = Kept(1, trajectory, Score(value=None), None, (None,), 0)
    report = runs.report([record], name=NAME, model=NAME, versions={NAME: NAME}, recipe={NAME: NAME}, device=NAME)
    return render_grpo_report(report, [shown])


def test_nothing_that_was_written_into_it_can_act() -> None:
    page = hostile()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
    assert "\x1b" not in page
    assert "\x00" not in page
    for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(figure)


# --- kept rollouts ----------------------------------------------------------------------------------------------------


def step_of(kinds: list[str], rewards: list[float | None]) -> list[runs.Group]:
    return [
        runs.group(
            [runs.member(runs.rollout(executions=CROP, kind=kind), reward, result=reward) for reward in rewards],
            place=place,
        )
        for place, kind in enumerate(kinds)
    ]


def test_kept_rollouts_come_back_with_what_they_earned(tmp_path: Path) -> None:
    settings = GRPOSettings(problems=2, group=4, batch_size=8, scale="none")
    for step in range(1, 31):
        keep(tmp_path, step, step_of(["zoom", "easy"] if step % 2 else ["zoom"], [1.0, 0.0, None, 0.5]), settings)
    found = over_time(tmp_path, columns=3)
    assert [(one.trajectory.problem.kind, one.step) for one in found if one.trajectory.problem.kind == "zoom"] == [
        ("zoom", 1),
        ("zoom", 17),
        ("zoom", 30),
    ]
    easy = [one.step for one in found if one.trajectory.problem.kind == "easy"]
    assert easy[0] == 1
    assert all(step % 2 for step in easy)
    assert found[0].advantage == pytest.approx(0.5)
    assert found[0].rewards == (1.0, 0.0, None, 0.5)
    assert found[0].score.parts["result"] == 1.0
    assert found[0].trajectory.observations[0].execution.images[0].loaded


def test_every_kind_of_a_step_is_kept_and_not_every_group(tmp_path: Path) -> None:
    kinds = ["zoom"] * 12 + ["easy"]
    path = keep(tmp_path, 1, step_of(kinds, [1.0, 0.0]), runs.SETTINGS)
    assert path == tmp_path / FOLDER / "step-000001.jsonl"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2 * 8
    assert {one.trajectory.problem.kind for one in over_time(tmp_path)} == {"zoom", "easy"}
    assert keep(tmp_path, 2, [], runs.SETTINGS) is None


def test_a_damaged_line_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = keep(tmp_path, 1, step_of(["zoom"], [1.0, 0.0]), runs.SETTINGS)
    assert path is not None
    with path.open("a", encoding="utf-8") as file:
        file.write("{ half a line")
    assert len(over_time(tmp_path)) == 1
    assert "skipped" in caplog.text


def test_figures_reach_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackers = open_trackers(TrackingSettings(trackers=("tensorboard",)), tmp_path, {})
    records = [runs.healthy(step) for step in (1, 2)]
    for record in records:
        trackers[0].log(tracked(record), record.step)
    trackers[0].close()
    events = accumulator.EventAccumulator(str(tmp_path / "tracking/tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(tracked(records[0]))
    for name in ("reward/mean", "code/tool_rate", "gap/kl", "kind/zoom/right", "seconds/rollout", "count/members"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(record.step, pytest.approx(tracked(record)[name])) for record in records], name


# --- in a browser -----------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """No message, no request, nothing that ran, text that can be read, nothing wider than a phone."""
    for name, page in {"full": whole_page(), "hostile": hostile()}.items():
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


@needs_browser
def test_a_row_of_rollouts_is_moved_by_keys(browser: Browser, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    path = tmp_path / "page.html"
    path.write_text(whole_page(), encoding="utf-8")
    tab = open_tab(browser, path.as_uri(), width=390)
    row = tab.get_by_role("region", name="Rollouts: zoom")
    row.focus()
    assert row.evaluate("e => e.scrollLeft") == 0
    tab.keyboard.press("ArrowRight")
    expect(row).not_to_have_js_property("scrollLeft", 0)
    tab.close()
