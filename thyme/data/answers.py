"""What teachers and checks answered, by what they were asked: nothing that was paid for is asked twice."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thyme.data.stages.base import Reply
from thyme.rewards.cache import VerdictCache

logger = logging.getLogger(__name__)

FOLDER = "answers"
"""Under the folder of a build."""


def request_key(model: str, messages: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any]) -> str:
    """Hash of all that an answer depends on, 32 hexadecimal digits. The same model elsewhere answers the same."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in json.JSONEncoder(sort_keys=True).iterencode([model, list(messages), dict(sampling)]):
        digest.update(piece.encode())
    return digest.hexdigest()


class Answers:
    """Replies in a folder, one small file each: any number of processes may use it, and any of them may be killed."""

    def __init__(self, folder: Path | None) -> None:
        """Open it.

        Args:
            folder: Made when the first answer is kept; None remembers them as long as the process lives.
        """
        self._files = VerdictCache(folder, what="answers", in_memory=sys.maxsize if folder is None else 0)

    def get(self, key: str) -> Reply | None:
        """What was answered before, marked as recorded; None if nothing was, or its file is damaged."""
        kept = self._files.get(key)
        if kept is None:
            return None
        try:
            return Reply(**{**kept, "recorded": True})
        except TypeError:
            logger.warning("a recorded answer is damaged; it is asked for again")
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer. A disk that takes no more is warned of once."""
        self._files.put(key, asdict(reply))
