"""A run in figures: everything that its report shows, as one record, made of items and manifest alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from thyme.errors import UsageError
from thyme.eval.arms import ARMS
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.flips import Change, Flips, Key, change, compare, flips, pair
from thyme.eval.items import NO_TOOLS, TOOLS, ItemResult
from thyme.eval.manifest import BenchmarkUse, RunManifest
from thyme.eval.published_scores import REPORTED, Reported
from thyme.eval.statistics import Estimate, Paired, correct, estimate_figures
from thyme.eval.worth import Group, Looking, Spent, Worth, by_length, groups, looking, worth
from thyme.types import Problem, Record, Score


class ArmResult(Record):
    """One arm on one benchmark."""

    arm: str
    figures: dict[str, Estimate]
    """Of the benchmark, by name."""
    worth: Worth
    versus: Paired | None = None
    """The arm with code less this one, on the problems that both have; None for itself, and where it was not run."""
    flips: Flips | None = None
    """The arm with code against this one."""
    flips_with_code: Flips | None = None
    """The same, on the problems in which code ran."""
    looking: Looking | None = None


class BenchmarkResult(Record):
    """One benchmark."""

    name: str
    title: str
    headline: str
    """The figure that stands for it."""
    source: str = ""
    notes: str = ""
    judge: str | None = None
    """Prompt of the judge that the published scoring asks where rules say nothing; None: it asks none."""
    use: BenchmarkUse | None = None
    missing: dict[str, int] = Field(default_factory=dict)
    """Problems that have no item yet, by arm."""
    arms: tuple[ArmResult, ...]
    """The one with code first, if it was run; the others are held against it."""
    others: tuple[Reported, ...] = ()
    groups: tuple[Group, ...] = ()
    spent: tuple[Spent, ...] = ()
    changes: tuple[Change, ...] = ()

    def arm(self, name: str) -> ArmResult | None:
        """An arm; None where it was not run."""
        return next((one for one in self.arms if one.arm == name), None)


class Results(Record):
    """A run."""

    manifest: RunManifest
    benchmarks: tuple[BenchmarkResult, ...]
    overall: tuple[Worth, ...]
    """Each arm over all benchmarks, every problem alike."""
    comparisons: int
    """Tests that p was corrected for: those of arms."""
    exploratory: int
    """The same of categories and sizes, which are a family of their own."""


def make_results(
    manifest: RunManifest, items: Sequence[ItemResult], benchmarks: Mapping[str, Benchmark] | None = None
) -> Results:
    """All figures of a run.

    Args:
        manifest: What it was made with; its seed is that of all resamples.
        items: What became of the problems.
        benchmarks: By name; None takes the package's. One that is not among them is scored by the mean alone.
    """
    known = BENCHMARKS if benchmarks is None else benchmarks
    names = list(dict.fromkeys([*(use.name for use in manifest.benchmarks), *(item.benchmark for item in items)]))
    parts = {name: _by_arm([item for item in items if item.benchmark == name]) for name in names}
    made = [_benchmark(benchmark_of(name, known), manifest, arms) for name, arms in parts.items() if arms]
    arms = list(dict.fromkeys(arm for part in parts.values() for arm in part))
    together = {arm: [item for part in parts.values() for item in part.get(arm, [])] for arm in arms}
    clusters = {name: benchmark_of(name, known).cluster for name in names}
    overall = [
        worth(arm, found, lambda item: f"{item.benchmark}/{clusters[item.benchmark](item)}", seed=manifest.seed)
        for arm, found in together.items()
    ]
    return _corrected(Results(manifest=manifest, benchmarks=made, overall=overall, comparisons=0, exploratory=0))


def benchmark_of(name: str, known: Mapping[str, Benchmark]) -> Benchmark:
    """A benchmark by name; one that is not known has the mean of its scores as its only figure."""
    return known.get(name) or _unknown(name)


def _unknown(name: str) -> Benchmark:

    def to_problem(row: object, images: object) -> Problem:
        raise UsageError(f"{name} is no benchmark of this version; its rows can only be read by the one that knows it")

    def figures(items: Sequence[ItemResult]) -> dict[str, float | None]:
        scores = [item.score for item in items if item.score is not None]
        return {"overall": sum(scores) / len(scores) if scores else None}

    return Benchmark(name, name, to_problem, lambda problem, answer: Score(value=None), figures, "overall")


def _by_arm(items: Sequence[ItemResult]) -> dict[str, list[ItemResult]]:
    """Items by arm, the one with code first, then in the order of `ARMS`."""
    found: dict[str, list[ItemResult]] = {}
    for item in items:
        found.setdefault(item.arm, []).append(item)
    order = {arm: place for place, arm in enumerate([TOOLS, *ARMS])}
    return dict(sorted(found.items(), key=lambda pair: order.get(pair[0], len(order))))


def _benchmark(benchmark: Benchmark, manifest: RunManifest, arms: Mapping[str, list[ItemResult]]) -> BenchmarkResult:
    seed, cluster = manifest.seed, benchmark.cluster
    use = next((use for use in manifest.benchmarks if use.name == benchmark.name), None)
    with_code = arms.get(TOOLS, [])
    counterfactual = [arm for arm in arms if arm in ARMS and ARMS[arm].counterfactual]
    return BenchmarkResult(
        name=benchmark.name,
        title=benchmark.title,
        headline=benchmark.headline,
        source=benchmark.source,
        notes=benchmark.notes,
        judge=benchmark.judge,
        use=use,
        missing=_missing(use, manifest.arms, arms) if use else {},
        arms=[_arm(arm, found, with_code, benchmark, seed) for arm, found in arms.items()],
        others=REPORTED.get(benchmark.name, ()),
        groups=groups(with_code, arms.get(NO_TOOLS, []), cluster, seed=seed),
        spent=by_length(with_code, cluster, seed=seed),
        changes=[change(arm, pair(with_code, arms[arm]), cluster, seed=seed) for arm in counterfactual],
    )


def _missing(use: BenchmarkUse, names: Sequence[str], arms: Mapping[str, list[ItemResult]]) -> dict[str, int]:
    counts = {arm: use.problems - len(arms.get(arm, [])) for arm in dict.fromkeys([*names, *arms])}
    return {arm: count for arm, count in counts.items() if count > 0}


def _arm(
    arm: str, items: Sequence[ItemResult], first: Sequence[ItemResult], benchmark: Benchmark, seed: int
) -> ArmResult:
    cluster: Key = benchmark.cluster
    pairs = [] if arm == TOOLS else pair(first, items)
    return ArmResult(
        arm=arm,
        figures=estimate_figures(benchmark, items, seed=seed),
        worth=worth(arm, items, cluster, seed=seed),
        versus=compare(pairs, cluster, seed=seed) if pairs else None,
        flips=flips(pairs) if pairs else None,
        flips_with_code=flips((one, other) for one, other in pairs if one.used_code) if pairs else None,
        looking=looking(arm, items, cluster, seed=seed),
    )


def _corrected(results: Results) -> Results:
    """With the p of every comparison corrected for all of its family, over all benchmarks."""
    arms = [arm.versus for one in results.benchmarks for arm in one.arms if arm.versus]
    parts = [group.versus for one in results.benchmarks for group in one.groups if group.versus]
    main, minor = iter(correct(arms)), iter(correct(parts))

    def again(one: BenchmarkResult) -> BenchmarkResult:
        held = [arm.model_copy(update={"versus": next(main)}) if arm.versus else arm for arm in one.arms]
        cut = [group.model_copy(update={"versus": next(minor)}) if group.versus else group for group in one.groups]
        return one.model_copy(update={"arms": tuple(held), "groups": tuple(cut)})

    benchmarks = tuple(again(one) for one in results.benchmarks)
    counted = {"comparisons": len(arms), "exploratory": len(parts)}
    return results.model_copy(update={"benchmarks": benchmarks, **counted})
