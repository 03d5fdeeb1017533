"""Stages: each an async function on a draft that returns a draft or a rejection. A new one: a file, a line here."""

from __future__ import annotations

from thyme.data.stages.accept import accept
from thyme.data.stages.base import Stage
from thyme.data.stages.check import check
from thyme.data.stages.execute import execute
from thyme.data.stages.generate import generate
from thyme.data.stages.leaks import leaks
from thyme.data.stages.prepare import prepare

STAGES: dict[str, Stage] = {
    "prepare": prepare,
    "generate": generate,
    "execute": execute,
    "accept": accept,
    "leaks": leaks,
    "check": check,
}
"""In order. ``generate`` and ``execute`` alternate until the teacher has answered (`REPEATED`)."""

REPEATED = ("generate", "execute")
