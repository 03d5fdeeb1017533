"""A picture of 108 megapixels, more than Pillow decodes unasked, goes the whole road: export, reader, sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchange_parts import asked, make_collection

from thyme.config.sandbox import SandboxConfig
from thyme.config.training import DataSource
from thyme.data.annotation.export import Export, run_export
from thyme.sandbox.broker import open_sandbox
from thyme.train.grpo.problems import open_problems

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CODE = """image = Image.open(image_path)
image.crop((100, 20, 160, 60)).save('sign.png')
print('sign.png', image.size)"""


@pytest.mark.parametrize("format", ["problems", "thyme-rl"])
async def test_a_picture_of_108_megapixels_is_exported_read_and_cut(tmp_path: Path, format: str) -> None:
    photos = make_collection(tmp_path / "photos", ((12000, 9000),))
    given = [asked(next(iter(photos.items.values())), "a", box=(100, 20, 160, 60))]
    summary = run_export(Export(to=tmp_path / "rl", format=format, sources=[(photos, given)]))
    assert summary.written == 1
    problem = open_problems({"mine": DataSource(format=format, path=str(tmp_path / "rl"))})[0]
    assert problem.images[0].image.size == (12000, 9000)
    async with open_sandbox(SandboxConfig()) as sandbox, sandbox.session(problem.images, seed=0) as session:
        done = await session.run(CODE)
    assert done.error is None, done.error
    assert "(12000, 9000)" in done.stdout
    assert done.images[0].image.getpixel((30, 20)) == (255, 255, 255), "the white sign"
