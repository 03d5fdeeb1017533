"""Pictures of collected images as browsers get them: tiles, reduced, as the model first sees them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from annotation_parts import SIZE, drawn, serving, write_collection, write_tiles
from PIL import Image
from studio_parts import Client, Served

from thyme.data.collect.folder import image_file, open_collection, read_picture
from thyme.errors import StoreError, UsageError
from thyme.studio.annotation.collections import Collections


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures: one with tiles, one without, one whose file is gone."""
    made = write_collection(tmp_path_factory.mktemp("pictures") / "photos", 3)
    first, _, third = open_collection(made).items.values()
    write_tiles(made, first, read_picture(made, first).image)
    image_file(made, third).unlink()
    return made


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(folder) as found:
        yield found


def shown(served: Served, path: str) -> Image.Image:
    response = client(served).http.get(f"/api/annotation/images/{path}")
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content)).convert("RGB")


def client(served: Served) -> Client:
    return served.clients[0] if served.clients else served.client("Ana")


def apart(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of two pictures, grey levels."""
    return float(np.abs(np.asarray(first, np.int16) - np.asarray(second, np.int16)).mean())


@pytest.mark.parametrize("image", [1, 2])
def test_tiles_show_the_image(served: Served, image: int) -> None:
    whole = drawn(image - 1)
    tile = shown(served, f"{image}/tiles/12/0_0")
    assert tile.size == (512, 512)
    assert apart(tile, whole.crop((0, 0, 512, 512))) < 4
    edge = shown(served, f"{image}/tiles/12/4_3")
    assert edge.size == (2400 - 2048, 1800 - 1536)
    assert apart(edge, whole.crop((2048, 1536, 2400, 1800))) < 4
    small = shown(served, f"{image}/tiles/9/0_0")
    assert small.size == (300, 225)
    assert apart(small, whole.resize((300, 225), Image.Resampling.BOX)) < 4


@pytest.mark.parametrize("image", [1, 2])
def test_pictures_are_reduced_from_tiles(served: Served, image: int) -> None:
    whole = drawn(image - 1)
    assert shown(served, f"{image}/picture?side=400").size == (400, 300)
    assert shown(served, f"{image}/picture?side=99999").size == SIZE
    assert shown(served, f"{image}/picture?side=-5").size == (1, 1)
    first = shown(served, f"{image}/picture?first_view=1")
    assert first.size == (1148, 840)
    assert apart(first, whole.resize((1148, 840), Image.Resampling.BICUBIC)) < 4


def test_a_picture_that_is_gone_is_named(served: Served) -> None:
    response = client(served).http.get("/api/annotation/images/3/picture")
    assert response.status_code == 404
    assert "cannot be read" in response.json()["error"]["message"]


def test_folders_that_are_no_collections(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="holds no collection"):
        Collections([tmp_path])
    with pytest.raises(UsageError, match="two collections are called photos"):
        Collections([folder, write_collection(tmp_path / "photos", 0)])
    with pytest.raises(StoreError, match="not served"):
        Collections([folder]).folder("other")
