"""The executor on Ray Data makes the same records as the one on this machine, whatever happens to its actors."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factory_parts as parts
import pytest
from ray_cluster import local_ray
from waiting import wait_until

from thyme.config.data import BudgetSettings, SourceSettings
from thyme.data.factory import folder
from thyme.data.factory.manifest import read_manifest
from thyme.data.factory.run import run_build
from thyme.errors import EngineError, MissingExtraError, SandboxError

TWINS = {"squares": SourceSettings(world="squares", count=200, split="twins")}
"""Each picture twice, so that there are duplicates to be found."""


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    pytest.importorskip("ray.data")
    with local_ray(cpus=2):
        yield


ON_RAY = [
    pytest.mark.slow,
    pytest.mark.usefixtures("_ray"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def on_ray(function: Any) -> Any:
    for mark in ON_RAY:
        function = mark(function)
    return function


def actors() -> list[int]:
    """Processes of Ray Data's that make chunks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@on_ray
def test_records_are_those_of_the_local_executor(tmp_path: Path) -> None:
    here = parts.build(tmp_path / "here", parts.WHOLE, sandbox=True, sources=TWINS, count=40)
    there = parts.build(tmp_path / "there", parts.WHOLE, sandbox=True, sources=TWINS, count=40, executor="ray")
    one, other = run_build(here, execute=parts.run_here), run_build(there)
    assert (other.state, other.kept, other.rejected) == ("finished", one.kept, one.rejected)
    assert parts.contents(there.out) == parts.contents(here.out)
    assert any("duplicate" in text for text in parts.contents(there.out))


@on_ray
def test_an_actor_that_is_killed_costs_no_record(tmp_path: Path) -> None:
    there = parts.build(tmp_path / "there", parts.SLOW, count=64, executor="ray")
    killed: list[int] = []

    def kill() -> None:
        wait_until(lambda: list((there.out / folder.JOURNAL).glob("*.jsonl")), 600)
        for pid in actors()[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    made = run_build(there)
    killer.join()
    assert killed
    assert (made.state, made.kept + made.rejected) == ("finished", 64)
    here = parts.build(tmp_path / "here", parts.SLOW, count=64)
    run_build(here, execute=parts.run_here)
    assert parts.contents(there.out) == parts.contents(here.out)


@on_ray
def test_a_chunk_that_ends_its_actors_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"3 actors ended while they had chunk \d"):
        run_build(parts.build(tmp_path, parts.DEADLY, executor="ray", duplicates=None))
    assert not list((tmp_path / folder.JOURNAL).glob(".*"))
    again = run_build(parts.build(tmp_path, parts.SIMPLE, executor="ray", duplicates=None))
    assert (again.state, again.kept + again.rejected) == ("finished", 40)


@on_ray
def test_a_spent_budget_keeps_what_was_made_and_goes_on(tmp_path: Path) -> None:
    spent = parts.build(tmp_path, parts.SPENDING, executor="ray", budget=BudgetSettings(requests=20))
    made = run_build(spent)
    assert made.state == "spent"
    assert 0 < made.kept <= 20
    again = run_build(parts.build(tmp_path, parts.SPENDING, executor="ray"))
    assert (again.state, again.kept) == ("finished", 40)


@on_ray
def test_an_error_that_ends_the_build_comes_through_and_ends_its_actors(tmp_path: Path) -> None:
    failing = parts.build(tmp_path, parts.FAILING, executor="ray")
    with pytest.raises(EngineError, match="the endpoint is gone"):
        run_build(failing)
    held = read_manifest(tmp_path)
    assert held is not None
    assert held.state == "failed"
    wait_until(lambda: not actors())


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="cluster"):
        run_build(parts.build(tmp_path, executor="ray"))
