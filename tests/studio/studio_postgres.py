"""A PostgreSQL server of our own for a test, where Debian's is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest


def _binaries() -> Path | None:
    """The newest server's folder; ``pg_ctl`` is not on Debian's path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if found:
        return found[-1].parent
    on_path = shutil.which("pg_ctl")
    return None if on_path is None else Path(on_path).parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server on a socket in a folder of its own, gone with the tests."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:  # a socket's path has at most 107 bytes
        folder = Path(name)
        as_somebody = _as_somebody(folder)
        data = folder / "data"

        def run(program: str, *arguments: object) -> None:
            command = [*as_somebody, binaries / program, "-D", data, *arguments]
            subprocess.run([str(part) for part in command], check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "-A", "trust", "-U", "studio", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-l", folder / "log", "-o", options, "-w", "-t", "100", "start")
        try:
            yield f"postgresql://studio@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A fresh database."""
    return fresh(postgres_server)


def fresh(server: str) -> str:
    """Address of a new database on a server."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


def _as_somebody(folder: Path) -> list[str]:
    """What a command begins with where we are root, as whom PostgreSQL does not run."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
