"""Fixtures of the studio's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from studio_postgres import postgres_server, postgres_url

from thyme.studio.database import Database

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a fresh database, of each kind that a studio may stand on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'studio.db'}"
    made: str = request.getfixturevalue("postgres_url")
    return made


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, with its tables."""
    made = Database(database_url)
    yield made
    made.close()
