"""How far annotation is, by person and day (UTC), and how far people agree.

What counts for agreement is what a person said first of a question: an answer that was taken back and given anew was
given by somebody who knew whether the first one had been right.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import mean, median
from typing import Any, NamedTuple, get_args

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from thyme.data.annotation.agreement import kappa
from thyme.data.annotation.records import State
from thyme.studio.accounts import roles_of
from thyme.studio.annotation.checks import wanted_a_question
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import DONE, OPEN, UNSUITABLE, CheckRow, CollectionRow, Question, Shot
from thyme.studio.times import DAY_S

_KINDS = ("written", "answered", "verdicts")


class _Said(NamedTuple):
    """What somebody said, as far as it is counted: whole rows of tens of thousands would take seconds to make."""

    question_id: int
    round: int
    reviewer_id: int
    role: str
    verdict: str
    agrees: bool | None
    category: str
    category_then: str
    gold: bool
    undone: float | None
    created: float
    seconds: float | None
    author_id: int


@dataclass
class _Done:
    """What a person did."""

    days: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By day since 1970."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    returned: int = 0
    gold: Counter[bool] = field(default_factory=Counter)

    def add(self, kind: str, at: float, seconds: float | None) -> None:
        """Count one piece of work."""
        self.days[int(at // DAY_S)][kind] += 1
        if seconds is not None:
            self.seconds[kind].append(seconds)


def progress(session: Session, collection: str = "", *, gold: bool = True) -> dict[str, Any]:
    """Figures of one collection or all.

    Args:
        session: Of the database.
        collection: Name of one; empty: all.
        gold: Whether to say how people did on questions of known answer: to those who lead only, as who watches their
            own figure grow would know which questions these are.
    """
    shots = _shots(collection)
    images = dict(session.execute(select(Shot.state, func.count()).where(*shots).group_by(Shot.state)).all())
    rows = select(Question.state, func.count()).join(Shot, Shot.id == Question.shot_id).where(*shots)
    states = dict(session.execute(rows.group_by(Question.state)).all())
    checks = _checks(session, shots)
    states = {state: states.get(state, 0) for state in get_args(State)}
    return {
        "images": {state: images.get(state, 0) for state in (OPEN, DONE, UNSUITABLE)},
        "states": states,
        "wanted": _wanted(session, shots, states),
        "people": _people(session, shots, checks, gold=gold),
        "agreement": _agreement(checks),
    }


def _wanted(
    session: Session, shots: Sequence[ColumnElement[bool]], states: Mapping[str, int]
) -> dict[str, dict[str, int | None]]:
    """What questions still wait for, by role.

    Returns:
        ``each``: how many people a question is to pass. ``lacking``: how many answers or verdicts are still wanted of
        the questions that wait for them now. Both are None where the studio was never started. ``people``: how many
        there are who may give them.
    """
    each, found = wanted_a_question(session), dict[str, dict[str, int | None]]()
    held = [roles_of(one.roles, lead=one.lead) for one in session.scalars(select(Reviewer).where(Reviewer.active))]
    for role, state in (("second", "submitted"), ("expert", "checked")):
        said = (
            select(func.count())
            .select_from(CheckRow)
            .join(Question, Question.id == CheckRow.question_id)
            .join(Shot, Shot.id == Question.shot_id)
            .where(Question.state == state, CheckRow.round == Question.round, CheckRow.role == role)
            .where(CheckRow.undone.is_(None), CheckRow.gold.is_(False), *shots)
        )
        given = session.scalar(said) or 0
        found[role] = {
            "each": each.get(role),
            "lacking": max(0, each[role] * states[state] - given) if role in each else None,
            "people": sum(role in roles for roles in held),
        }
    return found


def _agreement(checks: Sequence[_Said]) -> dict[str, float | None]:
    """How far people agree; None where nothing can be said.

    Args:
        checks: All that was said, in its order.

    Returns:
        ``answers``: share of second persons' first answers that were the author's. ``categories``: Cohen's kappa of the
        categories that authors and second persons gave. ``experts``: mean kappa of pairs of experts.
    """
    rows = _first_said(checks)
    seconds = [row for row in rows if row.role == "second"]
    experts: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        if row.role == "expert":
            experts[row.question_id, row.round].append((row.reviewer_id, row.verdict))
    tables: dict[tuple[int, int], Counter[tuple[str, str]]] = defaultdict(Counter)
    for said in experts.values():
        for (first, one), (second, other) in combinations(sorted(said), 2):
            tables[first, second][one, other] += 1
    pairs = [found for table in tables.values() if (found := kappa(table)) is not None]
    return {
        "answers": mean(float(bool(row.agrees)) for row in seconds) if seconds else None,
        "categories": kappa(Counter((row.category_then, row.category) for row in seconds)),
        "experts": mean(pairs) if pairs else None,
    }


def _people(
    session: Session, shots: Sequence[ColumnElement[bool]], checks: Sequence[_Said], *, gold: bool
) -> list[dict[str, Any]]:
    done: dict[int, _Done] = defaultdict(_Done)
    written = (
        select(Question.author_id, Question.submitted, Question.seconds)
        .join(Shot, Shot.id == Question.shot_id)
        .where(Question.submitted.is_not(None), *shots)
    )
    for author, at, seconds in session.execute(written):
        done[author].add("written", at or 0.0, seconds)
    for row in checks:
        if row.verdict == "return" and row.undone is None:
            done[row.author_id].returned += 1
        if row.undone is None:
            done[row.reviewer_id].add("answered" if row.role == "second" else "verdicts", row.created, row.seconds)
    for row in _first_said(checks, gold=True):
        done[row.reviewer_id].gold[bool(row.agrees)] += 1
    names = session.execute(select(Reviewer.id, Reviewer.name).order_by(Reviewer.name))
    return [_told(name, done[id], gold=gold) for id, name in names if id in done]


def _told(name: str, done: _Done, *, gold: bool) -> dict[str, Any]:
    totals: Counter[str] = sum(done.days.values(), Counter())
    return {
        "name": name,
        "written": totals["written"],
        "returned": done.returned,
        "answered": totals["answered"],
        "verdicts": totals["verdicts"],
        "gold": {"right": done.gold[True], "of": done.gold.total()} if gold else None,
        "seconds": {kind: median(done.seconds[kind]) if done.seconds[kind] else None for kind in _KINDS},
        "days": [{"day": _date(day), **{kind: done.days[day][kind] for kind in _KINDS}} for day in sorted(done.days)],
    }


def _checks(session: Session, shots: Sequence[ColumnElement[bool]]) -> list[_Said]:
    columns = [getattr(CheckRow, name) for name in _Said._fields[:-1]]
    query = select(*columns, Question.author_id).join(Question, Question.id == CheckRow.question_id)
    if shots:
        query = query.join(Shot, Shot.id == Question.shot_id).where(*shots)
    return [_Said._make(row) for row in session.execute(query.order_by(CheckRow.id))]


def _first_said(rows: Iterable[_Said], *, gold: bool = False) -> list[_Said]:
    """What each person said first of each submission in each role."""
    found: dict[tuple[int, int, int, str], _Said] = {}
    for row in rows:
        if row.gold is gold:
            found.setdefault((row.question_id, row.round, row.reviewer_id, row.role), row)
    return list(found.values())


def _shots(collection: str) -> list[ColumnElement[bool]]:
    ids = select(CollectionRow.id).where(CollectionRow.name == collection)
    return [Shot.collection_id.in_(ids)] if collection else []


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY_S))
