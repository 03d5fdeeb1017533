"""The database: its tables are those of the models, versions, both kinds, and how records come into it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, inspect, select, text
from studio_parts import draft, no_code, write_build

from thyme.data.factory.folder import JOURNAL, RECORDS, chunk_file
from thyme.data.factory.shard import read_shard
from thyme.errors import StoreError, UsageError
from thyme.studio import database as databases
from thyme.studio.builds import Builds, import_records
from thyme.studio.database import Database, beside
from thyme.studio.models import Base, Build, Item


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("builds") / "build", [draft(0), draft(1), no_code(2)])


def test_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_way_back_and_forth(database: Database) -> None:
    with database.engine.begin() as connection:
        command.downgrade(databases._alembic(connection), "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    databases.migrate(database.engine)
    assert set(Base.metadata.tables) < set(inspect(database.engine).get_table_names())


def test_sqlite_reads_while_somebody_writes(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.write() as writing, database.read() as reading:
        writing.execute(text("INSERT INTO builds (name, added) VALUES ('x', 0)"))
        assert reading.scalar(text("SELECT count(*) FROM builds")) == 0
        assert reading.scalar(text("PRAGMA journal_mode")) == "wal"
    database.close()


def _fail(database: Database) -> None:
    with database.write() as session:
        session.execute(text("INSERT INTO settings (name, value) VALUES ('x', 'y')"))
        raise RuntimeError


def test_who_reads_sees_one_moment(database: Database) -> None:
    """What is written meanwhile is not there yet: an export must not find a verdict gone that it has just counted."""
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Build)) == 0
        with database.write() as writing:
            writing.add(Build(name="new", added=0))
        assert session.scalar(select(func.count()).select_from(Build)) == 0
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Build)) == 1


def test_a_failure_keeps_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        _fail(database)
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM settings")) == 0


def test_a_newer_database_is_left_alone(database_url: str) -> None:
    first = Database(database_url)
    with first.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    first.close()
    with pytest.raises(UsageError, match="version 9999"):
        Database(database_url)


def test_several_processes_open_a_new_database_at_once(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=Database, args=(database_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is no URL"),
        ("mysql://localhost/x", "not supported"),
        ("sqlite://", "would forget"),
        ("sqlite:////no/such/folder/x.db", "cannot be used"),
        ("postgresql://somebody:secret@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_addresses_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        Database(url)
    assert "secret" not in str(raised.value)


def test_records_come_in_once(database: Database, out: Path) -> None:
    builds = Builds([out])
    assert import_records(database, builds, "build") == 3
    with database.write() as session:
        session.get_one(Item, 1).state = "accept"
    assert import_records(database, builds, "build") == 0
    with database.read() as session:
        rows = session.execute(select(Item.record, Item.scenario, Item.rounds, Item.state).order_by(Item.id)).all()
    assert [tuple(row) for row in rows] == [
        ("photos-00000000-crop", "crop", 1, "accept"),
        ("photos-00000001-crop", "crop", 1, "open"),
        ("photos-00000002-no_code", "no_code", 0, "open"),
    ]


def test_a_build_that_is_under_way(tmp_path: Path) -> None:
    """Its records are taken from its journal; later ones are added, in the same database."""
    out = write_build(tmp_path / "build", [draft(0), draft(1)])
    shard = chunk_file(out, RECORDS, 0)
    first, second = read_shard(shard, kept=True)
    shard.unlink()
    journal = chunk_file(out, JOURNAL, 0)
    journal.parent.mkdir()
    journal.write_bytes(first.line)
    database = Database(beside(out))
    assert import_records(database, Builds([out]), "build") == 1
    journal.write_bytes(first.line + second.line)
    assert import_records(database, Builds([out]), "build") == 1
    assert Builds([out]).draft("build", "photos-00000001-crop").id == "photos-00000001-crop"
    database.close()


def test_the_share_that_two_people_review_is_drawn_by_id(database: Database, out: Path) -> None:
    import_records(database, Builds([out]), "build", double=1)
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Item.wanted == 2)) == 3


def test_folders_that_are_no_builds(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="holds no build"):
        Builds([tmp_path])
    twin = write_build(tmp_path / "build", [no_code(0)])
    with pytest.raises(UsageError, match="two builds are called build"):
        Builds([out, twin])
    with pytest.raises(StoreError, match="not served"):
        Builds([out]).draft("other", "photos-00000000-crop")
    with pytest.raises(StoreError, match="does not hold the record"):
        Builds([out]).draft("build", "photos-00000077-crop")
