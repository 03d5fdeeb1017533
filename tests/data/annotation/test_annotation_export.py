"""What is exported is read by those it is for: the trainer's readers, the evaluation, Hugging Face's datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exchange_parts import asked, make_collection
from PIL import Image

from thyme.config.training import DataSource
from thyme.data.annotation.datasheet import Sheet
from thyme.data.annotation.export import Export, run_export
from thyme.data.annotation.formats import FormatOptions
from thyme.data.annotation.label_studio import from_tasks
from thyme.data.annotation.lines import read_json, read_lines
from thyme.data.annotation.pictures import Pictures
from thyme.data.annotation.records import STATES
from thyme.data.collect.folder import Collection, image_file
from thyme.errors import StoreError, UsageError
from thyme.eval.arms_faithful import faithfulness
from thyme.eval.benchmarks.custom import custom
from thyme.eval.benchmarks.files import read_benchmark
from thyme.rewards.answer import score_answer
from thyme.train.grpo.problems import open_problems
from thyme.types import Execution, ImageRecord, Observation, Problem, Prompt, Sampling, StopReason, Trajectory


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("made") / "photos")


def questions(photos: Collection) -> list[Any]:
    one, two = photos.items.values()
    return [
        asked(one, "a1"),
        asked(
            one, "a2", question="Which?", answer="B", answer_type="choice", choices=("A", "C", "B"), category="chart"
        ),
        asked(two, "b1", answer="yes", answer_type="yes_no", category="attribute", box=(0, 0, 4, 4)),
        asked(two, "b2", state="rejected"),
        asked(two, "b3", state="draft", box=None, category="", checks=()),
    ]


def export(photos: Collection, to: Path, format: str, **changed: Any) -> Any:
    return run_export(Export(to=to, format=format, sources=[(photos, questions(photos))], **changed))


@pytest.mark.parametrize("format", ["problems", "thyme-rl"])
def test_grpo_reads_what_is_exported_with_box_and_category(photos: Collection, tmp_path: Path, format: str) -> None:
    summary = export(photos, tmp_path / "rl", format)
    assert (summary.written, summary.images, summary.reasons) == (3, 2, {"not_asked_for": 2})
    read = open_problems({"mine": DataSource(format=format, path=str(tmp_path / "rl"))})
    first, second, third = (read[place] for place in range(3))
    image = next(iter(photos.items.values()))
    assert (first.id, first.kind, first.answer) == ("a1", "ocr", "12")
    assert first.meta == {
        "box": [100, 20, 160, 60], "boxes": [[100, 20, 160, 60]], "category": "ocr", "answer_type": "number",
        "source": "photos 0", "licence": "CC-BY-4.0", "annotation": "a1",
    }  # fmt: skip
    assert (first.images[0].id, first.images[0].image.size) == (image.id, (image.width, image.height))
    assert (second.kind, second.choices, second.answer) == ("chart", ("A", "C", "B"), "C")
    assert [score_answer(second, given).value for given in ("C", "B")] == [1.0, 0.0], "letters are places"
    assert (third.kind, third.meta["box"]) == ("attribute", [0, 0, 4, 4])


def test_grpo_reads_more_rows_than_it_keeps_in_memory_by_way_of_datasets(photos: Collection, tmp_path: Path) -> None:
    export(photos, tmp_path / "rl", "thyme-rl")
    source = DataSource(format="thyme-rl", path=str(tmp_path / "rl"), limit=300)
    assert open_problems({"mine": source})[1].meta["box"] == [100, 20, 160, 60]


def test_huggingface_reads_the_published_columns(photos: Collection, tmp_path: Path) -> None:
    from datasets import load_dataset

    export(photos, tmp_path / "rl", "thyme-rl")
    rows = load_dataset(str(tmp_path / "rl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [rows[place]["solution"] for place in range(3)] == ["12", "C", "yes"]
    assert {"messages", "images", "solution", "question"} <= set(rows.column_names)


@pytest.mark.parametrize(("format", "name"), [("problems", "train.jsonl"), ("thyme-rl", "data")])
def test_faithful_use_is_measured_on_what_is_exported(
    photos: Collection, tmp_path: Path, format: str, name: str
) -> None:
    export(photos, tmp_path / "rl", format)
    file = tmp_path / "rl" / name
    benchmark = custom(file)
    first, second, _ = read_benchmark(benchmark, file)
    assert (first.kind, second.kind, second.answer) == ("ocr", "chart", "C")
    found = faithfulness(looked_at(first, (90, 10, 190, 110)), first)
    assert found is not None
    assert (found.covered, found.coverage) == (True, 1.0)
    missed = faithfulness(looked_at(first, (1200, 10, 1300, 110)), first)
    assert missed is not None
    assert not missed.covered
    assert benchmark.score(second, "C").value == 1


def looked_at(problem: Problem, box: tuple[int, int, int, int]) -> Trajectory:
    """A trajectory that cut a place out of its picture, by a crop whose code says where."""
    code = f"crop = Image.open(image_path).crop({box})\ncrop.save(processed_path)"
    shown = ImageRecord.of(problem.images[0].image.crop(box))
    return Trajectory(
        id="t",
        problem=problem,
        prompt=Prompt(system="", user=""),
        segments=(Observation(execution=Execution(code=code, ran=code, images=(shown,)), seen_sizes=(shown.size,)),),
        stop=StopReason.ANSWER,
        sampling=Sampling(text_temperature=0, code_temperature=0, max_rounds=1, max_round_tokens=1, max_tokens=1),
    )


@pytest.mark.parametrize("format", ["label-studio", "coco", "jsonl"])
def test_people_have_numbers_unless_names_are_asked_for(photos: Collection, tmp_path: Path, format: str) -> None:
    export(photos, tmp_path / "plain", format, states=frozenset(STATES))
    export(photos, tmp_path / "named", format, states=frozenset(STATES), names=True)
    texts = {}
    for folder in ("plain", "named"):
        (file,) = [*(tmp_path / folder).glob("tasks.json"), *(tmp_path / folder).glob("annotations.json*")]
        texts[folder] = file.read_text() + (tmp_path / folder / "DATASHEET.md").read_text()
    for name in ("Ana", "Ben", "Eva"):
        assert name in texts["named"]
        assert name not in texts["plain"]
    assert "person-1" in texts["plain"]


def test_json_lines_and_tasks_come_back_whole(photos: Collection, tmp_path: Path) -> None:
    everything = {"states": frozenset(STATES), "names": True}
    export(photos, tmp_path / "l", "jsonl", **everything)
    export(
        photos, tmp_path / "t", "label-studio", options=FormatOptions(root="/data/local-files/?d=set/"), **everything
    )
    pictures = Pictures(photos.items.values())
    assert list(read_lines(tmp_path / "l" / "annotations.jsonl", pictures).annotations) == questions(photos)
    tasks = read_json(tmp_path / "t" / "tasks.json")
    assert tasks[0]["data"]["image"].startswith("/data/local-files/?d=set/images/")
    for task in tasks:
        del task["data"]["image_id"]  # so that the picture is found by its URL
    assert list(from_tasks(tasks, pictures).annotations) == questions(photos)
    assert "<RectangleLabels" in (tmp_path / "t" / "labelling_interface.xml").read_text()


def test_the_datasheet_counts_what_was_written_and_what_was_not(photos: Collection, tmp_path: Path) -> None:
    told = Sheet(title="Signs | <script>", licence="CC-BY-4.0", purpose="For *tests*.")
    export(photos, tmp_path / "rl", "problems", sheet=told)
    text = (tmp_path / "rl" / "DATASHEET.md").read_text()
    for row in (
        "| ocr | 1 |", "| chart | 1 |", "| number | 1 |", "| yes\\_no | 1 |", "| 3 | 1 |", "| photos | 2 | 1 | 5 |",
        "| small | 1 |", "| rejected | 1 |", "| not\\_asked\\_for | 2 |", "| person-1 | 3 | 0 | 0 |",
        "| person-2 | 0 | 3 | 0 |", "| CC-BY-4.0 | 3 |", "| photos 0 | 2 |", "| up to 3072 | 2 |",
        "| up to 0.5 % | 2 |",
    ):  # fmt: skip
        assert row in text, row
    assert "gave the same one in 4 of 4 questions" in text, "the rejected one was answered, too"
    assert "<script>" not in text
    assert "# Signs \\| \\<script\\>" in text
    assert "*Not stated.*" in text


def test_a_picture_that_is_damaged_takes_its_questions_out(tmp_path: Path) -> None:
    photos = make_collection(tmp_path / "photos")
    one, two = photos.items.values()
    image_file(photos.folder, one).write_bytes(b"\x89PNG")
    Image.new("RGB", (10, 10)).save(image_file(photos.folder, two))
    summary = export(photos, tmp_path / "rl", "problems")
    assert (summary.written, summary.reasons) == (0, {"image_damaged": 3, "not_asked_for": 2})
    assert {id for id, _, _ in summary.left_out} == {"a1", "a2", "b1"}
    assert not list((tmp_path / "rl").rglob("*.png"))


def test_what_lacks_something_is_no_problem_and_its_picture_may_be_unknown(photos: Collection, tmp_path: Path) -> None:
    one = next(iter(photos.items.values()))
    stranger = one.model_copy(update={"id": "f" * 32})
    given = [
        asked(one, "a", answer=" "), asked(one, "b", box=None), asked(one, "c", box=(0, 0, 99999, 2)),
        asked(one, "d", answer_type="choice", choices=("1", "2")), asked(stranger, "e"),
    ]  # fmt: skip
    summary = run_export(Export(to=tmp_path / "rl", format="problems", sources=[(photos, given)]))
    assert (summary.written, summary.reasons) == (0, {"incomplete": 4, "no_picture": 1})


def test_a_folder_is_whole_or_not_there(photos: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        export(photos, tmp_path / "rl", "problems")
    with pytest.raises(UsageError, match="no format 'xml'"):
        export(photos, tmp_path / "other", "xml")

    def stop(written: int, left: int) -> None:
        raise StoreError("killed")

    job = Export(to=tmp_path / "half", format="thyme-rl", sources=[(photos, questions(photos))])
    with pytest.raises(StoreError, match="killed"):
        run_export(job, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["rl"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    export(photos, Path("link"), "problems")
    assert (tmp_path / "empty" / "train.jsonl").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="the folder that you are in"):
        export(photos, Path(), "problems")


@pytest.mark.parametrize("at", [1e20, -1e20, 1e308])
@pytest.mark.parametrize("format", ["label-studio", "coco"])
def test_a_time_that_is_none_does_not_end_an_export(photos: Collection, tmp_path: Path, format: str, at: float) -> None:
    strange = asked(next(iter(photos.items.values())), at=at)
    summary = run_export(Export(to=tmp_path / "out", format=format, sources=[(photos, [strange])]))
    assert summary.written == 1


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("[1]", "not an object"),
        ('{"image": {"id": "../../etc/passwd"}}', "no one picture"),
        ('{"image": "trip/0.png", "question": ["x"]}', "question"),
        ('{"image": "trip/0.png", "id": "../x"}', "no id"),
        ('{"image": "trip/0.png", "box": [9000, 0, 9010, 5]}', "not in its picture"),
    ],
)
def test_a_line_that_is_no_annotation_is_named(photos: Collection, tmp_path: Path, line: str, note: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"image": "trip/0.png", "question": "What?"}\n\n' + line + "\n")
    taken = read_lines(file, Pictures(photos.items.values()))
    assert [one.question for one in taken.annotations] == ["What?"]
    assert [one.where for one in taken.left_out] == ["line 3"]
    assert note in taken.left_out[0].note


@pytest.mark.parametrize("text", ["{", '"\\ud800', "[" * 100_000, "\xff"])
def test_a_file_that_is_not_json_is_named(photos: Collection, tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.json"
    file.write_bytes(text.encode("latin-1"))
    for read in (lambda: read_json(file), lambda: read_lines(file, Pictures(photos.items.values()))):
        with pytest.raises(StoreError, match=r"broken\.json"):
            read()
    file.write_bytes(b'\n{"image": "trip/0.png"}\n' + text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"broken\.json, line 3: not JSON"):
        read_lines(file, Pictures(photos.items.values()))
    with pytest.raises(StoreError, match="check the path"):
        read_json(tmp_path / "none.json")


def test_rows_of_problems_stay_in_their_folder_and_under_their_limit(photos: Collection, tmp_path: Path) -> None:
    export(photos, tmp_path / "rl", "problems")
    lines = (tmp_path / "rl" / "train.jsonl").read_text().splitlines()
    small = {"mine": DataSource(format="problems", path=str(tmp_path / "rl"), max_pixels=1000)}
    with pytest.raises(StoreError, match="max_pixels of the source in the recipe"):
        open_problems(small)
    row = json.loads(lines[0])
    out = next(iter(photos.folder.rglob("*.png")))
    (tmp_path / "rl" / "train.jsonl").write_text(json.dumps({**row, "images": [f"../made/{out.name}"]}) + "\n")
    with pytest.raises(StoreError, match="leads out of the folder"):
        open_problems({"mine": DataSource(format="problems", path=str(tmp_path / "rl"))})
