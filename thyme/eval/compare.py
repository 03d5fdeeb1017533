"""Two runs side by side: what differs in their settings, and whether it made a difference on the same problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.flips import MOST_NAMED, compare, pair, same_answer
from thyme.eval.items import ItemResult
from thyme.eval.manifest import RunManifest
from thyme.eval.results import benchmark_of
from thyme.eval.run.folder import read_run
from thyme.eval.statistics import Estimate, Paired, correct, estimate_figures
from thyme.eval.worth import Worth, worth
from thyme.types import Record

_WITHOUT_WEIGHT = {"name", "started", "seconds", "shards"}
"""Of the manifest: what does not change answers."""


class Setting(Record):
    """A setting that differs."""

    name: str
    """Dotted, as in ``run.json``."""
    first: str
    second: str


class Compared(Record):
    """One arm of one benchmark in both runs."""

    benchmark: str
    title: str
    arm: str
    headline: str
    first: Estimate
    """The headline figure, of all problems of each run."""
    second: Estimate
    first_worth: Worth
    second_worth: Worth
    versus: Paired | None
    """The second less the first, on the problems of both; None where there are none, or the benchmark's content
    differs."""
    same_answers: float | None
    """Share of the pairs in which both answers say the same."""
    gained: tuple[str, ...] = ()
    """Problems on which the second is better; at most `thyme.eval.flips.MOST_NAMED`."""
    lost: tuple[str, ...] = ()
    note: str = ""


class Comparison(Record):
    """Two runs."""

    first: RunManifest
    second: RunManifest
    settings: tuple[Setting, ...]
    rows: tuple[Compared, ...]
    only_first: tuple[str, ...] = ()
    """Benchmarks with their arm that only this one has."""
    only_second: tuple[str, ...] = ()


def compare_runs(first: Path, second: Path, *, benchmarks: Mapping[str, Benchmark] | None = None) -> Comparison:
    """Compare two runs by their folders.

    Raises:
        UsageError: A folder holds no run.
        StoreError: A run cannot be read.
    """
    one, other = read_run(first), read_run(second)
    return compare_items(one.manifest, one.items, other.manifest, other.items, benchmarks)


def compare_items(
    first: RunManifest,
    first_items: Sequence[ItemResult],
    second: RunManifest,
    second_items: Sequence[ItemResult],
    benchmarks: Mapping[str, Benchmark] | None = None,
) -> Comparison:
    """The same, of runs in memory."""
    known = BENCHMARKS if benchmarks is None else benchmarks
    left, right = _parts(first_items), _parts(second_items)
    both = [key for key in left if key in right]
    contents = [{use.name: use.digest for use in manifest.benchmarks} for manifest in (first, second)]
    rows = [
        _compared(benchmark_of(name, known), arm, left[name, arm], right[name, arm], contents, first.seed)
        for name, arm in both
    ]
    held = iter(correct([row.versus for row in rows if row.versus is not None]))
    return Comparison(
        first=first,
        second=second,
        settings=list(_settings(first, second)),
        rows=[row.model_copy(update={"versus": next(held)}) if row.versus else row for row in rows],
        only_first=[f"{name}, {arm}" for name, arm in left if (name, arm) not in right],
        only_second=[f"{name}, {arm}" for name, arm in right if (name, arm) not in left],
    )


def _parts(items: Sequence[ItemResult]) -> dict[tuple[str, str], list[ItemResult]]:
    found: dict[tuple[str, str], list[ItemResult]] = {}
    for item in items:
        found.setdefault((item.benchmark, item.arm), []).append(item)
    return found


def _compared(
    benchmark: Benchmark,
    arm: str,
    first: Sequence[ItemResult],
    second: Sequence[ItemResult],
    contents: Sequence[Mapping[str, str]],
    seed: int,
) -> Compared:
    cluster = benchmark.cluster
    same = contents[0].get(benchmark.name) == contents[1].get(benchmark.name)
    pairs = pair(second, first) if same else []
    told = [(new, old) for new, old in pairs if not new.failed and not old.failed]
    nothing = Estimate(value=None)
    turned = [
        (new, (new.score or 0.0) - (old.score or 0.0)) for new, old in pairs if None not in {new.score, old.score}
    ]
    return Compared(
        benchmark=benchmark.name,
        title=benchmark.title,
        arm=arm,
        headline=benchmark.headline,
        first=estimate_figures(benchmark, first, seed=seed).get(benchmark.headline, nothing),
        second=estimate_figures(benchmark, second, seed=seed).get(benchmark.headline, nothing),
        first_worth=worth(arm, first, cluster, seed=seed),
        second_worth=worth(arm, second, cluster, seed=seed),
        versus=compare(pairs, cluster, seed=seed) if pairs else None,
        same_answers=sum(same_answer(new, old) for new, old in told) / len(told) if told else None,
        gained=[new.problem for new, gap in turned if gap > 0][:MOST_NAMED],
        lost=[new.problem for new, gap in turned if gap < 0][:MOST_NAMED],
        note="" if pairs else "no problem in common" if same else "the benchmark's content differs: nothing is paired",
    )


def _settings(first: RunManifest, second: RunManifest) -> Iterator[Setting]:
    left, right = (
        dict(_flat(manifest.model_dump(mode="json", exclude=_WITHOUT_WEIGHT))) for manifest in (first, second)
    )
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            yield Setting(name=name, first=left.get(name, "–"), second=right.get(name, "–"))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves by dotted name; lists of records by the records' names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(inner, dict) and "name" in inner for inner in value):
        for inner in value:
            yield from _flat({key: each for key, each in inner.items() if key != "name"}, f"{name}.{inner['name']}")
    else:
        yield name, "–" if value is None else str(value)
