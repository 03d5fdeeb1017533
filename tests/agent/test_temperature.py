"""The schedule is the one place that knows temperatures, for code and for any other structured span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.agent.temperature import Run, Span, TemperatureSchedule
from thyme.config import RolloutConfig, SpanConfig

JSON = SpanConfig(open="<json>", close="</json>", temperature=0.25)
CONFIG = RolloutConfig(text_temperature=1.0, code_temperature=0.0, spans=(JSON,))
SCHEDULE = TemperatureSchedule.of(CONFIG)
CODE = SCHEDULE.opened_by("<code>")


def test_temperature_by_span():
    assert SCHEDULE.temperature(None) == 1.0
    assert SCHEDULE.temperature(CODE) == 0.0
    assert SCHEDULE.temperature(SCHEDULE.opened_by("<json>")) == 0.25


def test_kinds():
    assert Span("<code>", "</code>", 0.0, "code") == CODE
    assert SCHEDULE.opened_by("<json>").kind == "text"
    assert SCHEDULE.opened_by("</answer>") is SCHEDULE.opened_by(None) is None


def test_stops():
    assert SCHEDULE.stops(None) == ("<code>", "<json>", "</answer>")
    assert SCHEDULE.stops(None, tools=False) == ("<json>", "</answer>")
    assert SCHEDULE.stops(CODE) == ("</code>",)


def test_text_of_others_is_split_as_if_sampled():
    assert SCHEDULE.runs("a<code>x<json></code>b<json>{}</json>") == [
        Run("a<code>", "text", 1.0),
        Run("x<json></code>", "code", 0.0),
        Run("b<json>", "text", 1.0),
        Run("{}</json>", "text", 0.25),
    ]
    assert SCHEDULE.runs("") == []


@given(st.lists(st.sampled_from(["<code>", "</code>", "<json>", "</json>", "a", "<", ">"])).map("".join))
def test_runs_concatenate_to_the_text(text):
    runs = SCHEDULE.runs(text)
    assert "".join(run.text for run in runs) == text
    assert all(run.text for run in runs)
    assert all((run.kind == "code") <= (run.temperature == 0.0) for run in runs)


@pytest.mark.parametrize("tag", ["<code>", "<json>"])
def test_the_border_lies_after_the_tag(tag):
    first, *_ = SCHEDULE.runs(f"a{tag}b")
    assert first == Run(f"a{tag}", "text", 1.0)
