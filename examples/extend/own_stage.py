"""A stage of your own in the construction of training data: records whose code takes no closer look are dropped.

    python examples/extend/own_stage.py runs/own_stage

Twelve records are made of the embedded world. The teacher goes by rules and runs in this program, so nothing is asked
over a network. docs/extend/stage.md.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thyme.config.data import DataRecipe, SourceSettings, TeacherSettings
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.build import Build
from thyme.data.factory.manifest import Manifest
from thyme.data.factory.run import Execute, run_build
from thyme.data.stages import STAGES
from thyme.data.stages.base import Context, Stage
from thyme.nano import checkpoint_path
from thyme.nano.factory.faults import Rates
from thyme.nano.factory.server import Classroom, open_server
from thyme.nano.factory.source import open_nano
from thyme.types import Observation

STAGE = "close_looks"
MOST = 0.1
"""Largest share of the question's picture that one picture of the code may be."""


async def close_looks(draft: Draft, context: Context) -> Draft | Rejection:
    """Reject a draft whose code brought back a picture that is hardly a closer look.

    Args:
        draft: Finished.
        context: Not looked at; the recipe, the sandbox and the teachers are there.
    """
    whole = max((image.width * image.height for image in draft.problem.images), default=0)
    for segment in draft.segments:
        for image in segment.execution.images if isinstance(segment, Observation) else ():
            if image.width * image.height > MOST * whole:
                return Rejection.of(draft, STAGE, "wide_picture", f"{image.width} x {image.height} px")
    return draft


def own_stages() -> dict[str, Stage]:
    """The package's stages with ours behind ``accept``: the order of a dict is the order of the stages."""
    stages: dict[str, Stage] = {}
    for name, stage in STAGES.items():
        stages[name] = stage
        if name == "accept":
            stages[STAGE] = close_looks
    return stages


@contextmanager
def teacher() -> Iterator[str]:
    """A rule-based teacher that makes no mistakes, served from a thread; its URL."""
    server = open_server(Classroom(rates=Rates(0.0)), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1#nano-teacher"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def build(out: Path, count: int = 12, execute: Execute | None = None) -> Manifest:
    """Build records with our stage among the others.

    Args:
        out: Folder of the build.
        count: Records.
        execute: Who does the work; None: processes of this machine, which find the stage by its name.
    """
    with teacher() as url:
        recipe = DataRecipe(
            count=count,
            chunk=count,
            processes=1,
            prompts="nano",
            sources={"small": SourceSettings(world="nano", columns={"kind": "zoom"}, count=200)},
            scenarios={"crop": 1, "enhancement": 1},
            teachers={"rules": TeacherSettings(model=url, temperature=0.0)},
        )
        stages = own_stages()
        asked = Build(recipe, out, checkpoint_path() / "prompts", {"nano": open_nano}, stages=stages)
        return run_build(asked, execute=execute)


def main() -> None:
    """Build, and say what became of the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the build")
    made = build(parser.parse_args().out)
    print(f"{made.kept} records, {made.rejected} rejected, of {made.count}")


if __name__ == "__main__":
    main()
