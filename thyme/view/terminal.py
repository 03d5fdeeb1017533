"""A trajectory on a terminal, as it happens: thoughts stream, code is highlighted, results follow.

Nothing that a model or its code wrote reaches the terminal as a control code, and where the output is no terminal
(a pipe, a file) there are none at all. Characters that would turn a text round, or that nobody sees, are named.
"""

from __future__ import annotations

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.markup import extract_code
from thyme.types import Execution, ImageRecord, Observation, Problem, StopReason, Trajectory
from thyme.view import words
from thyme.view.steps import Fragment, Reader
from thyme.view.unseen import named

INDENT = "  "
_LABEL_WIDTH = 11
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def clean(text: str) -> str:
    """Foreign text without control codes: it can neither move the cursor nor change colours or titles."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def _seen(text: str) -> str:
    """Foreign text as it is printed."""
    return named(clean(text))


class TrajectoryPrinter:
    """Prints one trajectory after the other; feed it every event of a rollout, in order."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._start()

    def _start(self) -> None:
        self._reader = Reader()
        self._code: list[str] | None = None
        self._answer: list[str] | None = None
        self._space = ""
        """White space that is printed only if more of the thought follows."""
        self._thinking = False
        """Whether something of a thought stands on the current line."""
        self._blocks = 0

    def question(self, problem: Problem) -> None:
        """Print what is asked, and the images it is asked about."""
        self._row("question", problem.question, "bold")
        for index, choice in enumerate(problem.choices):
            self._row("", f"{chr(ord('A') + index)}. {choice}")
        for index, image in enumerate(problem.images):
            self._row("image", f"{index + 1}: {_image(image)}")
        self._console.print()

    def feed(self, event: Event) -> None:
        """Print what happened."""
        if isinstance(event, GeneratedEvent):
            self._show(self._reader.feed(event.text))
        elif isinstance(event, ExecutionEvent):
            self._show(self._reader.flush())
            self._execution(event.observation.execution)
        elif isinstance(event, FinishedEvent):
            self._show(self._reader.flush())
            self._finish(event.trajectory)

    def trajectory(self, trajectory: Trajectory) -> None:
        """Print a finished trajectory, question included, as if it happened now."""
        self.question(trajectory.problem)
        for segment in trajectory.segments:
            if isinstance(segment, Observation):
                self.feed(ExecutionEvent(segment))
            else:
                self.feed(GeneratedEvent(segment.kind, segment.text))
        self.feed(FinishedEvent(trajectory))

    # --- what the model writes ----------------------------------------------------------------------------------------

    def _show(self, fragments: list[Fragment]) -> None:
        for fragment in fragments:
            if fragment.place == "thought":
                self._thought(fragment.text)
            elif fragment.place == "code":
                self._code = self._collect(self._code, fragment)
                if fragment.border == "close":
                    self._print_code()
            else:
                self._answer = self._collect(self._answer, fragment)
                if fragment.border == "close":
                    self._print_answer()

    def _collect(self, parts: list[str] | None, fragment: Fragment) -> list[str]:
        self._end_thought()
        return [*(parts or ()), fragment.text]

    def _thought(self, text: str) -> None:
        text = self._space + text
        if not self._thinking:
            text = text.lstrip()
        body = text.rstrip()
        self._space = text[len(body) :]
        if body:
            self._console.print(Text(_seen(body)), end="", soft_wrap=True)
            self._thinking = True

    def _end_thought(self) -> None:
        if self._thinking:
            self._console.print("\n")
        self._thinking, self._space = False, ""

    def _print_code(self, remark: str = "") -> None:
        code, self._code = _seen(extract_code("".join(self._code or ()))), None
        self._blocks += 1
        self._console.print(Text(f"code {self._blocks}{remark}", style="dim"))
        self._lines(Syntax(code, "python", theme="ansi_dark", background_color="default").highlight(code))
        self._console.print()

    def _print_answer(self) -> None:
        answer, self._answer = "".join(self._answer or ()).strip(), None
        self._row("answer", answer, "bold green")

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _execution(self, execution: Execution) -> None:
        for repair in execution.repairs:
            times = f" ({repair.count} times)" if repair.count > 1 else ""
            self._row("repaired", f"{repair.name}: {repair.note}{times}", "yellow")
        if printed := execution.stdout.strip("\n"):
            self._row("printed", printed)
        for image in execution.images:
            self._row("new image", _image(image), "cyan")
        if line := words.error_line(execution):
            self._row("error", line, "red")
        for remark in words.remarks(execution):
            self._row("", remark, "dim")
        self._console.print()

    def _finish(self, trajectory: Trajectory) -> None:
        self._end_thought()
        if self._code is not None:
            self._print_code(" (not complete; it did not run)")
        if self._answer is not None:
            self._print_answer()
        if trajectory.stop is not StopReason.ANSWER:
            reason = f": {trajectory.error.message}" if trajectory.error is not None else ""
            self._row("stopped", f"{words.STOPS[trajectory.stop]}{reason}", "red")
        self._console.print()
        self._console.print(Text(_seen(words.summary(trajectory)), style="dim"), soft_wrap=True)
        self._console.print()
        self._start()

    # --- lines --------------------------------------------------------------------------------------------------------

    def _row(self, label: str, value: str, style: str = "") -> None:
        """A label, and text beside it that may have several lines."""
        for index, line in enumerate(_seen(value).split("\n")):
            head = (label if index == 0 else "").ljust(_LABEL_WIDTH)
            self._console.print(Text.assemble((head, "dim"), (line, style)), soft_wrap=True)

    def _lines(self, text: Text) -> None:
        text.rstrip()
        for line in text.split("\n"):
            self._console.print(Text(INDENT).append_text(line) if line.plain.strip() else "", soft_wrap=True)


def _image(image: ImageRecord) -> str:
    """Size of an image and where it lies."""
    return f"{words.size(image)}  {image.name}".rstrip()
