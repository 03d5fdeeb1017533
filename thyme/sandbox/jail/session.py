"""A session's process: from the fork to the loop that answers the broker."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from . import confine, kernel, seccomp
from .interpreter import Interpreter
from .pictures import Input

_LENGTH, _NUMBER = struct.Struct("<I"), struct.Struct("i")
_chdir = os.chdir  # as it is before the hooks
_PART = 1 << 16
_BESIDE = socket.CMSG_SPACE(253 * _NUMBER.size)
"""Room for as many descriptors as may come with a message; from the broker comes nothing else."""


@dataclass(frozen=True)
class Start:
    """What the zygote hands to a session."""

    place: confine.Place
    """Where the session's files lie."""
    limits: dict[str, Any]
    """Of `SandboxConfig`."""
    interpreter: Interpreter
    """Its hooks are in place, its files and its shared memory are not known yet."""
    rehearse: bool
    """Whether there is time to take the memory that the first run will need."""
    base_bytes: int
    """Address space that the zygote takes."""
    system_calls: seccomp.Filter


def serve(descriptors: list[int], start: Start) -> None:
    """Become a session and answer until the broker goes away.

    Args:
        descriptors: Control stream, pixel memory.
        start: The rest.
    """
    control, pixels = descriptors
    interpreter = start.interpreter
    shared = kernel.map_shared(pixels, os.fstat(pixels).st_size)
    confine.keep_descriptors(control)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=confine.CONTROL)
    try:
        _lock_down(shared, start)
        if start.rehearse:
            json.dumps(interpreter.rehearse())
        order = _receive(stream)[0]["bind"]
        interpreter.bind([Input(**item) for item in order["inputs"]], order["seed"])
    except BaseException as error:  # whatever it is, the broker is to be told why there is no session
        _send(stream, {"fatal": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _send(stream, {"ready": True})
    while True:
        request, given = _receive(stream)
        for index, descriptor in zip(request.get("pixels", ()), given, strict=True):
            interpreter.pictures.give(index, kernel.map_sealed(descriptor))
        reply = interpreter.run(request["code"])
        sys.stdout = sys.stderr = None  # threads that live on have nowhere to print
        _send(stream, {"id": request["id"], **reply})


def _lock_down(shared: memoryview, start: Start) -> None:
    """Shut this process in; nothing gets out of it any more."""
    limits, place = start.limits, start.place
    confine.make_folders(place, limits)
    _chdir(place.real(confine.OUTPUT))
    start.interpreter.move_in(place.prefix, shared)
    confine.set_limits(limits, start.base_bytes + len(shared))
    confine.lock(place, limits, start.system_calls)


def _send(stream: socket.socket, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(stream.fileno(), view) :]


def _receive(stream: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The broker's next message, and the descriptors that came with it."""
    part, beside, _, _ = stream.recvmsg(_PART, _BESIDE)
    given = [number for _, _, numbers in beside for (number,) in _NUMBER.iter_unpack(numbers)]
    data = bytearray(part)
    while part and (len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]):
        part = os.read(stream.fileno(), _PART)
        data += part
    if not part:
        os._exit(0)
    message: dict[str, Any] = json.loads(data[_LENGTH.size :])
    return message, given
