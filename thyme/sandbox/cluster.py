"""A sandbox spread over a Ray cluster: the same broker in actors, the same contract. Needs the extra ``cluster``.

Ray's own connections are trusted, as every program on a Ray cluster is: whoever reaches them may run anything, outside
of any sandbox. What the sandbox keeps apart here, as everywhere, is the code of its sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from thyme.config.sandbox import SandboxConfig
from thyme.errors import MissingExtraError, SandboxDiedError, SandboxError, UsageError
from thyme.sandbox.base import Session
from thyme.sandbox.broker import Broker
from thyme.sandbox.far import AnswerLostError, FarSession, FarSessions, SessionGoneError
from thyme.sandbox.levels import LEVELS
from thyme.types import Execution, ImageRecord

_END_S = 10.0
_DEFAULT = SandboxConfig()


class SandboxHost:
    """The actor: a broker, and its sessions by key."""

    def __init__(self, config: SandboxConfig) -> None:
        """Prepare; `start` starts it."""
        self._config = config
        self._broker: Broker | None = None
        self._sessions: dict[str, tuple[Session, contextlib.AsyncExitStack]] = {}
        self._runs: dict[str, asyncio.Task[Execution]] = {}
        self._unwanted: set[str] = set()
        """Sessions that were ended before they were open."""

    async def start(self) -> str:
        """Start the broker; its level of isolation."""
        if self._broker is None:
            self._broker = await Broker.start(self._config)
        return self._broker.isolation

    async def open(self, key: str, images: Sequence[ImageRecord], seed: int) -> None:
        """Open a session."""
        assert self._broker is not None
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._broker.session(images, seed))
            if key not in self._unwanted:
                self._sessions[key] = session, stack.pop_all()

    async def knows(self, key: str) -> bool:
        """Whether there is such a session."""
        return key in self._sessions

    async def run(self, key: str, code: str) -> Execution:
        """Run a block."""
        if key not in self._sessions:
            raise SandboxError("the session was ended")
        task = self._runs[key] = asyncio.create_task(self._sessions[key][0].run(code))
        try:
            return await task
        except asyncio.CancelledError:
            raise SandboxError("the session was ended while the code ran") from None
        finally:
            self._runs.pop(key, None)

    async def close(self, key: str) -> None:
        """End a session, whatever it is doing."""
        if key in self._runs:
            self._runs[key].cancel()
            await asyncio.wait({self._runs[key]})
        if key in self._sessions:
            await self._sessions.pop(key)[1].aclose()
        else:
            self._unwanted.add(key)

    async def aclose(self) -> None:
        """End all of them, and the broker."""
        if self._broker is not None:
            await self._broker.aclose()


@contextlib.asynccontextmanager
async def open_cluster(
    config: SandboxConfig = _DEFAULT, *, actors: int = 1, cpus: float = 1.0, options: dict[str, Any] | None = None
) -> AsyncIterator[ClusterSandbox]:
    """Start a sandbox in each of several Ray actors; all of them end with the context.

    The program calls ``ray.init`` first; otherwise Ray does, with what its environment says. thyme must be installed on
    every node.

    Args:
        config: Of each actor: ``max_sessions`` and ``pool``, too, are those of one.
        actors: How many.
        cpus: Processors that Ray reserves for each.
        options: More of Ray's options for actors, e.g. ``{"resources": {"sandbox": 1}}`` or a scheduling strategy.

    Raises:
        MissingExtraError: Ray is not installed.
        IsolationError: A node does not offer the level asked for.
        SandboxError: The cluster has no room for the actors.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("a sandbox on a cluster", "cluster") from error
    if actors < 1:
        raise UsageError(f"{actors} actors; take at least one")
    sandbox = ClusterSandbox(_Actors(ray, config, {"num_cpus": cpus, "max_restarts": 0, **(options or {})}))
    try:
        await sandbox.start(actors)
        yield sandbox
    finally:
        await asyncio.shield(sandbox.aclose())


class ClusterSandbox:
    """A sandbox on a cluster: implements `thyme.sandbox.base.Sandbox`. Use `open_cluster`."""

    def __init__(self, actors: _Actors) -> None:
        """Work with these actors."""
        self._actors = actors
        self._sessions = FarSessions(actors)

    async def start(self, count: int) -> None:
        """Start so many actors, at once."""
        starting = [asyncio.ensure_future(self._actors.add()) for _ in range(count)]
        try:
            await asyncio.gather(*starting)
        finally:
            await asyncio.wait(starting)

    @property
    def isolation(self) -> str:
        """Weakest level in force on any actor: ``namespaces`` or ``landlock``."""
        return max((host.isolation for host in self._actors.hosts), key=LEVELS.index)

    @property
    def loads(self) -> tuple[int, ...]:
        """Open sessions of each actor."""
        return tuple(host.sessions for host in self._actors.hosts)

    def session(
        self, images: Sequence[ImageRecord] = (), seed: int = 0
    ) -> AbstractAsyncContextManager[FarSession[_Place]]:
        """Open a session on the actor that has the fewest; see `thyme.sandbox.base.Sandbox.session`."""
        return self._sessions.session(tuple(images), seed)

    async def aclose(self) -> None:
        """End every session and every actor."""
        await self._sessions.aclose()
        await self._actors.aclose()


@dataclass(eq=False)
class _Host:
    """An actor, seen from here."""

    actor: Any
    isolation: str
    sessions: int = 0


@dataclass(frozen=True)
class _Place:
    """Where a session lives."""

    host: _Host
    key: str = field(default_factory=lambda: secrets.token_hex(16))


class _Actors:
    """The far side; implements `thyme.sandbox.far.Far`."""

    def __init__(self, ray: Any, config: SandboxConfig, options: dict[str, Any]) -> None:
        self._ray, self._config = ray, config
        self._make = ray.remote(SandboxHost).options(**options)
        self.hosts: list[_Host] = []
        self._replacing = asyncio.Lock()

    async def add(self) -> _Host:
        """Start one more actor."""
        actor = self._make.remote(self._config)
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                host = _Host(actor, await self._ask(actor.start))
        except TimeoutError:
            self._ray.kill(actor)
            raise SandboxError(
                f"an actor did not start within {self._config.start_timeout_s:g} s: has the cluster room for it? "
                "See 'ray status'; ask for fewer actors or cpus, or raise start_timeout_s"
            ) from None
        except BaseException:
            self._ray.kill(actor)
            raise
        self.hosts.append(host)
        return host

    async def open(self, images: tuple[ImageRecord, ...], seed: int) -> _Place:
        """Start a session on the actor that has the fewest; one that died is replaced."""
        for _ in range(2 * len(self.hosts) + 1):
            host = min(self.hosts, key=lambda host: host.sessions)
            place = _Place(host)
            host.sessions += 1  # now, so that those who ask at the same time go elsewhere
            try:
                await self._ask(host.actor.open, place.key, images, seed)
                return place
            except SandboxDiedError:
                host.sessions -= 1
                await self._replace(host)
            except BaseException:  # cancelled, most likely: it may yet be opened
                await self.close(place)
                raise
        raise SandboxDiedError("the actors of the sandbox die as soon as they are made; see 'ray logs'")

    async def run(self, place: _Place, code: str) -> Execution:
        """Run a block."""
        try:
            # Asked first, since of a call to an actor that is gone Ray does not say whether it was begun.
            known = await self._ask(place.host.actor.knows, place.key)
        except SandboxDiedError as error:
            place.host.sessions -= 1
            await self._replace(place.host)
            raise SessionGoneError(str(error)) from error
        if not known:
            place.host.sessions -= 1
            raise SessionGoneError("its actor does not know it")
        try:
            execution: Execution = await self._ask(place.host.actor.run, place.key, code)
        except SandboxDiedError as error:
            raise AnswerLostError(f"{error} while code ran in it") from error
        return execution

    async def close(self, place: _Place) -> None:
        """End a session."""
        place.host.sessions -= 1
        if place.host in self.hosts:
            with contextlib.suppress(SandboxError, TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._ask(place.host.actor.close, place.key)

    async def _replace(self, dead: _Host) -> None:
        async with self._replacing:
            if dead in self.hosts:
                self._ray.kill(dead.actor)
                await self.add()
                self.hosts.remove(dead)

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        """Call an actor.

        Raises:
            SandboxDiedError: It is gone.
            SandboxError: Its sandbox failed.
        """
        exceptions = self._ray.exceptions
        try:
            return await method.remote(*arguments)
        except exceptions.RayActorError as error:
            raise SandboxDiedError(f"an actor of the sandbox died: {str(error)[:500]}") from error
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, SandboxError):
                raise error.cause from None
            raise SandboxError(f"an actor of the sandbox failed: {str(error)[:2000]}") from error

    async def aclose(self) -> None:
        """End every actor, its sandbox first."""
        await asyncio.gather(*(self._end(host) for host in self.hosts))

    async def _end(self, host: _Host) -> None:
        with contextlib.suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._ask(host.actor.aclose)
        self._ray.kill(host.actor)
