"""Trajectories come back as they were written, pixels and bytes included; damage is named, never passed over."""

from __future__ import annotations

import io
import json
import math
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import sample_records as samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile

from thyme.errors import StoreError
from thyme.images import load_image
from thyme.store import append_trajectory, read_trajectories, write_trajectories
from thyme.types import (
    Execution,
    ExecutionError,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Repair,
    RolloutFailure,
    SeenImage,
    StopReason,
    Trajectory,
)

clean = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def images(draw: st.DrawFn) -> ImageRecord:
    mode = draw(st.sampled_from(["RGB", "L", "1", "RGBA", "LA", "P", "I;16", "CMYK", "F", "I"]))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if mode in {"F", "I", "I;16"}:
        dtype = {"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]
        image = Image.fromarray(rng.integers(0, 60_000, (height, width)).astype(dtype))
    else:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).convert(mode)
    return ImageRecord.of(image, name=draw(clean), format=draw(st.sampled_from(["PNG", "JPEG"])))


@st.composite
def encoded_images(draw: st.DrawFn) -> ImageRecord:
    """Images with the bytes of a file, as `load_image` makes them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    buffer = io.BytesIO()
    format = draw(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]))
    Image.fromarray(rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)).save(buffer, format)
    return load_image(buffer.getvalue(), name=draw(clean))


generated = st.builds(
    Generated,
    kind=st.sampled_from(["text", "code"]),
    text=clean,
    token_ids=st.lists(st.integers(0, 200_000), max_size=5).map(tuple),
    logprobs=st.none() | st.lists(st.floats(max_value=0, allow_nan=False), max_size=5).map(tuple),
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
)
executions = st.builds(
    Execution,
    code=clean,
    ran=clean,
    stdout=clean,
    images=st.lists(images(), max_size=2).map(tuple),
    error=st.none() | st.builds(ExecutionError, type=clean, message=clean, line=st.none() | st.integers(1, 99)),
    repairs=st.lists(st.builds(Repair, name=clean, note=clean, count=st.integers(1, 9)), max_size=2).map(tuple),
    duration_s=st.floats(0, 100),
    truncated=st.booleans(),
)
observations = st.builds(Observation, execution=executions, text=clean)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | clean,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(clean, inner, max_size=3),
    max_leaves=5,
)
problems = st.builds(
    Problem,
    id=clean,
    question=clean,
    images=st.lists(images() | encoded_images(), max_size=2).map(tuple),
    answer=st.none() | clean,
    choices=st.lists(clean, max_size=3).map(tuple),
    meta=st.dictionaries(clean, json_values, max_size=3),
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    problem = draw(problems)
    seen = tuple(SeenImage(image=image, seen_width=28, seen_height=56) for image in problem.images)
    return Trajectory(
        id=draw(clean),
        problem=problem,
        prompt=Prompt(system=draw(clean), user=draw(clean), images=seen),
        segments=draw(st.lists(generated | observations, max_size=4).map(tuple)),
        stop=draw(st.sampled_from(StopReason)),
        error=draw(st.none() | st.builds(RolloutFailure, type=clean, message=clean, where=st.just("engine"))),
        sampling=samples.SAMPLING,
    )


def all_images(trajectory: Trajectory) -> list[ImageRecord]:
    shown = [image for o in trajectory.observations for image in o.execution.images]
    return [*trajectory.problem.images, *(s.image for s in trajectory.prompt.images), *shown]


def without_formats(trajectory: Trajectory) -> dict[str, object]:
    """Everything but how images are encoded, which the store may decide where no bytes are known."""
    dumped = trajectory.model_dump(mode="json")
    text = json.dumps(dumped)
    for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        text = text.replace(f'"format": "{format}"', '"format": ""')
    loaded: dict[str, object] = json.loads(text)
    return loaded


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(trajectories(), max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[Trajectory]) -> None:
    """Written whole or appended one by one: the same records, the same pixels, the original bytes where known."""
    folder = tmp_path_factory.mktemp("store")
    assert write_trajectories(folder / "a" / "written.jsonl", records) == len(records)
    (folder / "b").mkdir()
    (folder / "b" / "appended.jsonl").touch()
    for record in records:
        append_trajectory(folder / "b" / "appended.jsonl", record)
    for path in (folder / "a" / "written.jsonl", folder / "b" / "appended.jsonl"):
        back = list(read_trajectories(path))
        assert [without_formats(r) for r in back] == [without_formats(r) for r in records]
        for before, after in zip(records, back, strict=True):
            for old, new in zip(all_images(before), all_images(after), strict=True):
                assert (old.image.mode, old.image.tobytes()) == (new.image.mode, new.image.tobytes())
                if old.encoded is not None:
                    assert (new.encoded, new.format) == (old.encoded, old.format)
        assert [r.model_dump_json() for r in read_trajectories(path, images=False)] == [
            r.model_dump_json() for r in back
        ]


def test_log_probability_of_minus_infinity_survives(tmp_path: Path) -> None:
    segment = Generated(kind="text", text="x", token_ids=(1,), logprobs=(-math.inf,), temperature=0.0)
    record = samples.trajectory().model_copy(update={"segments": (segment,)})
    write_trajectories(tmp_path / "t.jsonl", [record])
    (back,) = read_trajectories(tmp_path / "t.jsonl")
    assert back.generated[0].logprobs == (-math.inf,)


def test_images_lie_beside_the_file_once(tmp_path: Path) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record, record])
    append_trajectory(tmp_path / "t.jsonl", record)
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {f"{image.id}.png" for image in all_images(record)}
    assert len(names) == 2, "scene (problem and prompt) and crop"
    assert stat.S_IMODE((tmp_path / "t.jsonl").stat().st_mode) & 0o400
    assert {path.name for path in tmp_path.iterdir()} == {"t.jsonl", "images"}, "no temporary files stay"


def test_an_image_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").iterdir()}
    append_trajectory(tmp_path / "t.jsonl", record)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "images").iterdir()} == before


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [samples.trajectory(id="old")])
    before = path.read_bytes()

    def records() -> object:
        yield samples.trajectory(id="new")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_trajectories(path, records())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_damaged_line_is_named_and_can_be_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [samples.trajectory(id=f"t{i}") for i in range(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\n" + lines[1][:50] + b"\n" + lines[2])
    reader = read_trajectories(path)
    assert next(reader).id == "t0"
    with pytest.raises(StoreError, match=r"t\.jsonl, line 3: damaged or not a trajectory .*skip_damaged=True"):
        next(reader)
    assert [r.id for r in read_trajectories(path, skip_damaged=True)] == ["t0", "t2"]
    assert "line 3: damaged" in caplog.text


def test_unknown_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [samples.trajectory()])
    path.write_text(path.read_text().replace('"seed":7', '"seeed":7'))
    with pytest.raises(StoreError, match=r"line 1: .*seeed: Extra inputs"):
        list(read_trajectories(path))


def test_another_schema_version_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [samples.trajectory()])
    path.write_text(
        path.read_text().replace('"schema_version":1', '"schema_version":2').replace('"seed":7', '"sown":7')
    )
    with pytest.raises(StoreError, match=r"line 1: no record of schema version 1; use the version of thyme that wrote"):
        list(read_trajectories(path))


def test_appending_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """A crash in the middle of a line spoils that line only."""
    path = tmp_path / "t.jsonl"
    append_trajectory(path, samples.trajectory(id="t0"))
    with path.open("ab") as file:
        file.write(b'{"schema_version":1,"id":"cut')
    append_trajectory(path, samples.trajectory(id="t1"))
    assert [r.id for r in read_trajectories(path, skip_damaged=True)] == ["t0", "t1"]


def test_writers_that_append_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    record = samples.trajectory(thought="long " * 20_000)

    def work(name: int) -> None:
        for i in range(5):
            append_trajectory(path, record.model_copy(update={"id": f"{name}-{i}"}))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = sorted(r.id for r in read_trajectories(path))
    assert ids == sorted(f"{name}-{i}" for name in range(4) for i in range(5))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone\.jsonl: cannot be read .*name a trajectory file"):
        list(read_trajectories(tmp_path / "gone.jsonl"))


def test_missing_image(tmp_path: Path) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record])
    (tmp_path / "images" / f"{record.problem.images[0].id}.png").unlink()
    with pytest.raises(StoreError, match=r"images/\w+\.png: an image of .* cannot be read .*restore it"):
        list(read_trajectories(tmp_path / "t.jsonl"))
    assert len(list(read_trajectories(tmp_path / "t.jsonl", images=False))) == 1


def test_names_of_images_lead_nowhere_else(tmp_path: Path) -> None:
    """A record from elsewhere does not have files read outside of the folder of its images."""
    path = tmp_path / "run" / "records.jsonl"
    path.parent.mkdir()
    record = samples.trajectory()
    write_trajectories(path, [record])
    id = record.problem.images[0].id
    (path.parent / "images" / f"{id}.png").rename(tmp_path / f"{id}.png")
    path.write_text(path.read_text().replace(id, f"../../{id}"))
    with pytest.raises(StoreError, match="no name of a stored image"):
        list(read_trajectories(path))


def test_changed_image(tmp_path: Path) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record])
    samples.picture(text="AB 12").save(tmp_path / "images" / f"{record.problem.images[0].id}.png")
    with pytest.raises(StoreError, match="shows other pixels than were stored"):
        list(read_trajectories(tmp_path / "t.jsonl"))


def test_damaged_image(tmp_path: Path) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record])
    image = tmp_path / "images" / f"{record.problem.images[0].id}.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"damaged .*; restore it or delete the records"):
        list(read_trajectories(tmp_path / "t.jsonl"))


def test_pictures_above_pillows_own_limit_come_back_and_bombs_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = samples.trajectory()
    write_trajectories(tmp_path / "t.jsonl", [record])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert [read.id for read in read_trajectories(tmp_path / "t.jsonl")] == [record.id]
    assert Image.MAX_IMAGE_PIXELS == 1
    image = tmp_path / "images" / f"{record.problem.images[0].id}.png"
    Image.new("1", (9000, 9000)).save(image)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("a picture of another size was decoded"))
    with pytest.raises(StoreError, match="shows other pixels"):
        list(read_trajectories(tmp_path / "t.jsonl"))


def test_only_formats_that_are_stored_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to another program, whatever the file's name ends with."""
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [samples.trajectory()])
    for stored in (tmp_path / "images").iterdir():
        Image.new("RGB", (4, 4)).save(stored, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("PostScript was run"))
    with pytest.raises(StoreError, match="damaged"):
        list(read_trajectories(path))


def test_pixels_that_are_not_at_hand_cannot_be_stored(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a" / "t.jsonl", [samples.trajectory()])
    (bare,) = read_trajectories(tmp_path / "a" / "t.jsonl", images=False)
    with pytest.raises(StoreError, match="no pixels to store; read its record with images=True"):
        write_trajectories(tmp_path / "b" / "t.jsonl", [bare])


@pytest.mark.parametrize("mode", ["HSV", "PA"])
def test_a_mode_that_no_file_holds_is_an_error_not_a_loss(tmp_path: Path, mode: str) -> None:
    image = samples.picture().convert("P").convert(mode) if mode == "PA" else samples.picture().convert(mode)
    execution = samples.good_execution().model_copy(update={"images": (ImageRecord.of(image),)})
    with pytest.raises(StoreError, match=f"of mode {mode} cannot be stored"):
        append_trajectory(tmp_path / "t.jsonl", samples.trajectory(executions=(execution,)))
    assert not (tmp_path / "t.jsonl").exists()
