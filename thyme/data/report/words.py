"""What a build came to, in sentences: the findings, and what to be careful about. Each is a figure of the tables."""

from __future__ import annotations

from collections.abc import Iterator

from thyme.data.factory.chain import BROKEN
from thyme.data.report.counts import Funnel
from thyme.data.report.meanings import meaning
from thyme.data.stages.reasons import UNANSWERED
from thyme.view.pages import duration
from thyme.view.words import count

NONE = "–"
LOW = 0.2
"""Share of a scenario's records below which it hardly yields anything."""
SHIFT = 0.5
"""Part of its asked share that a scenario may lose among the accepted before that is said."""
STATES = {
    "begun": "is under way, or was killed",
    "interrupted": "was interrupted",
    "spent": "ended with its budget",
    "failed": "ended with an error",
}
"""What became of a build that is not finished."""


def percent(value: float | None) -> str:
    """A share in percent with its sign; a dash for none."""
    return NONE if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def usd(value: float | None) -> str:
    """US dollars: two decimals, or as many as a small amount needs."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value == 0 or value >= 1 else f"{value:.2g}"


def findings(funnel: Funnel) -> list[str]:
    """What came of it."""
    return list(_findings(funnel))


def _findings(funnel: Funnel) -> Iterator[str]:
    total = funnel.total
    if not total.drawn:
        return
    yield f"{count(total.kept)} of {count(total.drawn)} records were accepted ({percent(total.share)})."
    if funnel.reasons:
        first = sorted(funnel.reasons, key=lambda one: -one.count)[:3]
        told = "; ".join(f"{one.reason} {count(one.count)} ({meaning(one.reason) or one.stage})" for one in first)
        yield f"Most were dropped for: {told}."
    if len(funnel.scenarios) > 1:
        known = [(name, group.share) for name, group in funnel.scenarios.items() if group.share is not None]
        if known:
            least, most = min(known, key=lambda one: one[1] or 0), max(known, key=lambda one: one[1] or 0)
            yield f"Scenarios yield from {percent(least[1])} ({least[0]}) to {percent(most[1])} ({most[0]})."
    if total.duplicates or total.held_out:
        yield (
            f"{count(total.duplicates)} were dropped as near-duplicates of earlier items, {count(total.held_out)} for "
            "a picture of a benchmark, before anybody was asked about them."
        )
    if total.kept and (total.repaired or total.corrected):
        yield (
            f"In {count(total.repaired)} accepted records the sandbox repaired code, which is stored as it ran; in "
            f"{count(total.corrected)} a block failed and a later one put it right."
        )
    cost = sum(one.usd for one in funnel.spent.values())
    if cost:
        yield f"{usd(cost)} US dollars were spent, {usd(total.of_kept(cost))} for each accepted record."
    if funnel.seconds and total.kept:
        rate = 3600 * total.kept / funnel.seconds
        yield f"It took {duration(funnel.seconds)}, {count(rate)} accepted records an hour."


def cautions(funnel: Funnel) -> list[str]:
    """What somebody must know before training on it."""
    return list(_cautions(funnel))


def _cautions(funnel: Funnel) -> Iterator[str]:
    total = funnel.total
    if funnel.state in STATES and funnel.missing:
        yield (
            f"The build {STATES[funnel.state]}: {count(funnel.missing)} of {count(funnel.planned)} items have no "
            "outcome yet, and are in no figure. The same command goes on from there."
        )
    if total.kept and total.checked < total.kept:
        yield f"{count(total.kept - total.checked)} accepted records were not looked at by a model."
    if total.kept and not funnel.benchmark_pictures:
        yield "The recipe names no benchmark, so no picture was kept out for being in one."
    for one in funnel.reasons:
        if one.reason == BROKEN:
            yield f"The stage {one.stage} itself failed at {count(one.count)} records, which the build's log tells of."
        if one.reason == UNANSWERED:
            yield f"{count(one.count)} requests of {one.stage} were never answered; their records are lost."
    yield from _shifts(funnel)


def _shifts(funnel: Funnel) -> Iterator[str]:
    """Scenarios that yield little, or are fewer among the accepted than was asked for."""
    asked, kept = sum(funnel.asked.values()), funnel.total.kept
    for name, group in funnel.scenarios.items():
        if group.share is not None and group.share < LOW:
            yield f"Only {percent(group.share)} of {name} were accepted; its examples below say why."
        elif asked and kept and name in funnel.asked and not funnel.missing:
            wanted, share = funnel.asked[name] / asked, group.kept / kept
            if share < SHIFT * wanted:
                yield f"{name} is {percent(share)} of the accepted records, and {percent(wanted)} was asked for."
