"""The state of a question that follows from what was said of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.config.annotation import AnnotationSettings
from thyme.studio.annotation.states import state_of


@dataclass(frozen=True)
class Said:
    role: str
    verdict: str
    agrees: bool | None = None


def said(words: str) -> list[Said]:
    """``=`` a second person agrees, ``!`` does not; ``+`` and ``-`` of experts; ``a``, ``r``, ``s`` of adjudicators."""
    kinds = {
        "=": Said("second", "answered", True), "!": Said("second", "answered", False),
        "+": Said("expert", "accept"), "-": Said("expert", "reject"),
        "a": Said("adjudicator", "accept"), "r": Said("adjudicator", "reject"), "s": Said("adjudicator", "return"),
    }  # fmt: skip
    return [kinds[letter] for letter in words]


@pytest.mark.parametrize(
    ("second", "experts", "words", "state"),
    [
        (1, 3, "", "submitted"),
        (1, 3, "=", "checked"),
        (1, 3, "!", "disputed"),
        (2, 3, "!", "submitted"),  # the other one is heard, too
        (2, 3, "!=", "disputed"),
        (2, 3, "==", "checked"),
        (1, 3, "=+", "checked"),
        (1, 3, "=+++", "accepted"),
        (1, 3, "=---", "rejected"),
        (1, 3, "=+-", "disputed"),
        (1, 3, "=+-a", "accepted"),
        (1, 3, "=+-r", "rejected"),
        (1, 3, "=+-s", "draft"),
        (1, 3, "!a", "checked"),  # experts have not spoken yet
        (1, 3, "!a+++", "accepted"),
        (1, 3, "!a+-", "disputed"),
        (1, 3, "!a+-a", "accepted"),
        (1, 3, "!r", "rejected"),
        (1, 3, "!s", "draft"),
        (1, 0, "=", "accepted"),
        (1, 0, "!a", "accepted"),
        (0, 1, "", "checked"),
        (0, 0, "", "accepted"),
    ],
)
def test_states(second: int, experts: int, words: str, state: str) -> None:
    assert state_of(said(words), AnnotationSettings(second=second, experts=experts)) == state


@given(words=st.text("=!+-ars", max_size=6), second=st.integers(0, 2), experts=st.integers(0, 3))
def test_nothing_is_accepted_that_somebody_did_not_accept(words: str, second: int, experts: int) -> None:
    """Whatever was said in whatever order: accepted means that experts, an adjudicator, or all answers say so."""
    if state_of(said(words), AnnotationSettings(second=second, experts=experts)) == "accepted":
        assert "a" in words or (words.count("+") >= experts and "-" not in words)
        assert "a" in words or "!" not in words or "+" in words
