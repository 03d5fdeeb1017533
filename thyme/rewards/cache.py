"""Verdicts on disk, one small file each: any number of processes may use a folder, and any of them may be killed."""

from __future__ import annotations

import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

MAX_IN_MEMORY = 100_000
"""Verdicts that are remembered beside the folder; the oldest is forgotten first."""


class VerdictCache:
    """Verdicts by key. A file is written under another name and put in place whole; a damaged one counts as none."""

    def __init__(self, folder: Path | None, *, what: str = "verdicts", in_memory: int = MAX_IN_MEMORY) -> None:
        """Open it.

        Args:
            folder: Made when the first verdict is kept; None remembers them in memory alone.
            what: What is kept, as warnings call it.
            in_memory: How many are remembered at most.
        """
        self.folder = folder
        self._what, self._most = what, in_memory
        self._memory: dict[str, dict[str, Any]] = {}
        self._warned = False

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept, or None."""
        if key in self._memory or self.folder is None:
            return self._memory.get(key)
        try:
            kept = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return kept if isinstance(kept, dict) else None

    def put(self, key: str, verdict: dict[str, Any]) -> None:
        """Keep a verdict. A disk that takes no more is warned of once; judging goes on."""
        self._memory[key] = verdict
        if len(self._memory) > self._most:
            del self._memory[next(iter(self._memory))]
        if self.folder is None:
            return
        path = self._path(key)
        temporary = path.with_name(f".{key}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(verdict), encoding="utf-8")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            if not self._warned:
                logger.warning("%s cannot be kept in %s (%s); they are asked for again", self._what, self.folder, error)
            self._warned = True

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.json"
