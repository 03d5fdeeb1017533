"""What each stage does, and what each reason for a rejection means, in the words of the report."""

from __future__ import annotations

from typing import Final

from thyme.data.factory.chain import BROKEN
from thyme.data.factory.chunk import BENCHMARK, DUPLICATE, STAGE, UNSUITED
from thyme.data.published import IMAGE_COUNT, IMAGE_DAMAGED, IMAGE_MISSING, MISSING_FIELD
from thyme.data.scenarios import reasons as scenarios
from thyme.data.sources.columns import BAD_BOX
from thyme.data.stages import reasons as stages

STAGES: Final[dict[str, str]] = {
    STAGE: "a row is drawn for the scenario; duplicates and pictures of benchmarks are dropped",
    "prepare": "the picture is turned, paled, or left as it is, and what the teacher is told is noted",
    "generate": "the teacher writes, turn by turn, until it answers",
    "execute": "each block of code runs in the sandbox before the next turn",
    "accept": "the rules of the scenario, by pixels, code and answer",
    "leaks": "no angle, box or answer in names, comments or prompts",
    "check": "a model looks at the finished record",
}
"""What happens in a stage."""

MEANINGS: Final[dict[str, str]] = {
    UNSUITED: "none of the rows that the item might take has what the scenario needs",
    BENCHMARK: "it shows a picture of a benchmark, or nearly one",
    DUPLICATE: "an earlier item asks the same of nearly the same picture",
    MISSING_FIELD: "a column that is needed is missing in the row, or holds no text",
    IMAGE_MISSING: "a picture of the row is not there",
    IMAGE_DAMAGED: "a picture of the row cannot be read",
    IMAGE_COUNT: "the row names more or fewer pictures than it has",
    BAD_BOX: "a box of the row is none, or does not lie in its picture",
    BROKEN: "a stage itself failed at this record; the note says how",
    **scenarios.REASONS,
    **stages.REASONS,
}
"""By reason."""


def meaning(reason: str) -> str:
    """What a reason means; empty for one that the package does not know."""
    return MEANINGS.get(reason, "")
