"""Alarms: monitors that speak up, with what was measured and what to do. See docs/monitors.md.

Every alarm is a rule over the records of the steps so far, and nothing else: a resumed run that shows its records to a
new `Watch` has the same alarms as one that was never interrupted. It begins once, and ends when its figure is back on
the right side of the bound by a margin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from thyme.config.grpo import AlarmSettings
from thyme.train.grpo.records import Alarm, StepRecord

_ONCE_ABOVE = 5.0
"""A low tool rate is a collapse only where the rate once was above so many times its bound."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure against its bound."""

    value: float
    bound: float
    most: bool
    """Whether the bound is the most that is fine; else it is the least."""
    message: str

    @property
    def broken(self) -> bool:
        """Whether the figure is on the wrong side."""
        return self.value > self.bound if self.most else self.value < self.bound

    def mended(self, margin: float) -> bool:
        """Whether the figure is on the right side by a margin, a share of the bound."""
        if self.most:
            return self.value <= self.bound * (1 - margin)
        return self.value >= self.bound * (1 + margin)


class Window:
    """One figure over the steps: its mean over the last ones, over the first ones, and the best there was."""

    def __init__(self, size: int) -> None:
        """Look at `size` steps at a time."""
        self._size = size
        self._last = deque[float | None](maxlen=size)
        self._steps = 0
        self.first: float | None = None
        """Mean over the first window, once it is whole."""
        self.peak: float | None = None
        """Highest mean of a whole window so far."""
        self.ever: float | None = None
        """The same, also of the first steps, before a window was whole."""

    def add(self, value: float | None) -> None:
        """Take the next step's value; None where it had no case."""
        self._steps += 1
        self._last.append(value)
        if self._steps == self._size:
            self.first = self._mean()
        mean = self._mean()
        if mean is None:
            return
        self.ever = mean if self.ever is None else max(self.ever, mean)
        if self._steps >= self._size:
            self.peak = mean if self.peak is None else max(self.peak, mean)

    @property
    def mean(self) -> float | None:
        """Over the last window; None before it is whole, and without cases."""
        return self._mean() if self._steps >= self._size else None

    @property
    def latest(self) -> float | None:
        """The last step's."""
        return self._last[-1] if self._last else None

    def _mean(self) -> float | None:
        known = [value for value in self._last if value is not None]
        return fmean(known) if known else None


History = dict[str, Window]
Measure = Callable[[History, AlarmSettings], Reading | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm."""

    title: str
    metrics: tuple[str, ...]
    """Names of the figures it looks at."""
    measure: Measure
    """What it measures; None where there is nothing to measure yet."""
    advice: str


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _simple(
    metric: str,
    bound: Callable[[AlarmSettings], float],
    words: str,
    *,
    most: bool,
    show: Callable[[float], str] = _percent,
) -> Measure:
    """A rule on the mean of one figure."""

    def measure(history: History, settings: AlarmSettings) -> Reading | None:
        value, limit = history[metric].mean, bound(settings)
        if value is None:
            return None
        side = "at most" if most else "at least"
        return Reading(value, limit, most, f"{words}: {show(value)}, {side} {show(limit)} is fine")

    return measure


def _collapse(history: History, settings: AlarmSettings) -> Reading | None:
    window = history["code/tool_rate"]
    if window.mean is None or window.ever is None or window.ever <= _ONCE_ABOVE * settings.tool_rate:
        return None
    message = (
        f"rollouts that run code: {_percent(window.mean)}, once {_percent(window.ever)}; at least "
        f"{_percent(settings.tool_rate)} is fine"
    )
    return Reading(window.mean, settings.tool_rate, False, message)


def _form_without_task(history: History, settings: AlarmSettings) -> Reading | None:
    form, right = history["reward/format"], history["result/right"]
    if form.mean is None or right.mean is None or right.peak is None:
        return None
    fall = right.peak - right.mean if form.mean > settings.hacking else 0.0
    message = (
        f"format is right in {_percent(form.mean)}, answers in {_percent(right.mean)}, once {_percent(right.peak)}; "
        f"a fall of at most {_percent(settings.hacking_fall)} is fine"
    )
    return Reading(fall, settings.hacking_fall, True, message)


def _growth(history: History, settings: AlarmSettings) -> Reading | None:
    window = history["length/generated"]
    if window.mean is None or not window.first:
        return None
    message = (
        f"generated tokens a rollout: {window.mean:.0f}, at first {window.first:.0f}; at most "
        f"{settings.length_growth:g} times that is fine"
    )
    return Reading(window.mean / window.first, settings.length_growth, True, message)


def _no_entropy(history: History, settings: AlarmSettings) -> Reading | None:
    window = history["train/entropy_text"]
    if window.mean is None or not window.first:
        return None
    message = (
        f"entropy of text: {window.mean:.4f} nats a token, at first {window.first:.4f}; at least "
        f"{_percent(settings.entropy)} of that is fine"
    )
    return Reading(window.mean / window.first, settings.entropy, False, message)


def _not_finite(history: History, settings: AlarmSettings) -> Reading | None:
    found = history["count/not_finite"].latest or 0.0
    return Reading(found, 0.0, True, f"{found:.0f} figures of this step are infinite or no number")


ALARMS: dict[str, Rule] = {
    "no_code": Rule(
        "Collapse to no code",
        ("code/tool_rate",),
        _collapse,
        "Go back to a checkpoint before the fall. Where code runs but rarely pays, look at result/code_benefit and "
        "code/executable first; ask more problems that cannot be answered without code; set rollout.code_temperature "
        "= 0 and train.code_policy = 'mask', so that no gradient pushes code away; lower the rate or raise beta; take "
        "rewards.tool_cost out.",
    ),
    "executable": Rule(
        "Code does not run",
        ("code/executable",),
        _simple("code/executable", lambda s: s.executable_rate, "code blocks that run without an error", most=False),
        "Read the errors in the kept trajectories. Lower rollout.code_temperature (0 is the paper's); check that the "
        "sandbox has the libraries the model was fine-tuned with, that its limits (time, memory) are not the cause, "
        "and that repairs are on as in fine-tuning.",
    ),
    "sampler_kl": Rule(
        "Sampler and trainer disagree",
        ("gap/kl", "gap/drawn"),
        _simple(
            "gap/kl",
            lambda s: s.sampler_kl,
            "divergence on drawn tokens",
            most=True,
            show=lambda v: f"{v:.5f} nats a token",
        ),
        "Stop: the gradient is not that of what was rolled out. Look for pictures that one side does not see, other "
        "pixel limits, another temperature, top_p or penalties in the sampler, and weights that were not synchronised "
        "(is the gap growing with every step?). In bfloat16 with vLLM a small gap stays: set "
        "train.sampler_correction = 'truncated'.",
    ),
    "form_without_task": Rule(
        "Reward hacking: the form without the task",
        ("reward/format", "result/right"),
        _form_without_task,
        "The form pays while answers get worse. Lower rewards.format, raise beta, lower the learning rate, and read "
        "kept trajectories: is the answer guessed at once? Where a judge decides, read its verdicts too.",
    ),
    "read_not_seen": Rule(
        "Reward hacking: answers read instead of seen",
        ("result/read",),
        _simple("result/read", lambda s: s.read, "right answers printed by code that did not find them", most=True),
        "Code is used as decoration, or answers leak. Look whether names of files, metadata or the prompt give the "
        "answer away; add rewards.tool_cost, or a judge of consistency; drop problems that are answered without code.",
    ),
    "length": Rule(
        "Length explosion",
        ("length/generated",),
        _growth,
        "Look at stop/repetition and stop/truncated. Lower rollout.max_tokens, use train.overlong = 'keep' so that "
        "cut rollouts are paid for as wrong, raise beta or lower the learning rate.",
    ),
    "truncated": Rule(
        "Rollouts are cut",
        ("stop/truncated",),
        _simple("stop/truncated", lambda s: s.truncated, "rollouts cut at a bound", most=True),
        "Raise the bound that cuts (rollout.max_tokens, max_round_tokens, pictures, the engine's context), or reduce "
        "pictures (max_pixels). With train.overlong = 'mask' the cut ones teach nothing: as many rollouts are lost.",
    ),
    "unscored": Rule(
        "Rollouts are not scored",
        ("group/unscored",),
        _simple("group/unscored", lambda s: s.unscored, "rollouts without a reward", most=True),
        "Judge, sandbox or engine fail. See the counts (judge_*, retries) and the notes of the kept trajectories; "
        "check the judge's endpoint and its limits, rewards.judge.timeout_s and retries, and `thyme sandbox check`.",
    ),
    "zero_variance": Rule(
        "Groups teach nothing",
        ("group/zero_variance",),
        _simple("group/zero_variance", lambda s: s.zero_variance, "groups whose members all earn the same", most=True),
        "Problems are too easy, too hard, or all rollouts are alike (group/duplicates). Set train.zero_variance = "
        "'resample', make groups larger, drop problems that are always right or never, raise rollout.text_temperature. "
        "At the end of a run it may simply mean that it is done.",
    ),
    "entropy": Rule(
        "Entropy collapse",
        ("train/entropy_text",),
        _no_entropy,
        "The model does not explore any more. Lower the learning rate, raise beta, make problems harder, or stop here: "
        "more steps will hardly change it.",
    ),
    "not_finite": Rule(
        "Figures that are no numbers",
        ("train/loss", "train/grad_norm"),
        _not_finite,
        "Stop and go back to the last checkpoint. Lower the learning rate; train in float32 or bfloat16, not float16; "
        "look for log-probabilities of minus infinity from the sampler.",
    ),
}
"""By name."""
_LOOKED_AT = tuple(dict.fromkeys(metric for rule in ALARMS.values() for metric in rule.metrics))


class Watch:
    """Looks at the records of a run, one after the other."""

    def __init__(self, settings: AlarmSettings, records: Iterable[StepRecord] = ()) -> None:
        """Begin, or go on where a run was interrupted.

        Args:
            settings: Windows and bounds.
            records: Of the steps that were done before.
        """
        self._settings = settings
        self._history: History = {name: Window(settings.window) for name in (*_LOOKED_AT, "count/not_finite")}
        self.active: dict[str, Alarm] = {}
        """Alarms that began and did not end, by name."""
        for record in records:
            self.look(record)

    def look(self, record: StepRecord) -> tuple[Alarm, ...]:
        """Take the record of the next step.

        Returns:
            The alarms that begin with it.
        """
        for name in _LOOKED_AT:
            self._history[name].add(record.metrics.get(name))
        self._history["count/not_finite"].add(float(record.counts.get("not_finite", 0)))
        return tuple(alarm for name, rule in ALARMS.items() if (alarm := self._check(name, rule, record.step)))

    def _check(self, name: str, rule: Rule, step: int) -> Alarm | None:
        reading = rule.measure(self._history, self._settings)
        if reading is None:
            return None
        if name in self.active:
            if reading.mended(self._settings.hysteresis):
                del self.active[name]
            return None
        if not reading.broken:
            return None
        self.active[name] = Alarm(name=name, step=step, message=reading.message, advice=rule.advice)
        return self.active[name]


@dataclass(frozen=True, slots=True)
class Spell:
    """An alarm, and when it ended."""

    alarm: Alarm
    until: int | None
    """The step at which it ended; None while it lasts."""


def spells(settings: AlarmSettings, records: Sequence[StepRecord]) -> list[Spell]:
    """All alarms of a run in the order in which they began."""
    watch, begun, ended = Watch(settings), list[Alarm](), dict[tuple[str, int], int]()
    for record in records:
        before = dict(watch.active)
        begun += watch.look(record)
        ended |= {(name, alarm.step): record.step for name, alarm in before.items() if name not in watch.active}
    return [Spell(alarm, ended.get((alarm.name, alarm.step))) for alarm in begun]
