"""A build as it goes to the processes that work on it, and what each of them opens for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from thyme.config.data import DataRecipe
from thyme.config.sandbox import SandboxConfig
from thyme.data.factory.draw import Plan, plan
from thyme.data.factory.held_out import HeldOut
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.base import Scenario
from thyme.data.sources import World, open_sources
from thyme.data.sources.base import Source
from thyme.data.stages import STAGES
from thyme.data.stages.base import Context, Stage, Teachers
from thyme.data.teachers import TeacherPool
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.sandbox.broker import open_sandbox

OpenTeachers = Callable[[DataRecipe, Path], AbstractAsyncContextManager[Teachers]]
OpenSandbox = Callable[[SandboxConfig], AbstractAsyncContextManager[Sandbox]]


@dataclass(frozen=True)
class Build:
    """One build: recipe, folder, and what the package's parts above bring. It is pickled, its functions by name."""

    recipe: DataRecipe
    out: Path
    prompts: Path | None = None
    """Folder of the trained model's prompts; None are the package's own."""
    worlds: Mapping[str, World] = field(default_factory=dict)
    """Built-in sources by name."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """The pictures of benchmarks, which no record may hold."""
    stages: Mapping[str, Stage] | None = None
    """In order; None are the package's."""
    scenarios: Mapping[str, Scenario] | None = None
    """None are the package's."""
    open_teachers: OpenTeachers = TeacherPool
    open_sandbox: OpenSandbox = open_sandbox

    def sources(self) -> dict[str, Source]:
        """The sources of the recipe by name.

        Raises:
            ConfigError: One cannot be read.
        """
        return open_sources(self.recipe, self.worlds)

    def plan(self, sources: Mapping[str, Source]) -> Plan:
        """The draw.

        Raises:
            ConfigError: A scenario is unknown, or no source can serve it.
        """
        return plan(self.recipe, sources, SCENARIOS if self.scenarios is None else self.scenarios)

    def chain(self) -> Mapping[str, Stage]:
        """The stages, in order."""
        return STAGES if self.stages is None else self.stages

    @asynccontextmanager
    async def context(self) -> AsyncIterator[Context]:
        """What stages use: sandbox, teachers, prompts.

        Raises:
            IsolationError: The sandbox's level is not to be had here.
            UsageError: A teacher's name or key is wrong.
        """
        prompts = PromptSet.load(self.prompts)
        async with (
            self.open_teachers(self.recipe, self.out) as teachers,
            self.open_sandbox(self.recipe.sandbox) as sandbox,
        ):
            yield Context(self.recipe, sandbox, prompts, teachers)
