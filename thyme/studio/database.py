"""The database: SQLite beside the build by default, PostgreSQL by URL; brought to this version's tables when opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from thyme.errors import MissingExtraError, StoreError, UsageError

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_S = 30
"""Seconds that a writer waits for another one of SQLite."""
_LOCK: Final = 7_436_881
"""PostgreSQL's advisory lock while the tables are brought up to date: a number of our own."""
_WRITES: Final = "thyme_writes"
_BATCH: Final = 500
"""Rows of one insertion: databases bound the values of a statement."""
_FULL: Final = ("disk is full", "disk I/O error")
"""What SQLite says where there is no room; the second also of a file that may not grow."""


class Database:
    """Sessions on one database. Any thread, and several processes, may use it."""

    def __init__(self, url: str) -> None:
        """Open a database, and bring its tables up to date.

        Args:
            url: As SQLAlchemy names it: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

        Raises:
            UsageError: It cannot be reached, or is of a newer version of this package.
            MissingExtraError: Its driver is not installed.
        """
        self.url = _parsed(url)
        self._engine = _engine(self.url)
        self._writing = self._engine.execution_options(**{_WRITES: True})
        self._reading = self._engine.execution_options(**_reads(self.url))
        try:
            migrate(self._engine)
        except DBAPIError as error:
            self.close()
            if any(word in _short(error) for word in _FULL):
                raise StoreError(
                    f"the database {self.shown} cannot be written ({_short(error)}); make room on the disk, and run "
                    "the same command again"
                ) from error
            raise UsageError(f"the database {self.shown} cannot be used ({_short(error)})") from error
        except (UsageError, CommandError) as error:
            self.close()
            raise UsageError(str(error)) from error

    @property
    def shown(self) -> str:
        """Its address without the password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def engine(self) -> Engine:
        """What is beneath."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing, and sees the database as it was when it first looked, as SQLite's do.

        Raises:
            StoreError: The database went away.
        """
        with self._session(self._reading) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction, kept at the end of the block unless it raises. SQLite lets in one at a time.

        Raises:
            StoreError: The database went away.
        """
        with self._session(self._writing) as session, session.begin():
            yield session

    def insert_missing(self, table: type[DeclarativeBase], rows: Iterable[dict[str, Any]]) -> int:
        """Insert rows that are not there yet, some hundred in a transaction; those that are there stay as they are.

        Returns:
            How many were new.

        Raises:
            StoreError: The database went away.
        """
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        key, rest, added = inspect(table).primary_key, iter(rows), 0
        while batch := list(islice(rest, _BATCH)):
            with self.write() as session:
                done = session.execute(insert(table).values(batch).on_conflict_do_nothing().returning(*key))
                added += len(done.all())
        return added

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session
        except OperationalError as error:  # it is gone, stays locked, or broke a deadlock: the next time may do
            raise StoreError(f"the database {self.shown} does not answer ({_short(error)}); try again") from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def beside(out: Path) -> str:
    """Address of the SQLite database in the folder of a build."""
    return URL.create("sqlite", database=str(out.absolute() / "studio.db")).render_as_string(hide_password=False)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None of another kind.

    Raises:
        UsageError: It is no URL, or one of a kind that is not supported.
    """
    parsed = _parsed(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def storable(text: str, instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """A text for the database: PostgreSQL's hold no zero, and none holds half of a character (a lone surrogate).

    Args:
        text: From a file or a stranger.
        instead: Of zeros.
    """
    return text.replace("\0", instead).encode("utf-8", "replace").decode()


def migrate(engine: Engine, target: str = "head") -> None:
    """Bring tables to a version, under a lock; nothing is done where they have it.

    Args:
        engine: Of the database.
        target: Version, as Alembic names it.

    Raises:
        UsageError: The database is of a newer version.
    """
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        settings = _alembic(connection)
        known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
        held = MigrationContext.configure(connection).get_current_revision()
        if held is not None and held not in known:
            raise UsageError(
                f"the database's tables are of version {held}, which this version of thyme does not know; install a "
                "newer one"
            )
        command.upgrade(settings, target)


def _alembic(connection: Connection) -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError(
            "the database is no URL; say sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    if parsed.drivername in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise UsageError(f"databases of the kind {parsed.drivername!r} are not supported; take sqlite or postgresql")
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise UsageError("a database in memory would forget every review; name a file: sqlite:///FILE")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args=_connect_args(url), max_overflow=40)
    except NoSuchModuleError as error:
        raise UsageError(f"databases of the kind {url.drivername!r} are not supported: {error}") from error
    except ImportError as error:
        raise MissingExtraError("a PostgreSQL database", "studio") from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _reads(url: URL) -> dict[str, Any]:
    return {} if url.get_backend_name() == "sqlite" else {"isolation_level": "REPEATABLE READ"}


def _connect_args(url: URL) -> dict[str, Any]:
    return {"timeout": _BUSY_S} if url.get_backend_name() == "sqlite" else {"connect_timeout": 10}


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us: the driver begins them too late for a writer
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.create_function("lower", 1, _lower, deterministic=True)  # its own knows the letters of English only


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: one that read before could no longer get it once another has written."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _short(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0][:300]
