"""`thyme rl-data export` and `import`: from the studio's database and back, and straight into training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exchange_parts import asked, make_collection
from typer.testing import CliRunner

from thyme.cli import app
from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.coco import to_coco
from thyme.data.annotation.label_studio import to_tasks
from thyme.data.annotation.lines import write_lines
from thyme.data.collect.folder import Collection
from thyme.studio.annotation.collections import Collections, import_images
from thyme.studio.annotation.export import annotations
from thyme.studio.annotation.imports import take_annotations
from thyme.studio.database import Database, beside

NO_CHECKS = AnnotationSettings(second=0, experts=0)
"""What meets the rules is accepted at once."""


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["rl-data", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Collection:
    return make_collection(tmp_path / "photos")


def questions(photos: Collection) -> list[Any]:
    one, two = photos.items.values()
    return [
        asked(one, "a1"),
        asked(one, "a2", answer="B", answer_type="choice", choices=("A", "B"), category="chart"),
        asked(two, "b1", answer="yes", answer_type="yes_no", category="attribute"),
        asked(two, "b2", box=(0, 0, 2400, 240)),
    ]


@pytest.fixture
def annotated(photos: Collection) -> Collection:
    """A collection with a studio's database, in which three questions are accepted and one is a draft."""
    database = Database(beside(photos.folder))
    import_images(database, Collections([photos.folder]), photos.name)
    take_annotations(database, photos.name, questions(photos), NO_CHECKS)
    database.close()
    return photos


def test_who_has_accepted_nothing_yet_is_told_what_to_do(annotated: Collection, tmp_path: Path) -> None:
    done = run("export", annotated.folder, "--to", tmp_path / "rl", "--state", "disputed")
    assert done.exit_code == 1, done.output
    assert "0 questions about 0 images" in done.stdout
    assert "`thyme studio progress` says who has to do what" in done.stderr


def test_what_the_studio_holds_is_exported_with_its_datasheet(annotated: Collection, tmp_path: Path) -> None:
    done = run("export", annotated.folder, "--to", tmp_path / "rl", "--title", "Signs")
    assert done.exit_code == 0, done.output
    assert "3 questions about 2 images" in done.stdout
    assert "left out 1: is in a state that was not asked for (not_asked_for)" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "rl" / "train.jsonl").read_text().splitlines()]
    assert [(row["id"], row["kind"], row["meta"]["box"]) for row in rows] == [
        ("a1", "ocr", [100, 20, 160, 60]), ("a2", "chart", [100, 20, 160, 60]), ("b1", "attribute", [100, 20, 160, 60]),
    ]  # fmt: skip
    assert (tmp_path / "rl" / "DATASHEET.md").read_text().startswith("# Signs\n")
    assert json.loads((tmp_path / "rl" / "export.json").read_text())["states"] == {"accepted": 3, "draft": 1}
    again = run("export", annotated.folder, "--to", tmp_path / "rl")
    assert (again.exit_code, "name another folder with --to" in again.stderr) == (2, True)


@pytest.mark.parametrize("format", ["label-studio", "coco", "jsonl"])
def test_another_studio_takes_in_what_this_one_exports(annotated: Collection, tmp_path: Path, format: str) -> None:
    told = ("--state", "all", "--names", "--no-images", "--format", format)
    assert run("export", annotated.folder, "--to", tmp_path / "x", *told).exit_code == 0
    names = ("tasks.json", "annotations.json", "annotations.jsonl")
    file = next(path for name in names if (path := tmp_path / "x" / name).is_file())
    assert not list((tmp_path / "x").rglob("*.png"))
    url = f"sqlite:///{tmp_path / 'other.db'}"
    taken = run("import", file, annotated.folder, "--format", format, "--database", url)
    assert taken.exit_code == 0, taken.output
    assert "3 questions that wait for a second person, 1 drafts" in taken.stdout
    again = run("import", file, annotated.folder, "--format", format, "--database", url, "--json")
    assert json.loads(again.stdout)["taken"] == {"that were there already": 4}
    database = Database(url)
    found = list(annotations(database, annotated.name))
    database.close()
    kept = {"question", "answer", "answer_type", "choices", "category", "box", "author", "image", "id", "licence"}
    assert [one.model_dump(include=kept) for one in found] == [
        one.model_dump(include=kept) for one in questions(annotated)
    ]


def test_boxes_and_questions_of_others_are_taken_as_far_as_they_go(photos: Collection, tmp_path: Path) -> None:
    tasks = to_tasks([asked(next(iter(photos.items.values())), "a")], lambda one: "trip/0.png")
    tasks[0]["data"] = {"image": "/data/upload/1/0a1b2c3d-0.png"}
    for result in tasks[0]["annotations"][0]["result"]:
        result["from_name"] = {"question": "frage"}.get(result["from_name"], result["from_name"])
    tasks.append({"id": 2, "data": {"image": "else\x1b[2J.png"}, "annotations": tasks[0]["annotations"]})
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(tasks))
    out = tmp_path / "a.jsonl"
    given = ("import", file, photos.folder, "--format", "label-studio", "--control", "question=frage", "--out", out)
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert "1 submitted" in done.stdout
    assert "left out 1: names no picture of the collection, or several (no_picture)" in done.stdout
    assert "\x1b" not in done.stdout
    (line,) = map(json.loads, out.read_text().splitlines())
    assert (line["question"], line["state"]) == ("What number is on the white sign?", "submitted")
    strict = run(*given, "--set", "max_share=0.0001")
    assert "1 draft" in strict.stdout
    exported = run("export", photos.folder, "--to", tmp_path / "rl", "--annotations", out, "--state", "draft")
    assert exported.exit_code == 0, exported.output


def test_what_is_wrong_is_said_with_its_way_out(photos: Collection, tmp_path: Path) -> None:
    file, lines = tmp_path / "coco.json", tmp_path / "a.jsonl"
    file.write_text(json.dumps(to_coco([], lambda one: "")[0]))
    write_lines(lines, [asked(next(iter(photos.items.values())), "a", state="rejected")])
    to = ("--to", tmp_path / "rl")
    for arguments, code, said in (
        (("export", tmp_path, *to), 2, "is no collection"),
        (("export", photos.folder, *to), 2, "has no studio.db, so nobody has asked anything here"),
        (("export", photos.folder, *to, "--state", "fine"), 2, "--state fine: there are draft, submitted"),
        (("export", photos.folder, *to, "--annotations", lines), 1, "0 questions"),
        (("export", photos.folder, *to, "--format", "xml"), 2, "xml"),
        (("import", file, photos.folder, "--format", "coco"), 1, "nothing was taken"),
        (("import", file, photos.folder, "--format", "label-studio"), 1, "list of tasks"),
        (("import", lines, photos.folder, "--format", "jsonl", "--set", "share=1"), 2, "share"),
        (("import", file, photos.folder, "--format", "coco", "--control", "x=y"), 2, "FIELD=NAME"),
        (("import", tmp_path / "none", photos.folder, "--format", "coco"), 1, "check the path"),
    ):
        done = run(*arguments)
        assert (done.exit_code, said in done.output) == (code, True), (arguments, done.output)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("format", ["problems", "thyme-rl"])
def test_the_embedded_model_is_trained_on_what_is_exported(annotated: Collection, tmp_path: Path, format: str) -> None:
    assert run("export", annotated.folder, "--to", tmp_path / "rl", "--format", format).exit_code == 0
    recipe = tmp_path / "signs.toml"
    recipe.write_text(
        f"""
model = "nano"
prompts = "nano"
[data.signs]
format = "{format}"
path = "{tmp_path / "rl"}"
[rollout]
text_temperature = 1.0
max_tokens = 96
[train]
max_steps = 2
problems = 2
group = 2
batch_size = 2
device = "cpu"
"""
    )
    done = CliRunner().invoke(app, ["grpo", f"@{recipe}", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "run" / "grpo_report.json").read_text())
    assert len(report["steps"]) == 2
    assert set(report["steps"][0]["kinds"]) | set(report["steps"][1]["kinds"]) == {"ocr", "chart", "attribute"}
    assert (tmp_path / "run" / "model" / "config.json").is_file()
