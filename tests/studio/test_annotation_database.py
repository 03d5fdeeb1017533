"""A database of the version before annotation is brought to this one with all that it holds; and goes back."""

from __future__ import annotations

from alembic import command
from sqlalchemy import text

from thyme.studio import database as databases
from thyme.studio.database import Database

ROWS = (
    "INSERT INTO settings VALUES ('secret', 'aa')",
    "INSERT INTO builds (id, name, added) VALUES (1, 'build', 0)",
    "INSERT INTO reviewers (id, name, lead, active, created) VALUES (1, 'Ana', true, true, 0)",
    "INSERT INTO reviewers (id, name, lead, active, created) VALUES (2, 'Bo', false, true, 0)",
    "INSERT INTO invites (id, digest, name, lead, created, expires) VALUES (1, 'd', 'Cy', false, 0, 9)",
    "INSERT INTO items (id, build_id, record, scenario, source, teacher, kind, rounds, question, wanted, state) "
    "VALUES (1, 1, 'r', 'crop', 's', 't', '', 1, 'Q?', 1, 'accept')",
    "INSERT INTO leases (item_id, slot, reviewer_id, until, done) VALUES (1, 0, 2, 5, true)",
    "INSERT INTO reviews (id, item_id, reviewer_id, verdict, reason, note, decision, created) "
    "VALUES (1, 1, 2, 'accept', '', '', false, 3)",
)
TABLES = ("settings", "builds", "reviewers", "invites", "items", "leases", "reviews")


def test_what_the_version_before_holds_is_kept(database_url: str) -> None:
    engine = databases._engine(databases._parsed(database_url))
    databases.migrate(engine, "0001")
    with engine.begin() as connection:
        for row in ROWS:
            connection.execute(text(row))
        before = {table: connection.execute(text(f"SELECT * FROM {table}")).mappings().all() for table in TABLES}
    engine.dispose()
    database = Database(database_url)
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0003"
        for table in TABLES:
            after = connection.execute(text(f"SELECT * FROM {table}")).mappings().all()
            more = {"roles": "annotate second"} if table in {"reviewers", "invites"} else {}
            assert [dict(row) for row in after] == [dict(row) | more for row in before[table]]
    with database.engine.begin() as connection:
        command.downgrade(databases._alembic(connection), "0001")
    with database.engine.connect() as connection:
        for table in TABLES:
            assert connection.execute(text(f"SELECT * FROM {table}")).mappings().all() == before[table]
    database.close()
