"""Results as the rows that the page and the markdown show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thyme.eval.arms import ARMS, UNTRAINED
from thyme.eval.arms_crops import CROP_ONLY, PLACEBO
from thyme.eval.items import NO_TOOLS, RETRY, TOOLS
from thyme.eval.published_scores import DOMAINS, PAPER, PAPER_MODELS, Reported
from thyme.eval.report.cells import (
    EMPTY,
    Bar,
    Cell,
    against_published,
    amount,
    bar,
    difference,
    p_value,
    percent,
    scale_of,
    share,
)
from thyme.eval.results import ArmResult, BenchmarkResult, Results
from thyme.eval.statistics import Estimate, Paired
from thyme.eval.worth import Worth

SCORED_ARMS = (TOOLS, NO_TOOLS, RETRY, UNTRAINED)
"""Arms whose scores stand in the first table; the others are there to explain them."""
LOOKING_ARMS = (TOOLS, CROP_ONLY, PLACEBO)
"""Arms whose crops are looked at; the last says what crops at random show."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A figure of a benchmark, ours and theirs."""

    label: str
    name: str
    """As the benchmark calls it."""
    cells: Sequence[Cell]
    headline: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A benchmark's rows in the table of scores."""

    benchmark: BenchmarkResult
    asked: str
    rows: Sequence[ScoreRow]
    more: Sequence[ScoreRow]
    """Figures that nobody published."""


@dataclass(frozen=True, slots=True)
class ArmRow:
    """An arm held against the one with code."""

    title: str
    pairs: int
    first: Cell
    second: Cell
    difference: Cell
    bar: Bar | None
    gained: int
    lost: int
    p: str
    adjusted: str
    test: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of any other table."""

    title: str
    cells: Sequence[Cell]
    bar: Bar | None = None
    part: str = ""
    """What it belongs to; a heading of its own where it differs from the row before."""


def title_of(arm: str) -> str:
    """An arm's name for readers."""
    return ARMS[arm].title if arm in ARMS else arm.replace("_", " ")


def columns(results: Results) -> list[str]:
    """Arms of the table of scores."""
    present = {arm.arm for one in results.benchmarks for arm in one.arms}
    chosen = [arm for arm in SCORED_ARMS if arm in present]
    return chosen or sorted(present)[:1]


def paper_columns(results: Results) -> list[str]:
    """Models of the paper's table, where it has a row for any of the benchmarks."""
    told = any(row.source == PAPER for one in results.benchmarks for row in one.others)
    return list(PAPER_MODELS) if told else []


def blocks(results: Results) -> list[Block]:
    """The table of scores."""
    arms, models = columns(results), paper_columns(results)
    return [_block(one, arms, models) for one in results.benchmarks]


def _block(one: BenchmarkResult, arms: Sequence[str], models: Sequence[str]) -> Block:
    published = {row.figure: row for source in (DOMAINS, PAPER) for row in one.others if row.source == source}
    names = list(dict.fromkeys(name for arm in one.arms for name in arm.figures))
    names.sort(key=lambda name: name != one.headline)
    rows = []
    for name in names:
        held = [one.arm(arm) for arm in arms]
        ours = [_figure(arm, name) for arm in held]
        told = published[name].scores if name in published else {}
        theirs = [against_published(ours[0], told.get(model)) for model in models]
        label = published[name].label if name in published else name
        rows.append(ScoreRow(label, name, [*map(share, ours), *theirs], name == one.headline))
    shown = [row for row in rows if row.headline or row.name in published]
    return Block(one, asked(one), shown, [row for row in rows if row not in shown])


def _figure(arm: ArmResult | None, name: str) -> Estimate:
    return Estimate(value=None) if arm is None else arm.figures.get(name, Estimate(value=None))


def asked(one: BenchmarkResult) -> str:
    """How many problems were asked, of how many."""
    if one.use is None:
        return f"{max(arm.worth.n for arm in one.arms)} problems"
    whole = one.use.published
    if whole is None or whole == one.use.problems:
        return f"{one.use.problems} problems" + (", all" if whole else "")
    return f"{one.use.problems} of {whole} problems"


def arm_rows(results: Results) -> dict[str, list[ArmRow]]:
    """Every arm against the one with code, by benchmark."""
    every = [arm.versus for one in results.benchmarks for arm in one.arms if arm.versus is not None]
    scale = scale_of(every)
    made = {
        one.title: [_arm_row(arm, arm.versus, scale) for arm in one.arms if arm.versus] for one in results.benchmarks
    }
    return {title: rows for title, rows in made.items() if rows}


def abouts(results: Results) -> dict[str, str]:
    """What each arm is, by its name for readers."""
    present = dict.fromkeys(arm.arm for one in results.benchmarks for arm in one.arms)
    return {ARMS[arm].title: ARMS[arm].about for arm in present if arm in ARMS and arm != TOOLS}


def _arm_row(arm: ArmResult, versus: Paired, scale: float) -> ArmRow:
    return ArmRow(
        title=title_of(arm.arm),
        pairs=versus.difference.n,
        first=Cell(percent(versus.first)),
        second=Cell(percent(versus.second)),
        difference=difference(versus),
        bar=bar(versus, scale),
        gained=versus.gained,
        lost=versus.lost,
        p=p_value(versus.p),
        adjusted=p_value(versus.adjusted),
        test=versus.test,
    )


def flip_rows(results: Results) -> list[Row]:
    """How answers turn between code and no code, where code ran."""
    rows = []
    for one in results.benchmarks:
        arm = one.arm(NO_TOOLS)
        if arm is None or arm.flips_with_code is None:
            continue
        turned = arm.flips_with_code
        counts = (turned.pairs, turned.gained, turned.lost, turned.both_right, turned.both_wrong)
        rows.append(Row(one.title, [*(Cell(str(count)) for count in counts), Cell(percent(turned.needless))]))
    return rows


def use_rows(results: Results) -> list[Row]:
    """Use of code, and what became of the problems, an arm a row."""
    rows = [row for one in results.benchmarks for row in _use_rows(one.title, [arm.worth for arm in one.arms])]
    if len(results.benchmarks) > 1:
        rows += _use_rows("all benchmarks", results.overall)
    return rows


def _use_rows(part: str, arms: Sequence[Worth]) -> Iterator[Row]:
    for one in arms:
        counts = (one.failed, one.unscored, one.unanswered, one.judged)
        cells = [share(one.tool_rate), share(one.executable), share(one.repaired), amount(one.rounds)]
        yield Row(title_of(one.arm), [Cell(str(one.n)), *cells, *(Cell(str(count)) for count in counts)], part=part)


def cost_rows(results: Results) -> list[Row]:
    """Tokens and seconds, an arm a row."""
    rows = []
    for one in results.benchmarks:
        for arm in one.arms:
            spent = arm.worth
            costs = (spent.prompt_tokens, spent.generated_tokens, spent.observation_tokens, spent.seconds)
            rows.append(Row(title_of(arm.arm), [share(spent.accuracy), *map(amount, costs)], part=one.title))
    return rows


def group_rows(one: BenchmarkResult) -> list[Row]:
    """Parts of a benchmark's problems, by what they are grouped by."""
    scale = scale_of([group.versus for group in one.groups if group.versus])
    rows = []
    for group in one.groups:
        versus, turned = group.versus, group.flips
        cells = [Cell(str(group.n)), share(group.tool_rate), share(group.accuracy), difference(versus)]
        cells.append(EMPTY if turned is None else Cell(f"{turned.gained} / {turned.lost}"))
        cells.append(Cell(p_value(versus.adjusted if versus else None)))
        rows.append(Row(group.name, cells, bar(versus, scale), f"by {group.by}"))
    return rows


def looking_rows(results: Results) -> list[Row]:
    """Where crops look, an arm a row; of problems whose target is known."""
    rows = []
    for one in results.benchmarks:
        for arm in one.arms:
            found = arm.looking
            if found is None or not found.cropped.value or arm.arm not in LOOKING_ARMS:
                continue
            shares = (found.cropped, found.covered, found.coverage, found.iou)
            right = (found.right_covered, found.right_missed, found.right_uncropped)
            cells = [Cell(str(found.known)), *map(share, shares), *(share(part, of=True) for part in right)]
            rows.append(Row(title_of(arm.arm), cells, part=one.title))
    return rows


def change_rows(results: Results) -> list[Row]:
    """How often answers change with the evidence."""
    return [
        Row(
            title_of(found.arm),
            [Cell(str(found.cases)), share(found.changed), share(found.lost, of=True)],
            part=one.title,
        )
        for one in results.benchmarks
        for found in one.changes
    ]


def others_columns(results: Results) -> list[BenchmarkResult]:
    """Benchmarks on which others than the paper report."""
    return [one for one in results.benchmarks if _told(one)]


def others_rows(results: Results) -> list[Row]:
    """What others than the paper report of the headline figures: ours first, then a model a row, by source."""
    columns = others_columns(results)
    if not columns:
        return []
    arms = [arm for arm in SCORED_ARMS if any(one.arm(arm) for one in columns)]
    rows = [
        Row(title_of(arm), [share(_figure(one.arm(arm), one.headline)) for one in columns], part="this run")
        for arm in arms
    ]
    told = {
        one.name: {(row.source, model): score for row in _told(one) for model, score in row.scores.items()}
        for one in columns
    }
    for source, model in dict.fromkeys(key for scores in told.values() for key in scores):
        cells = [
            against_published(_figure(one.arms[0], one.headline), told[one.name].get((source, model)))
            for one in columns
        ]
        rows.append(Row(model, cells, part=source))
    return sorted(rows, key=lambda row: [one.part for one in rows].index(row.part))


def _told(one: BenchmarkResult) -> list[Reported]:
    return [row for row in one.others if row.source not in {PAPER, DOMAINS} and row.figure == one.headline]
