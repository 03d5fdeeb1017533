#!/usr/bin/env python3
"""Build wheel and sdist, install them into clean environments, and see that what each extra is for works.

    python3 scripts/try_package.py FOLDER                    # the package without extras: a minute
    python3 scripts/try_package.py FOLDER --extras all       # each extra alone, one environment after the other
    python3 scripts/try_package.py FOLDER --extras local,serve

Everything runs outside of the checkout, so that nothing is found there by chance. Environments stay under FOLDER, and
are used again; versions are those of constraints.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "none"
"""Name of the package without extras."""

SMOKE: dict[str, list[list[str]]] = {
    BASE: [
        ["thyme", "--version"],
        ["thyme", "--help"],
        ["thyme", "doctor", "python", "memory", "model", "sandbox"],
        ["thyme", "sandbox", "run", "block.py"],
        ["python", "-c", "import thyme, thyme.sandbox, thyme.agent, thyme.rewards, thyme.engines"],
    ],
    "local": [["thyme", "nano", "problems", "scenes", "--kind", "zoom"], ["thyme", "demo", "--out", "demo"]],
    "train": [["thyme", "grpo", "@nano_grpo", "--dry-run"], ["python", "-c", "import thyme.train.sft.train"]],
    "track": [["python", "-c", "import tensorboard"]],
    "sandbox": [["thyme", "sandbox", "run", "science.py"]],
    "data": [["thyme", "data", "--help"], ["python", "-c", "import thyme.data.factory.png, thyme.data.export.run"]],
    "serve": [
        ["thyme", "serve", "--help"],
        ["thyme", "sandbox", "serve", "--help"],
        ["python", "-c", "import thyme.serve.app, thyme.sandbox.server.app"],
    ],
    "studio": [["thyme", "studio", "--help"], ["python", "-c", "import thyme.studio.app, thyme.studio.run"]],
    "eval": [["thyme", "eval", "list"], ["python", "-c", "import thyme.eval.report"]],
    "cluster": [["python", "-c", "import ray, thyme.sandbox.cluster, thyme.data.factory.ray"]],
}
"""What is run by extra; ``none`` for all of them."""
LACKING = ["thyme", "ask", "What is 2 + 2?"]
"""Without extras it ends with one line that names the extra."""

BLOCK = """from PIL import Image
Image.new("RGB", (40, 30), "red").crop((0, 0, 20, 10)).save("red.png")
print("red.png", 6 * 7)
"""
SCIENCE = "import scipy, sympy, skimage, matplotlib, pandas\nprint(sympy.factor('x**2 - 1'))\n"


def main() -> None:
    """Build, and try what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for distributions and environments")
    parser.add_argument("--extras", default=BASE, help="comma-separated, or all")
    asked = parser.parse_args()
    extras = list(SMOKE) if asked.extras == "all" else asked.extras.split(",")
    if unknown := set(extras) - SMOKE.keys():
        parser.error(f"no such extra: {', '.join(sorted(unknown))}; there are {', '.join(SMOKE)}")
    folder = asked.folder.resolve()
    wheel = built(folder)
    for extra in extras:
        tried(wheel, extra, folder / f"env-{extra}")
        print(f"{extra}: fine", flush=True)  # noqa: T201  # what the script is for


def built(folder: Path) -> Path:
    """The wheel; made of the sdist, so that the sdist is whole."""
    dist = folder / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    python = environment(folder / "env-build")
    run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", "build"])
    run([python, "-m", "build", "--outdir", dist, ROOT])  # the sdist, and of it the wheel
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    tracked = set(run(["git", "ls-files", "thyme"], cwd=ROOT).split()) if (ROOT / ".git").exists() else set()
    with zipfile.ZipFile(wheel) as packed, tarfile.open(sdist) as source:
        missing = tracked - set(packed.namelist())
        missing |= tracked - {name.partition("/")[2] for name in source.getnames()}
    if missing:
        sys.exit(f"not in the distributions: {', '.join(sorted(missing)[:10])}")
    return wheel


def environment(folder: Path) -> Path:
    """The interpreter of a virtual environment, made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def tried(wheel: Path, extra: str, folder: Path) -> None:
    """Install the wheel with an extra, and run what it is for."""
    python = environment(folder)
    what = f"{wheel}[{extra}]" if extra != BASE else str(wheel)
    constrained = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    run([*constrained, what])
    run([*constrained, "--force-reinstall", "--no-deps", wheel])  # the same version may have been there
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "block.py").write_text(BLOCK)
        (Path(place) / "science.py").write_text(SCIENCE)
        for command in [*SMOKE[BASE], *(SMOKE[extra] if extra != BASE else [])]:
            run([folder / "bin" / command[0], *command[1:]], cwd=Path(place))
        if extra == BASE:
            refused = ended([folder / "bin" / LACKING[0], *LACKING[1:]], cwd=Path(place))
            if refused.returncode != 1 or "thyme-vl[local]" not in refused.stderr or "Traceback" in refused.stderr:
                sys.exit(f"{' '.join(LACKING)} does not name the extra that it lacks:\n{refused.stderr}")


def ended(command: list[str | Path], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, where no variable leads Python to other packages."""
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environ)


def run(command: list[str | Path], cwd: Path | None = None) -> str:
    """What a command prints; a failure ends the script with what it said."""
    done = ended(command, cwd)
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    main()
