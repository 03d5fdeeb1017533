"""Trajectories of this package as a source: JSON lines by their offsets, images beside the file when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from thyme.config.training import DataSource
from thyme.data.published import IMAGE_DAMAGED, IMAGE_MISSING
from thyme.data.sources.lines import Lines
from thyme.errors import EncodeError, StoreError
from thyme.store import load_images, missing_images, read_line
from thyme.train.data.rows import need_files
from thyme.types import Trajectory


class TrajectoryRows:
    """Records of one or more files."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Find the lines.

        Raises:
            StoreError: A file cannot be read.
        """
        self._lines = Lines(files)
        self.fingerprint = self._lines.fingerprint

    def __len__(self) -> int:
        """Number of records."""
        return len(self._lines)

    def __getitem__(self, index: int) -> Trajectory:
        """A record with the pixels of its images.

        Raises:
            EncodeError: An image is missing, damaged or not the one that was stored.
            StoreError: The line is damaged; the message names file and line.
        """
        path, number, line = self._lines.read(index)
        trajectory = read_line(path, number, line)
        try:
            return load_images(path, trajectory)
        except StoreError as error:
            gone = bool(missing_images(path, trajectory))
            raise EncodeError(str(error), reason=IMAGE_MISSING if gone else IMAGE_DAMAGED) from error

    def __iter__(self) -> Iterator[Trajectory]:
        """All records in order."""
        return (self[index] for index in range(len(self)))

    def peek(self, index: int) -> Trajectory:
        """A record without pixels, its images looked for but not read.

        Raises:
            EncodeError: An image is missing.
            StoreError: The line is damaged.
        """
        path, number, line = self._lines.read(index)
        trajectory = read_line(path, number, line)
        if missing := missing_images(path, trajectory):
            raise EncodeError(f"{self.name(index)}: image {missing[0]} is missing", reason=IMAGE_MISSING)
        return trajectory

    def name(self, index: int) -> str:
        """File and line for messages."""
        return self._lines.name(index)


def open_trajectories(source: DataSource) -> TrajectoryRows:
    """Records of a file, of the ``.jsonl`` files of a folder, or of those of a glob.

    Raises:
        ConfigError: There is no such file.
        StoreError: A file cannot be read.
    """
    return TrajectoryRows(need_files(source, (".jsonl",)))
