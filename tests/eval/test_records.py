"""An index of files finds what it is asked for, reads no more than that, and names what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_records as samples

from thyme.errors import StoreError
from thyme.eval.records import Filter, Records
from thyme.store import write_trajectories
from thyme.types import StopReason


def file_of(folder: Path) -> Path:
    path = folder / "t.jsonl"
    records = [
        samples.trajectory(id="a"),
        samples.trajectory(id="b", kind="easy", answer="KX 41", executions=()),
        samples.trajectory(id="c", stop=StopReason.ERROR, question="ÜBER the door?"),
        samples.trajectory(id="d", reference=None, thought="I rotate it."),
    ]
    write_trajectories(path, records)
    return path


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Filter(), "abcd"),
        (Filter(kind="easy"), "b"),
        (Filter(verdict="right"), "a"),
        (Filter(verdict="wrong"), "b"),
        (Filter(verdict="failed"), "c"),
        (Filter(verdict="unscored"), "d"),
        (Filter(stop="error"), "c"),
        (Filter(rounds=0), "b"),
        (Filter(rounds=1, kind="zoom"), "acd"),
        (Filter(search="über"), "c"),
        (Filter(search="ROTATE"), "d"),
        (Filter(search="image.crop", verdict="right"), "a"),
        (Filter(search="nowhere"), ""),
    ],
)
def test_filters(tmp_path: Path, wanted: Filter, ids: str) -> None:
    records = Records.scan([file_of(tmp_path)])
    assert "".join(records.trajectory(place).id for place in records.find(wanted)) == ids


def test_damaged_lines_are_named_and_the_rest_is_found(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\n", b'{"no": "record"}\n', lines[2], b"{cut"]))
    records = Records.scan([path, path])
    assert [entry.line for entry in records.entries] == [1, 4, 1, 4]
    assert [records.trajectory(place).id for place in range(4)] == ["a", "c", "a", "c"]
    assert [what.partition(": ")[0].rpartition(" ")[2] for what in records.damaged] == ["3", "5", "3", "5"]


def test_images_are_read_when_asked_for(tmp_path: Path) -> None:
    records = Records.scan([file_of(tmp_path)])
    made = records.trajectory(0).observations[0].execution.images[0]
    assert not made.loaded
    image = records.image(0, made.id)
    assert image is not None
    assert image.image.size == made.size
    assert records.image(0, "none") is None
    (tmp_path / "images" / f"{made.id}.png").unlink()
    with pytest.raises(StoreError, match=made.id):
        records.image(0, made.id)


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    records = Records.scan([path])
    path.write_bytes(b"\n\n" + path.read_bytes())
    with pytest.raises(StoreError, match="line 2"):
        records.trajectory(1)
    path.unlink()
    with pytest.raises(StoreError, match="any more"):
        records.trajectory(0)
    with pytest.raises(StoreError, match="cannot be read"):
        Records.scan([path])
