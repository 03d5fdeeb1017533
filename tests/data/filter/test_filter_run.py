"""A filter from rows to what GRPO reads: every layout, every step, in any number of processes, ended at any moment."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filter_parts as parts
import pytest
from PIL import Image

from thyme.config.load import overridden
from thyme.config.rl_filter import FilterRecipe, FilterSource
from thyme.config.training import DataSource
from thyme.data.filter import run as run_module
from thyme.data.filter.benchmarks import Benchmarks
from thyme.data.filter.run import KEPT, REJECTED
from thyme.data.filter.sources import hub_files
from thyme.data.sources.arrow import ParquetRows, Remote
from thyme.errors import ConfigError, StoreError, ThymeError, UsageError
from thyme.images import load_image
from thyme.types import ImageRecord, Problem

ROWS = 10


def as_lines(folder: Path) -> str:
    return str(parts.write_lines(folder / "rows.jsonl", [parts.row(seed) for seed in range(ROWS)]))


def as_tsv(folder: Path) -> str:
    names = ("image", "question", "answer", "category")
    rows = [parts.row(seed) for seed in range(ROWS)]
    text = "\n".join("\t".join(one[name] for name in names) for one in [dict(zip(names, names, strict=True)), *rows])
    (folder / "rows.tsv").write_text(text + "\n")
    return str(folder / "rows.tsv")


def data_set() -> Any:
    from datasets import Dataset

    return Dataset.from_list([parts.row(seed) for seed in range(ROWS)])


def as_parquet(folder: Path) -> str:
    data_set().to_parquet(folder / "rows.parquet", batch_size=3)
    return str(folder / "rows.parquet")


def as_saved(folder: Path) -> str:
    data_set().save_to_disk(folder / "saved")
    return str(folder / "saved")


def as_pictures(folder: Path) -> str:
    pictures = folder / "pictures"
    pictures.mkdir()
    for seed in range(ROWS):
        told = parts.row(seed)
        (pictures / f"{seed:02d}.png").write_bytes(base64.b64decode(told.pop("image")))
        (pictures / f"{seed:02d}.json").write_text(json.dumps(told))
    return str(pictures)


@pytest.mark.parametrize("layout", [as_lines, as_tsv, as_parquet, as_saved, as_pictures])
def test_every_layout_gives_the_same_problems_as_grpo_reads_them(layout: Callable[[Path], str], tmp_path: Path) -> None:
    from thyme.train.grpo.problems import open_problems

    made = parts.run(parts.recipe(Path(layout(tmp_path)), licence="CC0-1.0", source="Cars"), tmp_path / "out")
    assert (made.state, made.figures.rows, made.figures.kept) == ("finished", ROWS, ROWS)
    read = open_problems({"mine": DataSource(format="problems", path=str(tmp_path / "out" / "problems"))})
    assert [one.id for one in (read[place] for place in range(len(read)))] == [f"mine-{place}" for place in range(ROWS)]
    first = read[0]
    assert (first.answer, first.kind) == ("red", "attribute")
    assert first.meta == {"source": "Cars", "licence": "CC0-1.0", "category": "attribute", "answer_type": "text"}
    assert first.images[0].id == load_image(parts.file_of(0)).id


def test_each_step_drops_what_it_is_for_and_says_why(tmp_path: Path) -> None:
    large = base64.b64encode(parts.file_of(3, (300, 200))).decode()
    strip = base64.b64encode(parts.file_of(4, (600, 2))).decode()
    rows = [
        parts.row(0, image=base64.b64encode(parts.file_of(0, (300, 200))).decode()),
        parts.row(1),  # too small
        parts.row(2, image=None),
        parts.row(3, image=strip),
        parts.row(4, image=large, answer="it could be said in many different ways"),
        parts.row(5, image=large, question="Welche Farbe hat das Auto auf der linken Seite?"),
        parts.row(6, image="bm8gcGljdHVyZQ=="),
        parts.row(7, image=large, bbox=[0, 0, 290, 190]),
        parts.row(8, image=base64.b64encode(parts.file_of(99, (300, 200))).decode()),
        parts.row(0, image=base64.b64encode(parts.file_of(0, (300, 200), "JPEG", quality=70)).decode()),
        parts.row(10, image=large, question=""),
    ]
    held = Problem(id="b", question="?", images=(ImageRecord.of(parts.pixels(99, (150, 100))),))
    settings = (
        "resolution.min_side=200", "resolution.max_ratio=20", "resolution.max_share=0.5",
        "language.languages=['en']", "benchmarks.names=['Bench']",
    )  # fmt: skip
    recipe = parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows), *settings)
    made = parts.run(recipe, tmp_path / "out", benchmarks=Benchmarks.of([held], perceptual=True))
    assert parts.kept(tmp_path / "out") == [0]
    assert parts.reasons(tmp_path / "out") == {
        1: "resolution: small",
        2: "resolution: no_picture",
        3: "resolution: narrow",
        4: "answer: long_answer",
        5: "language: language",
        6: "read: image_damaged",
        7: "resolution: large_target",
        8: "benchmarks: benchmark_picture",
        9: "duplicates: near_duplicate",
        10: "read: missing_field",
    }
    assert [lost for _, _, lost in made.figures.funnel] == [2, 4, 1, 1, 1, 1, 0, 0]
    assert made.benchmarks == 1


def test_text_that_a_benchmark_asks_is_dropped(tmp_path: Path) -> None:
    rows = [parts.row(0, image=None, question="What is  2 + 2?"), parts.row(1, image=None, question="And 3 + 3?")]
    held = Benchmarks.of([Problem(id="b", question="what is 2 + 2?")], perceptual=True)
    recipe = parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows), "resolution.images=false")
    parts.run(recipe, tmp_path / "out", benchmarks=held)
    assert parts.reasons(tmp_path / "out") == {0: "benchmarks: benchmark_question"}


def test_a_box_and_options_come_through_and_boxes_are_whole_pixels(tmp_path: Path) -> None:
    rows = [parts.row(0, bbox=[3, 4, 20, 30], options=["blue", "red"], answer="B")]
    parts.run(parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows)), tmp_path / "out")
    line = json.loads((tmp_path / "out" / "problems" / "train.jsonl").read_text())
    assert line["choices"] == ["blue", "red"]
    assert line["meta"]["box"] == [3, 4, 20, 30]
    assert line["meta"]["answer_type"] == "choice"
    (seen,) = parts.rows_of(tmp_path / "out" / KEPT)
    assert seen.share == pytest.approx(17 * 26 / (64 * 48))


def test_the_published_layout_is_written_and_read_again_with_box_and_category(tmp_path: Path) -> None:
    rows = [parts.row(seed, bbox=[3, 4, 20, 30]) for seed in range(5)]
    path = parts.write_lines(tmp_path / "rows.jsonl", rows)
    parts.run(parts.recipe(path, "format=thyme-rl"), tmp_path / "out")
    written = tmp_path / "out" / "problems"
    again = parts.run(parts.recipe(written), tmp_path / "again")
    assert again.figures.kept == 5
    lines = (tmp_path / "again" / "problems" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["meta"]["box"] for line in lines] == [[3, 4, 20, 30]] * 5
    assert {json.loads(line)["kind"] for line in lines} == {"attribute"}


@pytest.mark.parametrize("format", ["problems", "thyme-rl"])
def test_what_was_written_once_is_filtered_again_with_all_that_is_known_of_it(tmp_path: Path, format: str) -> None:
    facts = {"box": [3, 4, 20, 30], "boxes": [[3, 4, 20, 30]], "source": "a camera", "licence": "CC0-1.0", "mine": "q1"}
    rows = [{"id": "q", "question": "Which colour has it?", "answer": "red", "images": [parts.row(0)["image"]],
             "kind": "ocr", "meta": facts}]  # fmt: skip
    parts.run(parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows), f"format={format}"), tmp_path / "out")
    parts.run(parts.recipe(tmp_path / "out" / "problems"), tmp_path / "again")
    line = json.loads((tmp_path / "again" / "problems" / "train.jsonl").read_text())
    assert line["meta"] == {**facts, "category": "ocr", "answer_type": "text"}
    parts.run(parts.recipe(tmp_path / "out" / "problems", licence="MIT", source="me"), tmp_path / "told")
    line = json.loads((tmp_path / "told" / "problems" / "train.jsonl").read_text())
    assert (line["meta"]["licence"], line["meta"]["source"]) == ("MIT", "me"), "what the recipe says counts first"


@pytest.mark.parametrize("box", [[1, 2], "everywhere", [90, 90, 99, 99], {"x": 1}, [0, 0, 10**400, 5]])
@pytest.mark.parametrize("published", [False, True])
def test_a_box_of_a_stranger_costs_its_row(tmp_path: Path, box: object, published: bool) -> None:
    told = {"question": "Which colour has it?", "images": [parts.row(0)["image"]]}
    facts = {"id": "q", "answer": "red", "meta": {"box": box}}
    row = {**told, "solution": "red", "messages": [], "record": json.dumps(facts)} if published else {**told, **facts}
    parts.run(parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", [row])), tmp_path / "out")
    assert parts.reasons(tmp_path / "out") == {0: "read: bad_box"}


def test_a_line_that_is_not_json_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    path = parts.write_lines(tmp_path / "rows.jsonl", [parts.row(seed) for seed in range(3)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-40], "[1]", lines[2]]) + "\n")
    parts.run(parts.recipe(path), tmp_path / "out")
    assert parts.kept(tmp_path / "out") == [0, 3]
    seen = parts.rows_of(tmp_path / "out" / REJECTED)
    assert [(one.reason, one.detail.partition(" (")[0]) for one in seen] == [
        ("damaged_row", "rows.jsonl, line 2: not JSON"),
        ("damaged_row", "rows.jsonl, line 3: a list, not an object"),
    ]


def test_an_answer_between_tags_is_taken_out_of_them(tmp_path: Path) -> None:
    rows = [parts.row(0, answer="<answer>red</answer>")]
    parts.run(parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows)), tmp_path / "out")
    assert parts.rows_of(tmp_path / "out" / KEPT)[0].answer == "red"


def test_several_processes_make_the_same_files(tmp_path: Path) -> None:
    recipe = parts.recipe(Path(as_lines(tmp_path)), "balance.count=6")
    parts.run(recipe, tmp_path / "one")
    parts.run(overridden(recipe, ["processes=2"]), tmp_path / "two")
    assert parts.files_of(tmp_path / "one") == parts.files_of(tmp_path / "two")
    assert len(parts.kept(tmp_path / "one")) == 6


def test_what_was_looked_at_is_not_looked_at_again_even_with_other_later_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = parts.recipe(Path(as_lines(tmp_path))), tmp_path / "out"
    parts.run(recipe, out)
    monkeypatch.setattr("thyme.data.filter.scan.look_at", None)  # whoever looks would call it
    made = parts.run(overridden(recipe, ["balance.count=3", "duplicates.bits=8"]), out)
    assert made.figures.kept == 3
    with pytest.raises(TypeError):
        parts.run(overridden(recipe, ["answer.max_words=2"]), out)


def test_a_run_that_ends_in_the_middle_goes_on_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = parts.recipe(Path(as_lines(tmp_path))), tmp_path / "out"
    parts.run(recipe, tmp_path / "whole")
    real, looked = run_module.open_scan, []

    def torn(*arguments: Any) -> Any:
        scan = real(*arguments)
        write = type(scan).__call__

        def once(self: Any, chunk: Any) -> int:
            looked.append(chunk.number)
            if chunk.number == 1:
                raise StoreError("the disk is gone")
            return write(self, chunk)

        monkeypatch.setattr(type(scan), "__call__", once)
        return scan

    with monkeypatch.context() as broken:
        broken.setattr(run_module, "open_scan", torn)
        with pytest.raises(StoreError):
            parts.run(recipe, out)
        monkeypatch.undo()
    assert not (out / "problems").exists()
    assert looked == [0, 1]
    parts.run(recipe, out)
    assert parts.files_of(out) == parts.files_of(tmp_path / "whole")


def test_the_old_problems_stay_until_the_new_ones_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = parts.recipe(Path(as_lines(tmp_path))), tmp_path / "out"
    parts.run(recipe, out)
    before = parts.files_of(out)

    def full(self: Any, problem: Problem) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thyme.data.filter.output.ProblemFiles.add", full)
    with pytest.raises(StoreError, match="room on the disk"):
        parts.run(overridden(recipe, ["balance.count=2"]), out)
    assert parts.files_of(out) == before
    assert not list(out.glob(".*tmp")) + list(out.glob(".problems*"))


def test_rows_of_a_tsv_of_another_width_are_dropped_and_counted(tmp_path: Path) -> None:
    path = Path(as_tsv(tmp_path))
    lines = path.read_text().splitlines(keepends=True)
    lines[2:2] = ["alone\n", lines[1].rstrip("\n") + "\tone\ttoo many\n"]
    path.write_text("".join(lines))
    made = parts.run(parts.recipe(path), tmp_path / "out")
    assert made.figures.dropped == {"read": {"damaged_row": 2}}
    assert made.figures.kept == ROWS
    details = [seen.detail for seen in parts.rows_of(tmp_path / "out" / "rejected.jsonl")]
    assert details == [
        "rows.tsv, line 3: 1 fields, the header names 4",
        "rows.tsv, line 4: 6 fields, the header names 4",
    ]
    assert "the row is no object, or not as wide as its header" in (tmp_path / "out" / "report.html").read_text()


def test_questions_without_pictures_are_told_apart_by_their_options(tmp_path: Path) -> None:
    asked = {"question": "Which of these numbers is a prime?", "answer": "7"}
    options = (["7", "8"], ["7", "9"], [" 8", "7"], None)
    rows = [asked if one is None else {**asked, "choices": one} for one in options]
    path = parts.write_lines(tmp_path / "rows.jsonl", [*rows, asked])
    made = parts.run(parts.recipe(path, "resolution.images=false"), tmp_path / "out")
    assert parts.reasons(tmp_path / "out") == {2: "duplicates: duplicate", 4: "duplicates: duplicate"}
    assert made.figures.kept == 3


def test_files_of_a_hub_are_read_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    as_parquet(tmp_path)
    fsspec.filesystem("memory").pipe("/hub/rows.parquet", (tmp_path / "rows.parquet").read_bytes())
    monkeypatch.setattr("thyme.data.filter.sources.hub_files", lambda settings: ["memory://hub/rows.parquet"])
    made = parts.run(FilterRecipe(sources={"mine": FilterSource(path="Somebody/Cars")}, processes=1), tmp_path / "out")
    assert made.figures.kept == ROWS
    parts.run(parts.recipe(tmp_path / "rows.parquet"), tmp_path / "local")
    assert parts.files_of(tmp_path / "out") == parts.files_of(tmp_path / "local")


def test_a_picture_above_the_limit_is_dropped_and_the_setting_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (600, 500)).save(buffer, "PNG")
    rows = [parts.row(0, image=base64.b64encode(buffer.getvalue()).decode()), parts.row(1)]
    path = parts.write_lines(tmp_path / "rows.jsonl", rows)
    parts.run(parts.recipe(path, "max_pixels=299999"), tmp_path / "out")
    (dropped,) = parts.rows_of(tmp_path / "out" / "rejected.jsonl")
    assert (dropped.row, dropped.reason) == (0, "image_damaged")
    assert "max_pixels" in dropped.detail
    parts.run(parts.recipe(path, "max_pixels=300000", "duplicates.bits=-1"), tmp_path / "out")
    assert parts.kept(tmp_path / "out") == [0, 1]


def test_the_page_shows_what_was_kept_and_dropped_and_nothing_of_a_stranger_runs_on_it(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>\x1b[31m"
    rows = [parts.row(0, question=nasty, category="<b>x</b>", bbox=[3, 4, 20, 30]), parts.row(1, answer=nasty * 9)]
    recipe = parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows))
    parts.run(recipe, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>x" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/") == 2
    assert "long_answer" in page


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"world": "mars"}, "no world 'mars'"),
        ({}, "either path or world"),
    ],
)
def test_what_cannot_be_read_is_said(settings: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValueError), match=told):
        parts.run(FilterRecipe(sources={"mine": FilterSource(**settings)}), tmp_path / "out")


def test_a_source_that_changes_under_the_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parts.write_lines(tmp_path / "rows.jsonl", [parts.row(seed) for seed in range(3)])
    real = run_module._Chain.measure

    def spoil(self: Any, shown: Any) -> None:
        data = path.read_bytes()
        path.write_bytes(data.replace(b"iVBORw0KGgo", b"AAAAAAAAAAA"))
        real(self, shown)

    monkeypatch.setattr(run_module._Chain, "measure", spoil)
    with pytest.raises(StoreError, match="has changed since"):
        parts.run(parts.recipe(path), tmp_path / "out")


def test_one_folder_is_one_process_s(tmp_path: Path) -> None:
    from thyme.data.folders import alone

    recipe = parts.recipe(Path(as_lines(tmp_path)))
    with alone(tmp_path / "out"), pytest.raises(UsageError, match="another process"):
        parts.run(recipe, tmp_path / "out")


def test_a_process_that_dies_is_an_error_that_says_how_to_go_on() -> None:
    from filter_jobs import die, die_later, fail

    from thyme.data.filter.crew import in_processes

    def slowly(result: object) -> None:
        time.sleep(2)  # meanwhile the process ends, with nothing to do

    with pytest.raises(ThymeError, match="goes on from there"):
        list(in_processes(die, range(1), 2))
    with pytest.raises(ThymeError, match="goes on from there"):
        list(map(slowly, in_processes(die_later, range(4), 2)))
    with pytest.raises(StoreError, match="no such thing"):
        list(in_processes(fail, range(1), 2))


def test_the_files_of_a_dataset_are_found_by_the_real_library(tmp_path: Path) -> None:
    """It looks into a folder as it looks into a repository of the hub."""
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    data_set().select(range(6)).to_parquet(hub / "train-00000-of-00002.parquet")
    data_set().select(range(6, ROWS)).to_parquet(hub / "train-00001-of-00002.parquet")
    urls = hub_files(FilterSource(path=str(hub.parent)))
    assert [url.rpartition("/")[2] for url in urls] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    rows = ParquetRows([Remote(url) for url in urls])
    assert [index for index, _ in rows.each([0, 5, 6, 9])] == [0, 5, 6, 9]
    assert rows.label(6) == "train-00001-of-00002.parquet, row 0"
    with pytest.raises(ConfigError, match="no split 'test'; its splits: train"):
        hub_files(FilterSource(path=str(hub.parent), split="test"))


def test_a_dataset_that_is_not_there_or_no_parquet_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'Nobody/Nothing' is no file or folder"):
        parts.run(parts.recipe(Path("Nobody/Nothing")), tmp_path / "out")
    as_lines(tmp_path)
    with pytest.raises(ConfigError, match="download it and name the folder"):
        hub_files(FilterSource(path=str(tmp_path)))
