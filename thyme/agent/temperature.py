"""Adaptive temperature sampling: which temperature a span is sampled at, and the one place that knows.

Text is explored, structured spans are written at a temperature of their own (GRPO-ATS in the paper: tau 1 in text, 0
in code). A span is a pair of tags; the border lies after the token that completes a tag, so the opening tag is still
sampled as text and the closing tag as part of the span.
"""

from __future__ import annotations

from dataclasses import dataclass

from thyme.config import RolloutConfig
from thyme.markup import ANSWER_CLOSE, CODE_CLOSE, CODE_OPEN, TagScanner
from thyme.types import GeneratedKind


@dataclass(frozen=True, slots=True)
class Span:
    """A structured span."""

    open: str
    close: str
    temperature: float
    kind: GeneratedKind = "text"
    """``code`` for the span that the sandbox runs; any other counts as text."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text sampled at one temperature."""

    text: str
    kind: GeneratedKind
    temperature: float


@dataclass(frozen=True, slots=True)
class TemperatureSchedule:
    """tau by kind of span."""

    text: float = 0.0
    """tau outside all spans; 0 is greedy."""
    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, config: RolloutConfig) -> TemperatureSchedule:
        """The schedule of a rollout: text, code, and the further spans of the config."""
        code = Span(CODE_OPEN, CODE_CLOSE, config.code_temperature, "code")
        further = tuple(Span(span.open, span.close, span.temperature) for span in config.spans)
        return cls(config.text_temperature, (code, *further))

    def temperature(self, span: Span | None) -> float:
        """The tau inside `span`; None is text."""
        return self.text if span is None else span.temperature

    def stops(self, span: Span | None, *, tools: bool = True) -> tuple[str, ...]:
        """Strings at which sampling at this temperature must stop.

        Args:
            span: The span that is open; None is text.
            tools: False leaves the code span out: its opening tag is blocked instead.
        """
        if span is not None:
            return (span.close,)
        return (*(each.open for each in self.spans if tools or each.kind != "code"), ANSWER_CLOSE)

    def opened_by(self, tag: str | None) -> Span | None:
        """The span that `tag` opens, if it opens one."""
        return next((span for span in self.spans if span.open == tag), None)

    def runs(self, text: str) -> list[Run]:
        """Split text that nobody sampled here (a teacher's, a reviewer's) as if it had been: kind and tau of each part.

        Args:
            text: Generated text without observations. The parts concatenate to it.
        """
        scanner = TagScanner([tag for span in self.spans for tag in (span.open, span.close)])
        runs: list[Run] = []
        span: Span | None = None
        held = ""
        for piece in scanner.all(text):
            held += piece.text
            changes = self.opened_by(piece.tag) if span is None else (piece.tag == span.close)
            if changes:
                runs.append(self._run(held, span))
                span, held = (changes, "") if isinstance(changes, Span) else (None, "")
        return [*runs, self._run(held, span)] if held else runs

    def _run(self, text: str, span: Span | None) -> Run:
        return Run(text, "text" if span is None else span.kind, self.temperature(span))
