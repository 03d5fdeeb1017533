"""The page of a build: one HTML file that needs nothing beside it, for whoever wants to know what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thyme.data.factory.manifest import Manifest
from thyme.data.report import tables
from thyme.data.report.counts import Funnel
from thyme.data.report.examples import EACH, MOST, Example, Kind, Picks, make_example
from thyme.data.report.meanings import meaning
from thyme.data.report.words import STATES, cautions, findings, percent, usd
from thyme.view.pages import Card, duration, template
from thyme.view.words import count


@dataclass(frozen=True, slots=True)
class Shown:
    """The examples of a kind."""

    anchor: str
    title: str
    about: str
    count: int
    """How many records of the kind there are."""
    examples: Sequence[Example]


def render_page(funnel: Funnel, manifest: Manifest, picks: Picks, out: Path) -> str:
    """The page as text.

    Args:
        funnel: The figures.
        manifest: What the build was made with.
        picks: Records of each kind.
        out: Folder of the build, for their pictures.
    """
    kinds = _kinds(funnel)
    anchors = {kind: f"k{place}" for place, (kind, _) in enumerate(kinds, 1)}
    shown = [_shown(kind, number, anchors[kind], picks, out) for kind, number in kinds]
    return template("funnel.html.j2", "thyme.data.report").render(
        title=f"Build: {funnel.name}",
        state=STATES.get(manifest.state, manifest.state),
        funnel=funnel,
        manifest=manifest,
        cards=list(_cards(funnel)),
        findings=findings(funnel),
        cautions=cautions(funnel),
        stage_heads=tables.STAGE_HEADS,
        stages=tables.stage_rows(funnel),
        reason_heads=tables.reason_heads(funnel),
        reasons=tables.reason_blocks(funnel, anchors),
        yield_heads=tables.YIELD_HEADS,
        yields=tables.yield_rows(funnel, anchors),
        block_heads=tables.block_heads(funnel),
        blocks=tables.block_rows(funnel),
        group_heads=tables.GROUP_HEADS,
        groups=tables.group_blocks(funnel),
        duplicates=tables.duplicate_rows(funnel),
        spent_heads=tables.SPENT_HEADS,
        spent=list(tables.spent_rows(funnel)),
        settings=_settings(funnel, manifest),
        everything=manifest.model_dump_json(indent=2),
        accepted=[one for one, (kind, _) in zip(shown, kinds, strict=True) if kind[0] == "kept"],
        dropped=[one for one, (kind, _) in zip(shown, kinds, strict=True) if kind[0] != "kept"],
        each=EACH,
    )


def _kinds(funnel: Funnel) -> list[tuple[Kind, int]]:
    """Kinds of records that are shown, with how many there are of each; the most frequent reasons if there are many."""
    kept = [(("kept", name), group.kept) for name, group in funnel.scenarios.items() if group.kept]
    frequent = sorted(funnel.reasons, key=lambda one: -one.count)[: max(0, MOST - len(kept))]
    return [*kept, *(((one.stage, one.reason), one.count) for one in funnel.reasons if one in frequent)]


def _shown(kind: Kind, number: int, anchor: str, picks: Picks, out: Path) -> Shown:
    stage, name = kind
    made = [make_example(out, one, f"{anchor}-{place}") for place, one in enumerate(picks.of(kind), 1)]
    if stage == "kept":
        return Shown(anchor, name, "accepted", number, made)
    return Shown(anchor, f"{stage}: {name}", meaning(name), number, made)


def _cards(funnel: Funnel) -> Iterator[Card]:
    total = funnel.total
    yield Card("drawn", count(total.drawn), "" if not funnel.missing else f"of {count(funnel.planned)}")
    yield Card("accepted", count(total.kept), percent(total.share))
    rejected = total.drawn - total.kept
    yield Card("rejected", count(rejected), f"for {len(funnel.reasons)} reasons")
    yield Card("near-duplicates", count(total.duplicates), "dropped before anybody was asked")
    if funnel.spent:
        cost, requests = sum(one.usd for one in funnel.spent.values()), sum(o.requests for o in funnel.spent.values())
        tokens = sum(one.tokens for one in funnel.spent.values())
        value = f"{usd(cost)} US$" if cost else count(tokens)
        asked = f"{count(requests)} requests"
        yield Card("cost" if cost else "tokens", value, f"{asked}, {count(tokens)} tokens" if cost else asked)
    if funnel.seconds:
        rate = f"{count(3600 * total.kept / funnel.seconds)} accepted an hour"
        yield Card("wall clock", duration(funnel.seconds), rate)


def _settings(funnel: Funnel, manifest: Manifest) -> dict[str, str]:
    """What decides about records, in the order in which one asks for it."""
    recipe = manifest.recipe
    judge = recipe.check.judge
    rows = {
        "state": manifest.state,
        "started": manifest.started,
        "seed": str(recipe.seed),
        "teachers": ", ".join(f"{one.name} (weight {one.weight:g})" for one in recipe.teachers.values()),
        "check": "nobody" if judge is None else judge.name,
        "sources": ", ".join(f"{name}: {one.path or one.world}" for name, one in recipe.sources.items()),
        "prompts": recipe.prompts or "the package's own",
        "code blocks": f"at most {recipe.max_rounds}",
        "benchmarks": ", ".join(recipe.benchmarks) or "none",
        "compared with": f"{count(funnel.benchmark_pictures)} pictures of benchmarks",
        "duplicates": "kept" if recipe.duplicates is None else f"within {recipe.duplicates} of 64 bits",
        "executor": recipe.executor,
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    return {name: value for name, value in rows.items() if value}
