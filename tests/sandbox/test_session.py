"""What model-written code can count on, at each level: inputs, state, images, errors, repairs."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

import pytest
from PIL import Image

from thyme.sandbox import Broker
from thyme.sandbox.base import Sandbox, Session
from thyme.types import Execution, ImageRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUT = "/mnt/data/temp_processed_images"


def gradient(width: int, height: int) -> Image.Image:
    """Every pixel tells where it is: red is x, green is y."""
    picture = Image.new("RGB", (width, height))
    picture.putdata([(x % 256, y % 256, 7) for y in range(height) for x in range(width)])
    return picture


WIDE = ImageRecord.of(gradient(120, 80))


async def run(broker: Broker, *blocks: str, images: Sequence[ImageRecord] = (WIDE,), seed: int = 0) -> list[Execution]:
    async with broker.session(images, seed) as session:
        return [await session.run(block) for block in blocks]


async def test_it_keeps_the_contract(broker: Broker) -> None:
    assert isinstance(broker, Sandbox)
    async with broker.session() as session:
        assert isinstance(session, Session)
        execution = await session.run("print(1)")
    assert execution.isolation == broker.isolation
    assert execution.code == execution.ran == "print(1)"
    assert execution.duration_s > 0
    assert not execution.truncated
    assert not execution.session_lost


async def test_variables_functions_and_modules_live_on(broker: Broker) -> None:
    blocks = [
        "import math\nbase = 3\ndef power(n):\n    return 1 if n == 0 else base * power(n - 1)\nclass A:\n    k = base",
        "print([power(i) for i in range(3)], A.k, math.floor(2.5), (lambda: base)())",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = base\nprint(P())",
    ]
    executions = await run(broker, *blocks)
    assert [e.error for e in executions] == [None] * 3
    assert [e.stdout for e in executions] == ["", "[1, 3, 9] 3 2 3\n", "P(x=3)\n"]


async def test_sessions_do_not_see_each_other(broker: Broker) -> None:
    async with broker.session() as first, broker.session() as second:
        await first.run("secret = 5\nopen('note.txt', 'w').write('x')\nimport math\nmath.pi = 3")
        execution = await second.run(
            "import os, math\nprint('secret' in globals(), os.listdir('.'), round(math.pi, 2))"
        )
    assert execution.stdout == "False [] 3.14\n"


async def test_seed_decides_what_is_random(broker: Broker) -> None:
    block = (
        "import random, numpy as np\n"
        "print(random.random(), np.random.rand(), list({'a', 'b', 'c', 'd'}), hash('x') % 97)"
    )
    (first,), (again,), (other,) = [await run(broker, block, seed=seed) for seed in (7, 7, 8)]
    assert first.stdout == again.stdout
    assert first.stdout != other.stdout


async def test_inputs_have_neutral_names_and_true_endings(broker: Broker) -> None:
    buffer = io.BytesIO()
    gradient(64, 48).save(buffer, "JPEG")
    decoded = Image.open(io.BytesIO(buffer.getvalue()))
    decoded.load()
    jpeg = ImageRecord.of(decoded, name="answer_is_B.jpg", format="JPEG", encoded=buffer.getvalue())
    block = (
        "import cv2\nfrom PIL import Image\nprint(image_path, image_paths)\n"
        "for p in image_paths:\n    print(Image.open(p).format, Image.open(p).size, cv2.imread(p).shape)\n"
        "print(open(image_paths[1], 'rb').read() == BYTES)"
    ).replace("BYTES", repr(buffer.getvalue()))
    (execution,) = await run(broker, block, images=[WIDE, jpeg])
    assert execution.error is None
    assert execution.stdout == (
        "/mnt/data/input/image_1.png ['/mnt/data/input/image_1.png', '/mnt/data/input/image_2.jpg']\n"
        "PNG (120, 80) (80, 120, 3)\nJPEG (64, 48) (48, 64, 3)\nTrue\n"
    )


async def test_rotated_photo_arrives_upright_for_every_reader(broker: Broker) -> None:
    """An upright record without its old bytes: the EXIF flag that would turn it once more is gone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    gradient(40, 20).save(buffer, "JPEG", exif=exif)
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    assert upright.size == (20, 40)
    block = "import cv2\nfrom PIL import Image\nprint(Image.open(image_path).size, cv2.imread(image_path).shape[:2])"
    (execution,) = await run(broker, block, images=[ImageRecord.of(upright)])
    assert execution.stdout == "(20, 40) (40, 20)\n"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "I;16", "F", "LA"])
async def test_input_of_any_mode_can_be_read(broker: Broker, mode: str) -> None:
    picture = Image.new("F", (9, 5)) if mode == "F" else gradient(9, 5).convert("L" if mode == "I;16" else mode)
    record = ImageRecord.of(picture.convert("I").convert("I;16") if mode == "I;16" else picture)
    (execution,) = await run(broker, "from PIL import Image\nprint(Image.open(image_path).size)", images=[record])
    assert (execution.stdout, execution.error) == ("(9, 5)\n", None)


async def test_problem_without_images(broker: Broker) -> None:
    (execution,) = await run(broker, "print(image_paths, 'image_path' in globals())", images=[])
    assert execution.stdout == "[] False\n"


async def test_fifty_inputs(broker: Broker) -> None:
    (execution,) = await run(
        broker, "import os\nprint(len(image_paths), all(map(os.path.exists, image_paths)))", images=[WIDE] * 50
    )
    assert execution.stdout == "50 True\n"


async def test_printed_image_comes_back_exactly(broker: Broker) -> None:
    block = (
        "from PIL import Image\nimage = Image.open(image_path).crop((10, 20, 50, 60))\n"
        f"path = '{OUT}/crop.png'\nimage.save(path)\nprint('area', 1600)\nprint(path)"
    )
    (execution,) = await run(broker, block)
    (image,) = execution.images
    assert image.image.tobytes() == gradient(120, 80).crop((10, 20, 50, 60)).tobytes()
    assert (image.name, image.mode, image.size) == (f"{OUT}/crop.png", "RGB", (40, 40))
    assert execution.stdout == f"area 1600\n{OUT}/crop.png\n"
    assert execution.repairs == ()


async def test_which_images_come_back(broker: Broker) -> None:
    blocks = [
        "from PIL import Image\nsave = lambda n: Image.new('L', (4, 4), 9).save(n)\nsave('silent.png')",
        "save('b c.png'); save('a.png'); print(['b c.png', './a.png'])",
        "processed_path = ['a.png', 'b c.png']\nprint('see a.png')",
        "print('only text')",
        f"save('a.png')\nprint('saved again, not named: {OUT}')",
        "print('silent.png.', 'xsilent.png', 'silent.png2')",
        "print(image_path); open('t.txt', 'w').write('hi'); print('t.txt')",
        "import pathlib\nprocessed_path = pathlib.Path('a.png')",
    ]
    names = [[image.name.rpartition("/")[2] for image in e.images] for e in await run(broker, *blocks)]
    assert names == [
        [],
        ["b c.png", "a.png"],
        ["a.png", "b c.png"],
        [],
        [
            "a.png",
        ][:1],
        ["silent.png"],
        [],
        ["a.png"],
    ]


async def test_a_picture_comes_back_after_blocks_that_saved_none(broker: Broker) -> None:
    draw = "from PIL import Image\nImage.new('RGB', (8, 6)).save('a.png')\nprint('a.png')"
    async with broker.session() as session:
        for code in ("1", "open('b', 'w').close(); import os; os.remove('b')", "1"):
            await asyncio.sleep(0.06)
            assert (await session.run(code)).images == ()
        assert [image.size for image in (await session.run(draw)).images] == [(8, 6)]
        assert (await session.run("os.remove('a.png'); os.makedirs('deep')")).images == ()
        await asyncio.sleep(0.06)
        assert (await session.run("1")).images == ()
        deep = await session.run(draw.replace("a.png", "deep/a.png"))
        assert [image.size for image in deep.images] == [(8, 6)]
        gone = await session.run("import shutil; shutil.rmtree(os.getcwd()); print('gone')")
        assert (gone.error, gone.stdout) in [(None, "gone\n"), (gone.error, "")]
        assert (await session.run("print(1)")).stdout == "1\n"


async def test_modes_and_formats_that_come_back(broker: Broker) -> None:
    block = (
        "from PIL import Image\nimport numpy as np\n"
        "for mode, name in (('L','l.png'),"
        "('RGBA','a.png'),('P','p.gif'),('1','b.bmp'),('CMYK','c.jpg'),('LA','la.png'),"
        "('RGB','w.webp')):\n    Image.new(mode, (6, 3)).save(name)\n    print(name)\n"
        "Image.fromarray(np.full((3, 6), 0x1234, np.uint16)).save('s.png')\nprint('s.png')"
    )
    (execution,) = await run(broker, block)
    assert execution.error is None
    modes = [(image.name.rpartition("/")[2], image.mode) for image in execution.images]
    assert modes == [
        ("l.png", "L"), ("a.png", "RGBA"), ("p.gif", "RGB"), ("b.bmp", "L"), ("c.jpg", "RGB"), ("la.png", "RGBA"),
        ("w.webp", "RGB"), ("s.png", "L"),
    ]  # fmt: skip
    assert execution.images[-1].image.getpixel((0, 0)) == 0x12


async def test_saved_files_are_real(broker: Broker) -> None:
    block = (
        "import os, cv2, glob, pathlib, shutil\nfrom PIL import Image\n"
        f"Image.open(image_path).save('{OUT}/x.jpg')\n"
        f"print(os.path.getsize('{OUT}/x.jpg') > 100, os.listdir('{OUT}'), glob.glob('{OUT}/*.jpg'), os.getcwd())\n"
        f"print(cv2.imread('{OUT}/x.jpg').shape, [str(p) for p in pathlib.Path('{OUT}').iterdir()])\n"
        f"shutil.copy(image_path, '{OUT}/in.png'); os.rename('{OUT}/in.png', 'moved.png'); os.remove('{OUT}/x.jpg')\n"
        f"print([e.name for e in os.scandir('{OUT}')], os.path.realpath('moved.png'), "
        "pathlib.Path('moved.png').resolve())"
    )
    (execution,) = await run(broker, block)
    assert execution.error is None
    assert execution.stdout == (
        f"True ['x.jpg'] ['{OUT}/x.jpg'] {OUT}\n(80, 120, 3) ['{OUT}/x.jpg']\n"
        f"['moved.png'] {OUT}/moved.png {OUT}/moved.png\n"
    )


@pytest.mark.parametrize(
    ("code", "kind", "message", "line"),
    [
        ("x = 1\ny = x / 0", "ZeroDivisionError", "division by zero", 2),
        ("def f():\n    return [][1]\n\nf()", "IndexError", "list index out of range", 2),
        ("import json\njson.loads('{')", "JSONDecodeError", "Expecting property name", 2),
        ("x = = 1", "SyntaxError", "invalid syntax in `x = = 1`", 1),
        ("raise SystemExit(3)", "SystemExit", "3", 1),
        ("import thyme", "ModuleNotFoundError", "No module named 'thyme'", 1),
        ("undefined_name", "NameError", "undefined_name", 1),
        ("x = '\udc80'", "SyntaxError", "U+DC80 is a lone surrogate", 1),
        ("import cv2\ncv2.cvtColor(None, 6)", "cv2.error", "cvtColor", 2),
        ("raise ValueError('y' * 10_000)", "ValueError", "y" * 500, 1),
    ],
)
async def test_errors_are_short_and_say_where(
    broker: Broker, code: str, kind: str, message: str, line: int | None
) -> None:
    execution, alive = await run(broker, code, "print('alive')")
    assert execution.error is not None
    assert (execution.error.type, execution.error.line) == (kind, line)
    assert message in execution.error.message
    assert len(execution.error.message) < 700
    assert alive.stdout == "alive\n"


@pytest.mark.parametrize("code", ["", "\n", "# nothing", "exit()", "import sys; sys.exit(0)", "quit()"])
async def test_code_that_ends_well(broker: Broker, code: str) -> None:
    (execution,) = await run(broker, code)
    assert (execution.error, execution.stdout) == (None, "")


async def test_printed_text_before_an_error_is_kept(broker: Broker) -> None:
    (execution,) = await run(broker, "import sys\nprint('a')\nprint('b', file=sys.stderr)\n1 / 0")
    assert execution.stdout == "a\nb\n"


async def test_standard_output_is_a_whole_stream(broker: Broker) -> None:
    code = (
        "import sys, contextlib, io\nsys.stdout.buffer.write(b'bytes\\n')\n"
        "sys.stdout.reconfigure(line_buffering=True)\n"
        "print('text', sys.stdout.encoding, sys.stdout.isatty(), flush=True)\n"
        "with contextlib.redirect_stdout(io.StringIO()) as hidden:\n    print('hidden')\n"
        "sys.stdout.close()"
    )
    first, second = await run(broker, code, "print('again')")
    assert (first.stdout, first.error) == ("bytes\ntext utf-8 False\n", None)
    assert second.stdout == "again\n"


async def test_what_the_code_did_not_save_does_not_come_back(broker: Broker) -> None:
    block = (
        "import numpy, os, glob\nroot = os.path.dirname(numpy.__file__)\n"
        "found = glob.glob(root + '/../**/*.png', recursive=True)\n"
        "processed_path = [image_path, *found[:3]]\nprint(image_path, *found[:3])"
    )
    (execution,) = await run(broker, block)
    assert (execution.images, execution.error) == ((), None)


async def test_real_paths_never_show(broker: Broker) -> None:
    block = (
        "import os, tempfile\n"
        "print(os.getcwd(), os.path.abspath('x'), [e.path for e in os.scandir('/mnt/data/input')])\n"
        "print(tempfile.gettempdir())\nopen('/mnt/data/temp_processed_images/no/such.txt')"
    )
    (execution,) = await run(broker, block)
    assert execution.error is not None
    assert execution.stdout == f"{OUT} {OUT}/x ['/mnt/data/input/image_1.png']\n/mnt/data/tmp\n"
    assert "thyme-" not in execution.stdout + execution.error.message


async def test_name_of_the_host_does_not_show(broker: Broker) -> None:
    if broker.isolation != "namespaces":
        pytest.skip("without a namespace of its own the name is the host's")
    (execution,) = await run(broker, "import os, socket\nprint(os.uname().nodename, socket.gethostname())")
    assert execution.stdout == "sandbox sandbox\n"


async def test_files_and_folders_are_copied_with_all_they_have(broker: Broker) -> None:
    (execution,) = await run(
        broker,
        "import os, shutil\nfrom PIL import Image\n"
        "shutil.copy2(image_path, 'copy.png')\nos.mkdir('folder')\n"
        "Image.open('copy.png').crop((0, 0, 30, 20)).save('folder/part.png')\n"
        "shutil.copytree('folder', 'other')\nprint('copy.png other/part.png')",
    )
    assert execution.error is None
    assert [image.size for image in execution.images] == [(120, 80), (30, 20)]


async def test_libraries_work_in_the_jail(broker: Broker) -> None:
    block = (
        "import tempfile, concurrent.futures as f, collections, decimal, sqlite3, ctypes\n"
        "with tempfile.NamedTemporaryFile('w+') as t:\n    t.write('x')\n"
        "with f.ThreadPoolExecutor(4) as pool:\n    print(sum(pool.map(lambda v: v * v, range(5))))\n"
        "import numpy as np, cv2\n"
        "print(np.linalg.inv(np.eye(3)).sum(), cv2.Canny(np.zeros((9, 9), np.uint8), 1, 2).sum())\n"
        "from PIL import ImageFont, ImageDraw, Image\nImageDraw.Draw(Image.new('L', (9, 9))).text((0, 0), 'a')"
    )
    (execution,) = await run(broker, block)
    assert (execution.stdout, execution.error) == ("30\n3.0 0\n", None)


async def test_optional_libraries_are_imported_inside(broker: Broker) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sympy")
    block = (
        "import matplotlib.pyplot as plt, sympy\nprint(sympy.sqrt(8))\nplt.plot([1, 2])\n"
        f"plt.savefig('{OUT}/plot.png')\nprint('{OUT}/plot.png')"
    )
    (execution,) = await run(broker, block)
    assert execution.error is None
    assert len(execution.images) == 1
