"""What came out, as sections of sentences and tables: made of stored results alone, so that it can be made again.

Markdown and the page show the same sections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.eval.published_scores import PAPER, REPORTED
from thyme.nano.sheets import Sheet
from thyme.nano.world import KINDS
from thyme.reproduce.claims import Judged, Part, Verdict, judged
from thyme.reproduce.graph import Result, Step
from thyme.reproduce.measures import NEEDED, Difference, Found, of_stored
from thyme.reproduce.plan import Settings, left_out

ARMS = {
    "blocked": "SFT, code blocked",
    "direct": "trained to answer at once",
    "base": "base with the code prompt",
    "sft": "SFT",
    "rl": "SFT + RL",
    "undecided": "undecided start",
    "when": "undecided start + RL",
}
"""Of the main table."""
REPAIRS = {
    "sft": "SFT, repairs on",
    "bare": "SFT, repairs off",
    "careless": "careless start, repairs on",
    "careless-bare": "careless start, repairs off",
}
STOPS = {
    "sft": "SFT, stop on (greedy)",
    "loop": "looping start, stop on",
    "loop-off": "looping start, stop off",
    "rl-loop": "after RL with the stop (greedy)",
    "rl-loop-off": "after RL without (greedy)",
}
BULKY = {"sft-arms", "grpo-arms", "grpo-starts"}
"""Kinds of step whose figures are put together by a step behind them; here only what they cost counts."""
_NONE = "–"
_PAPER_MODELS = ("Qwen2.5-VL-7B", "Thyme-7B")
_PAPER_ROWS = ("VStarBench", "HRBench4K", "HRBench8K", "MME-RealWorld-Lite", "MathVista_MINI", "RealWorldQA")


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    name: str
    title: str
    lines: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    listed: bool = False
    """Whether each line is a point of a list."""


def sections(results: Mapping[str, Result], steps: Sequence[Step], settings: Settings) -> list[Section]:
    """Everything that is told, in order.

    Args:
        results: By step, those that hold.
        steps: All of the plan.
        settings: Of the plan.
    """
    found = Found(results)
    verdicts = judged(found)
    made = [
        _claims(verdicts, results),
        Section("left-out", "What this run left out", left_out(settings), listed=True),
        _missing(results, steps),
        _main(found),
        _reinforced(found),
        _sft(found),
        _grpo(found),
        _arms(found, "repairs", "Repair, on and off", REPAIRS, _REPAIR_COLUMNS),
        _arms(found, "stop", "Stopping repetition, on and off", STOPS, _STOP_COLUMNS),
        _latency(found),
        _cost(results),
        _unseen(verdicts),
        _sources(results),
    ]
    return [section for section in made if section.lines or section.sheets]


# --- claims


def _claims(verdicts: Sequence[Judged], results: Mapping[str, Result]) -> Section:
    counts = {verdict: sum(one.verdict == verdict for one in verdicts) for verdict in _ORDER}
    line = ", ".join(f"{verdict}: {count}" for verdict, count in counts.items() if count)
    lines = [f"Of {len(verdicts)} claims {line}."]
    rows = [[one.claim.name, one.claim.says, one.claim.paper or _NONE, told(one)] for one in verdicts]
    parts = [
        [one.claim.name, asked.what, difference.where or _NONE, written(difference), difference.basis, verdict]
        for one in verdicts
        for asked, difference, verdict in one.parts
    ]
    careful = [[one.claim.name, one.claim.caution] for one in verdicts if one.claim.caution and one.parts]
    head = ["claim", "measured", "where", "difference (95 %)", "over", "so"]
    sheets = [Sheet("Verdicts", [["claim", "in this world", "the paper", "verdict"], *rows])]
    sheets += [Sheet("What they rest on", [head, *parts])] if parts else []
    sheets += [Sheet("To be careful about", [["claim", ""], *careful])] if careful else []
    return Section("claims", "The claims", lines, sheets)


_ORDER: tuple[Verdict, ...] = ("reproduced", "not seen", "contradicted", "not measured")


def told(one: Judged) -> str:
    """The verdict, and what it rests on where that is less than several seeds."""
    single = "problems of one seed" in one.basis
    return f"{one.verdict} (problems of one seed)" if single and one.verdict != "not measured" else one.verdict


def written(difference: Difference) -> str:
    """A difference with its intervals."""
    scale, digits = (100, 1) if difference.unit == "points" else (1, 0)
    ends = " and ".join(
        f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}" for low, high in difference.intervals
    )
    return f"{scale * difference.mean:+.{digits}f} {difference.unit} ({ends or 'no interval'})"


def _unseen(verdicts: Sequence[Judged]) -> Section:
    """Of what did not reproduce, how large it could be at most, and what is known of why."""
    lines = []
    for one in verdicts:
        if one.verdict in {"not seen", "contradicted"}:
            bounds = [_bound(asked, found) for asked, found, verdict in one.parts if verdict != "reproduced"]
            cause = one.claim.cause or "Its cause was not looked into."
            lines.append(f"**{one.claim.name}**, {told(one)}. {'; '.join(bounds)}. {cause}")
    return Section("unseen", "What did not reproduce, and how large it could be", lines, listed=True)


def _bound(part: Part, difference: Difference) -> str:
    """The effect that the intervals leave room for, in the direction of the claim (of ``no worse``: the loss)."""
    place = f"{part.what}{f' ({difference.where})' if difference.where else ''}"
    if not difference.intervals:
        return f"{place}: nothing bounds it"
    ends = [end for interval in difference.intervals for end in interval]
    most, word = (max(ends), "gain") if part.rule == "more" else (-min(ends), "fall" if part.rule == "less" else "loss")
    scale, digits = (100, 1) if difference.unit == "points" else (1, 0)
    return f"{place}: a {word} of more than {scale * max(most, 0.0):.{digits}f} {difference.unit} is ruled out"


# --- tables


def percent(found: Difference | None, *, interval: bool = False) -> str:
    """A share as percent."""
    if found is None:
        return _NONE
    if not interval or not found.intervals:
        return f"{100 * found.mean:.1f}"
    low, high = min(low for low, _ in found.intervals), max(high for _, high in found.intervals)
    return f"{100 * found.mean:.1f} ({100 * max(low, 0):.0f} to {100 * min(high, 1):.0f})"


def _main(found: Found) -> Section:
    asked = found.asked
    arms = {arm: title for arm, title in ARMS.items() if arm in asked}
    if not arms:
        return Section("main", "")
    right = [
        [
            title,
            *(percent(asked.rate(arm, "right", (kind,))) for kind in KINDS),
            percent(asked.rate(arm, "right"), interval=True),
        ]
        for arm, title in arms.items()
    ]
    use = [
        [
            title,
            percent(asked.rate(arm, "code", ("easy",))),
            percent(asked.rate(arm, "code", ("medium",))),
            percent(asked.rate(arm, "code", NEEDED)),
            percent(asked.rate(arm, "executable")),
            percent(asked.rate(arm, "right", NEEDED), interval=True),
        ]
        for arm, title in arms.items()
    ]
    return Section(
        "main",
        "Who answers what",
        ["Right answers in %, mean of the seeds; in brackets 95 %: the wider ends of bootstrap and Student's t."],
        [
            Sheet("Right answers by kind of question, %", [["", *KINDS, "all"], *right]),
            Sheet(
                "Use of code, %",
                [
                    [
                        "",
                        "code, easy",
                        "code, medium",
                        "code, kinds that need it",
                        "code that ran",
                        "right, kinds that need it",
                    ],
                    *use,
                ],
            ),
            _paper_table(),
        ],
    )


def _reinforced(found: Found) -> Section:
    """Whether reinforcement changed the decision for code, or what the code is worth."""
    asked, pairs = (
        found.asked,
        {
            "SFT": ("sft", "rl"),
            "SFT, code in the loss": ("sft", "rl-code"),
            "undecided start": ("undecided", "when"),
        },
    )
    measures = {"code used": "code", "right where code was used": "right with code", "right": "right"}
    rows = [
        [
            start,
            words,
            percent(asked.rate(before, name, NEEDED)),
            percent(asked.rate(after, name, NEEDED)),
            _moved(gain),
        ]
        for start, (before, after) in pairs.items()
        if before in asked and after in asked and asked.seeds(before, after)
        for words, name in measures.items()
        for gain in [asked.gain(after, before, name, NEEDED)]
    ]
    if not rows:
        return Section("reinforced", "")
    lines = [
        "Over the kinds that need code, before and after. What is right follows from how often code is used, and from "
        "how often it then leads to the answer. `@nano_grpo` samples code at temperature 0 and leaves its tokens out "
        "of the loss: that can teach when to write code, and hardly how. With code in the loss it is sampled at "
        "temperature 1, as plain GRPO does."
    ]
    head = ["start", "", "before, %", "after, %", "difference (95 %)"]
    return Section("reinforced", "What reinforcement changed", lines, [Sheet("", [head, *rows])])


def _moved(gain: Difference | None) -> str:
    return _NONE if gain is None else written(gain)


def _paper_table() -> Sheet:
    rows = [
        [row.label, *(f"{row.scores[model]:.1f}" for model in _PAPER_MODELS)]
        for benchmark, rows in REPORTED.items()
        for row in rows
        if row.source == PAPER and benchmark in _PAPER_ROWS and row.figure == "overall"
    ]
    return Sheet("Beside it, not the same questions: the paper's table 3, %", [["", *_PAPER_MODELS], *rows])


def _sft(found: Found) -> Section:
    arms = found.figures("sft-ablation").get("arms", {})
    if not arms:
        return Section("sft-ablation", "")
    names = ("perception", "arithmetic", "two_round labels")
    rows = [[arm["title"], *(f"{100 * arm['measures'][name]['mean']:.1f}" for name in names)] for arm in arms.values()]
    asked = [
        [f"{one['better']} − {one['worse']}", one["measure"], written(of_stored(one)), one["verdict"]]
        for one in found.figures("sft-ablation")["asked_beforehand"]
    ]
    return Section(
        "sft-ablation",
        "The ablation of fine-tuning",
        ["What the masks and the annealing do; how it was done: [ablation_sft.md](ablation_sft.md)."],
        [
            Sheet("Right answers, %, mean of the seeds", [["arm", *names], *rows]),
            Sheet("Named beforehand", [["comparison", "measure", "difference", "told apart"], *asked]),
        ],
    )


def _grpo(found: Found) -> Section:
    compared = found.figures("grpo-ablation").get("compared", ())
    rows = [
        [
            one["start"],
            one["group"],
            f"{one['one']} − {one['other']}",
            one["measure"],
            _found(one["found"]),
            one["found"]["verdict"],
        ]
        for one in compared
    ]
    if not rows:
        return Section("grpo-ablation", "")
    return Section(
        "grpo-ablation",
        "The ablations of temperatures, of rewards, and of repairs in training",
        ["How it was done, and what else was found: [ablation_grpo.md](ablation_grpo.md)."],
        [Sheet("Named beforehand", [["start", "group", "comparison", "measure", "difference", "told apart"], *rows])],
    )


def _found(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "no case"
    ends = () if found["interval"] is None else ((found["interval"][0], found["interval"][1]),)
    return written(Difference(found["mean"], (), ends))


_REPAIR_COLUMNS = {"code that ran, %": "executable", "problems with a repair, %": "repaired", "right, %": "right"}
_STOP_COLUMNS = {"stopped as a loop, %": "looped", "cut, %": "cut", "right, %": "right", "tokens a problem": "tokens"}


def _arms(found: Found, name: str, title: str, arms: Mapping[str, str], columns: Mapping[str, str]) -> Section:
    asked = found.asked
    rows = [
        [words, *(_cell(asked.rate(arm, measure)) for measure in columns.values())]
        for arm, words in arms.items()
        if arm in asked
    ]
    if len(rows) < 2:
        return Section(name, title)
    return Section(name, title, (), [Sheet("Mean of the seeds, 95 %", [["", *columns], *rows])])


def _cell(found: Difference | None) -> str:
    if found is not None and found.unit == "tokens":
        return f"{found.mean:.0f}"
    return percent(found, interval=True)


_LATENCY = {
    "session_pooled_ms_p50": "session from the pool, median, ms",
    "session_pooled_ms_p99": "the same, 99th of 100, ms",
    "session_cold_ms_p50": "session without a pool, median, ms",
    "calc_ms_p50": "a calculation, median, ms",
    "crop_ms_p50": "crop, resize, save of a 2048 × 1536 image, median, ms",
    "crop_ms_p99": "the same, 99th of 100, ms",
    "crop_per_minute": "crops a minute, two sessions at once",
    "session_pss_mb": "memory of a session, MiB",
}


def _latency(found: Found) -> Section:
    figures = found.figures("latency")
    if not figures:
        return Section("latency", "")
    rows = [[words, f"{figures[name]:.1f}"] for name, words in _LATENCY.items() if name in figures]
    result = found.results["latency"]
    line = f"Level {figures['isolation']}, load {result.how.load} on {result.how.cores} cores when it began."
    note = "The paper kills what runs longer than 10 s, as this sandbox does, and gives no latency."
    return Section("latency", "Latency of the sandbox", [line, note], [Sheet("", [["", "here"], *rows])])


# --- cost and sources


def _cost(results: Mapping[str, Result]) -> Section:
    kinds: dict[str, list[Result]] = {}
    for result in results.values():
        if result.how.cpu_s is not None:
            kinds.setdefault(result.kind, []).append(result)
    rows = [
        [
            kind,
            str(len(members)),
            f"{sum(one.how.cpu_s or 0 for one in members) / 60:.1f}",
            f"{sum(one.how.wall_s or 0 for one in members) / 60:.1f}",
            f"{max(one.how.peak_memory_mib or 0 for one in members):.0f}",
            "yes" if any(one.how.resumed for one in members) else "no",
        ]
        for kind, members in kinds.items()
    ]
    if not rows:
        return Section("cost", "")
    head = ["kind of step", "steps", "CPU minutes", "wall minutes", "peak memory, MiB", "resumed"]
    line = "The paper: about 224 GPU hours of fine-tuning, more than 1200 of reinforcement, on 32 H800."
    note = "Of a step that was resumed the minutes are those of its last part. Several steps may run at a time."
    return Section("cost", "What it cost", [line, note], [Sheet("", [head, *rows])])


def _missing(results: Mapping[str, Result], steps: Sequence[Step]) -> Section:
    lacking = [step for step in steps if step.name not in results]
    if not lacking:
        return Section("missing", "")
    minutes = sum(step.minutes for step in lacking)
    kinds = Counter(step.kind for step in lacking)
    names = ", ".join(kind if count == 1 else f"{kind} ({count})" for kind, count in kinds.items())
    line = f"{len(lacking)} of {len(steps)} steps are still to be done, about {minutes:.0f} minutes of one quiet core: "
    return Section("missing", "Not finished", [f"{line}{names}."])


def _sources(results: Mapping[str, Result]) -> Section:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, result in results.items():
        groups.setdefault(tuple(_origin(result)), []).append(name)
    rows = [[", ".join(names), *origin] for origin, names in groups.items()]
    head = ["results", "command", "commit", "seeds", "processor", "memory, GiB", "GPU"]
    return Section(
        "sources", "Where the figures come from", (), [Sheet("results/STEP.json", [head, *rows])] if rows else ()
    )


def _origin(result: Result) -> Iterator[str]:
    how = result.how
    yield how.command
    yield how.commit or _NONE
    yield ", ".join(map(str, how.seeds)) or _NONE
    yield f"{how.processor}, {how.cores} cores" if how.processor else _NONE
    yield _NONE if how.memory_gib is None else f"{how.memory_gib:.1f}"
    yield how.gpu or _NONE
