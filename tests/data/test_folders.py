"""A folder that is written appears whole, or not at all, and never in place of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from thyme.data.folders import new_folder
from thyme.errors import StoreError, UsageError


def write(to: Path) -> None:
    with new_folder(to) as begun:
        (begun / "a.txt").write_text("a")


@pytest.mark.parametrize("name", ["out", "deep/out"])
def test_it_is_put_in_place_when_it_is_whole(tmp_path: Path, name: str) -> None:
    with new_folder(tmp_path / name) as begun:
        (begun / "a.txt").write_text("a")
        assert not (tmp_path / name).exists()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["a.txt"]
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "out"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="out cannot be written"), new_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UsageError, match="name another folder with --to"):
            write(taken)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_empty_folder_and_a_link_to_one_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    write(tmp_path / "link")
    assert (tmp_path / "empty" / "a.txt").read_text() == "a"
    assert (tmp_path / "link").is_symlink()


def test_the_folder_that_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the folder that you are in"):
        write(Path())
