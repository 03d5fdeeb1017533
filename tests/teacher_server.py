"""A teacher on this machine that says what it is told to, and recipes and drafts to try it with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from chat_server import ChatServer, Says, chatting
from PIL import Image

from thyme.config.data import DataRecipe
from thyme.data.drafts import Draft, Rejection
from thyme.data.stages.base import Context, Workbench
from thyme.data.stages.execute import execute
from thyme.data.stages.generate import generate
from thyme.data.teachers import TeacherPool
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.types import ImageRecord, Problem

__all__ = ["Says", "TeacherServer", "draft_of", "made", "recipe_of", "teaching", "workplace"]


class TeacherServer(ChatServer):
    """One that recipes name as a teacher, or as a judge of records."""

    def teacher(self, **fields: Any) -> dict[str, Any]:
        quick = {"retries": 2, "backoff_s": 0.001, "timeout_s": 10.0}
        return {"model": f"{self.url}#toy", **quick, **fields}

    def judge(self, **fields: Any) -> dict[str, Any]:
        return self.teacher(**fields)


def teaching() -> AbstractContextManager[TeacherServer]:
    """Serve until the context ends."""
    return chatting(TeacherServer())


def recipe_of(server: TeacherServer, **fields: Any) -> DataRecipe:
    values: dict[str, Any] = {
        "count": 1,
        "sources": {"pictures": {"path": "pictures"}},
        "scenarios": {"crop": 1.0},
        "teachers": {"first": server.teacher()},
    }
    return DataRecipe.model_validate(values | fields)


def draft_of(scenario: str = "crop", number: int = 0, **fields: Any) -> Draft:
    """A prepared draft: a red square on grey, and a question about it."""
    image = Image.new("RGB", (64, 48), (128, 128, 128))
    image.paste((255, 0, 0), (40, 20, 50, 30))
    images = (ImageRecord.of(image, name="red_square.png"),)
    problem = Problem(id="p", question="Which colour has the square?", images=images, answer="red")
    box = [40, 20, 50, 30]
    hints = {"boxes": [box], "wrong": [0, 0, 10, 10], "larger": [20, 10, 60, 40]}
    values: dict[str, Any] = {
        "id": f"pictures-{number}-{scenario}",
        "scenario": scenario,
        "seed": 7 + number,
        "source": "pictures",
        "origin": problem,
        "problem": problem,
        "hints": hints,
    }
    return Draft(**(values | fields))


@asynccontextmanager
async def workplace(recipe: DataRecipe, sandbox: Sandbox | None, folder: Path | None = None) -> AsyncIterator[Context]:
    """Without a sandbox nothing can run; what only asks needs none."""
    async with TeacherPool(recipe, folder, environment={}) as teachers:
        yield Context(recipe=recipe, sandbox=cast(Sandbox, sandbox), prompts=PromptSet.load(), teachers=teachers)


async def made(draft: Draft, context: Context) -> Draft | Rejection:
    """Ask and execute in turn until there is an outcome."""
    bench = context.benches[draft.id] = Workbench()
    record: Draft | Rejection = draft
    try:
        for _ in range(context.recipe.max_rounds + 1):
            for stage in (generate, execute):
                if isinstance(record, Rejection) or record.finished:
                    return record
                record = await stage(record, context)
        return record
    finally:
        del context.benches[draft.id]
        await bench.aclose()
