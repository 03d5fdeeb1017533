"""What the benchmark and its sides say to each other: one JSON line a message. Standard library and Pillow only.

A side is started as ``python -m rollout_peers.SIDE WORK``, says once that it is ready, and then answers each command.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Round:
    """What a model writes until its code is complete, and what comes back."""

    text: list[int]
    """Ids it writes up to and including ``<code>``."""
    code: list[int]
    """Ids from there up to and including ``</code>``."""
    stdout: str
    image: str
    """File of the picture that comes back, beside the work."""
    observation: list[int]
    """Ids that are fed for it, image placeholders expanded."""

    @property
    def written(self) -> list[int]:
        """All that the model writes in this round."""
        return self.text + self.code


@dataclass(frozen=True)
class Script:
    """One trajectory: what is asked, and every id that is to be written."""

    name: str
    system: str
    user: str
    image: str
    prompt: list[int]
    """Ids of the prompt, image placeholders expanded."""
    rounds: list[Round]
    answer: list[int]
    """What is written after the last observation."""

    @property
    def ids(self) -> list[int]:
        """The whole trajectory."""
        whole = list(self.prompt)
        for one in self.rounds:
            whole += one.written + one.observation
        return whole + self.answer

    @property
    def written(self) -> list[int]:
        """All ids that the model writes."""
        return [token for one in self.rounds for token in one.written] + self.answer

    @property
    def turns(self) -> list[tuple[list[int], list[str], list[int]]]:
        """For each turn of the model: all ids before it, the pictures among them, and what it writes."""
        turns, before, images = [], list(self.prompt), [self.image]
        for one in self.rounds:
            turns.append((list(before), list(images), one.written))
            before += one.written + one.observation
            images.append(one.image)
        return [*turns, (before, images, self.answer)]


@dataclass(frozen=True)
class Work:
    """What every side does."""

    model: str
    """Folder of the checkpoint."""
    threads: int
    image_token: int
    end_token: int
    scripts: list[Script]
    folder: Path = Path()

    def save(self) -> Path:
        """Write it as ``work.json`` into its folder."""
        file = self.folder / "work.json"
        file.write_text(json.dumps(asdict(self) | {"folder": ""}), encoding="utf-8")
        return file

    @classmethod
    def load(cls, file: Path) -> Work:
        """Read what `save` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        scripts = [Script(**s | {"rounds": [Round(**r) for r in s["rounds"]]}) for s in found["scripts"]]
        return cls(**found | {"scripts": scripts, "folder": file.parent})

    def picture(self, name: str) -> Any:
        """A picture of the work, decoded."""
        from PIL import Image

        image = Image.open(self.folder / name)
        image.load()
        return image


@dataclass
class Result:
    """What a side answers to a command."""

    seconds: float
    written: list[list[int]]
    """Ids that each trajectory wrote."""
    fed: int
    """Tokens that ran through the language model, padding included."""
    steps: int = 0
    """Passes of the language model; 0 where it is not known."""
    logprobs: list[list[float]] = field(default_factory=list)
    """Of each of these ids, where asked for."""
    pauses_ms: list[float] = field(default_factory=list)
    """Between the tokens of a row that writes: median, 99th percentile, longest; empty where it is not known."""
    cpu_s: float = 0.0
    """Seconds of CPU time of the process, all threads; says what it took where other work disturbs."""
    peak_mib: float = 0.0
    """Most resident memory of the process during the command, MiB."""
    ready_mib: float = 0.0
    """Resident memory before it."""


Run = Callable[[int, bool], Result]
"""Does the first N scripts, with log-probs or without."""


def answer_commands(load: Callable[[Work], Run]) -> None:
    """Load, say so, and do what is asked until the commands end."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed here does not belong between the answers
    sys.path.append(str(Path(__file__).parent))
    run = load(Work.load(Path(sys.argv[1])))
    _say(out, {"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        ready = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the highest memory so far
        cpu = time.process_time()
        result = run(command["count"], command["score"])
        result.cpu_s = time.process_time() - cpu
        result.peak_mib, result.ready_mib = _memory("VmHWM"), ready
        _say(out, asdict(result))


def _say(out: Any, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _memory(name: str) -> float:
    """MiB, of the kernel's own account of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
