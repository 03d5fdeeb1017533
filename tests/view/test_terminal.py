"""What a person reads on the terminal: everything that happened, in order, and nothing that acts on the terminal."""

from __future__ import annotations

import io
import re

import pytest
import sample_records as samples
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from thyme.events import ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.types import Generated, Observation, RolloutFailure, StopReason, Trajectory
from thyme.view.terminal import TrajectoryPrinter


def printed(trajectory: Trajectory, *, terminal: bool = False, chunk: int | None = None) -> str:
    """The transcript; with `chunk`, fed as an engine streams, that many characters at a time."""
    file = io.StringIO()
    printer = TrajectoryPrinter(Console(file=file, force_terminal=terminal, width=60, highlight=False))
    if chunk is None:
        printer.trajectory(trajectory)
        return file.getvalue()
    printer.question(trajectory.problem)
    for segment in trajectory.segments:
        if isinstance(segment, Observation):
            printer.feed(ExecutionEvent(segment))
        else:
            for start in range(0, len(segment.text), chunk):
                printer.feed(GeneratedEvent(segment.kind, segment.text[start : start + chunk]))
    printer.feed(FinishedEvent(trajectory))
    return file.getvalue()


def test_everything_is_there_in_order() -> None:
    text = printed(samples.trajectory(executions=(samples.good_execution(), samples.failed_execution())))
    places = [
        text.index(part)
        for part in (
            "question   What does the sign say?",
            "image      1: 640 × 400  street.png",
            "The sign on the right is too small to read. I crop it.",
            "code 1",
            "  crop = image.crop((620, 180, 1500, 260))",
            "repaired   boundary: crop box (620, 180, 1500, 260) clamped",
            "printed    sign.png (200, 90)",
            "new image  200 × 90  sign.png",
            "code 2",
            "  print(imgae.size)",
            "error      NameError: name 'imgae' is not defined (line 1)",
            "Now I can read it.",
            "answer     KX 47",
            "nano · greedy · seed 7 · 2 code blocks · namespaces · 88 tokens · 1.6 s",
        )
    ]
    assert places == sorted(places)
    assert not re.search(r"</?(think|code|answer|sandbox_output)>|```", text), "tags and fences are not for people"


def test_no_control_codes_when_piped_and_colours_on_a_terminal() -> None:
    assert "\x1b" not in printed(samples.trajectory())
    coloured = printed(samples.trajectory(), terminal=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(samples.trajectory())


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_streaming_in_chunks_of_any_size_prints_the_same(chunk: int) -> None:
    trajectory = samples.trajectory(executions=(samples.good_execution(), samples.failed_execution()))
    assert printed(trajectory, chunk=chunk) == printed(trajectory)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_windows_line_ends_are_line_ends_wherever_a_token_ends(chunk: int) -> None:
    segments = (
        Generated(kind="text", text="<think>One.\r\nTwo.\r\n<code>", temperature=0.0),
        Generated(kind="code", text="\r\n```python\r\nx = 1\r\ny = 2\r\n```\r\n</code>", temperature=0.0),
        Generated(kind="text", text="</think><answer>7\r\n8</answer>", temperature=0.0),
    )
    text = printed(samples.trajectory().model_copy(update={"segments": segments}), chunk=chunk)
    assert "One.\nTwo.\n\ncode 1\n  x = 1\n  y = 2\n\n" in text
    assert "\N{REPLACEMENT CHARACTER}" not in text


def test_thoughts_are_printed_while_they_arrive_and_code_when_it_is_whole() -> None:
    file = io.StringIO()
    printer = TrajectoryPrinter(Console(file=file, highlight=False))
    printer.feed(GeneratedEvent("text", "<think>I look"))
    assert file.getvalue() == "I look"
    printer.feed(GeneratedEvent("text", " closer.\n<code>"))
    before = file.getvalue()
    printer.feed(GeneratedEvent("code", "\n```python\nx = 1"))
    assert file.getvalue() == before == "I look closer.\n\n"
    printer.feed(GeneratedEvent("code", "\n```\n</code>"))
    assert "code 1\n  x = 1\n" in file.getvalue()


def test_long_lines_are_not_cut() -> None:
    code = "value = " + " + ".join(str(i) for i in range(80))
    text = printed(samples.trajectory(executions=(samples.good_execution(code),)))
    assert code in text


def test_foreign_control_codes_do_not_reach_the_terminal() -> None:
    """From the model's text, its code, what it prints, image names, errors and the answer."""
    attack = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\r"
    execution = samples.good_execution(f"x = '{attack}'")
    failed = samples.failed_execution()
    assert failed.error is not None
    error = failed.error.model_copy(update={"message": attack})
    executions = (
        execution.model_copy(update={"stdout": attack}),
        failed.model_copy(update={"error": error}),
    )
    text = printed(samples.trajectory(question=attack, thought=attack, answer=attack, executions=executions))
    assert not set(text) & (set(map(chr, (*range(32), *range(127, 160)))) - {"\n"})


@given(st.text(max_size=30))
def test_any_thought_is_printed_without_failing(thought: str) -> None:
    plain = samples.trajectory(executions=())
    generated = Generated(kind="text", text=f"<think>{thought}", temperature=0.0)
    text = printed(plain.model_copy(update={"segments": (generated,)}))
    assert "stopped" not in text
    assert "[bold]" not in thought or "[bold]" in text, "markup of the printing library is only text"


def test_code_that_was_never_closed_says_so() -> None:
    segments = (
        Generated(kind="text", text="<think>Let me see.<code>", temperature=0.0),
        Generated(kind="code", text="\n```python\nfor i in range(9):", temperature=0.0),
    )
    cut = samples.trajectory(stop=StopReason.MAX_TOKENS).model_copy(update={"segments": segments})
    text = printed(cut)
    assert "code 1 (not complete; it did not run)\n  for i in range(9):" in text
    assert "stopped    all rounds together grew longer than allowed" in text


def test_failure_of_the_machinery_is_told() -> None:
    failure = RolloutFailure(type="SandboxDiedError", message="the zygote went away", where="sandbox")
    broken = samples.trajectory(stop=StopReason.ERROR).model_copy(update={"error": failure})
    assert "stopped    it could not go on: the zygote went away" in printed(broken)


def test_one_printer_prints_many() -> None:
    file = io.StringIO()
    printer = TrajectoryPrinter(Console(file=file, width=60, highlight=False))
    for _ in range(2):
        printer.trajectory(samples.trajectory())
    assert file.getvalue() == printed(samples.trajectory()) * 2
