"""A trajectory on a page while it is written: the rows of the finished page, as patches that arrive in order.

A row stands for one part of the response. It is sent when it begins, and its text follows piece by piece; code is sent
once more when it is complete, and again with what came of it. Who follows the patches ends with the rows that
`thyme.view.parts` makes of the finished trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Environment

from thyme.events import Event, ExecutionEvent, GeneratedEvent
from thyme.markup import extract_code
from thyme.types import Execution, StopReason, Trajectory
from thyme.view import words
from thyme.view.parts import Run, highlight, make_attempt, make_run
from thyme.view.pictures import Pictures
from thyme.view.steps import AnswerStep, CodeStep, Fragment, Reader, Thought
from thyme.view.unseen import named


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of a page."""

    kind: Literal["row", "text", "line", "state", "facts"]
    """``row``: `html` is the row `key`, in place of what stood for it, or at the end. ``text``: `text` is added to that
    row. ``line``: `html` is the line of code that the row's latest texts made up, in their place. ``state``: `text`
    says what goes on. ``facts``: `html` stands below the rows, and nothing follows."""
    key: str = ""
    text: str = ""
    html: str = ""


@dataclass(slots=True)
class _Block:
    """A code block while it is written, and while it runs."""

    key: str
    number: int
    text: str = ""
    shown: int = 0
    """Whole lines that were sent."""
    tail: int = 0
    """Characters of the line after them that were sent."""
    closed: bool = False
    """Whether it is complete, and runs."""
    over: bool = False
    """Whether its row was sent for good."""


@dataclass(slots=True)
class _Prose:
    """A thought or the answer while it is written."""

    key: str
    place: str
    space: str = ""
    """White space that is sent only if more text follows."""
    begun: bool = False


class LiveView:
    """Turns the events of one rollout into patches; feed it every event, in order."""

    def __init__(self, templates: Environment, pictures: Pictures) -> None:
        """Write rows with these templates and images (`thyme.view.parts.environment`)."""
        self._parts: Any = templates.get_template("parts.html.j2").module
        self._pictures = pictures
        self._reader = Reader()
        self._rows = self._blocks = 0
        self._prose: _Prose | None = None
        self._block: _Block | None = None
        """The last block."""
        self._state = ""

    def feed(self, event: Event) -> list[Patch]:
        """What changes on the page."""
        if isinstance(event, GeneratedEvent):
            return _merged(self._written(self._reader.feed(event.text)))
        patches = self._written(self._reader.flush())
        if isinstance(event, ExecutionEvent):
            return _merged(patches + self._executed(event.observation.execution))
        return _merged(patches + self._finished(event.trajectory))

    def broken_off(self, reason: str) -> list[Patch]:
        """It ends without a trajectory: whoever asked stopped it, or the server could not go on."""
        patches = self._written(self._reader.flush())
        if self._block is not None and not self._block.closed:  # else nobody can say how far it ran
            patches += self._ended_block(None)
        return _merged([*patches, self._row(self._new_key(), self._parts.stopped(reason)), *self._says("stopped")])

    # --- what the model writes ----------------------------------------------------------------------------------------

    def _written(self, fragments: list[Fragment]) -> list[Patch]:
        patches: list[Patch] = []
        for fragment in fragments:
            if fragment.place == "code":
                patches += self._code(fragment)
            else:
                patches += self._text(fragment)
        return patches

    def _text(self, fragment: Fragment) -> list[Patch]:
        """A thought or an answer; a thought's row appears with its first word, an answer's at once."""
        patches: list[Patch] = []
        prose = self._prose
        if fragment.border == "open" or prose is None or prose.place != fragment.place:
            prose = self._prose = _Prose(self._new_key(), fragment.place)
            if fragment.place == "answer":
                patches += self._ended_block(None)
                patches += [self._row(prose.key, self._parts.answer(AnswerStep(""))), *self._says("answering")]
        text = prose.space + fragment.text
        body = (text if prose.begun else text.lstrip()).rstrip()
        prose.space = text[len(text.rstrip()) :] if body or prose.begun else ""
        if body:
            if not prose.begun and fragment.place == "thought":
                patches += self._ended_block(None)
                patches += [*self._says("thinking"), self._row(prose.key, self._parts.thought(Thought("")))]
            prose.begun = True
            patches.append(Patch("text", prose.key, named(body)))
        if fragment.border == "close":
            self._prose = None
        return patches

    def _code(self, fragment: Fragment) -> list[Patch]:
        if fragment.border == "close":
            return self._closed()
        if fragment.border == "open":
            return [*self._ended_block(None), *self._opened(), *self._code_text(fragment.text)]
        return self._code_text(fragment.text)

    def _opened(self) -> list[Patch]:
        self._prose = None
        self._blocks += 1
        self._block = block = _Block(self._new_key(), self._blocks)
        run = Run(block.number, highlight(""), running=True)
        return [*self._says(f"writing code block {block.number}"), self._row(block.key, self._parts.run(run))]

    def _code_text(self, text: str) -> list[Patch]:
        """Whole lines in colour, the line that is being written as it is; fences are not shown."""
        block = self._block
        assert block is not None
        block.text += text
        *lines, tail = block.text.replace("\r\n", "\n").split("\n")
        shown = _without_fences(lines)
        patches = []
        for index in range(block.shown, len(shown)):
            patches.append(Patch("line", block.key, html=_last_line(shown[: index + 1])))
            block.tail = 0
        block.shown = len(shown)
        if (new := tail[block.tail :]) and not _is_fence(tail) and (shown or tail.strip()):
            patches.append(Patch("text", block.key, named(new)))
            block.tail = len(tail)
        return patches

    def _closed(self) -> list[Patch]:
        block = self._block
        assert block is not None
        block.closed = True
        run = Run(block.number, highlight(extract_code(block.text)), running=True)
        return [self._row(block.key, self._parts.run(run)), *self._says(f"running code block {block.number}")]

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _executed(self, execution: Execution) -> list[Patch]:
        patches: list[Patch] = []
        if self._block is None:
            patches += self._opened()
        patches += [*self._ended_block(execution), *self._says("thinking")]
        self._prose = None
        return patches

    def _ended_block(self, execution: Execution | None) -> list[Patch]:
        """The last block's row for good; `execution` is None if it did not run."""
        block = self._block
        if block is None or (block.over and execution is None):
            return []
        block.over = True
        code = extract_code(block.text) if execution is None else execution.code
        run = make_run(CodeStep(block.number, code, execution), self._pictures)
        return [self._row(block.key, self._parts.run(run))]

    def _finished(self, trajectory: Trajectory) -> list[Patch]:
        patches = self._ended_block(None)
        if trajectory.stop is not StopReason.ANSWER:
            patches.append(self._row(self._new_key(), self._parts.stopped(words.stopped(trajectory))))
        attempt = make_attempt("", trajectory, None, self._pictures)
        return [*patches, Patch("facts", html=str(self._parts.facts(attempt))), *self._says("done")]

    # --- patches ------------------------------------------------------------------------------------------------------

    def _new_key(self) -> str:
        self._rows += 1
        return f"r{self._rows}"

    def _row(self, key: str, html: object) -> Patch:
        return Patch("row", key, html=str(html))

    def _says(self, state: str) -> list[Patch]:
        if state == self._state:
            return []
        self._state = state
        return [Patch("state", text=state)]


def _merged(patches: list[Patch]) -> list[Patch]:
    """The same changes, with texts that follow each other as one."""
    merged: list[Patch] = []
    for patch in patches:
        last = merged[-1] if merged else None
        if last is not None and last.kind == patch.kind == "text" and last.key == patch.key:
            merged[-1] = Patch("text", patch.key, last.text + patch.text)
        else:
            merged.append(patch)
    return merged


def _is_fence(line: str) -> bool:
    return line.lstrip().startswith(("`", "~~~"))


def _without_fences(lines: list[str]) -> list[str]:
    """Lines of code, as far as can be told while they are written."""
    shown: list[str] = []
    for line in lines:
        if not _is_fence(line) and (shown or line.strip()):
            shown.append(line)
    return shown


def _last_line(lines: list[str]) -> str:
    """The last one in colour; what stands before it decides whether it is inside a text of several lines."""
    return str(highlight("\n".join(lines))).rpartition("\n")[2] if lines[-1].strip() else ""
