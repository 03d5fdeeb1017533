"""What a check says."""

from __future__ import annotations

from typing import Literal

from thyme.types import Record

State = Literal["ok", "absent", "warning", "fault"]
"""Works; is optional and not there; works, with something to know; does not work."""


class Finding(Record):
    """One thing that was looked at."""

    name: str
    """What, in one or two words."""
    state: State
    said: str
    """What was found."""
    mend: str = ""
    """What to do, where something is to be done: a command where there is one."""
