"""The sandbox on a Ray of one machine: how sessions are spread, and what becomes of an actor that dies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from ray_cluster import local_ray

from thyme.errors import MissingExtraError, SandboxDiedError, SandboxError, UsageError
from thyme.sandbox import SandboxConfig
from thyme.sandbox.cluster import open_cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = SandboxConfig(timeout_s=20, memory_mb=1024, pool=0)


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    pytest.importorskip("ray")
    with local_ray():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
async def test_sessions_go_where_there_are_fewest() -> None:
    async with open_cluster(CONFIG, actors=2, cpus=0.1) as sandbox:
        async with sandbox.session() as first, sandbox.session():
            assert sandbox.loads == (1, 1)
            async with sandbox.session(), sandbox.session():
                assert sandbox.loads == (2, 2)
            assert (await first.run("print(1)")).stdout == "1\n"
        assert sandbox.loads == (0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
async def test_actor_that_dies_is_replaced_and_its_sessions_are_lost() -> None:
    import ray

    async with open_cluster(CONFIG, actors=1, cpus=0.1) as sandbox:
        async with sandbox.session() as session, sandbox.session() as other:
            await session.run("x = 1")
            await other.run("x = 2")
            (host,) = sandbox._actors.hosts
            ray.kill(host.actor)
            execution = await session.run("print('x' in globals())\nprint(x)")
            assert (execution.stdout, execution.session_lost) == ("False\n", True)
            assert execution.error is not None
            assert "earlier blocks are gone" in execution.error.message
            assert (await other.run("print('x' in globals())")).session_lost
            assert sandbox.loads == (2,)
            running = asyncio.create_task(session.run("import time\ntime.sleep(10)"))
            await asyncio.sleep(0.5)
            (host,) = sandbox._actors.hosts
            ray.kill(host.actor)
            with pytest.raises(SandboxDiedError, match="while code ran in it"):
                await running
            execution = await session.run("print(1)")  # the loss is told by the next result
            assert (execution.stdout, execution.session_lost) == ("1\n", True)
        assert sandbox.loads == (0,)


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
async def test_cluster_without_room_is_an_error() -> None:
    with pytest.raises(SandboxError, match="has the cluster room for it"):
        async with open_cluster(CONFIG.model_copy(update={"start_timeout_s": 1.0}), cpus=64):
            pass


async def test_missing_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"a sandbox on a cluster needs the extra 'cluster'"):
        async with open_cluster():
            pass


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
async def test_no_actors_are_no_sandbox() -> None:
    with pytest.raises(UsageError, match="at least one"):
        async with open_cluster(CONFIG, actors=0):
            pass
