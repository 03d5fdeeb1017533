"""What the paths of the studio share: database, builds, accounts, sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from thyme.config.data import DataRecipe
from thyme.config.studio import StudioConfig
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.studio.accounts import Accounts, Person
from thyme.studio.annotation.collections import Collections
from thyme.studio.annotation.pictures import Images
from thyme.studio.builds import Builds
from thyme.studio.database import Database
from thyme.studio.pictures import Pictures

_AT_ONCE = 4
"""Edited records whose code runs at once; others wait."""


def _folder(name: str) -> Path | None:
    return Path(name) if name else None


@dataclass
class Studio:
    """What the paths share. The caller owns database and sandbox."""

    config: StudioConfig
    database: Database
    builds: Builds
    sandbox: Sandbox | None
    """None where no build is served."""
    named_prompts: Callable[[str], Path | None] = _folder
    """Folder of the prompts that a recipe names; None: the package's own."""
    address: str = ""
    """As it listens, ``http://HOST:PORT``."""
    collections: Collections = field(default_factory=lambda: Collections([]))
    """Of large images, about which questions are asked."""
    accounts: Accounts = field(init=False)
    pictures: Pictures = field(init=False)
    images: Images = field(init=False)
    running: asyncio.Semaphore = field(init=False)
    """Bounds how many edited records run at once."""

    def __post_init__(self) -> None:
        """Read what the database knows."""
        self.accounts = Accounts(self.database, self.config)
        self.pictures = Pictures(self.database, self.builds)
        self.images = Images(self.database, self.collections, self.config.annotation)
        self.running = asyncio.Semaphore(_AT_ONCE)

    def link(self, name: str, *, lead: bool, roles: Sequence[str] | None = None) -> str:
        """A link that lets somebody in, once.

        Raises:
            Refusal: The name cannot be one (400), or belongs to somebody who may not come in any more (403).
        """
        return link(self.config, self.accounts.invite(name, lead=lead, roles=roles), self.address)

    def prompts(self, recipe: DataRecipe) -> PromptSet:
        """Those that the trained model of a build is asked with.

        Raises:
            ConfigError: They cannot be read.
        """
        return PromptSet.load(self.named_prompts(recipe.prompts))


def link(config: StudioConfig, token: str, address: str) -> str:
    """Where somebody goes who is invited; what stands behind ``#`` is sent to no server, so that no log holds it."""
    return f"{(config.public_url or address).rstrip('/')}/join#{token}"


def studio_of(request: Request) -> Studio:
    """The studio that a request came to."""
    studio: Any = request.app.state.studio
    assert isinstance(studio, Studio)
    return studio


def person_of(request: Request) -> Person | None:
    """Who sent a request; None where nobody is let in. For pages, which then show how to come in."""
    return studio_of(request).accounts.person_of(request)
