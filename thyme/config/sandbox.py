"""What can be set about the sandbox: isolation, limits, repairs, and what model-written code may import."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from thyme.config.base import Config

Isolation = Literal["best", "namespaces", "landlock"]
RepairName = Literal[
    "fences",
    "quotes",
    "magics",
    "indentation",
    "whitespace",
    "names",
    "variables",
    "removed",
    "input_path",
    "output_folder",
    "formats",
    "boundary",
    "numbers",
    "windows",
]

ALL_REPAIRS: tuple[RepairName, ...] = (
    "fences",
    "quotes",
    "magics",
    "indentation",
    "whitespace",
    "names",
    "variables",
    "removed",
    "input_path",
    "output_folder",
    "formats",
    "boundary",
    "numbers",
    "windows",
)
"""Every repair there is: first those of code that does not compile, in the order in which they are tried, then those
that are made while it runs. docs/repairs.md says what each does."""

IMPORTABLE = (
    "numpy",
    "pillow",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "scipy",
    "sympy",
    "scikit-image",
    "matplotlib",
    "pandas",
)
"""Distributions that code may import where they are installed; what they require comes along."""

_OPENCV = {name for name in IMPORTABLE if name.startswith("opencv-")}


class SandboxConfig(Config):
    """Isolation and limits of the sandbox. Sizes in MiB are binary, times are seconds of wall clock."""

    isolation: Isolation = "best"
    """``best`` takes the strongest level this machine offers, never below ``landlock``."""
    repairs: tuple[RepairName, ...] = ALL_REPAIRS
    """Repairs that are on. Empty: code runs exactly as written."""
    compat: Literal["none", "released"] = "none"
    """``released`` runs code as the released Thyme sandbox would have, where parity with old data is wanted, without
    any of `repairs`; docs/repairs.md says what that means."""
    importable: tuple[str, ...] = IMPORTABLE
    """Distributions that code may import. numpy, pillow and one of OpenCV's must be among them."""
    preload: tuple[str, ...] = ()
    """Modules that code may import, such as ``matplotlib.pyplot``, imported before the first session starts: code does
    not wait for them, but each costs start time and memory once."""
    round_trip: bool = False
    """False: an image comes back as it was drawn, its pixels taken when it was saved. True: it is decoded from the file
    that was saved, so that a JPEG has gone through JPEG."""

    timeout_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    """Seconds one run may take before its process is killed from outside."""
    memory_mb: int = Field(4096, ge=64)
    """MiB of address space a session may add to what the interpreter itself takes."""
    cpu_s: int = Field(120, ge=1)
    """Seconds of CPU a session may use over all its runs."""
    file_mb: int = Field(48, ge=1)
    """MiB of one file."""
    disk_mb: int = Field(64, ge=1)
    """MiB of all files of a session."""
    inodes: int = Field(512, ge=16)
    """Files and folders of a session."""
    open_files: int = Field(64, ge=16)
    """File descriptors of a session."""
    threads: int = Field(32, ge=1)
    """Threads of a session. At the level ``landlock`` one that has more is stopped; see docs/sandbox.md."""

    code_chars: int = Field(200_000, ge=1)
    """Characters of one code block."""
    stdout_chars: int = Field(20_000, ge=100)
    """Characters of printed text that come back; more is cut in the middle."""
    max_images: int = Field(16, ge=0)
    """Images that come back from one run."""
    max_image_pixels: int = Field(50_000_000, ge=1)
    """Pixels of one image that comes back."""
    max_total_pixels: int = Field(100_000_000, ge=1)
    """Pixels of all images that come back from one run."""
    message_bytes: int = Field(4 << 20, ge=1 << 16)
    """Bytes of one message of the protocol."""

    pool: int = Field(2, ge=0)
    """Sessions that wait, started and locked down, for the next trajectory. 0: each is started when it is asked for."""
    max_sessions: int = Field(64, ge=1)
    """Sessions alive at once; more wait for their turn."""
    inputs_mb: int = Field(1024, ge=1)
    """MiB of input images, as files and as pixels, that are kept for all sessions together."""
    start_timeout_s: float = Field(60.0, gt=0)
    """Seconds the sandbox, or one session of it, may take to start."""

    @property
    def visible(self) -> tuple[str, ...]:
        """Distributions that lie in the jail: those that code may import, and autopep8 for its repair."""
        formats = "whitespace" in self.repairs or self.compat == "released"
        return (*self.importable, "autopep8") if formats else self.importable

    @field_validator("importable")
    @classmethod
    def _has_what_sessions_start_with(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        found = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        missing = [*sorted({"numpy", "pillow"} - found), *(["opencv-python-headless"] if not found & _OPENCV else [])]
        if missing:
            raise ValueError(f"every session needs {', '.join(missing)}; name it too, or add to IMPORTABLE")
        return names

    @model_validator(mode="after")
    def _messages_hold_what_they_may(self) -> SandboxConfig:
        needed = 6 * (self.stdout_chars + self.code_chars) + (1 << 16)  # JSON writes a character in up to six
        if self.message_bytes < needed:
            raise ValueError(f"message_bytes must be at least {needed} for these stdout_chars and code_chars")
        return self
