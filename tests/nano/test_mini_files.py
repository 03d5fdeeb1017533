"""``thyme nano mini``: three layouts that hold the same problems, a card, checksums; no other pictures unnoticed."""

import base64
import csv
import hashlib
import io
import json

import pyarrow.parquet as parquet
import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli.nano import LayoutName, app
from thyme.errors import ThymeError, UsageError
from thyme.eval.benchmarks.files import read_benchmark
from thyme.nano import mini, mini_files
from thyme.types import ImageRecord


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("mini") / "set"
    done = CliRunner().invoke(app, ["mini", "--out", str(out), "--per-kind", "1", "--quiet"])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def drawn():
    return list(mini.problems(1))


def opened(data: bytes) -> ImageRecord:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return ImageRecord.of(picture)


def tsv(folder):
    csv.field_size_limit(1 << 24)
    with (folder / "thyme-mini.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            yield row, base64.b64decode(row["image"])


def rows_of_parquet(folder):
    for row in parquet.read_table(folder / "thyme-mini.parquet").to_pylist():
        yield row, row["image"]["bytes"]


def jsonl(folder):
    for line in (folder / "thyme-mini.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield row, (folder / row["image_path"]).read_bytes()


@pytest.mark.parametrize("rows", [tsv, rows_of_parquet, jsonl])
def test_every_layout_gives_the_drawn_problems_back(folder, drawn, rows):
    read = [mini.to_problem(row, (opened(png),)) for row, png in rows(folder)]
    assert [problem.model_dump() for problem in read] == [problem.model_dump() for problem in drawn]
    assert mini.checksum(read) == mini.checksum(drawn)


@pytest.mark.parametrize("layout", ["tsv", "parquet", "jsonl"])
def test_the_evaluation_reads_every_layout(folder, drawn, layout):
    read = list(read_benchmark(mini.BENCHMARK, folder / f"thyme-mini.{layout}"))
    assert mini.checksum(read) == mini.checksum(drawn)


def test_the_columns_are_those_of_vlmevalkit(folder):
    first, _ = next(tsv(folder))
    assert list(first)[:1] == ["index"]
    assert {"image", "question", "answer", "category"} <= first.keys()
    assert [row["index"] for row, _ in tsv(folder)] == [str(place) for place in range(6)]


def test_hugging_face_decodes_the_pictures(folder, drawn, tmp_path):
    datasets = pytest.importorskip("datasets")
    read = datasets.Dataset.from_parquet(str(folder / "thyme-mini.parquet"), cache_dir=str(tmp_path))
    assert ImageRecord.of(read[0]["image"]).id == drawn[0].images[0].id
    assert read[3]["boxes"] == drawn[3].meta["boxes"]


def test_card_and_sums_tell_what_lies_there(folder, drawn):
    text = (folder / "README.md").read_text()
    assert mini.checksum(drawn) in text
    assert "The first 6 problems only" in text
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert digest in text
    assert str(folder) not in text
    assert not list(folder.glob("*.part"))


def test_only_the_layouts_asked_for(tmp_path):
    mini_files.write(tmp_path, per_kind=1, layouts=("jsonl",))
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".jsonl", ".md", ""}
    assert set(LayoutName) == set(mini_files.LAYOUTS)


def test_bad_requests(tmp_path):
    with pytest.raises(UsageError, match="no layout csv; there are tsv, parquet, jsonl"):
        mini_files.write(tmp_path, layouts=("csv",))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        mini_files.write(tmp_path / "file")


def test_other_pictures_than_the_published_are_refused(tmp_path, monkeypatch, drawn):
    """A whole set whose checksum is another: a library draws letters otherwise."""
    monkeypatch.setattr(mini_files, "PER_KIND", 1)
    monkeypatch.setattr(mini_files, "WORDS", mini.words_checksum(drawn))
    with pytest.raises(ThymeError, match=r"the pictures drawn here are not those of the published set.*Pillow"):
        mini_files.write(tmp_path, per_kind=1, layouts=("tsv",))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(mini_files, "WORDS", "")
    with pytest.raises(ThymeError, match="the problems drawn here"):
        mini_files.write(tmp_path, per_kind=1, layouts=("tsv",))
    monkeypatch.setattr(mini_files, "CHECKSUM", mini.checksum(drawn))
    assert mini_files.write(tmp_path, per_kind=1, layouts=("tsv",)).rows == 6


@pytest.mark.slow
def test_the_whole_set_is_the_published_one(tmp_path):
    written = mini_files.write(tmp_path, layouts=("tsv",))
    assert (written.rows, written.checksum) == (1200, mini_files.CHECKSUM)
