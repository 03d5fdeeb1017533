"""Who follows the patches of a rollout ends with the rows of the finished page, however the text was cut."""

from __future__ import annotations

import re

import pytest
import sample_records as samples
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.types import Generated, Observation, StopReason, Trajectory
from thyme.view.html import make_cases
from thyme.view.live import LiveView, Patch
from thyme.view.parts import environment
from thyme.view.pictures import Linked

PICTURES = Linked("/images")
TEMPLATES = environment()


def events(trajectory: Trajectory, cuts: list[int]) -> list[Event]:
    """What a rollout would have told, its text in pieces of these lengths, in turn."""
    told: list[Event] = []
    for segment in trajectory.segments:
        if isinstance(segment, Observation):
            told.append(ExecutionEvent(segment))
            continue
        start = 0
        while start < len(segment.text):
            length = cuts[len(told) % len(cuts)]
            told.append(GeneratedEvent(segment.kind, segment.text[start : start + length]))
            start += length
    return [*told, FinishedEvent(trajectory)]


def patches_of(trajectory: Trajectory, cuts: list[int]) -> list[Patch]:
    view = LiveView(TEMPLATES, PICTURES)
    return [patch for event in events(trajectory, cuts) for patch in view.feed(event)]


def words_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def followed(patches: list[Patch]) -> list[str]:
    """The rows at the end, as a page that applies every patch has them: words only."""
    rows: dict[str, str] = {}
    for patch in patches:
        if patch.kind == "row":
            rows[patch.key] = patch.html
        elif patch.kind == "text":
            place = {"thought": "</p>", "answer": "</strong>", "code": "</code>"}
            kind = re.search(r'class="step (\w+)"', rows[patch.key])
            assert kind is not None
            end = place[kind.group(1)]
            rows[patch.key] = rows[patch.key].replace(end, str(escape(patch.text)) + end, 1)
    return [words_of(html) for html in rows.values()]


def finished(trajectory: Trajectory) -> str:
    """The rows of the finished page, in words; a page that is being written knows no reference."""
    trajectory = trajectory.model_copy(update={"problem": trajectory.problem.model_copy(update={"answer": None})})
    (case,) = make_cases([trajectory], [], PICTURES)
    html = str(TEMPLATES.get_template("parts.html.j2").module.case(case))
    return words_of(html[html.index('<ol class="steps">') : html.index('<details class="facts">')])


CUT = samples.trajectory(stop=StopReason.MAX_TOKENS).model_copy(
    update={
        "segments": (
            Generated(kind="text", text="<think>  Let me <b>see</b>.\n\n<code>", temperature=0.0),
            Generated(kind="code", text="\n```python\nfor i in range(9):", temperature=0.0),
        )
    }
)
UNFENCED = samples.trajectory().model_copy(
    update={
        "segments": (
            Generated(kind="text", text="a <answer> no <code>", temperature=0.0),
            Generated(kind="text", text="</answer> \n then <code>", temperature=0.0),
            Generated(kind="code", text="x = '''\n\n& <i>\n'''\nprint(x)</code>", temperature=0.0),
            Generated(kind="text", text="no more < 5 </code> <think> <answer> 5 ", temperature=0.0),
        )
    }
)


@pytest.mark.parametrize(
    "trajectory",
    [
        samples.trajectory(),
        samples.trajectory(executions=(samples.failed_execution(), samples.good_execution())),
        samples.trajectory(executions=(), tools=False),
        samples.trajectory(stop=StopReason.MAX_ROUNDS),
        CUT,
        UNFENCED,
    ],
    ids=["one", "two", "none", "stopped", "cut", "unfenced"],
)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_the_rows_are_those_of_the_finished_page(trajectory: Trajectory, cuts: list[int]) -> None:
    assert " ".join(followed(patches_of(trajectory, cuts))) == finished(trajectory)


def test_code_arrives_in_colour_line_by_line() -> None:
    patches = patches_of(samples.trajectory(), [1])
    lines = [patch.html for patch in patches if patch.kind == "line"]
    assert len(lines) == len(samples.CODE.splitlines())
    assert '<span class="kn">from</span>' in lines[0]
    assert lines[1] == ""
    tails = "".join(patch.text for patch in patches if patch.kind == "text" and patch.key == "r2")
    assert tails == samples.CODE.replace("\n", ""), "every character is seen when it is written, fences are not"


def test_a_text_of_several_lines_keeps_its_colour() -> None:
    lines = [patch.html for patch in patches_of(UNFENCED, [5]) if patch.kind == "line"]
    assert lines[2].startswith('<span class="s')
    assert "&lt;i&gt;" in lines[2]


def test_what_goes_on_is_said_in_order() -> None:
    states = [patch.text for patch in patches_of(samples.trajectory(), [7]) if patch.kind == "state"]
    assert states == [
        "thinking", "writing code block 1", "running code block 1", "thinking", "answering", "done",
    ]  # fmt: skip


def test_images_are_linked_not_inlined() -> None:
    trajectory = samples.trajectory()
    html = "".join(patch.html for patch in patches_of(trajectory, [9]))
    made = trajectory.observations[0].execution.images[0]
    assert f'href="/images/{made.id}"' in html
    assert "data:" not in html


@pytest.mark.parametrize(("written", "told"), [("</code>", False), ("", True)])
def test_a_block_that_was_stopped_is_not_said_not_to_have_run(written: str, told: bool) -> None:
    view = LiveView(TEMPLATES, PICTURES)
    patches = view.feed(GeneratedEvent("text", f"<code>x = 1{written}")) + view.broken_off("you stopped it")
    rows = followed(patches)
    assert ("did not run" in rows[0]) == told
    assert "you stopped it" in rows[1]
    assert patches[-1].text == "stopped"
