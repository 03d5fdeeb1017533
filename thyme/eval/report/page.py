"""The page of an evaluation: one HTML file that needs nothing beside it, for whoever doubts a figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.eval.items import NO_TOOLS, TOOLS, ItemResult
from thyme.eval.manifest import RunManifest
from thyme.eval.published_scores import CLAIMS
from thyme.eval.report import tables
from thyme.eval.report.cells import interval, percent, reach, signed
from thyme.eval.report.charts import charts
from thyme.eval.report.picks import MOST, Picked
from thyme.eval.report.words import cautions, findings, headline_is_mean
from thyme.eval.results import BenchmarkResult, Results
from thyme.eval.statistics import DRAWS, FLIPS
from thyme.types import Problem, Score, Trajectory
from thyme.view.pages import Card, duration, template
from thyme.view.parts import Attempt, make_attempt, make_scene, seen_sizes
from thyme.view.pictures import Inlined, Picture

_SIDE = 640
"""Longest side of a picture on the page, pixels."""

Find = Callable[[ItemResult], Trajectory | None]
"""The stored trajectory of an item, with its pixels."""


@dataclass(frozen=True, slots=True)
class Example:
    """A problem, and what became of it with code and without."""

    anchor: str
    benchmark: str
    problem: Problem
    scene: Sequence[Picture]
    attempts: Sequence[tuple[str, Attempt]]


@dataclass(frozen=True, slots=True)
class Shown:
    """The examples of a sort."""

    picked: Picked
    examples: Sequence[Example]


def render_page(results: Results, picked: Sequence[Picked] = (), find: Find = lambda item: None) -> str:
    """The page as text.

    Args:
        results: Of the run.
        picked: Problems whose trajectories are shown.
        find: Their trajectories; those that it does not find are left out.
    """
    manifest = results.manifest
    return template("evaluation.html.j2", "thyme.eval.report").render(
        title=f"Evaluation: {manifest.name or manifest.model}",
        results=results,
        manifest=manifest,
        cards=list(_cards(results)),
        findings=findings(results),
        cautions=cautions(results),
        settings=_settings(manifest),
        everything=_everything(manifest),
        columns=[tables.title_of(arm) for arm in tables.columns(results)],
        models=tables.paper_columns(results),
        blocks=tables.blocks(results),
        arms=tables.arm_rows(results),
        abouts=tables.abouts(results),
        flips=tables.flip_rows(results),
        claims=CLAIMS,
        use=tables.use_rows(results),
        cost=tables.cost_rows(results),
        plots={one.title: made for one in results.benchmarks if (made := charts(one))},
        groups={one.title: parts for one in results.benchmarks if (parts := tables.group_rows(one))},
        looking=tables.looking_rows(results),
        changes=tables.change_rows(results),
        others=tables.others_rows(results),
        others_columns=[one.title for one in tables.others_columns(results)],
        shown=list(_examples(picked, find)),
        most=MOST,
        draws=DRAWS,
        flip_draws=FLIPS,
    )


def _cards(results: Results) -> Iterator[Card]:
    for one in results.benchmarks[:6]:
        yield _score_card(one)
    overall = next((one for one in results.overall if one.arm == TOOLS), None)
    if overall is not None and overall.tool_rate.value is not None:
        yield Card(
            "code ran in", f"{percent(overall.tool_rate.value)} %", f"{interval(overall.tool_rate)}, of problems"
        )
    if overall is not None and overall.executable.value is not None:
        note = f"{interval(overall.executable)}, of {overall.executable.n} problems' blocks"
        yield Card("code that runs", f"{percent(overall.executable.value)} %", note)
    problems = sum(one.arms[0].worth.n for one in results.benchmarks)
    arms = len(results.overall)
    took = "" if results.manifest.seconds is None else f", {duration(results.manifest.seconds)}"
    yield Card("problems", str(problems), f"in {arms} arm{'' if arms == 1 else 's'}{took}")


def _score_card(one: BenchmarkResult) -> Card:
    figure = one.arms[0].figures.get(one.headline)
    without = one.arm(NO_TOOLS)
    value = "–" if figure is None else f"{percent(figure.value)} %"
    notes = [interval(figure)] if figure is not None else []
    verdict = ""
    if without is not None and without.versus is not None and without.versus.difference.value is not None:
        gap = without.versus
        what = "points" if headline_is_mean(one) else "points of mean score"
        notes.append(f"{signed(gap.difference.value)} {what} against no code ({reach(gap.difference)})")
        verdict = gap.verdict
    return Card(one.title, value, "; ".join(note for note in notes if note), verdict)


def _settings(manifest: RunManifest) -> dict[str, str]:
    """What decides about figures, in the order in which one asks for it."""
    rollout = manifest.rollout
    low, high = manifest.min_pixels, manifest.max_pixels
    pixels = "decided by the server" if low is None and high is None else f"{low or '–'} to {high or '–'} a picture"
    fingerprints = manifest.fingerprints
    rows = {
        "model": manifest.model,
        "weights": fingerprints.model,
        "tokenizer": fingerprints.tokenizer,
        "untrained": manifest.untrained or "",
        "prompts": manifest.prompts or fingerprints.prompts,
        "mode": manifest.mode,
        "sampling": _sampling(rollout) if "text_temperature" in rollout else "",
        "code blocks": f"at most {rollout['max_rounds']}" if "max_rounds" in rollout else "",
        "tokens": f"at most {rollout['max_tokens']}" if "max_tokens" in rollout else "",
        "pixels": pixels,
        "judge": manifest.judge or "none: rules alone",
        "isolation": manifest.isolation,
        "coverage": f"a crop covers a target of which it shows {100 * manifest.coverage:g} %",
        "seed": str(manifest.seed),
        "shards": str(manifest.shards),
        "started": manifest.started,
        "wall clock": "" if manifest.seconds is None else duration(manifest.seconds),
    }
    return {name: value for name, value in rows.items() if value}


def _sampling(rollout: Mapping[str, Any]) -> str:
    taus = {"text": rollout["text_temperature"], "code": rollout["code_temperature"]}
    taus |= {span["open"]: span["temperature"] for span in rollout.get("spans", ())}
    return "τ " + ", ".join(f"{tau} in {where}" for where, tau in taus.items()) if any(taus.values()) else "greedy"


def _everything(manifest: RunManifest) -> str:
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)


def _examples(picked: Sequence[Picked], find: Find) -> Iterator[Shown]:
    pictures, number = Inlined(max_side=_SIDE), 0
    for sort in picked:
        examples = []
        for one in sort.picks:
            number += 1
            pair = {"with code": one.item} | ({"without code": one.other} if one.other is not None else {})
            found = {label: (item, trajectory) for label, item in pair.items() if (trajectory := find(item))}
            if "with code" in found:
                examples.append(_example(f"e{number}", found, pictures))
        yield Shown(sort, examples)


def _example(anchor: str, found: Mapping[str, tuple[ItemResult, Trajectory]], pictures: Inlined) -> Example:
    item, trajectory = found["with code"]
    attempts = [
        (label, make_attempt(f"{anchor}-{place}", one, Score(value=its.score, note=its.note), pictures))
        for place, (label, (its, one)) in enumerate(found.items())
    ]
    scene = make_scene(trajectory.problem, seen_sizes(trajectory), pictures)
    return Example(anchor, item.benchmark, trajectory.problem, scene, attempts)
