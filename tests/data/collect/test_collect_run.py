"""A folder becomes a collection: each picture once, upright, without metadata; what is wrong with a file is said."""

from __future__ import annotations

import io
import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
from collect_pictures import page, scene
from PIL import Image, ImageFilter

from thyme.config.annotation import CollectSettings
from thyme.data.collect import crew, reasons
from thyme.data.collect.folder import open_collection, read_picture, read_rejected, tile_file
from thyme.data.collect.listing import listing
from thyme.data.collect.records import Collected, Refused
from thyme.data.collect.report import write_report
from thyme.data.collect.run import collect
from thyme.data.collect.sidecar import Sidecar
from thyme.data.collect.told import Told
from thyme.data.collect.work import Job, take
from thyme.errors import StoreError, UsageError
from thyme.types import EXTENSIONS, image_id

HEIC = Path(__file__).parents[2] / "heic"
SMALL = CollectSettings(min_side=300)
SIZE = (640, 400)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def looked_at(
    path: Path, staging: Path, settings: CollectSettings = SMALL, told: Told | None = None
) -> Collected | Refused:
    """What becomes of one file, in this process."""
    staging.mkdir()
    return take(Job(path.name, path, staging, settings, told or Told()))


def stored(staging: Path, item: Collected) -> Image.Image:
    return Image.open(staging / f"picture.{EXTENSIONS[item.format]}")


def near(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures."""
    return float(np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(other.convert("RGB"), int)).mean())


# --- one file


def test_a_photograph_is_kept_byte_for_byte_without_its_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x010E] = "CC0-1.0", "at home"
    exif.get_ifd(0x8825)[1] = "N"
    path = save(scene(1, SIZE), tmp_path / "a.jpg", exif=exif, quality=90)
    item = looked_at(path, tmp_path / "s")
    assert isinstance(item, Collected)
    assert (item.width, item.height, item.format, item.licence, item.original) == (*SIZE, "JPEG", "CC0-1.0", "a.jpg")
    data = (tmp_path / "s" / "picture.jpg").read_bytes()
    assert b"Exif" not in data
    assert b"at home" not in data
    scan = path.read_bytes()
    assert data.endswith(scan[scan.index(b"\xff\xda") :])
    with stored(tmp_path / "s", item) as again, Image.open(path) as before:
        assert image_id(again.convert("RGB")) == item.id == image_id(before.convert("RGB"))
        assert not again.getexif()


def test_a_picture_that_lies_on_its_side_is_stored_upright_and_lossless(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(scene(1, SIZE), tmp_path / "a.jpg", exif=exif)
    item = looked_at(path, tmp_path / "s")
    assert isinstance(item, Collected)
    assert (item.width, item.height, item.format) == (SIZE[1], SIZE[0], "PNG")
    with stored(tmp_path / "s", item) as again, Image.open(path) as before:
        assert image_id(again) == item.id == image_id(before.transpose(Image.Transpose.ROTATE_270))


LEFT = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "timestamp"}
"""What Pillow tells of a file that holds nothing but pixels."""
DEEP = np.linspace(0, 65535, SIZE[0] * SIZE[1]).reshape(SIZE[::-1]).astype(np.uint16)
OTHER = scene(3, SIZE)
FILES: Mapping[str, tuple[str, dict[str, Any], Image.Image]] = {
    "grey of 16 bits, PNG": ("a.png", {}, Image.fromarray(DEEP)),
    "grey of 16 bits, TIFF": ("a.tif", {}, Image.fromarray(DEEP)),
    "CMYK, JPEG": ("a.jpg", {"quality": 95}, scene(2, SIZE).convert("CMYK")),
    "CMYK, TIFF": ("a.tiff", {"compression": "tiff_lzw"}, scene(2, SIZE).convert("CMYK")),
    "TIFF of several pages": ("a.tif", {"save_all": True, "append_images": [OTHER]}, scene(2, SIZE)),
    "one bit": ("a.tif", {"compression": "group4"}, scene(2, SIZE).convert("1")),
    "palette": ("a.png", {}, scene(2, SIZE).quantize(32)),
    "animation": (
        "a.gif",
        {"save_all": True, "append_images": [scene(3, SIZE).quantize(9)]},
        scene(2, SIZE).quantize(9),
    ),
    "JPEG 2000": ("a.jp2", {}, scene(2, SIZE)),
    "AVIF": ("a.avif", {"quality": 95}, scene(2, SIZE)),
    "WebP, lossless": ("a.webp", {"lossless": True}, scene(2, SIZE)),
    "transparent": ("a.png", {}, scene(2, SIZE).convert("RGBA")),
    "portable": ("a.ppm", {}, scene(2, SIZE)),
    "an ending that lies": ("a.png", {"format": "JPEG"}, scene(2, SIZE)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_is_taken_as_what_it_shows(tmp_path: Path, kind: str) -> None:
    name, options, image = FILES[kind]
    item = looked_at(save(image, tmp_path / name, **options), tmp_path / "s")
    assert isinstance(item, Collected)
    shown = Image.fromarray((DEEP / 257).round().astype(np.uint8)) if "16 bits" in kind else image
    with stored(tmp_path / "s", item) as again:
        assert again.mode == "RGB"
        assert set(again.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "loop",
            "background",
            "timestamp",
        }
        assert image_id(again) == item.id
        assert near(again, shown) < 6


def test_colour_of_sixteen_bits_a_channel(tmp_path: Path) -> None:
    """Written by OpenCV, as Pillow does not."""
    import cv2

    pixels = np.asarray(scene(2, SIZE))
    for name in ("a.png", "b.tif"):
        assert cv2.imwrite(str(tmp_path / name), pixels[..., ::-1].astype(np.uint16) * 257)
        item = looked_at(tmp_path / name, tmp_path / name[0])
        assert isinstance(item, Collected), item
        with stored(tmp_path / name[0], item) as again:
            np.testing.assert_array_equal(np.asarray(again.convert("RGB")), pixels)


def test_heic(tmp_path: Path) -> None:
    item = looked_at(HEIC / "turned.heic", tmp_path / "s", CollectSettings(min_side=60))
    assert isinstance(item, Collected)
    assert (item.width, item.height, item.format) == (48, 64, "PNG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an image|is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9000 9000\n", "is not an image that can be read"),
        (b"\xff\xd8\xff\xe0" + bytes(300), "a.jpg"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    refused = looked_at(tmp_path / "a.jpg", tmp_path / "s")
    assert isinstance(refused, Refused)
    assert refused.reason == reasons.UNREADABLE
    assert any(part in refused.detail for part in message.split("|"))
    assert str(tmp_path) not in refused.detail


def test_a_file_that_was_cut_off_is_said(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.webp"):
        path = save(scene(1, SIZE), tmp_path / name)
        path.write_bytes(path.read_bytes()[:-4000])
        refused = looked_at(path, tmp_path / f"s{name}")
        assert isinstance(refused, Refused)
        assert refused.reason == reasons.UNREADABLE
        assert name in refused.detail


def test_the_header_decides_before_anything_is_decoded(tmp_path: Path) -> None:
    """A file of 60 bytes that says it has 10 gigapixels."""
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    (tmp_path / "bomb.png").write_bytes(
        header + zlib.crc32(header[12:]).to_bytes(4, "big") + b"\0\0\0\0IDAT5\xaf\x06\x1e"
    )
    refused = looked_at(tmp_path / "bomb.png", tmp_path / "s")
    assert isinstance(refused, Refused)
    assert (refused.reason, "--max-pixels" in refused.detail) == (reasons.LARGE, True)
    assert "10,000,000,000 pixels" in refused.detail


def test_sides_blur_and_text_are_reasons(tmp_path: Path) -> None:
    settings = CollectSettings(min_side=600, min_sharpness=0.25, max_text=0.08)
    cases = {
        reasons.SMALL: scene(1, (600, 600)),
        reasons.BLURRED: scene(1, (700, 500)).filter(ImageFilter.GaussianBlur(5)),
        reasons.TEXT: page(1, (1240, 1754)),
    }
    for reason, image in cases.items():
        refused = looked_at(save(image, tmp_path / f"{reason}.png"), tmp_path / reason, settings)
        assert isinstance(refused, Refused)
        assert (refused.reason, bool(refused.detail)) == (reason, True)
        assert not list((tmp_path / reason).iterdir())
    taken = looked_at(save(scene(1, (601, 300)), tmp_path / "ok.png"), tmp_path / "ok", settings)
    assert isinstance(taken, Collected), taken


def test_a_sidecar_counts_before_the_file_and_both_before_the_settings(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x013B] = "theirs", "Ada"
    path = save(scene(1, SIZE), tmp_path / "a.jpg", exif=exif)
    settings = CollectSettings(min_side=300, licence="mine", source="my disk")
    item = looked_at(path, tmp_path / "s", settings, Told(licence="CC0-1.0"))
    assert isinstance(item, Collected)
    assert (item.licence, item.creator, item.source) == ("CC0-1.0", "Ada", "my disk")


# --- a folder


HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "a\nb\x1b[2J.png",
    "'; DROP TABLE items.png",
    "…/\u202egnp.png",
    "x" * 240 + ".png",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of every kind of name and trouble."""
    root = tmp_path_factory.mktemp("in") / "photos"
    for place, name in enumerate(HOSTILE):
        save(scene(10 + place, SIZE), root / name)
    save(scene(20, SIZE), root / os.fsdecode(b"caf\xe9.png"))
    first = scene(30, SIZE)
    save(first, root / "m1.png")
    save(first, root / "m2.tif")
    save(first.resize((500, 320)), root / "m3.jpg", quality=60)
    save(scene(31, (200, 100)), root / "small.png")
    (root / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    (root / "notes.txt").write_text("no picture")
    save(scene(32, SIZE), root / ".hidden.png")
    save(scene(33, SIZE), root.parent / "outside.png")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "gone.png").symlink_to(root.parent / "nowhere.png")
    return root


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    out = folder.parent / "collection"
    collect(folder, out, SMALL, processes=2, sidecar=Sidecar({"m1.png": Told("CC0-1.0", "me")}))
    return out


def test_a_folder_becomes_a_collection(made: Path) -> None:
    items = open_collection(made).items
    names = [item.original for item in items.values()]
    assert names == sorted(names)
    assert set(names) == {*HOSTILE, "caf\\xe9.png", "m1.png"}
    assert {one.file: one.reason for one in read_rejected(made)} == {
        "m2.tif": reasons.SAME,
        "m3.jpg": reasons.NEAR,
        "small.png": reasons.SMALL,
        "broken.jpg": reasons.UNREADABLE,
        "link.png": reasons.LINK,
    }
    assert next(item for item in items.values() if item.original == "m1.png").licence == "CC0-1.0"
    for item in items.values():
        assert read_picture(made, item).size == (item.width, item.height)
        assert tile_file(made, item, 10, 1, 0) is not None
    assert sorted(path.name for path in made.iterdir() if not path.name.startswith(".")) == [
        "collection.json", "images", "items.jsonl", "rejected.jsonl", "tiles",
    ]  # fmt: skip
    files = {path.stem for path in made.glob("images/*/*")}
    assert files == {path.name for path in made.glob("tiles/*/*")} == set(items)


def test_going_on_changes_nothing_and_takes_what_is_new(made: Path, folder: Path) -> None:
    sidecar = Sidecar({"m1.png": Told("CC0-1.0", "me")})
    before = (made / "items.jsonl").read_bytes(), sorted((made / "rejected.jsonl").read_bytes().splitlines())
    summary = collect(folder, made, SMALL, processes=1, sidecar=sidecar)
    assert before == ((made / "items.jsonl").read_bytes(), sorted((made / "rejected.jsonl").read_bytes().splitlines()))
    assert (summary.files, summary.taken, summary.rejected[reasons.UNREADABLE]) == (12, 7, 1)
    save(scene(30, SIZE), folder / "n1.png")
    save(scene(40, SIZE), folder / "n2.png")
    for torn in ("items.jsonl", "rejected.jsonl"):
        with (made / torn).open("ab") as file:
            file.write(b'{"id": "half')
    (made / ".work" / "0").mkdir(parents=True)
    summary = collect(folder, made, SMALL, processes=1, sidecar=sidecar)
    assert (summary.files, summary.taken, summary.rejected[reasons.SAME]) == (14, 8, 2)
    assert list(open_collection(made).items.values())[-1].original == "n2.png"
    assert not (made / ".work").exists()


def test_the_report_shows_names_as_text(made: Path, folder: Path) -> None:
    text = write_report(made, folder).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\x1b" not in text
    assert "it shows nearly what one shows that was taken" in text
    assert text.count("data:image/jpeg;base64") >= 10
    assert str(folder) not in text


@pytest.mark.parametrize(
    ("settings", "sidecar", "message"),
    [
        (CollectSettings(min_side=301), None, r"begun with min_side 300, now 301; .*another sidecar"),
        (SMALL, Sidecar({"m1.png": Told("CC0-1.0", "you")}), r"begun with another sidecar; ask for the same"),
    ],
)
def test_other_settings_are_another_collection(
    made: Path, folder: Path, settings: CollectSettings, sidecar: Sidecar | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        collect(folder, made, settings, sidecar=sidecar)


def test_folders_that_cannot_be(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        collect(tmp_path / "gone", tmp_path / "out", SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no pictures"):
        collect(tmp_path / "empty", tmp_path / "out", SMALL)
    for out in (folder, folder / "out", folder.parent):
        with pytest.raises(UsageError, match="lie in each other"):
            collect(folder, out, SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        collect(folder, tmp_path / "file", SMALL)


def test_names_are_told_apart_whatever_their_bytes(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"caf\\xe9.png", "café.png".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    names = [found.name for found in listing(tmp_path)]
    assert len(set(names)) == 3
    assert json.loads(json.dumps(names)) == names
    for name in names:
        Refused(file=name, reason="").model_dump_json().encode()


class Deadly(PosixPath):
    """A path that ends the process that opens it, as a decoder may that a file makes crash."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTEST_CURRENT_TEST_PID") != str(os.getpid()):
            os._exit(11)
        return io.BytesIO()


def test_a_file_that_ends_its_process_costs_that_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST_PID", str(os.getpid()))
    good = save(scene(1, SIZE), tmp_path / "a.png")
    jobs = [
        Job(f"{place}.png", Deadly(good) if place == 1 else good, tmp_path / "work" / str(place), SMALL)
        for place in range(3)
    ]
    found = [result for _, result in crew.results(jobs, 1)]
    assert [isinstance(result, Collected) for result in found] == [True, False, True]
    assert isinstance(found[1], Refused)
    assert found[1].reason == reasons.CRASHED


def test_a_process_that_ends_while_nobody_waits_for_it_costs_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more files than are given out at once: the next one finds the processes gone."""
    monkeypatch.setenv("PYTEST_CURRENT_TEST_PID", str(os.getpid()))
    good = save(scene(1, SIZE), tmp_path / "a.png")
    jobs = [
        Job(f"{place}.png", Deadly(good) if place == 1 else good, tmp_path / "work" / str(place), SMALL)
        for place in range(6)
    ]
    found = []
    for _, result in crew.results(jobs, 1):
        found.append(result)
        while not (tmp_path / "work" / "1").exists():
            time.sleep(0.01)
        time.sleep(0.5 if len(found) == 1 else 0)
    assert [isinstance(result, Collected) for result in found] == [place != 1 for place in range(6)]


def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run looks into it again."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    save(scene(1, SIZE), photos / "good.png")
    save(scene(2, SIZE), photos / "shut" / "other.png")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr("thyme.data.collect.listing.os.scandir", refusing)
        made = collect(photos, out, SMALL, processes=1)
        assert (made.taken, made.rejected) == (1, {reasons.UNREADABLE: 1})
        (refused,) = read_rejected(out)
        assert (refused.file, refused.detail) == ("shut/", "cannot be read (Permission denied)")
        assert "shut/" in write_report(out, photos).read_text()
        with pytest.raises(StoreError, match="Permission denied"):
            listing(photos / "shut")
    made = collect(photos, out, SMALL, processes=1)
    assert (made.taken, made.rejected) == (2, {})
