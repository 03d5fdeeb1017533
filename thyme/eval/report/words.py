"""What a run found, in sentences: the findings, and what to be careful about. Each is a figure of the tables."""

from __future__ import annotations

from collections.abc import Iterator

from thyme.eval.items import NO_TOOLS, TOOLS
from thyme.eval.published_scores import PAPER
from thyme.eval.report.cells import interval, p_value, percent, reach, signed
from thyme.eval.report.tables import asked, title_of
from thyme.eval.results import BenchmarkResult, Results
from thyme.eval.statistics import Paired

FEW = 100
"""Independent problems below which intervals are wide."""
ALL = "All benchmarks"
_VERDICTS = {"better": "better with code", "worse": "worse with code", "": "no difference is shown"}


def findings(results: Results) -> dict[str, list[str]]:
    """What was found about tool use, by benchmark, and over all of them."""
    found = {one.title: list(_benchmark(one)) for one in results.benchmarks}
    return {name: sentences for name, sentences in {ALL: list(_use(results)), **found}.items() if sentences}


def _use(results: Results) -> Iterator[str]:
    one = next((one for one in results.overall if one.arm == TOOLS), None)
    if one is None or one.tool_rate.value is None:
        return
    text = f"Code ran in {percent(one.tool_rate.value)} % of the problems ({interval(one.tool_rate)})"
    if one.executable.value is not None:
        text += f"; {percent(one.executable.value)} % of the blocks ended without an error"
    yield text + "."


def _benchmark(one: BenchmarkResult) -> Iterator[str]:
    without = one.arm(NO_TOOLS)
    if without is not None and without.versus is not None and without.versus.difference.value is not None:
        said = "" if headline_is_mean(one) else "Mean score a problem, which is not the published figure: "
        yield said + _difference(without.versus)
    if without is not None and without.flips_with_code is not None and without.flips_with_code.needless is not None:
        turned = without.flips_with_code
        yield (
            f"Of the {turned.both_right + turned.gained} problems that were solved while code ran, "
            f"{percent(turned.needless)} % are solved without code, too; code turned {turned.gained} answers from "
            f"wrong to right and {turned.lost} from right to wrong."
        )
    changed = [change for change in one.changes if change.changed.value is not None]
    if changed:
        told = (f"{title_of(change.arm)} {percent(change.changed.value)} % of {change.cases}" for change in changed)
        yield f"How often the answer changes where what code gave back is changed: {', '.join(told)}."
    looked = one.arms[0].looking
    if looked is not None and looked.covered.value is not None:
        seen = looked.covered
        yield f"Of {seen.n} problems with a crop, one shows the target in {percent(seen.value)} % ({interval(seen)})."
    yield from _paper(one)


def headline_is_mean(one: BenchmarkResult) -> bool:
    """Whether the published figure is the mean score, which is what arms are compared by."""
    figure, mean = one.arms[0].figures.get(one.headline), one.arms[0].worth.accuracy.value
    return figure is None or figure.value is None or mean is None or abs(figure.value - mean) < 1e-9


def _difference(versus: Paired) -> str:
    gap, p = versus.difference, p_value(versus.adjusted)
    return (
        f"{percent(versus.first)} % with code and {percent(versus.second)} % without, on the same {gap.n} problems: "
        f"{signed(gap.value)} points ({reach(gap)}), p {p if p.startswith('<') else f'= {p}'} after correction: "
        f"{_VERDICTS[versus.verdict]}."
    )


def _paper(one: BenchmarkResult) -> Iterator[str]:
    row = next((row for row in one.others if row.source == PAPER and row.figure == one.headline), None)
    ours = one.arms[0].figures.get(one.headline)
    if row is None or ours is None or ours.value is None or ours.low is None or ours.high is None:
        return
    theirs = row.scores["Thyme-7B"]
    where = "inside of" if ours.low <= theirs / 100 <= ours.high else "outside of"
    yield (
        f"The paper reports {theirs:.1f} for Thyme-7B, {where} the interval of this run, {percent(ours.value)} "
        f"({interval(ours)})."
    )


def cautions(results: Results) -> list[str]:
    """What a reader must know before believing a figure; what holds of several is said once."""
    found: dict[str, list[str]] = {}
    told = {one.name for one in results.benchmarks}
    for use in results.manifest.benchmarks:
        if use.name not in told:
            found.setdefault("nothing was asked yet; the run is unfinished.", []).append(use.name)
    for one in results.benchmarks:
        for where, what in _cautions(one, results):
            found.setdefault(what, []).append(where)
    return [f"{'; '.join(places)}: {what}" for what, places in found.items()]


def _cautions(one: BenchmarkResult, results: Results) -> Iterator[tuple[str, str]]:
    """Where, and what."""
    if one.use is not None and one.use.published and one.use.published != one.use.problems:
        yield one.title, f"{asked(one)} were asked; a published score is of all of them."
    for name, missing in one.missing.items():
        yield f"{one.title}, {title_of(name)}", f"{missing} problems were not asked yet; the run is unfinished."
    for arm in one.arms:
        for count, what in (
            (arm.worth.failed, "failed in engine or sandbox"),
            (arm.worth.unscored, "have no score (no reference, or no verdict of a judge)"),
        ):
            if count:
                where = f"{one.title}, {title_of(arm.arm)}, {count} of {arm.worth.n}"
                yield where, f"{what}, and count in no rate."
    if one.judge and results.manifest.judge is None:
        yield one.title, "the published scoring asks a judge where rules find nothing; this run asked none."
    figure = one.arms[0].figures.get(one.headline)
    if figure is not None and figure.clusters < FEW:
        yield one.title, f"fewer than {FEW} independent problems; intervals are wide, small effects stay unseen."
