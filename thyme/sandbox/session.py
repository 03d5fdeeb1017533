"""One trajectory's session: variables live on while its process does, and a process that dies is replaced."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxError
from thyme.sandbox import wire
from thyme.sandbox.process import Order, OverQuotaError, Pixels, SessionProcess
from thyme.types import Execution, ExecutionError

LOST = "variables and files of earlier blocks are gone"

Fork = Callable[[Order], Awaitable[SessionProcess]]


class BrokerSession:
    """Implements `thyme.sandbox.base.Session`. Made by `thyme.sandbox.broker.Broker.session`."""

    def __init__(self, order: Order, isolation: str, fork: Fork) -> None:
        """Prepare; nothing is started before `open`.

        Args:
            order: What the process is made of.
            isolation: Level in force.
            fork: Starts a process.
        """
        self._order, self._isolation, self._fork = order, isolation, fork
        self._process: SessionProcess | None = None
        self._pixels: asyncio.Future[Pixels] | None = None
        """On their way to the process that is alive now, which gets them with the first code."""
        self._replaced = False
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def _config(self) -> SandboxConfig:
        return self._order.config

    async def open(self) -> None:
        """Start the process."""
        await self._start_process()

    async def _start_process(self) -> SessionProcess:
        self._process = await self._fork(self._order)
        if self._order.inputs:
            self._pixels = asyncio.ensure_future(self._order.pixels())
        return self._process

    async def run(self, code: str) -> Execution:
        """Run one code block; see `thyme.sandbox.base.Session.run`."""
        async with self._turn:
            if self._closed:
                raise SandboxError("the session is closed")
            if fault := fault_of(code, self._config.code_chars):
                return self._refused(code, fault)
            process, unnoticed = await self._living()
            started = time.perf_counter()
            try:
                answer = await self._exchange(process, code)
                duration_s = time.perf_counter() - started
                if not isinstance(answer, ExecutionError):
                    return await self._finished(code, process, answer, duration_s, unnoticed)
            except BaseException:  # cancelled, most likely: what the process does now, nobody knows
                await self._end_process()
                raise
            await self._end_process()
            return self._stopped(code, answer, duration_s)

    async def _living(self) -> tuple[SessionProcess, bool]:
        """The process to run in, and whether the last one went away without anybody having been told."""
        unnoticed = self._process is not None and self._process.ended
        if unnoticed:
            await self._end_process()
        if self._process is not None:
            return self._process, False
        self._replaced = True
        return await self._start_process(), unnoticed

    async def _exchange(self, process: SessionProcess, code: str) -> wire.Reply | ExecutionError:
        """Send the code and wait for the answer, or for what ends the session instead."""
        config, request_id = self._config, secrets.token_hex(16)
        pixels = await self._pixels if self._pixels else Pixels()
        self._pixels = None
        request = {"id": request_id, "code": code, "pixels": pixels.positions}
        try:
            data = await process.ask(request, config.message_bytes, config.timeout_s, pixels.descriptors)
            return wire.read_reply(data, request_id, config)
        except TimeoutError:
            message = f"the code ran longer than {config.timeout_s:g} s and was stopped"
            return ExecutionError(type="Timeout", message=message)
        except OverQuotaError as excess:
            return ExecutionError(type=excess.limit, message=str(excess))
        except wire.ProtocolError as fault:
            return ExecutionError(type="Killed", message=f"the session was stopped: {fault}")
        except OSError:
            return ExecutionError(type="Killed", message="the process of the code ended before the code did")
        finally:
            pixels.close()

    async def _finished(
        self, code: str, process: SessionProcess, reply: wire.Reply, duration_s: float, unnoticed: bool
    ) -> Execution:
        error = reply.execution_error()
        if error is not None and self._replaced:
            error = error.model_copy(update={"message": f"{error.message} ({LOST})".strip()})
        self._replaced = self._replaced and error is not None  # once code runs again, the loss is history
        # Not on the event loop, which many pictures would keep from everybody else for seconds.
        images = await asyncio.to_thread(wire.take_images, process.memory, reply.images) if reply.images else ()
        return Execution(
            code=code,
            ran=code if reply.ran is None else reply.ran,
            stdout=reply.stdout,
            images=images,
            error=error,
            repairs=reply.repair_records(),
            duration_s=duration_s,
            truncated=reply.truncated,
            session_lost=unnoticed,
            isolation=self._isolation,
        )

    def _stopped(self, code: str, error: ExecutionError, duration_s: float) -> Execution:
        return Execution(
            code=code,
            ran=code,
            error=error.model_copy(update={"message": f"{error.message}; {LOST}"}),
            duration_s=duration_s,
            session_lost=True,
            isolation=self._isolation,
        )

    def _refused(self, code: str, fault: ExecutionError) -> Execution:
        kept = code[: self._config.code_chars].encode("utf-8", "replace").decode()
        return Execution(code=kept, error=fault, isolation=self._isolation)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        pixels, self._pixels = self._pixels, None
        if pixels is not None and not pixels.cancel() and not pixels.cancelled() and pixels.exception() is None:
            pixels.result().close()
        if process is not None:
            await asyncio.shield(process.kill())

    def refuse(self) -> None:
        """Take no more code from now on; `aclose` is to follow."""
        self._closed = True

    async def aclose(self) -> None:
        """End the process."""
        self._closed = True
        await self._end_process()


def fault_of(code: str, most_chars: int) -> ExecutionError | None:
    """Why a block can neither be sent nor stored; None where it can."""
    if len(code) > most_chars:
        return ExecutionError(
            type="CodeTooLong", message=f"{len(code)} characters of code; at most {most_chars} may run"
        )
    if code.isascii():
        return None
    try:
        code.encode()
    except UnicodeEncodeError as error:
        message = f"U+{ord(code[error.start]):04X} is a lone surrogate, not a character"
        return ExecutionError(type="SyntaxError", message=message, line=code.count("\n", 0, error.start) + 1)
    return None
