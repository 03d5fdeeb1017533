"""What became of one problem of a benchmark under one arm: the record that metrics, tests and reports are made of.

It holds no image and no text but the answer, so that a report of a hundred thousand of them fits into memory; the whole
trajectory lies beside it.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from thyme.types import Record, StopReason

TOOLS = "tools"
"""Arm: the model as it is, with code."""
NO_TOOLS = "no_tools"
"""Arm: the same prompt with ``<code>`` blocked."""
RETRY = "retry"
"""Arm: `TOOLS`, asked again where code failed or no answer came; its first attempt is that of `TOOLS`."""

NO_VERDICT = "no verdict: "
"""In the note of an item that a judge, or math-verify, was to decide and was not to be had for, before the reason."""


class Faithfulness(Record):
    """How what the model looked at relates to where the answer is. What is unknown is None, which is not False."""

    boxes: tuple[tuple[int, int, int, int], ...] = ()
    """Left, top, right, bottom of what each returned image shows, pixels of the original; crops only."""
    coverage: float | None = None
    """Largest share of the target's area that one crop shows; None without a crop or without a known target."""
    iou: float | None = None
    """Largest intersection over union of a crop and the target."""
    covered: bool | None = None
    """Whether a crop shows the target, by the bound that the manifest names."""


class ItemResult(Record):
    """One problem under one arm."""

    benchmark: str
    """Name in `thyme.eval.benchmarks`."""
    arm: str
    problem: str
    """Id, unique in the benchmark, the same in every arm."""
    place: int = 0
    """Of the problem among those that are asked, from 0."""
    kind: str = ""
    """Main category."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """Facts of the problem that its benchmark's metrics need (``Problem.meta``): categories, groups, boxes."""
    reference: str | None = None
    prediction: str | None = None
    """Text of the answer; None where none was given."""
    score: float | None
    """0 to 1. None: not scored (engine, sandbox or judge failed, or there is no reference), which is not 0."""
    parts: dict[str, float | None] = Field(default_factory=dict)
    note: str = ""
    """The rule that scored, or why nothing was scored."""
    judged: bool = False
    """Whether a judge had the last word."""
    trajectory: str = ""
    """Id of the stored record."""
    stop: StopReason
    attempts: int = 1
    """Rollouts that were made; more than 1 only where `arm` is `RETRY`."""
    blocks: int = 0
    """Code blocks that ran."""
    ran: int = 0
    """Of these, those that ended without an error."""
    repaired: int = 0
    """Of the blocks, those in which something was repaired."""
    changed: int = 0
    """Of the blocks, those whose result the arm changed before the model read it."""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    observation_tokens: int = 0
    seconds: float = 0.0
    """Wall clock of the rollout."""
    image_sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of each image, pixels."""
    seen_sizes: tuple[tuple[int, int], ...] = ()
    """The same as the model first saw them."""
    faithfulness: Faithfulness | None = None

    @property
    def failed(self) -> bool:
        """Whether engine or sandbox failed, so that nothing can be said about the model."""
        return self.stop is StopReason.ERROR

    @property
    def waits_for_verdict(self) -> bool:
        """Whether whoever had to decide was not to be had, so that it is to be scored again."""
        return self.score is None and not self.failed and NO_VERDICT in self.note

    @property
    def used_code(self) -> bool:
        """Whether any code ran."""
        return self.blocks > 0
