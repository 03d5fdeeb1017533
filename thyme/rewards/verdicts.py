"""What a judge is asked, and what it may say: prompts, quoting, verdicts."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thyme.prompts import PACKAGED

Kind = Literal["result", "consistency", "process", "code", "extract", "grade"]
Material: TypeAlias = "str | Sequence[Material] | Mapping[str, Material]"
"""Texts, in lists and mappings."""

_YesNo = Annotated[int, Field(strict=True, ge=0, le=1)]
_Grade = Annotated[int, Field(strict=True, ge=1, le=10)]
_Tenths = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]


class NotAVerdictError(ValueError):
    """A reply is not of the form asked for."""


class Verdict(BaseModel):
    """Base of what a judge may say; nothing else may be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def value(self) -> float:
        """0 to 1."""
        raise NotImplementedError


class Correct(Verdict):
    """Of the answer, or of the code."""

    correct: _YesNo

    @property
    def value(self) -> float:
        """1 if it is right."""
        return float(self.correct)


class Consistent(Verdict):
    """Whether the reasoning leads to the answer."""

    consistent: _YesNo

    @property
    def value(self) -> float:
        """1 if it does."""
        return float(self.consistent)


class Process(Verdict):
    """Grades of the reasoning."""

    correctness: _Grade
    clarity: _Grade

    @property
    def value(self) -> float:
        """The mean of both, of 10, as released: 0.1 to 1."""
        return (self.correctness + self.clarity) / 20


class Extracted(Verdict):
    """The answer that a reply commits itself to; empty where it does to none."""

    answer: str = Field(strict=True, max_length=1000)

    @property
    def value(self) -> float:
        """1 if there is one, right or wrong."""
        return float(bool(self.answer.strip()))


class Graded(Verdict):
    """How much of the reference an answer has."""

    grade: _Tenths

    @property
    def value(self) -> float:
        """0 to 1."""
        return self.grade


@dataclass(frozen=True, slots=True)
class Form:
    """A question that a judge is asked."""

    prompt: str
    verdict: type[Verdict]
    example: str

    @property
    def fingerprint(self) -> str:
        """Hash of the words: 16 hexadecimal digits."""
        return hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()


_VERDICTS: Mapping[Kind, tuple[type[Verdict], str]] = {
    "result": (Correct, '{"correct": 0}'),
    "consistency": (Consistent, '{"consistent": 0}'),
    "process": (Process, '{"correctness": 5, "clarity": 5}'),
    "code": (Correct, '{"correct": 0}'),
    "extract": (Extracted, '{"answer": "..."}'),
    "grade": (Graded, '{"grade": 0.5}'),
}


@functools.cache
def form(kind: Kind) -> Form:
    """Prompt and verdict of a judge; the prompt lies in ``thyme/prompts/judge``."""
    text = (PACKAGED / "judge" / f"{kind}.txt").read_text(encoding="utf-8").strip()
    return Form(text, *_VERDICTS[kind])


def quote(material: Mapping[str, Material]) -> str:
    """Material as one line of JSON, so that nothing in it can be taken for what stands around it.

    Line breaks, quotation marks and everything that does not print are escaped by JSON; beyond that the signs that
    fences, tags and control tokens are made of (`` ` ``, ``<``, ``>``, ``|``). A judge reads the escapes as the signs.
    """
    line = json.dumps(material, ensure_ascii=False)
    return "".join(_escaped(c) if c in "`<>|" or not c.isprintable() else c for c in line)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7E else f"\\u{ord(character):04x}"


def shorten(text: str, most: int) -> str:
    """A text of at most about `most` characters: what is too much is left out in the middle, and that is said."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"


_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


def read_verdict(kind: Kind, reply: str) -> Verdict:
    """Read a judge's reply; see `read_form`."""
    return read_form(form(kind), reply)


def read_form(asked: Form, reply: str) -> Verdict:
    """Read a judge's reply: the object asked for, alone or in a fence, and nothing before or behind it.

    Raises:
        NotAVerdictError: It is anything else.
    """
    plain = reply.strip()
    fenced = _FENCED.fullmatch(plain)
    try:
        content = json.loads(fenced.group(1) if fenced else plain, object_pairs_hook=_once)
        return asked.verdict.model_validate(content)
    except (ValueError, RecursionError, ValidationError) as error:
        raise NotAVerdictError(f"not of the form {asked.example}") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key says two things."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotAVerdictError("a key comes twice")
    return made
