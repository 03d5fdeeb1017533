"""The tables of the report, row by row, each cell as it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from thyme.data.report import meanings
from thyme.data.report.counts import Funnel, Group, Reason
from thyme.data.report.words import NONE, percent, usd
from thyme.view.pages import duration
from thyme.view.words import count


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    title: str
    cells: Sequence[str]
    note: str = ""
    anchor: str = ""
    """Of the examples; empty where there are none."""
    width: float = 0.0
    """Of its bar, 0 to 100."""
    lost: float = 0.0
    """Of the part of its bar that was lost there, from its right end."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows under a heading."""

    title: str
    note: str
    rows: Sequence[Row] = field(default_factory=tuple)


STAGE_HEADS = ("in", "rejected", "of those in", "on", "", "median", "95 %", "together")


def stage_rows(funnel: Funnel) -> list[Row]:
    """The funnel: what came into each stage and what went on, with a bar of all that were drawn."""
    whole, rows = max(1, funnel.total.drawn), []
    for name, one in funnel.stages.items():
        if not one.entered:
            continue
        lost = one.rejected / one.entered
        timed = one.median_s is not None
        cells = (
            count(one.entered),
            count(one.rejected),
            percent(lost),
            count(one.passed),
            _seconds(one.median_s),
            _seconds(one.p95_s),
            duration(one.seconds) if timed else NONE,
        )
        width = 100 * one.entered / whole
        rows.append(Row(name, cells, meanings.STAGES.get(name, ""), width=width, lost=width * lost))
    return rows


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{1000 * value:.3g} ms" if value < 1 else duration(value)


def reason_heads(funnel: Funnel) -> list[str]:
    """Columns of `reason_blocks`."""
    return ["records", "of those drawn", *funnel.scenarios]


def reason_blocks(funnel: Funnel, anchors: Mapping[tuple[str, str], str]) -> list[Block]:
    """Why records were dropped, by stage, with how often in each scenario."""
    stages = dict.fromkeys(one.stage for one in funnel.reasons)
    return [
        Block(stage, "", [_reason(funnel, one, anchors) for one in funnel.reasons if one.stage == stage])
        for stage in stages
    ]


def _reason(funnel: Funnel, one: Reason, anchors: Mapping[tuple[str, str], str]) -> Row:
    scenarios = [count(one.scenarios[name]) if name in one.scenarios else "" for name in funnel.scenarios]
    cells = (count(one.count), percent(one.count / max(1, funnel.total.drawn)), *scenarios)
    return Row(one.reason, cells, meanings.meaning(one.reason), anchors.get((one.stage, one.reason), ""))


YIELD_HEADS = ("asked for", "of all", "with an outcome", "accepted", "of those", "of the accepted", "blocks each")


def yield_rows(funnel: Funnel, anchors: Mapping[tuple[str, str], str]) -> list[Row]:
    """What each scenario was asked for, and what it gave."""
    asked = sum(funnel.asked.values())
    rows = [
        Row(name, _yield(funnel, group, funnel.asked.get(name), asked), anchor=anchors.get(("kept", name), ""))
        for name, group in funnel.scenarios.items()
    ]
    return [*rows, Row("all", _yield(funnel, funnel.total, asked, asked))]


def _yield(funnel: Funnel, group: Group, asked: int | None, total: int) -> tuple[str, ...]:
    blocks = group.blocks_each
    return (
        count(asked),
        percent(asked / total if asked is not None and total else None),
        count(group.drawn),
        count(group.kept),
        percent(group.share),
        percent(group.kept / funnel.total.kept if funnel.total.kept else None),
        NONE if blocks is None else f"{blocks:.2f}",
    )


def block_heads(funnel: Funnel) -> list[str]:
    """Columns of `block_rows`."""
    return [f"{n} block{'' if n == 1 else 's'}" for n in funnel.total.blocks]


def block_rows(funnel: Funnel) -> list[Row]:
    """Accepted records by scenario and code blocks."""
    columns = list(funnel.total.blocks)
    groups = {**funnel.scenarios, "all": funnel.total}
    return [
        Row(name, [count(group.blocks[n]) if n in group.blocks else "" for n in columns])
        for name, group in groups.items()
        if group.kept
    ]


GROUP_HEADS = ("records", "accepted", "of those", "tokens each", "dollars each", "answers asked for", "recorded before")


def group_blocks(funnel: Funnel) -> list[Block]:
    """What teachers and sources gave; amounts are for each accepted record, with what the rejected ones took."""
    kinds = {
        "Teachers": ("records that came as far as a teacher", funnel.teachers),
        "Sources": ("", funnel.sources),
    }
    return [
        Block(title, note, [Row(name, _group(group), _most(funnel, title, name)) for name, group in groups.items()])
        for title, (note, groups) in kinds.items()
        if groups
    ]


def _group(group: Group) -> tuple[str, ...]:
    return (
        count(group.drawn),
        count(group.kept),
        percent(group.share),
        count(group.of_kept(group.prompt_tokens + group.completion_tokens)),
        usd(group.of_kept(group.usd)),
        count(group.requests),
        count(group.recorded),
    )


def _most(funnel: Funnel, kind: str, name: str) -> str:
    """The most frequent reasons of a teacher or a source."""
    found = [
        (by[name], one.reason)
        for one in funnel.reasons
        if name in (by := one.teachers if kind == "Teachers" else one.sources)
    ]
    return ", ".join(f"{reason} {count(n)}" for n, reason in sorted(found, key=lambda one: (-one[0], one[1]))[:3])


SPENT_HEADS = ("requests", "answers", "prompt tokens", "tokens written", "US dollars")


def spent_rows(funnel: Funnel) -> Iterator[Row]:
    """What was spent, by who was asked, and together."""
    rows: dict[str, tuple[float, ...]] = {
        name: (one.requests, one.answers, one.prompt_tokens, one.completion_tokens, one.usd)
        for name, one in funnel.spent.items()
    }
    if len(rows) > 1:
        rows["all"] = tuple(map(sum, zip(*rows.values(), strict=True)))
    for name, (*counts, dollars) in rows.items():
        yield Row(name, (*map(count, counts), usd(dollars)))


def duplicate_rows(funnel: Funnel) -> list[Row]:
    """What was dropped in the draw for what its pictures show."""
    groups = {**funnel.scenarios, "all": funnel.total}
    return [Row(name, (count(one.drawn), count(one.duplicates), count(one.held_out))) for name, one in groups.items()]
