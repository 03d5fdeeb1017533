"""A session's process: from the fork to the loop that answers the broker."""

from __future__ import annotations

import json
import os
import struct
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from . import confine, kernel, seccomp
from .interpreter import Interpreter
from .paths import Paths
from .pictures import Input

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Start:
    """What the zygote hands to a session."""

    place: confine.Place
    """Where the session's files lie."""
    base_bytes: int
    """Address space that the zygote takes."""
    system_calls: seccomp.Filter


def serve(request: dict[str, Any], descriptors: list[int], start: Start) -> None:
    """Become a session and answer until the broker goes away.

    Args:
        request: ``inputs`` (virtual paths), ``seed``, ``repairs`` and ``limits``.
        descriptors: Control stream, pixel memory, then one memory file for each input.
        start: The rest.
    """
    limits, place = request["limits"], start.place
    control, pixels, *inputs = descriptors
    try:
        confine.reset_signals()
        confine.make_folders(place, limits, list(zip(request["inputs"], inputs, strict=True)))
        os.chdir(place.real(confine.OUTPUT))
        shared = kernel.map_shared(pixels, os.fstat(pixels).st_size)
        confine.keep_descriptors(control)
        control = confine.CONTROL
        interpreter = Interpreter(Paths(place.prefix, (), request["repairs"]), limits, shared)
        interpreter.bind([Input(path, "", "", 0, 0) for path in request["inputs"]], request["seed"])
        confine.set_limits(limits, start.base_bytes + len(shared))
        confine.lock(place, limits, start.system_calls)
    except BaseException as error:  # whatever it is, the broker is to be told why there is no session
        _send(control, {"fatal": f"{type(error).__name__}: {error}"})
        os._exit(1)
    warnings.simplefilter("ignore")
    _send(control, {"ready": True})
    while True:
        request = json.loads(_receive(control))
        reply = interpreter.run(request["code"])
        sys.stdout = sys.stderr = None  # threads that live on have nowhere to print
        _send(control, {"id": request["id"], **reply})


def _send(control: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(control, view) :]


def _receive(control: int) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
    return _exactly(control, length)


def _exactly(control: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = os.read(control, length - len(data))
        if not part:
            os._exit(0)
        data += part
    return bytes(data)
