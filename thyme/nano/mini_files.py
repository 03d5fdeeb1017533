"""Write thyme-mini as files: VLMEvalKit's TSV, Parquet, JSON lines beside pictures, a card, checksums."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
from PIL import features

from thyme.errors import MissingExtraError, ThymeError, UsageError
from thyme.nano.mini import FACTS, KINDS, NAME, PER_KIND, ROWS, SEED, VERSION, checksum, problems, words_checksum
from thyme.types import ImageRecord, Problem

CHECKSUM = "f4015563b28393a491349392ab165df7"
"""`checksum` of the whole set."""
WORDS = "03b412b402b9bfde789d58ddb84a50a4"
"""`words_checksum` of the whole set."""
DRAWN_WITH = "Pillow 11.2.1 or newer"
"""What draws the published pictures; see docs/thyme_mini.md for the versions that were tried."""

COLUMNS = ("index", "id", "image", "question", "answer", "category", *FACTS)
CARD = "README.md"
BATCH = 60
"""Rows of a row group of the Parquet file."""


@dataclass(frozen=True)
class Written:
    """What lies in the folder."""

    folder: Path
    rows: int
    checksum: str
    """Of the contents; see `thyme.nano.mini.checksum`."""
    files: Mapping[str, str]
    """SHA-256 of each file, by its name; it depends on the library that packed it."""


class _Sheet(Protocol):
    def write(self, row: Mapping[str, Any], png: bytes) -> None: ...
    def close(self) -> None: ...


def write(
    out: Path, *, per_kind: int = PER_KIND, layouts: tuple[str, ...] = (), advance: Callable[[], None] = lambda: None
) -> Written:
    """Draw the set into a folder.

    Args:
        out: Made if it is missing; files of the same names are replaced once everything is drawn.
        per_kind: Problems of each kind; fewer than `PER_KIND` are the first of them.
        layouts: Some of `LAYOUTS`; all unless named.
        advance: Called after each problem.

    Raises:
        UsageError: `out` is a file, or a layout is unknown.
        MissingExtraError: Parquet is asked for and pyarrow is missing.
        ThymeError: The whole set was drawn, and its pictures are not those that were published.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is not a folder")
    if unknown := set(layouts) - set(LAYOUTS):
        raise UsageError(f"there is no layout {', '.join(sorted(unknown))}; there are {', '.join(LAYOUTS)}")
    out.mkdir(parents=True, exist_ok=True)
    bare: list[Problem] = []
    names: list[str] = []
    with ExitStack() as open_sheets:
        sheets: list[_Sheet] = []
        for layout in layouts or tuple(LAYOUTS):
            name = f"{NAME}.{layout}"
            names.append(name)
            sheets.append(LAYOUTS[layout](out / f"{name}.part"))
            open_sheets.callback(sheets[-1].close)
        for index, problem in enumerate(problems(per_kind)):
            png, row = _png(problem), as_row(index, problem)
            for sheet in sheets:
                sheet.write(row, png)
            bare.append(_without_pixels(problem))
            advance()
    found = checksum(bare)
    if per_kind == PER_KIND:
        _compare(bare, found, out)
    return _finish(out, names, len(bare), found)


def as_row(index: int, problem: Problem) -> dict[str, Any]:
    """A problem by column, without its picture; what does not apply is None."""
    facts = {name: problem.meta.get(name) for name in FACTS}
    return {
        "index": index,
        "id": problem.id,
        "question": problem.question,
        "answer": problem.answer,
        "category": problem.kind,
        **facts,
    }


def _png(problem: Problem) -> bytes:
    packed = io.BytesIO()
    problem.images[0].image.save(packed, "PNG")
    return packed.getvalue()


def _without_pixels(problem: Problem) -> Problem:
    return problem.model_copy(update={"images": tuple(ImageRecord(**image.model_dump()) for image in problem.images)})


def _compare(drawn: list[Problem], found: str, out: Path) -> None:
    if found == CHECKSUM:
        return
    for part in out.glob("*.part"):
        part.unlink()
    what = "pictures" if words_checksum(drawn) == WORDS else "problems"
    raise ThymeError(
        f"the {what} drawn here are not those of the published set (checksum {found}, published {CHECKSUM}): this is "
        f"{_versions()}; take {DRAWN_WITH}, or the versions of constraints.txt"
    )


def _versions() -> str:
    return f"Pillow {PIL.__version__}, FreeType {features.version('freetype2')}, NumPy {np.__version__}"


def _finish(out: Path, names: list[str], rows: int, found: str) -> Written:
    for name in names:
        os.replace(out / f"{name}.part", out / name)
    files = {name: _sha256(out / name) for name in names}
    written = Written(out, rows, found, files)
    (out / CARD).write_text(card(written), encoding="utf-8")
    (out / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in files.items()), encoding="utf-8")
    return written


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


# --- layouts ----------------------------------------------------------------------------------------------------------


class _TSV:
    """VLMEvalKit's: one line a row, the picture in Base64, lists as JSON."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, delimiter="\t", lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, row: Mapping[str, Any], png: bytes) -> None:
        cells = {**row, "image": base64.b64encode(png).decode()}
        self._rows.writerow([_cell(cells[name]) for name in COLUMNS])

    def close(self) -> None:
        self._file.close()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


class _Lines:
    """JSON lines; the pictures lie beside them in ``images``."""

    def __init__(self, file: Path) -> None:
        self._images = file.parent / "images"
        self._images.mkdir(exist_ok=True)
        self._file = file.open("w", encoding="utf-8")

    def write(self, row: Mapping[str, Any], png: bytes) -> None:
        name = f"{row['id']}.png"
        (self._images / name).write_bytes(png)
        record = {**row, "image_path": f"images/{name}"}
        self._file.write(json.dumps({key: value for key, value in record.items() if value is not None}) + "\n")

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """As a Hugging Face data set is stored: the picture is a struct of bytes and path, and decoded by `datasets`."""

    def __init__(self, file: Path) -> None:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise MissingExtraError("Parquet", "data") from error
        numbers = arrow.list_(arrow.float64())
        types = {
            "index": arrow.int64(),
            "image": arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]),
            "boxes": arrow.list_(numbers),
            "angle": arrow.int64(),
            "contrast": arrow.float64(),
            "large": arrow.list_(arrow.bool_()),
            "colors": arrow.list_(arrow.string()),
        }
        schema = arrow.schema([(name, types.get(name, arrow.string())) for name in COLUMNS])
        self._schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": _FEATURES}})})
        self._arrow, self._waiting = arrow, list[dict[str, Any]]()
        self._file = parquet.ParquetWriter(file, self._schema, compression="NONE")  # pictures do not get smaller

    def write(self, row: Mapping[str, Any], png: bytes) -> None:
        self._waiting.append({**row, "image": {"bytes": png, "path": f"{row['id']}.png"}})
        if len(self._waiting) == BATCH:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting.clear()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._file.close()


def _plain(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"feature": of, "_type": "List"}


_FEATURES: dict[str, dict[str, Any]] = {
    **{name: _plain("string") for name in COLUMNS},
    "index": _plain("int64"),
    "image": {"_type": "Image"},
    "boxes": _list(_list(_plain("float64"))),
    "angle": _plain("int64"),
    "contrast": _plain("float64"),
    "large": _list(_plain("bool")),
    "colors": _list(_plain("string")),
}

LAYOUTS: dict[str, Callable[[Path], _Sheet]] = {"tsv": _TSV, "parquet": _Parquet, "jsonl": _Lines}
"""By file extension."""


# --- card -------------------------------------------------------------------------------------------------------------


def card(written: Written) -> str:
    """The README of the folder, with the front matter that the Hugging Face hub reads."""
    kinds = "\n".join(f"| {kind} | {written.rows // len(KINDS)} |" for kind in KINDS)
    files = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in written.files.items())
    data = f"configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {NAME}.parquet\n"
    front = f"---\nlicense: apache-2.0\ntask_categories:\n- visual-question-answering\nlanguage:\n- en\n{data}---\n"
    part = "" if written.rows == ROWS else f"**The first {written.rows} problems only; the set has {ROWS}.**\n\n"
    return (
        f"{front}# {NAME}, version {VERSION}\n\n{part}"
        "Questions about labels on coloured plates in drawn 1024 x 1024 px scenes, among them scenes that are turned\n"
        "and scenes that are nearly grey. Drawn by `thyme nano mini`; nothing in it was downloaded or photographed.\n\n"
        f"| kind | problems |\n| --- | --- |\n{kinds}\n\n"
        "Columns: `index`, `id`, `image`, `question`, `answer`, `category` (the kind), `boxes` (left, top, right,\n"
        "bottom of each plate asked for, pixels of the picture), `angle` (degrees counter-clockwise, rotation only),\n"
        "`contrast` (share that is left, contrast only), `large` (whether a plate is legible at 128 px), `colors`.\n\n"
        f"Seed {SEED}. Checksum of the contents (words, facts, decoded pixels): `{written.checksum}`; it is the same\n"
        f"whatever packed the files. These were drawn with {_versions()}:\n\n"
        f"| file | SHA-256 |\n| --- | --- |\n{files}\n"
    )
