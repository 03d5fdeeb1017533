"""What the attacks aim at: a folder of secrets, listeners, a victim process, and this very process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from PIL import Image

import thyme
from thyme.markup import IMAGE, OBSERVATION_CLOSE, OBSERVATION_OPEN, TagScanner, observation_text
from thyme.types import Execution

PACKAGE = Path(thyme.__file__).parent
SECRET_COLOUR = (250, 1, 137)


@dataclass
class Range:
    """The targets of one test module, and what hit them."""

    folder: Path
    tcp: socket.socket
    udp: socket.socket
    abstract: str
    victim: subprocess.Popen[bytes]
    signals: list[int] = field(default_factory=list)

    def aim(self, code: str, folder: str = "/mnt/data/temp_processed_images/") -> str:
        """Code with its aims filled in; `folder` is where it works."""
        aims = {"VICTIM": self.folder, "ABSTRACT_NAME": self.abstract, "HOST_PID": os.getpid(), "PACKAGE": PACKAGE}
        for name, value in aims.items():
            code = code.replace("{" + name + "}", str(value))
        return f"PORT={self.port}; VPID={self.victim.pid}; OUTDIR={folder!r}\n{code}"

    @property
    def port(self) -> int:
        """Where TCP and UDP listen."""
        return int(self.tcp.getsockname()[1])

    def achieved(self, criterion: str, execution: Execution) -> list[str]:
        """What one attack achieved by itself, whatever else is going on."""
        found = [f"it printed {execution.stdout[:300]}"] if "ESC" in execution.stdout else []
        kind, _, name = criterion.partition(":")
        if kind in {"exists", "late"} and (written := list(self.folder.glob(name))):
            found.append(f"{[path.name for path in written]} was written")
        if kind == "bomb" and any(i.width * i.height > 50_000_000 for i in execution.images):
            found.append("a bomb came back")
        if kind == "many_pictures" and len(execution.images) > 16:
            found.append(f"{len(execution.images)} pictures came back")
        if any(_shows_secret(image.image) for image in execution.images):
            found.append("a foreign picture came back")
        if any("forged" in image.name for image in execution.images):
            found.append("a forged picture came back")
        return found

    def hits(self, execution: Execution) -> Iterator[tuple[str, bool]]:
        """What may have been hit by now, by any attack so far, and whether it was."""
        yield "a datagram arrived", self._datagram()
        yield "a signal arrived", bool(self.signals)
        yield "the victim is dead or stopped", psutil.Process(self.victim.pid).status() not in {"sleeping", "running"}
        yield "a file is gone", not (self.folder / "deleteme").exists()
        yield "a file was changed", not self._untouched()
        yield "a mode was changed", (self.folder / "secret.txt").stat().st_mode & 0o777 != 0o666
        yield "a foreign picture came back", any(_shows_secret(i.image) for i in execution.images)
        yield "too much text came back", len(execution.stdout) > 5_000_000
        yield "a bomb came back", any(i.width * i.height > 100_000_000 for i in execution.images)
        yield "a forged picture came back", any(i.name.endswith("forged.png") for i in execution.images)

    def _untouched(self) -> bool:
        with contextlib.suppress(OSError):  # it may be something else by now
            return (self.folder / "secret.txt").read_text() == "TOPSECRET"
        return False

    def _datagram(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.udp.recv(100)
            return True
        return False


def _shows_secret(image: Image.Image) -> bool:
    return image.convert("RGB").getpixel((0, 0)) == SECRET_COLOUR


def faults_of(execution: Execution) -> list[str]:
    """What must not be in any observation, or in any record."""
    faults = []
    text = observation_text(execution)
    tags = [piece.tag for piece in TagScanner().all(text) if piece.tag]
    if tags != [OBSERVATION_OPEN, *[IMAGE] * len(execution.images), OBSERVATION_CLOSE]:
        faults.append(f"tags in the observation: {tags}")
    if "<|" in text:
        faults.append("a control token in the observation")
    if len(execution.stdout) > 20_300 or len(execution.images) > 16:
        faults.append("more came back than may")
    Execution.model_validate(execution.model_dump())
    return faults


@contextlib.contextmanager
def open_range() -> Iterator[Range]:
    """Put the targets up, as open to attack as a machine can be: anyone may write the files."""
    folder = Path(tempfile.mkdtemp(prefix="victim-", dir="/tmp"))
    listeners = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    abstract_name = f"thyme-{secrets.token_hex(8)}"
    abstract = socket.socket(socket.AF_UNIX)
    victim = subprocess.Popen(["sleep", "600"])
    try:
        tcp, udp = listeners
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        udp.setblocking(False)
        abstract.bind("\0" + abstract_name)
        for listener in (tcp, abstract):
            listener.listen()
            threading.Thread(target=_greet, args=(listener,), daemon=True).start()
        targets = Range(folder, tcp, udp, abstract_name, victim)
        _fill(folder)
        os.environ["CANARY_ENV"] = "1"
        old = signal.signal(signal.SIGUSR1, lambda number, _: targets.signals.append(number))
        try:
            yield targets
        finally:
            signal.signal(signal.SIGUSR1, old)
    finally:
        os.environ.pop("CANARY_ENV", None)
        for listener in (*listeners, abstract):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        victim.kill()
        victim.wait()
        shutil.rmtree(folder)


def _greet(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.send(b"welcome")


def _fill(folder: Path) -> None:
    (folder / "other_traj").mkdir()
    (folder / "secret.txt").write_text("TOPSECRET")
    (folder / "deleteme").write_text("x")
    (folder / "other_traj" / "o.txt").write_text("OTHER")
    Image.new("RGB", (64, 64), SECRET_COLOUR).save(folder / "secret.png")
    Image.new("RGB", (64, 64), SECRET_COLOUR).save(folder / "input.jpg", quality=95)
    folder.chmod(0o777)
    for path in folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
