"""A collection is read back as it was written; names that would lead out of its folder are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_pictures import scene
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thyme.config.annotation import CollectSettings
from thyme.data.collect.folder import (
    CollectionFile,
    image_file,
    open_collection,
    read_items,
    read_picture,
    read_rejected,
    tile_box,
    tile_file,
    tiles_folder,
    top_level,
)
from thyme.data.collect.records import TILE, Collected, Refused
from thyme.data.collect.tiles import write_tiles
from thyme.errors import StoreError, UsageError
from thyme.images import MAX_PIXELS
from thyme.types import image_id

sides = st.integers(1, 20_000)


def item(id: str = "ab12", **fields: object) -> Collected:
    return Collected.model_validate(
        {"id": id, "width": 3000, "height": 2000, "format": "PNG", "original": "a"} | fields
    )


def begin(folder: Path) -> None:
    about = CollectionFile(folder="photos", settings=CollectSettings(min_side=5))
    (folder / "collection.json").write_text(about.model_dump_json())


def test_items_are_read_in_order_and_a_torn_line_counts_as_none(tmp_path: Path) -> None:
    begin(tmp_path)
    lines = [item("ab12").model_dump_json(), "", item("00ff", original="é\n").model_dump_json()]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:40])
    (tmp_path / "rejected.jsonl").write_text(Refused(file="b", reason="small").model_dump_json() + "\n{")
    made = open_collection(tmp_path)
    assert (made.name, made.settings.min_side, list(made.items)) == (tmp_path.name, 5, ["ab12", "00ff"])
    assert made.items["00ff"].original == "é\n"
    assert [one.file for one in read_rejected(tmp_path)] == ["b"]


def test_a_collection_that_has_nothing_yet(tmp_path: Path) -> None:
    begin(tmp_path)
    assert open_collection(tmp_path).items == {}
    assert list(read_rejected(tmp_path)) == []


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no collection: it has no collection\.json; make one with"):
        open_collection(tmp_path)
    begin(tmp_path)
    (tmp_path / "items.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(StoreError, match=r"items\.jsonl, line 1: damaged"):
        list(read_items(tmp_path))
    (tmp_path / "collection.json").write_text('{"version": 7, "folder": "a", "settings": {}}')
    with pytest.raises(StoreError, match=r"no collection of version 1 \(version"):
        open_collection(tmp_path)


@pytest.mark.parametrize("id", ["../../etc", "a/b", "", "ab", "a.b", "ab\0c", "ä" * 5])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, id: str) -> None:
    with pytest.raises(StoreError, match="no name of a stored image"):
        image_file(tmp_path, item(id))
    with pytest.raises(StoreError, match="no name of a stored image"):
        tiles_folder(tmp_path, id)


def test_a_picture_is_checked_against_its_name(tmp_path: Path) -> None:
    image = scene(1, (60, 40))
    kept = item(image_id(image), width=60, height=40)
    path = image_file(tmp_path, kept)
    with pytest.raises(StoreError, match=r"cannot be read.*restore it"):
        read_picture(tmp_path, kept)
    path.parent.mkdir(parents=True)
    image.save(path)
    assert read_picture(tmp_path, kept).id == kept.id
    scene(2, (60, 40)).save(path)
    with pytest.raises(StoreError, match="shows other pixels than were stored"):
        read_picture(tmp_path, kept)
    scene(2, (80, 40)).save(path)
    with pytest.raises(StoreError, match="more than the limit"):
        read_picture(tmp_path, kept)


@given(width=sides, height=sides, level=st.integers(-2, 17), x=st.integers(-2, 50), y=st.integers(-2, 50))
def test_tiles_of_a_level_cover_it_without_overlap(width: int, height: int, level: int, x: int, y: int) -> None:
    box = tile_box((width, height), level, x, y)
    top = top_level((width, height))
    assert 2**top >= max(width, height) > 2 ** (top - 1) or max(width, height) == 1
    if not 0 <= level <= top or min(x, y) < 0:
        assert box is None
        return
    across, down = (-(-side // 2 ** (top - level)) for side in (width, height))
    if x * TILE >= across or y * TILE >= down:
        assert box is None
    else:
        assert box == (x * TILE, y * TILE, min((x + 1) * TILE, across), min((y + 1) * TILE, down))


@pytest.mark.parametrize("size", [(1300, 700), (513, 512), (1, 1), (3, 1100)])
def test_every_tile_is_there_and_shows_its_place(tmp_path: Path, size: tuple[int, int]) -> None:
    image = scene(4, size)
    kept = item(image_id(image), width=size[0], height=size[1])
    count = write_tiles(image, tiles_folder(tmp_path, kept.id))
    found = 0
    for level in range(top_level(size) + 1):
        places = [(x, y) for x in range(40) for y in range(40) if tile_box(size, level, x, y)]
        for x, y in places:
            path, box = tile_file(tmp_path, kept, level, x, y), tile_box(size, level, x, y)
            assert path is not None
            assert box is not None
            with Image.open(path) as tile:
                assert tile.size == (box[2] - box[0], box[3] - box[1])
        found += len(places)
    assert found == count
    assert tile_file(tmp_path, kept, 99, 0, 0) is None
    assert tile_file(tmp_path, kept, 0, 1, 0) is None
    left, top, right, bottom = tile_box(size, top_level(size), 0, 0) or (0, 0, 0, 0)
    with Image.open(tiles_folder(tmp_path, kept.id) / str(top_level(size)) / "0_0.jpg") as tile:
        part = image.crop((left, top, right, bottom))
        assert abs(sum(part.resize((1, 1)).getpixel((0, 0))) - sum(tile.resize((1, 1)).getpixel((0, 0)))) < 12


def test_the_limit_of_other_readers_is_no_limit_here() -> None:
    assert CollectSettings().max_pixels > MAX_PIXELS
