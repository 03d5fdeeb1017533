"""A stream to a session: messages with their length before them, and descriptors beside them.

Read only while an answer is awaited: what a session says out of turn stays in the socket, whose buffer is small.
The event loop goes on watching the socket after an answer, since most often the next one is awaited soon; it stops at
the first thing said out of turn.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from thyme.sandbox.wire import LENGTH, ProtocolError

_PART = 1 << 18


class Channel:
    """Our end of a session's control stream."""

    def __init__(self, connection: socket.socket) -> None:
        """Own a connected stream socket."""
        connection.setblocking(False)
        self._socket, self._number = connection, connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] | None = None
        self._watched = False
        self._most_bytes = 0
        self._data = bytearray()

    async def send(self, message: bytes, deadline: float, descriptors: Sequence[int] = ()) -> None:
        """Send a message.

        Args:
            message: Of `thyme.sandbox.wire.pack`.
            deadline: Time of the event loop until which it may take, seconds.
            descriptors: Go with its first byte; the caller keeps its own copies.

        Raises:
            TimeoutError: It took longer.
            OSError: The session ended.
        """
        view = memoryview(message)
        if descriptors:
            view = view[socket.send_fds(self._socket, [view], list(descriptors)) :]
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                async with asyncio.timeout_at(deadline):
                    await self._loop.sock_sendall(self._socket, view)
                return

    async def receive(self, most_bytes: int, deadline: float) -> bytes:
        """Wait for a message.

        Raises:
            TimeoutError: There was none at the `deadline`, a time of the event loop in seconds.
            ProtocolError: It is longer than `most_bytes`.
            OSError: The session ended.
            Exception: Whatever `fail` was called with.
        """
        self._answer, self._most_bytes = self._loop.create_future(), most_bytes
        timer = self._loop.call_at(deadline, self.fail, TimeoutError())
        if not self._watched:
            self._loop.add_reader(self._number, self._read)
            self._watched = True
        try:
            return await self._answer
        finally:
            self._answer = None
            timer.cancel()

    def fail(self, error: BaseException) -> None:
        """Let `receive` raise."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _read(self) -> None:
        if self._answer is None:
            self._ignore()
            return
        try:
            part = self._socket.recv(_PART)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        if not part:
            self.fail(ConnectionResetError("the session ended"))
            return
        self._data += part
        self._deliver()

    def _deliver(self) -> None:
        data, answer = self._data, self._answer
        if len(data) < LENGTH.size or answer is None or answer.done():
            return
        (length,) = LENGTH.unpack_from(data)
        end = LENGTH.size + length
        if length > self._most_bytes:
            self.fail(ProtocolError(f"a message of {length} bytes"))
        elif len(data) >= end:
            answer.set_result(bytes(data[LENGTH.size : end]))
            del data[:end]

    def _ignore(self) -> None:
        self._loop.remove_reader(self._number)
        self._watched = False

    def close(self) -> None:
        """Close the stream; who waits for an answer hears that the session ended."""
        self.fail(ConnectionResetError("the session was closed"))
        if self._watched:
            self._ignore()
        self._socket.close()
