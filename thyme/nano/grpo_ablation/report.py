"""What the ablation of GRPO-ATS found: JSON, tables, sentences that follow from the numbers by rule, one HTML page.

The only rule of the sentences: a difference is told where Student's 95 % interval over the seeds leaves out 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from thyme.nano.grpo_ablation.arms import ARMS
from thyme.nano.grpo_ablation.findings import LIFTS, Compared, Findings, Found, Share, StartFindings
from thyme.nano.grpo_ablation.plots import draw_png, page_plots
from thyme.nano.sheets import Sheet, as_markdown
from thyme.nano.world import KINDS
from thyme.train.report.pages import template

NAME = "ablation_grpo"
PAGE = "report.html"
TRAINING = ("tool rate", "tool rate, easy", "executable rate", "working code", "repaired rate", "right", "reward")
CHANGE = "tool rate, change"
ASKED = (
    "accuracy",
    "accuracy without repairs",
    "greedy tool rate",
    "greedy tool rate, easy",
    "greedy executable rate",
    "greedy executable rate without repairs",
    "consistent and wrong",
)
_NONE = "–"


def write(findings: Findings, folder: Path) -> None:
    """Write ``ablation_grpo.json``, ``.md``, a ``.png`` a start, and ``report.html``."""
    (folder / f"{NAME}.json").write_text(findings.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(markdown(findings), encoding="utf-8")
    for name, start in findings.starts.items():
        draw_png(start, findings, folder / picture(name))
    (folder / PAGE).write_text(page(findings), encoding="utf-8")


def picture(start: str) -> str:
    """File name of a start's plot."""
    return f"{NAME}_{start}.png"


def page(findings: Findings) -> str:
    """The report as one HTML page that needs nothing beside it."""
    return template("ablation_grpo.html.j2", "thyme.nano.grpo_ablation").render(
        title="GRPO-ATS, arm by arm",
        findings=findings,
        asked=asked_beforehand(findings),
        sentences=sentences(findings),
        chance=by_chance(findings),
        sheets={name: list(start_sheets(name, findings)) for name in findings.starts},
        told={name: start_told(start) for name, start in findings.starts.items()},
        plots={name: page_plots(name, start) for name, start in findings.starts.items()},
        settings=findings.settings,
    )


def markdown(findings: Findings) -> str:
    """The same for a page of the documentation: sentences, tables, plots."""
    parts = [by_chance(findings) + "\n", "\n".join(f"- {line}" for line in sentences(findings)) + "\n"]
    parts.append(as_markdown(asked_beforehand(findings)))
    for name, start in findings.starts.items():
        parts += [f"### From the start '{name}'\n", start_told(start) + "\n"]
        if any(arm.curves for arm in start.arms.values()):
            parts.append(f"![Rates over the steps, from the start '{name}']({picture(name)})\n")
        parts += map(as_markdown, start_sheets(name, findings))
    return "\n".join(parts)


# --- sentences --------------------------------------------------------------------------------------------------------


def sentences(findings: Findings) -> list[str]:
    """A sentence a comparison that was named beforehand."""
    return [sentence(compared) for compared in findings.compared]


def sentence(compared: Compared) -> str:
    """What came of a comparison, and how that stands to the paper."""
    found = compared.found
    one, other = ARMS[compared.one].title, ARMS[compared.other].title
    head = f"{compared.start} start, {compared.measure}: {one} against {other}"
    cases = [number for number in found.seeds.values() if number.value is not None]
    if found.mean is None:
        return f"{head}: cannot be compared, there was no case to count. {_judged(compared)}"
    of_all = f"{len(cases)} of {len(found.seeds)} seeds" if len(cases) < len(found.seeds) else f"{len(cases)} seeds"
    interval = "no interval" if found.interval is None else f"95 % interval {_ends(found.interval)}"
    points = f"{100 * found.mean:+.1f} points ({interval}; {of_all})"
    return f"{head}: {points}, {found.verdict}. {_judged(compared)}"


def _judged(compared: Compared) -> str:
    if not compared.expected:
        return "The paper says nothing of it."
    side = {"higher": 1, "lower": -1}.get(compared.found.verdict, 0)
    if side == 0:
        return f"The paper ({compared.claim}) is neither borne out nor contradicted."
    agrees = "bears the paper out" if side == compared.expected else "contradicts the paper"
    return f"This {agrees} ({compared.claim})."


def by_chance(findings: Findings) -> str:
    """How many of the comparisons would be told apart if nothing differed."""
    able = sum(compared.found.interval is not None for compared in findings.compared)
    told = sum(compared.found.verdict in {"higher", "lower"} for compared in findings.compared)
    return (
        f"{len(findings.compared)} comparisons were named beforehand; {able} have an interval, and in {told} of them "
        f"it leaves out 0. If nothing differed, about {able / 20:.1f} would, by chance; nothing is corrected for that."
    )


def start_told(start: StartFindings) -> str:
    """How a start was made."""
    text = f"{start.about.capitalize()}: {start.steps} steps from the shipped weights '{start.weights}'"
    text += f" on {start.samples} samples."
    if (done := start.injection) is not None:
        text += (
            f" Injected: each token of code but those of the closing tag was replaced with probability "
            f"{done.probability:g} by another one of the {done.alternatives} that occur in code; that came to "
            f"{done.replaced} of {done.tokens} tokens, and {done.touched} of {done.blocks} code blocks."
        )
    if (left := start.omission) is not None:
        text += (
            f" Left out: of each code block its line of imports, with probability {left.probability:g}; that came to "
            f"{left.touched} of {left.blocks} blocks that had one."
        )
    return f"{text} {weakness(start)}"


def weakness(start: StartFindings) -> str:
    """Whether temperature makes a difference to the code of a start before anything is trained."""
    shown = {m.tau: m.executable for m in start.measured if m.repairs}
    greedy, drawn = shown[0.0], shown[1.0]
    if greedy.interval is None or drawn.interval is None:
        return "It wrote no code that could be run, at one temperature at least: it shows nothing."
    apart = greedy.interval[0] > drawn.interval[1]
    meaning = "the intervals do not meet" if apart else "the intervals meet: it can hardly show what a temperature does"
    return f"Its code ran, in %: {_share(greedy)} at τ 0, {_share(drawn)} at τ 1; {meaning}."


# --- tables -----------------------------------------------------------------------------------------------------------


def asked_beforehand(findings: Findings) -> Sheet:
    """Every comparison with its numbers."""
    head = ["comparison", "start", "measure", "difference", "95 %, t", "seeds", "exact p", "told apart"]
    return Sheet("Differences that were named beforehand, percentage points", [head, *map(_row, findings.compared)])


def _row(compared: Compared) -> list[str]:
    found = compared.found
    return [
        f"{compared.one} − {compared.other}",
        compared.start,
        compared.measure,
        _NONE if found.mean is None else f"{100 * found.mean:+.1f}",
        _NONE if found.interval is None else _ends(found.interval),
        ", ".join(_NONE if n.value is None else f"{100 * n.value:+.1f}" for n in found.seeds.values()),
        _NONE if found.exact is None else f"{found.exact:.2f}",
        found.verdict,
    ]


def start_sheets(name: str, findings: Findings) -> Iterator[Sheet]:
    """Tables of one start."""
    start = findings.starts[name]
    yield Sheet(f"The start '{name}' itself, text at τ 1, Wilson's 95 %", _measured(start))
    trained = {arm: found for arm, found in start.arms.items() if found.curves}
    if trained:
        window = findings.window
        yield Sheet(
            f"While training, last {window} steps, mean of the seeds and Student's 95 %",
            [["arm", *TRAINING, CHANGE]]
            + [
                [arm.title, *(_level(arm.measures[m], m) for m in TRAINING), _signed(arm.measures[CHANGE])]
                for arm in trained.values()
            ],
        )
    yield Sheet(
        "Asked greedily at the end, mean of the seeds and Student's 95 %",
        [["arm", *ASKED]] + [[arm.title, *(_level(arm.measures[m], m) for m in ASKED)] for arm in start.arms.values()],
    )
    yield Sheet(
        "Asked greedily at the end, by kind: accuracy / share that used code, all seeds together",
        [["arm", *KINDS]]
        + [[arm.title, *(_kind(arm.kinds.get(kind)) for kind in KINDS)] for arm in start.arms.values()],
    )
    if start.lifts:
        yield Sheet(
            "Against the start, same problems, percentage points and Student's 95 %",
            [["arm", *LIFTS]]
            + [[ARMS[arm].title, *(_signed(found[m]) for m in LIFTS)] for arm, found in start.lifts.items()],
        )
    yield Sheet("Every seed, with Wilson's 95 % within it", list(_seeds(start)))


def _measured(start: StartFindings) -> list[list[str]]:
    head = ["τ of code", "repairs", "tool rate", "tool rate, easy", "executable rate", "repaired rate", "accuracy"]
    return [head] + [
        [
            f"{m.tau:g}",
            "on" if m.repairs else "off",
            *map(_share, (m.tool_rate, m.tool_rate_easy, m.executable, m.repaired, m.accuracy)),
        ]
        for m in start.measured
    ]


def _seeds(start: StartFindings) -> Iterator[list[str]]:
    shown = ("tool rate", "executable rate", "accuracy", "greedy tool rate", "greedy executable rate")
    yield ["arm", "seed", *shown]
    for arm in start.arms.values():
        for seed in arm.measures["accuracy"].seeds:
            numbers = (arm.measures[m].seeds[seed] for m in shown)
            row = [_share(Share(value=n.value, n=n.n, interval=n.interval)) for n in numbers]
            yield [arm.title, str(seed), *row]


def _level(found: Found, measure: str) -> str:
    if found.mean is None:
        return _NONE
    if measure == "reward":
        return f"{found.mean:.2f}" + (
            "" if found.interval is None else f" ({found.interval[0]:.2f} to {found.interval[1]:.2f})"
        )
    ends = "" if found.interval is None else f" ({100 * found.interval[0]:.0f} to {100 * found.interval[1]:.0f})"
    return f"{100 * found.mean:.1f}{ends}"


def _signed(found: Found) -> str:
    if found.mean is None:
        return _NONE
    return f"{100 * found.mean:+.1f}" + ("" if found.interval is None else f" ({_ends(found.interval)})")


def _share(share: Share) -> str:
    if share.value is None:
        return _NONE
    ends = "" if share.interval is None else f" ({100 * share.interval[0]:.0f} to {100 * share.interval[1]:.0f})"
    return f"{100 * share.value:.0f}{ends}, n {share.n}"


def _kind(rates: dict[str, Share] | None) -> str:
    if rates is None:
        return _NONE
    return " / ".join(
        _NONE if r.value is None else f"{100 * r.value:.0f}" for r in (rates["accuracy"], rates["tool rate"])
    )


def _ends(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
