"""Which input files the zygote holds, so that each is sent once; the last ones used are kept."""

from __future__ import annotations

import os
import posixpath
from collections import OrderedDict
from collections.abc import Sequence

from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox import wire
from thyme.sandbox.zygote import ZygoteProcess


class InputStore:
    """The files of one zygote at the level ``namespaces``, by their content."""

    def __init__(self, zygote: ZygoteProcess, most_bytes: int, timeout_s: float) -> None:
        """Keep up to `most_bytes` of files beside those that sessions still have; a request may take `timeout_s`."""
        self._zygote, self._most_bytes, self._timeout_s = zygote, most_bytes, timeout_s
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._bytes, self._count = 0, 0
        self._old: list[int] = []
        """Numbers of files that are to go with the next request."""

    async def link(self, session: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Show files to a session.

        Args:
            session: Its name.
            files: Virtual path and bytes of each.

        Raises:
            SandboxDiedError: The zygote went away.
            SandboxError: There is no room for the files, or no descriptor is left to hand them over.
        """
        try:
            await self._link(session, files)
        except SandboxDiedError:
            raise
        except SandboxError:  # a file is not there: who was to put it there was cancelled, or found no room
            self._forget(files)
            await self._link(session, files)

    async def _link(self, session: str, files: Sequence[tuple[str, bytes]]) -> None:
        new: list[tuple[int, int]] = []
        places = []
        try:
            for path, data in files:
                places.append((self._number(data, new), posixpath.basename(path)))
            self._make_room(len({number for number, _ in places}))
            old, self._old = self._old, []
            # Nothing is awaited between the look at what is known and the request: requests are answered in order.
            await self._zygote.link(session, places, new, old, self._timeout_s)
        except BaseException:
            if new:
                self._forget(files)  # whether they got there, nobody knows
            raise
        finally:
            for _, descriptor in new:
                os.close(descriptor)

    def _number(self, data: bytes, new: list[tuple[int, int]]) -> int:
        """Number of a file; one that is not known is added to `new`, with a descriptor."""
        number = self._known.get(data)
        if number is None:
            try:
                descriptor = wire.sealed_file(data)
            except OSError as error:
                raise SandboxError(f"an input file could not be handed over: {error}") from error
            self._count += 1
            number = self._known[data] = self._count
            self._bytes += len(data)
            new.append((number, descriptor))
        self._known.move_to_end(data)
        return number

    def _make_room(self, used: int) -> None:
        """Forget the files that were not used for longest; the last `used` ones stay."""
        while self._bytes > self._most_bytes and len(self._known) > used:
            data, number = self._known.popitem(last=False)
            self._bytes -= len(data)
            self._old.append(number)

    def _forget(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Take files for unknown: they are sent again when they are next wanted."""
        for _, data in files:
            number = self._known.pop(data, None)
            if number is not None:
                self._bytes -= len(data)
                self._old.append(number)
