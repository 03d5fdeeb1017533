"""Every format gives back what was stored, and what is wrong with a record keeps it out of all of them."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_parts import CROP, make_build, put
from PIL import Image
from PIL.Image import Transpose

from thyme.config.training import DataSource
from thyme.data.drafts import Draft
from thyme.data.export import checks
from thyme.data.export.reviews import Review, read_reviews, write_reviews
from thyme.data.export.rows import mistakes
from thyme.data.export.run import Export, Summary, run_export
from thyme.data.export.writers import FORMATS
from thyme.data.factory.folder import image_file
from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.survey import Surveyed, write_survey
from thyme.data.hashes import perceptual_hash
from thyme.data.published import images_of, to_trajectory
from thyme.errors import StoreError, UsageError
from thyme.markup import CODE_OPEN, format_code
from thyme.store import read_trajectories
from thyme.train.data.published import open_published
from thyme.types import ExecutionError, Generated, ImageRecord, Observation, Trajectory, image_id


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Draft]]:
    out = tmp_path_factory.mktemp("build") / "out"
    return out, asyncio.run(make_build(out))


def trajectories(drafts: list[Draft]) -> list[Trajectory]:
    return [draft.trajectory for draft in drafts if draft.trajectory is not None]


def export(out: Path, to: Path, format: str = "messages", **settings: Any) -> Summary:
    return run_export(Export(out=out, to=to, format=format, **{"replay": 0.0, **settings}))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def turn(trajectory: Trajectory) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": trajectory.prompt.system},
        {"role": "user", "content": trajectory.prompt.user},
    ]


def test_messages_are_read_back_by_datasets(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    import datasets

    out, drafts = build
    assert export(out, tmp_path / "to").written == len(drafts)
    table = datasets.load_dataset(str(tmp_path / "to"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(table) == len(drafts)
    for row, draft, trajectory in zip(table, drafts, trajectories(drafts), strict=True):
        assert (row["id"], row["scenario"], row["answer"]) == (draft.id, draft.scenario, "42")
        text = {m["role"]: "".join(p["text"] or "<image>" for p in m["content"]) for m in row["messages"]}
        assert text["system"] == trajectory.prompt.system
        assert text["user"] == trajectory.prompt.user
        assert text["assistant"] == trajectory.response
        assert [image_id(image) for image in row["images"]] == [image.id for image in images_of(trajectory)]
        assert "".join(segment["text"] for segment in row["segments"]) == trajectory.response
        assert [segment["kind"] for segment in row["segments"]] == [s.kind for s in trajectory.segments]


def test_published_rows_are_read_back_by_datasets_and_by_training(
    build: tuple[Path, list[Draft]], tmp_path: Path
) -> None:
    import datasets

    out, drafts = build
    export(out, tmp_path / "to", "thyme-sft")
    table = datasets.load_dataset(str(tmp_path / "to"), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.column_names == ["image", "question", "response"]
    rows = open_published(DataSource(format="published", path=str(tmp_path / "to")))
    for number, trajectory in enumerate(trajectories(drafts)):
        for read in (rows[number], to_trajectory(table[number], name="row")):
            assert read.response == trajectory.response
            assert read.prompt.user == trajectory.prompt.user
            assert [image.id for image in images_of(read)] == [image.id for image in images_of(trajectory)]
            assert [s.kind for s in read.segments] == [s.kind for s in trajectory.segments]


def test_trajectories_are_read_back_by_this_package(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    out, drafts = build
    export(out, tmp_path / "to", "trajectories")
    read = list(read_trajectories(tmp_path / "to" / "train.jsonl"))
    assert [one.model_dump() for one in read] == [one.model_dump() for one in trajectories(drafts)]
    assert all(image.loaded for trajectory in read for image in images_of(trajectory))


def test_swift_lines_say_what_is_not_trained_on(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    out, drafts = build
    export(out, tmp_path / "to", "ms-swift")
    for row, trajectory in zip(lines(tmp_path / "to" / "train.jsonl"), trajectories(drafts), strict=True):
        said = row["messages"][2:]
        assert row["messages"][:2] == turn(trajectory)
        assert {message["role"] for message in said} == {"assistant"}
        assert "".join(message["content"] for message in said) == trajectory.response
        masked = [message["content"] for message in said if not message["loss"]]
        assert masked == [observation.text for observation in trajectory.observations]
        check_files(row, trajectory, tmp_path / "to")


def test_a_wrong_look_that_is_put_right_is_not_learnt(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    import datasets

    draft = build[1][1].model_copy(update={"scenario": "correction"})
    assert draft.trajectory is not None
    put(tmp_path / "out", [draft])
    export(tmp_path / "out", tmp_path / "swift", "ms-swift")
    export(tmp_path / "out", tmp_path / "messages")
    parts = [segment.text for segment in draft.trajectory.segments]
    (row,) = lines(tmp_path / "swift" / "train.jsonl")
    said = [(message["loss"], message["content"]) for message in row["messages"][2:]]
    assert said == [(False, "".join(parts[:3])), (True, parts[3] + parts[4]), (False, parts[5]), (True, parts[6])]
    (row,) = datasets.load_dataset(str(tmp_path / "messages"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [segment["learn"] for segment in row["segments"]] == [False] * 3 + [True, True, False, True]


def test_a_block_that_failed_is_not_learnt_in_any_scenario(build: tuple[Path, list[Draft]]) -> None:
    draft = build[1][1]
    assert draft.trajectory is not None
    assert mistakes(draft, draft.trajectory) == 0, "two right looks are both learnt"
    first = draft.trajectory.segments[2]
    assert isinstance(first, Observation)
    failed = first.execution.model_copy(update={"error": ExecutionError(type="KeyError", message="x")})
    segments = list(draft.trajectory.segments)
    segments[2] = first.model_copy(update={"execution": failed})
    assert mistakes(draft, draft.trajectory.model_copy(update={"segments": tuple(segments)})) == 3


def test_records_of_some_scenarios_alone_are_written(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    summary = export(build[0], tmp_path / "to", "trajectories", scenarios=("crop", "no_code"))
    assert (summary.scenarios, summary.reasons) == ({"crop": 1, "no_code": 1}, {})


def test_llama_factory_lines_take_turns(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    out, drafts = build
    export(out, tmp_path / "to", "llama-factory")
    told = json.loads((tmp_path / "to" / "dataset_info.json").read_text())["thyme"]
    for row, trajectory in zip(lines(tmp_path / "to" / told["file_name"]), trajectories(drafts), strict=True):
        messages = row[told["columns"]["messages"]]
        roles = [message[told["tags"]["role_tag"]] for message in messages]
        assert re.fullmatch("system user assistant( observation assistant)*", " ".join(roles))
        assert "".join(message["content"] for message in messages[2:]) == trajectory.response
        assert sum(m["content"].count("<image>") for m in messages) == len(row["images"])
        check_files(row, trajectory, tmp_path / "to")


def check_files(row: dict[str, Any], trajectory: Trajectory, folder: Path) -> None:
    """Each path leads to the picture, and leads nowhere else once the folder has moved."""
    assert len(row["images"]) == len(images_of(trajectory))
    for path, image in zip(row["images"], images_of(trajectory), strict=True):
        assert not Path(path).is_absolute()
        assert image_id(Image.open(folder / path)) == image.id


@pytest.mark.parametrize("format", FORMATS)
def test_two_exports_are_equal_to_the_byte(build: tuple[Path, list[Draft]], tmp_path: Path, format: str) -> None:
    for name in ("one", "two"):
        export(build[0], tmp_path / name, format)
    one, two = (
        {f.relative_to(tmp_path / name): f.read_bytes() for f in (tmp_path / name).rglob("*") if f.is_file()}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) > 1


def test_many_rows_go_into_several_files(
    build: tuple[Path, list[Draft]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr("thyme.data.export.shards.GROUP_BYTES", 5000)
    monkeypatch.setattr("thyme.data.export.shards.SHARD_BYTES", 20_000)
    out, drafts = build
    export(out, tmp_path / "to")
    names = sorted(path.name for path in (tmp_path / "to" / "data").iterdir())
    assert len(names) > 1
    assert names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    table = datasets.load_dataset(str(tmp_path / "to"), split="train", cache_dir=str(tmp_path / "cache"))
    assert table["id"][:] == [draft.id for draft in drafts]


def test_all_code_gives_again_what_is_stored(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    summary = export(build[0], tmp_path / "to", "ms-swift", replay=1.0)
    assert summary.reasons == {}
    assert (summary.written, summary.replayed, summary.blocks, summary.without_code) == (4, 3, 4, 1)
    assert summary.scenarios == {"computation": 1, "crop": 1, "enhancement": 1, "no_code": 1}
    assert json.loads((tmp_path / "to" / "export.json").read_text()) == summary.model_dump(mode="json")


def test_a_share_is_replayed_the_same_each_time() -> None:
    ids = [f"shots-{i:07d}-crop" for i in range(2000)]
    drawn = [id for id in ids if checks.is_drawn(id, 0.25)]
    assert 0.2 < len(drawn) / len(ids) < 0.3
    assert drawn == [id for id in ids if checks.is_drawn(id, 0.25)]
    assert all(checks.is_drawn(id, 1.0) for id in ids)
    assert not any(checks.is_drawn(id, 0.0) for id in ids)


def changed(draft: Draft, **update: Any) -> Draft:
    assert draft.trajectory is not None
    return draft.model_copy(update={"trajectory": draft.trajectory.model_copy(update=update)})


def other_code(draft: Draft) -> Draft:
    """Its text says another crop than the stored picture shows."""
    assert draft.trajectory is not None
    block = format_code(CROP.format(7)).removeprefix(CODE_OPEN)
    segments = tuple(
        s.model_copy(update={"text": block}) if isinstance(s, Generated) and s.kind == "code" else s
        for s in draft.trajectory.segments
    )
    return changed(draft, segments=segments)


def other_text(draft: Draft) -> Draft:
    """An observation that was put right by hand."""
    assert draft.trajectory is not None
    segments = tuple(
        s.model_copy(update={"text": s.text.replace("\n</sandbox_output>", "\n43\n</sandbox_output>")})
        if isinstance(s, Observation)
        else s
        for s in draft.trajectory.segments
    )
    return changed(draft, segments=segments)


def unclosed(draft: Draft) -> Draft:
    """Its answer is not closed."""
    assert draft.trajectory is not None
    last = draft.trajectory.segments[-1]
    return changed(
        draft,
        segments=(
            *draft.trajectory.segments[:-1],
            last.model_copy(update={"text": last.text.replace("</answer>", "")}),
        ),
    )


def without_picture(draft: Draft) -> Draft:
    """Its prompt names a picture that it does not hold."""
    assert draft.trajectory is not None
    return changed(draft, prompt=draft.trajectory.prompt.model_copy(update={"images": ()}))


WRONG: dict[str, tuple[Callable[[Draft], Draft], str, str]] = {
    "a": (other_code, checks.REPLAY, r"code block 1: its pictures were 55 x 40, and are 53 x 40 now"),
    "b": (other_text, checks.REPLAY, "an observation says something else"),
    "c": (unclosed, checks.TAGS, "unclosed_answer"),
    "d": (without_picture, checks.IMAGE_COUNT, "name 1 and 1 pictures, there are 0 and 1"),
    "e": (lambda draft: draft.model_copy(update={"trajectory": None}), checks.UNFINISHED, ""),
}
"""By id: what is done to a record, and what is said of it."""


def test_what_is_wrong_is_left_out_and_told(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    _, drafts = build
    wrong = [change(drafts[0]).model_copy(update={"id": id}) for id, (change, _, _) in WRONG.items()]
    put(tmp_path / "out", [*wrong, drafts[1]])
    summary = export(tmp_path / "out", tmp_path / "to", "ms-swift", replay=1.0)
    assert [row["id"] for row in lines(tmp_path / "to" / "train.jsonl")] == [drafts[1].id]
    assert sum(summary.reasons.values()) == len(WRONG)
    for told in summary.left_out:
        _, reason, note = WRONG[told.id]
        assert told.reason == reason
        assert re.search(note, told.note)


def test_damaged_and_missing_pictures_keep_a_record_out(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    _, drafts = build
    out = tmp_path / "out"
    put(out, drafts)
    first, second = (trajectory.prompt.images[0].image for trajectory in trajectories(drafts)[:2])
    image_file(out, first).write_bytes(b"\x89PNG\r\n\x1a\n")
    image_file(out, second).unlink()
    summary = export(out, tmp_path / "to", "ms-swift")
    assert summary.reasons == {checks.IMAGE_DAMAGED: 2}
    assert summary.written == 2


def test_pictures_of_benchmarks_are_kept_out(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    from thyme.images import load_image

    out, drafts = build
    shown = trajectories(drafts)[0].prompt.images[0].image
    again = io.BytesIO()
    shown.image.save(again, "JPEG", quality=70)
    exact, near = HeldOut.of([shown], perceptual=False), HeldOut.of([load_image(again.getvalue())], perceptual=True)
    assert not near.ids & exact.ids
    for name, held_out in {"exact": exact, "near": near}.items():
        summary = export(out, tmp_path / name, "ms-swift", held_out=held_out)
        assert summary.reasons == {checks.BENCHMARK: 1}
        assert (summary.left_out[0].id, summary.held_out) == (drafts[0].id, 1)
    assert export(out, tmp_path / "pixels", "ms-swift", held_out=near, bits=None).written == 4


def test_pictures_that_were_turned_are_known_by_their_origin(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    _, drafts = build
    first = trajectories(drafts)[0].prompt.images[0].image
    others = [ImageRecord.of(first.image.transpose(turn)) for turn in (Transpose.ROTATE_90, Transpose.ROTATE_180)]
    origins = [
        draft.origin.model_copy(update={"images": (other,)}) for draft, other in zip(drafts, others, strict=False)
    ]
    put(tmp_path / "out", [draft.model_copy(update={"origin": o}) for draft, o in zip(drafts, origins, strict=False)])
    noted = Surveyed(1, drafts[1].scenario, "", (perceptual_hash(others[1].image),))
    write_survey(tmp_path / "out", 0, [noted])
    exact = HeldOut.of(others[:1], perceptual=False)
    near = HeldOut(frozenset({"0"}), (perceptual_hash(others[1].image) ^ 5,))
    for number, held_out in enumerate((exact, near)):
        summary = export(tmp_path / "out", tmp_path / str(number), "ms-swift", held_out=held_out)
        assert [(told.id, told.reason) for told in summary.left_out] == [(drafts[number].id, checks.BENCHMARK)]


def test_only_what_people_accepted_is_written_as_they_left_it(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    _, drafts = build
    out = tmp_path / "out"
    put(out, drafts)
    with pytest.raises(StoreError, match="thyme studio"):
        export(out, tmp_path / "to", reviewed=True)
    last = drafts[2].trajectory
    assert last is not None
    ending = last.segments[-1].model_copy(update={"text": "<think>Seen.</think>\n<answer>43</answer>"})
    edited = changed(drafts[2], segments=(ending,))
    reviews = [
        Review(id=drafts[0].id, verdict="accept", reviewers=("ann", "bob")),
        Review(id=drafts[1].id, verdict="reject", reason="the crop misses"),
        Review(id=drafts[2].id, verdict="accept", record=edited),
    ]
    assert write_reviews(out, reviews) == 3
    assert [(r.id, r.verdict, r.reason, r.reviewers) for r in read_reviews(out)] == [
        (r.id, r.verdict, r.reason, r.reviewers) for r in reviews
    ]
    summary = export(out, tmp_path / "to", "ms-swift", reviewed=True)
    assert summary.reasons == {checks.REVIEW: 1, checks.NOT_REVIEWED: 1}
    rows = lines(tmp_path / "to" / "train.jsonl")
    assert [row["id"] for row in rows] == [drafts[0].id, drafts[2].id]
    assert rows[1]["messages"][-1]["content"].endswith("<answer>43</answer>")


def test_a_folder_in_use_and_no_build_are_refused(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        export(build[0], tmp_path / "to")
    with pytest.raises(UsageError, match="holds no build"):
        export(tmp_path, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to"]


def test_what_breaks_off_leaves_nothing_behind(
    build: tuple[Path, list[Draft]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thyme.data.export.writers.swift_row", full)
    monkeypatch.setattr("thyme.data.export.writers._OPENERS", {"ms-swift": full})
    with pytest.raises(StoreError, match="No space left"):
        export(build[0], tmp_path / "to", "ms-swift")
    assert list(tmp_path.iterdir()) == []
