"""Runs model-written code in a process that the kernel, not a filter on its text, keeps from doing harm."""

from __future__ import annotations

from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.broker import Broker, open_sandbox
from thyme.sandbox.facade import Sandbox, SandboxSession
from thyme.sandbox.levels import LevelReport, SandboxReport
from thyme.sandbox.report import check

__all__ = [
    "Broker",
    "LevelReport",
    "Sandbox",
    "SandboxConfig",
    "SandboxReport",
    "SandboxSession",
    "check",
    "open_sandbox",
]
