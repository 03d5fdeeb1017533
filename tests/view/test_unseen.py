"""What nobody would see of a text is named in every view; what scripts are written with is left alone."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import sample_records as samples
from rich.console import Console

from thyme.events import FinishedEvent, GeneratedEvent
from thyme.types import Generated, Observation, Trajectory
from thyme.view.html import render_page
from thyme.view.live import LiveView
from thyme.view.parts import environment
from thyme.view.pictures import Linked
from thyme.view.terminal import TrajectoryPrinter
from thyme.view.unseen import named

UNSEEN = "\u202e\u2066\u200b"
NAMES = "⟨U+202E⟩⟨U+2066⟩⟨U+200B⟩"
CODE = f"user = 'us{UNSEEN}er'"
HIDDEN = samples.trajectory(
    question=f"Who{UNSEEN}?",
    thought=f"I think{UNSEEN}.",
    answer=f"a{UNSEEN}b",
    executions=(samples.good_execution(CODE).model_copy(update={"stdout": f"out{UNSEEN}"}),),
)


def printed(trajectory: Trajectory) -> str:
    file = io.StringIO()
    TrajectoryPrinter(Console(file=file, width=200, highlight=False)).trajectory(trajectory)
    return file.getvalue()


def page(trajectory: Trajectory) -> str:
    return render_page([trajectory], trajectory.problem.question)


@pytest.mark.parametrize("show", [printed, page])
def test_what_cannot_be_seen_is_named(show: Callable[[Trajectory], str]) -> None:
    shown = show(HIDDEN)
    assert not set(UNSEEN) & set(shown)
    for text in ("Who", "I think", "a", "out", "us"):
        assert f"{text}{NAMES}" in shown, text


def test_it_is_named_while_it_is_written() -> None:
    """Also one character at a time."""
    view, shown = LiveView(environment(), Linked("/images")), ""
    for segment in HIDDEN.segments:
        if not isinstance(segment, Observation):
            for letter in segment.text:
                shown += "".join(patch.text + patch.html for patch in view.feed(GeneratedEvent(segment.kind, letter)))
    shown += "".join(patch.html for patch in view.feed(FinishedEvent(HIDDEN)))
    assert not set(UNSEEN) & set(shown)
    assert shown.count("⟨U+202E⟩") >= 3


def test_controls_are_named_on_the_page() -> None:
    thought = Generated(kind="text", text="<think>a\x1b[2J\x08b</think>", temperature=0.0)
    page = render_page([samples.trajectory().model_copy(update={"segments": (thought,)})], "x")
    assert "a⟨U+001B⟩[2J⟨U+0008⟩b" in page


def test_scripts_and_emoji_are_left_as_they_are() -> None:
    text = "שלום می\u200cخواهم 👩\u200d🚀 naïve\n\tx"
    assert named(text) == text


def test_a_field_can_have_a_text_as_it_is() -> None:
    """Fields are sent back; what they hold is not renamed."""
    made = environment().from_string('<input value="{{ text | e }}"> {{ text }}')
    assert made.render(text=f'"{UNSEEN}') == f'<input value="&#34;{UNSEEN}"> &#34;{NAMES}'
