"""Opens what the studio needs, listens, and ends in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exists, select

from thyme.config.studio import StudioConfig
from thyme.errors import UsageError
from thyme.hosting import Address, listening, serve_app
from thyme.sandbox.broker import open_sandbox
from thyme.studio.accounts import Accounts
from thyme.studio.annotation.checks import resettle
from thyme.studio.annotation.collections import Collections, import_images, is_collection
from thyme.studio.app import create_app
from thyme.studio.builds import Builds, import_records
from thyme.studio.database import Database, beside, sqlite_file
from thyme.studio.models import Build, Reviewer
from thyme.studio.refusal import Refusal
from thyme.studio.service import Studio, link

NamedPrompts = Callable[[str], Path | None]


@dataclass(frozen=True)
class Opened:
    """A database, and the folders whose records and images it knows."""

    database: Database
    builds: Builds
    collections: Collections


@contextmanager
def reviewed(out: Path, url: str | None) -> Iterator[tuple[Database, str]]:
    """A database, and the name of a build that it knows; nothing is made.

    Args:
        out: Folder of the build.
        url: Of the database; None: SQLite in the folder.

    Raises:
        UsageError: The folder holds no build, or the database cannot be used or does not know it.
    """
    (name,) = Builds([out]).folders
    with _existing(out, url) as database:
        with database.read() as session:
            known = session.scalar(select(exists().where(Build.name == name)))
        if not known:
            raise UsageError(f"the database {database.shown} knows no build {name}; `thyme studio serve` takes it in")
        yield database, name


@contextmanager
def annotated(out: Path, url: str | None) -> Iterator[tuple[Database, str]]:
    """The same for a collection, of which a database may know nothing yet.

    Raises:
        UsageError: The folder holds no collection, or the database cannot be used.
    """
    (name,) = Collections([out]).folders
    with _existing(out, url) as database:
        yield database, name


@contextmanager
def _existing(out: Path, url: str | None) -> Iterator[Database]:
    file = sqlite_file(url or beside(out))
    if file is not None and not file.exists():
        raise UsageError(f"there is no database {file}; `thyme studio serve` makes it")
    with opened([out], url) as held:
        yield held.database


@contextmanager
def opened(outs: Sequence[Path], url: str | None) -> Iterator[Opened]:
    """A database, and the builds and collections whose records and images it holds.

    Args:
        outs: Folders of builds or collections.
        url: Of the database; None: SQLite in the first folder.

    Raises:
        UsageError: A folder holds neither, or the database cannot be used.
    """
    collected = [out for out in outs if is_collection(out)]
    builds, collections = Builds([out for out in outs if out not in collected]), Collections(collected)
    database = Database(url or beside(outs[0]))
    try:
        yield Opened(database, builds, collections)
    except Refusal as refusal:
        raise UsageError(refusal.message) from refusal
    finally:
        database.close()


def take_in(held: Opened, config: StudioConfig) -> tuple[int, int]:
    """Import what the folders hold and the database does not; gives how many records and images were new."""
    records = sum(
        import_records(held.database, held.builds, name, double=config.double) for name in held.builds.folders
    )
    images = sum(import_images(held.database, held.collections, name) for name in held.collections.folders)
    with held.database.write() as session:
        resettle(session, config.annotation)
    return records, images


def invitation(
    database: Database, config: StudioConfig, name: str, *, lead: bool, roles: Sequence[str] | None = None
) -> str:
    """A link that lets somebody in, once.

    Args:
        database: Where accounts are.
        config: Says how reviewers reach the server.
        name: Whom it lets in; empty: anybody new.
        lead: Whether that person leads.
        roles: What that person is asked to do in annotation; None: the usual.
    """
    token = Accounts(database, config).invite(name, lead=lead, roles=roles)
    return link(config, token, f"http://{config.host}:{config.port}")


def require_public_url(config: StudioConfig) -> None:
    """See to it that nobody opens the studio to a network in clear text by mistake.

    Raises:
        UsageError: Other machines reach it, and it is not said how.
    """
    if not Address(config.host).is_private and not config.public_url:
        raise UsageError(
            f"{config.host} is reachable from other machines: say with --public-url how reviewers reach the studio "
            "(https://… behind a reverse proxy), or listen on 127.0.0.1"
        )


async def serve(
    outs: Sequence[Path],
    config: StudioConfig,
    url: str | None,
    named_prompts: NamedPrompts,
    ready: Callable[[str, int, int, str | None], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests finish; a second signal ends them at once.

    Args:
        outs: Folders of builds or collections.
        config: The studio.
        url: Of the database; None: SQLite in the first folder.
        named_prompts: Folder of the prompts that a recipe names.
        ready: Called when requests are taken, with the address, how many records and images were new, and a link for
            the first person, who leads, where nobody does yet.

    Raises:
        UsageError: The address or the database cannot be had, or a folder holds nothing to work on.
        IsolationError: A build is served, and the sandbox's level is not to be had here.
    """
    require_public_url(config)
    with listening(Address(config.host, config.port)) as (socket, address), opened(outs, url) as held:
        new = await asyncio.to_thread(take_in, held, config)
        async with open_sandbox(config.sandbox) if held.builds.folders else nullcontext() as sandbox:
            studio = Studio(config, held.database, held.builds, sandbox, named_prompts, address, held.collections)
            first = None if config.proxy_header or _anybody_leads(held.database) else studio.link("", lead=True)
            app, started = create_app(studio), lambda: ready(address, *new, first)
            await serve_app(app, socket, _at_once, started, proxy_headers=False)  # who connects must be known


async def _at_once() -> None:
    """Nothing to wait for: uvicorn lets requests that are under way end."""


def _anybody_leads(database: Database) -> bool:
    with database.read() as session:
        return bool(session.scalar(select(exists().where(Reviewer.active, Reviewer.lead))))
