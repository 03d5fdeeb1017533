"""How a rollout is sampled and bounded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from thyme.config.base import Config
from thyme.tags import TAGS

Temperature = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
"""tau; 0 is greedy."""


Tag = Annotated[str, Field(pattern="^<[^<]+$")]
"""Begins with its only ``<``."""


class RepetitionConfig(Config):
    """When a rollout counts as a loop; see `thyme.agent.repetition`."""

    variant: Literal["rolling", "released", "off"] = "rolling"
    """``rolling``: rolling hashes over the whole output, as the paper says. ``released``: what the authors' code does,
    for parity with old data. ``off``: never fires."""
    windows: tuple[PositiveInt, ...] = (32, 128, 512)
    """Lengths of the windows, characters. A loop of period p is seen by a window w if p < 2 w, so the longest decides
    how long a loop may be (1023 characters)."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the output that copies of one window must exceed. None: 0.5 (rolling) or 0.3 (released)."""
    min_chars: PositiveInt | None = None
    """Shortest output that may fire, characters. None: 512 (rolling) or 50 (released)."""
    min_copies: Annotated[int, Field(ge=2)] = 3
    """Fewest non-overlapping copies of a window (rolling only): code written again with a small change is no loop."""


class SpanConfig(Config):
    """A structured span beside code, e.g. JSON between tags, with a temperature of its own."""

    open: Tag
    """Opening tag; it still belongs to the text."""
    close: Tag
    """Closing tag; the last of the span."""
    temperature: Temperature = 0.0


class RolloutConfig(Config):
    """One rollout: temperatures by kind of span (adaptive temperature sampling), and bounds."""

    text_temperature: Temperature = 0.0
    """tau of text. Asking, serving and measuring are greedy; training uses 1."""
    code_temperature: Temperature = 0.0
    """tau of code. 0 in the paper."""
    spans: tuple[SpanConfig, ...] = ()
    """Further spans with their own temperature; they count as text."""
    tools: bool = True
    """False: the same prompt with ``<code>`` blocked."""
    max_rounds: Annotated[int, Field(ge=0)] = 4
    """Code blocks that may run."""
    max_round_tokens: PositiveInt = 2048
    """New tokens in one round (its text and its code)."""
    max_tokens: PositiveInt = 4096
    """New tokens in all rounds together; observations do not count."""
    max_images: Annotated[int, Field(ge=0)] = 8
    """Images that all observations together may bring."""
    max_pixels: Annotated[int, Field(ge=0)] = 25_690_112
    """Pixels, at the size the model sees, that all observations together may bring (8 images of 3 211 264)."""
    repetition: RepetitionConfig = RepetitionConfig()

    @model_validator(mode="after")
    def _tags_are_distinct(self) -> RolloutConfig:
        tags = [tag for span in self.spans for tag in (span.open, span.close)]
        if len({*TAGS, *tags}) < len(TAGS) + len(tags):
            raise ValueError(f"spans share a tag with each other or with the markup: {tags}")
        return self
