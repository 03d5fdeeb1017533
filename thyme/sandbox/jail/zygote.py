"""The process that sessions are forked from: everything imported once, nothing of the host's in its memory."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from . import confine, inputs, kernel, landlock, root, seccomp, session
from .paths import Paths
from .released import interpreter_for

WARM = """
    array ast base64 bisect builtins calendar cmath collections copy csv dataclasses datetime decimal dis enum
    fractions functools glob hashlib heapq importlib.util inspect io itertools json linecache math mmap operator
    pathlib pickle pprint queue random re shutil site statistics string struct tempfile textwrap threading time
    tokenize traceback types typing unicodedata uuid warnings zlib
    numpy numpy.fft numpy.linalg numpy.random cv2 PIL.Image PIL.ImageChops PIL.ImageColor PIL.ImageDraw
    PIL.ImageEnhance PIL.ImageFilter PIL.ImageFont PIL.ImageMath PIL.ImageOps PIL.ImageStat
"""
"""Imported before the first session is forked."""

DECODERS = frozenset({"BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"})
"""Formats that Pillow keeps reading; the others start programs or are seldom tested."""

_IDLE_S = 1.0
_EVERYTHING: tuple[str, ...] = ("/",)
"""Of a root that holds nothing but what may be read."""
_MOST_DESCRIPTORS = 253


def main() -> None:
    """Read the order from the control socket, whose descriptor is the first argument, and serve forever."""
    control = socket.socket(fileno=int(sys.argv[1]))
    order = json.loads(control.recv(1 << 20))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kernel.die_with_parent()
    try:
        zygote = Zygote(order)
    except Exception as error:  # whatever it is, the broker says it better than an exit code
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        return
    handle = os.pidfd_open(os.getpid())  # for the broker, who started another process than this at one level
    socket.send_fds(control, [b"{}"], [handle])
    os.close(handle)
    zygote.serve(control)


class Zygote:
    """Forks sessions on request."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Enter the level that is ordered, and warm up.

        Args:
            order: ``level``, ``runtime`` (see `thyme.sandbox.runtime`), ``limits`` and ``repairs`` of `SandboxConfig`,
                and ``folder``, a private folder at the level ``landlock``.
        """
        runtime = order["runtime"]
        self._level, self._folder = order["level"], order["folder"]
        self._limits = order["limits"]
        self._children: dict[int, str] = {}
        """Process id of each session, and its name."""
        self._pid_namespace = -1
        _raise_oom_score()
        self._system_calls = seccomp.Filter()  # an architecture without a table fails here, not in the first session
        if self._level == "namespaces":
            self._pid_namespace, statistics = root.enter(runtime)
            inputs.mount()
            search, self._readable = [*runtime["standard_library"], root.SITE], _EVERYTHING
        else:
            statistics = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            search, self._readable = self._enter_landlock(runtime)
        sys.path[:] = search
        sys.path_importer_cache.clear()
        warm_up()
        # Its hooks stay out of the way of what this process does itself, which keeps the functions from before them.
        paths = Paths("", (), order["repairs"])
        scratch = f"{self._folder}/sessions/preload" if self._folder else ""  # matplotlib does not start without
        os.makedirs(scratch + confine.SCRATCH, exist_ok=True)
        self._interpreter = interpreter_for(paths, self._limits)
        paths.prefix = scratch
        for name in self._limits["preload"]:  # now that the hooks are there which wait for some of them
            importlib.import_module(name)
        paths.prefix = ""
        gc.collect()
        gc.freeze()
        self._base_bytes = int(os.read(statistics, 200).split()[0]) * resource.getpagesize()
        os.close(statistics)

    def _enter_landlock(self, runtime: dict[str, Any]) -> tuple[list[str], tuple[str, ...]]:
        """Put the layer that all sessions share on this process; where to import from, and what a session may read."""
        if not landlock.version():
            raise OSError("the kernel has no Landlock, or it is switched off")
        holes, packages = runtime["holes"], [path for _, path in runtime["packages"]]
        search = [self._linked(f"library{n}", folder, holes) for n, folder in enumerate(runtime["standard_library"])]
        search.append(link_folder(f"{self._folder}/site", dict(runtime["packages"])))
        trees = [part for tree in runtime["trees"] for part in without_holes(tree, holes)]
        kernel.drop_bounding_set()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.Ruleset([*trees, *packages, self._folder], [f"{self._folder}/sessions", "/dev/null"]).restrict()
        return search, (*runtime["trees"], *sorted({os.path.dirname(path) for path in packages}), *search)

    def _linked(self, name: str, folder: str, holes: list[str]) -> str:
        """A folder to import from: Landlock cannot let one be listed whose subfolders must stay hidden."""
        parts = list(without_holes(folder, holes))
        if parts == [folder]:
            return folder
        return link_folder(f"{self._folder}/{name}", {os.path.basename(path): path for path in parts})

    def serve(self, control: socket.socket) -> None:
        """Do what is asked for, one after the other, until the broker goes away."""
        while True:
            ready = select.select([control], [], [], _IDLE_S)[0]
            self._reap()
            if not ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, _MOST_DESCRIPTORS)
            if not message:
                return
            answer, handles = self._answer(json.loads(message), descriptors)
            socket.send_fds(control, [json.dumps(answer).encode()], handles)
            for descriptor in (*handles, *descriptors):
                os.close(descriptor)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> tuple[dict[str, str], list[int]]:
        try:
            if "fork" in request:
                return {}, [self._fork(request["fork"], request["rehearse"], descriptors)]
            inputs.link(request, descriptors)
        except OSError as error:
            return {"failed": str(error)}, []
        return {}, []

    def _fork(self, name: str, rehearse: bool, descriptors: list[int]) -> int:
        """Fork a session; descriptor of its process."""
        prefix = f"{self._folder}/sessions/{name}" if self._folder else ""
        place = confine.Place(prefix, "" if prefix else inputs.make_folder(name), self._readable)
        child = self._new_process()
        if child == 0:
            try:
                if self._level == "landlock":
                    kernel.die_with_parent()
                start = session.Start(
                    place, self._limits, self._interpreter, rehearse, self._base_bytes, self._system_calls
                )
                session.serve(descriptors, start)
            finally:
                os._exit(1)  # whatever happens, there is only one zygote
        self._children[child] = name
        return os.pidfd_open(child)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while child := os.waitpid(-1, os.WNOHANG)[0]:
                name = self._children.pop(child, None)
                if name is not None and self._level == "namespaces":
                    inputs.remove_folder(name)

    def _new_process(self) -> int:
        """Fork, at the level ``namespaces`` into a pid namespace whose process 1 the child is."""
        if self._pid_namespace < 0:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)
        child = -1
        try:
            child = os.fork()
        finally:
            if child:  # the child itself needs no way back
                kernel.setns(self._pid_namespace, kernel.CLONE_NEWPID)
        return child


def link_folder(folder: str, entries: dict[str, str]) -> str:
    """Make a folder of symlinks; the folder."""
    os.mkdir(folder)
    for name, path in entries.items():
        os.symlink(path, f"{folder}/{name}")
    return folder


def without_holes(tree: str, holes: list[str]) -> Iterator[str]:
    """Paths that together are `tree` without `holes`."""
    if tree in holes:
        return
    if not any(hole.startswith(tree + "/") for hole in holes):
        yield tree
        return
    for entry in os.scandir(tree):
        yield from without_holes(entry.path, holes)


def warm_up() -> None:
    """Import what code is likely to use, and keep it out of the way of the garbage collector."""
    for name in WARM.split():
        __import__(name)
    import site

    import cv2
    from PIL import Image

    cv2.setNumThreads(1)
    Image.preinit()
    Image.init()
    for name in [name for name in Image.OPEN if name not in DECODERS]:
        del Image.OPEN[name]
    Image.ID[:] = [name for name in Image.ID if name in DECODERS]
    Image.MAX_IMAGE_PIXELS = None  # memory is limited by the kernel, pictures that go back by the broker
    site.setquit()
    warnings.simplefilter("ignore")


def _raise_oom_score() -> None:
    """Let the kernel end sessions first when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
