"""Which steps there are, as a function of how much of everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from thyme.config.base import Config
from thyme.reproduce.graph import Step, check

KINDS = 7
"""Kinds of question."""
_START_S = 15.0
"""Of one core, to load libraries and weights."""
_DEMONSTRATION_S, _ASKED_S, _LOOPED_S, _STEP_S, _SHORT_STEP_S, _GROUP_STEP_S = 0.06, 0.08, 0.4, 1.9, 0.65, 6.4
"""Of one core, for a demonstration, a rollout, one that goes round in circles, a step on 16 demonstrations or on 16
bare answers, and a step on 64 rollouts: rough, from runs on this kind of machine."""
_SFT_ABLATION_MIN, _GRPO_ABLATION_MIN = 25.0, 45.0
"""Of one core and of one seed, at the ablations' own settings."""


class Settings(Config):
    """How much of everything. The plan is a function of this alone."""

    seeds: tuple[int, ...] = (1, 2, 3)
    demonstrations: int = Field(default=1900, ge=1)
    """Of the first stage of fine-tuning, a seed (`@nano_sft`)."""
    perception: int = Field(default=500, ge=1)
    """Questions of plain perception between them."""
    arithmetic: int = Field(default=400, ge=1)
    """Demonstrations of the second stage."""
    epochs: int = Field(default=3, ge=1)
    """Of the first stage; the second one has two at most."""
    reinforced: int = Field(default=90, ge=1)
    """Steps of GRPO behind fine-tuning (`@nano_grpo`)."""
    probed: bool = True
    """Whether the same is also run with the tokens of code sampled at temperature 1 and in the loss."""
    decided: int = Field(default=90, ge=1)
    """Steps of GRPO from the shipped weights that toss a coin for code."""
    rollouts: int = Field(default=8, ge=2)
    """Of a problem, and problems of a step."""
    problems: int = Field(default=60, ge=1)
    """Test problems of each kind a seed; the same for all models of a seed."""
    looping_rows: int = Field(default=160, ge=1)
    """Demonstrations for the start that goes round in circles; in half of them the text does."""
    looping_steps: int = Field(default=60, ge=1)
    looping_reinforced: int = Field(default=30, ge=0)
    """Steps of GRPO from that start, with the stop and without; 0: left out."""
    careless: bool = True
    """Whether repairs are also measured on a model that was taught to leave out its imports."""
    ablations: bool = True
    """Whether the ablations of fine-tuning and of GRPO are run; they are most of a full run."""
    shipped: int = Field(default=100, ge=0)
    """Problems of each kind for the shipped weights, as README shows them; 0: left out."""
    latency: int = Field(default=100, ge=3)
    """Session starts that are timed."""
    smoke: bool = False
    """Everything at its least, the ablations too: for tests."""


QUICK = Settings(
    seeds=(1,),
    demonstrations=1000,
    perception=250,
    arithmetic=150,
    reinforced=15,
    probed=False,
    decided=30,
    problems=15,
    looping_rows=80,
    looping_steps=30,
    looping_reinforced=0,
    careless=False,
    ablations=False,
    shipped=0,
    latency=30,
)
"""A look in a quarter of an hour."""
SMOKE = Settings(
    seeds=(1,),
    demonstrations=4,
    perception=2,
    arithmetic=2,
    epochs=1,
    reinforced=1,
    decided=1,
    rollouts=2,
    problems=1,
    looping_rows=4,
    looping_steps=1,
    looping_reinforced=1,
    shipped=1,
    latency=3,
    smoke=True,
)
"""Goes the way of a full run and learns nothing."""


def left_out(settings: Settings) -> list[str]:
    """What a smaller run than the full one lacks, in sentences."""
    full, said = Settings(), []
    if len(settings.seeds) < len(full.seeds):
        said.append(
            f"Seeds: {len(settings.seeds)} instead of {len(full.seeds)}. "
            + (
                "Intervals are over problems only and say nothing about another training run."
                * (len(settings.seeds) < 2)
            )
        )
    smaller = {
        "demonstrations": "demonstrations",
        "epochs": "passes over them",
        "reinforced": "steps of GRPO behind fine-tuning",
        "decided": "steps of GRPO from the undecided weights",
        "problems": "test problems of each kind a seed",
        "looping_steps": "steps to the looping start",
    }
    less = [
        f"{words}: {getattr(settings, name)} instead of {getattr(full, name)}"
        for name, words in smaller.items()
        if getattr(settings, name) < getattr(full, name)
    ]
    said += ["Smaller: " + "; ".join(less) + "."] if less else []
    if not settings.ablations:
        said.append("Not run: the ablations of fine-tuning, of temperatures, of rewards, and of repairs in training.")
    if not settings.probed:
        said.append("Not run: reinforcement behind fine-tuning with the tokens of code in the loss.")
    if not settings.careless:
        said.append("Not run: repairs on a model that was taught to need them.")
    if not settings.looping_reinforced:
        said.append("Not run: training from the looping start with the stop and without.")
    if not settings.shipped:
        said.append("Not run: the shipped weights, as README shows them.")
    return said


def plan(settings: Settings) -> list[Step]:
    """All steps, each behind those that it builds on."""
    steps = [*_starts(settings), *(step for seed in settings.seeds for step in _seed(settings, seed))]
    steps += _shared(settings)
    if settings.ablations:
        steps += [*_ablation(settings, "sft", _SFT_ABLATION_MIN), *_ablation(settings, "grpo", _GRPO_ABLATION_MIN)]
    check(steps)
    return steps


def _minutes(seconds: float) -> float:
    return round((_START_S + seconds) / 60, 1)


def _seed(how: Settings, seed: int) -> Iterator[Step]:
    rows = {"demonstrations": how.demonstrations, "perception": how.perception, "arithmetic": how.arithmetic}
    taught = {**rows, "epochs": how.epochs, "batch": 2 if how.smoke else 16, "seed": seed}
    passes = how.epochs * (how.demonstrations + how.perception) + min(2, how.epochs) * how.arithmetic
    steps = max(2, round(passes / taught["batch"]))
    group = {"rollouts": how.rollouts, "seed": seed}

    def step(kind: str, title: str, settings: Mapping[str, object], seconds: float, **more: object) -> Step:
        return Step.model_validate(
            {
                "name": f"{kind}-{seed}",
                "kind": kind,
                "title": f"{title}, seed {seed}",
                "settings": settings,
                "seeds": (seed,),
                "minutes": _minutes(seconds),
                **more,
            }
        )

    drawn = _DEMONSTRATION_S * (how.demonstrations + how.arithmetic)
    data, sft = f"data-{seed}", f"sft-{seed}"
    yield step("data", "draw demonstrations", {**rows, "seed": seed}, drawn, keeps=("rows",))
    yield step("sft", "fine-tune the base", taught, _STEP_S * steps, inputs=(data,), keeps=("run/arithmetic",))
    yield step(
        "direct",
        "train the base to answer at once",
        {**taught, "steps": steps},
        _SHORT_STEP_S * steps,
        inputs=(data,),
        keeps=("model",),
    )
    reinforced = {**group, "steps": how.reinforced, "start": "sft"}
    yield step(
        "rl", "GRPO behind fine-tuning", reinforced, _GROUP_STEP_S * how.reinforced, inputs=(sft,), keeps=("run/model",)
    )
    if how.probed:
        title = "GRPO behind fine-tuning, code at temperature 1 and in the loss"
        seconds = _GROUP_STEP_S * how.reinforced
        yield step("rl-code", title, {**reinforced, "code": True}, seconds, inputs=(sft,), keeps=("run/model",))
        yield _asked(how, seed, "rl-code", inputs=(f"rl-code-{seed}",))
    decided = {**group, "steps": how.decided, "start": "undecided"}
    yield step("when", "GRPO from the undecided weights", decided, _GROUP_STEP_S * how.decided, keeps=("run/model",))
    yield from (_asked(how, seed, arm) for arm in ASKED)
    yield from _looped(how, seed)
    if how.careless:
        yield from (_asked(how, seed, arm, inputs=("careless",)) for arm in ("careless", "careless-bare"))


ASKED = {
    "base": (),
    "blocked": ("sft",),
    "direct": ("direct",),
    "sft": ("sft",),
    "bare": ("sft",),
    "rl": ("rl",),
    "undecided": (),
    "when": ("when",),
}
"""Arms of the main table, and the training that each one's weights come from."""


def _asked(how: Settings, seed: int, arm: str, *, inputs: tuple[str, ...] | None = None) -> Step:
    before = tuple(f"{name}-{seed}" for name in ASKED[arm]) if inputs is None else inputs
    return Step(
        name=f"asked-{arm}-{seed}",
        kind="asked",
        title=f"ask the test problems: {arm}, seed {seed}",
        settings={"arm": arm, "problems": how.problems, "seed": seed, "max_tokens": 48 if how.smoke else 768},
        inputs=before,
        seeds=(seed,),
        minutes=_minutes(_ASKED_S * KINDS * how.problems),
    )


def _looped(how: Settings, seed: int) -> Iterator[Step]:
    for arm in ("loop", "loop-off"):
        step = _asked(how, seed, arm, inputs=("looping",))
        yield step.model_copy(update={"minutes": _minutes(_LOOPED_S * KINDS * how.problems)})
    for arm in ("loop", "loop-off") if how.looping_reinforced else ():
        yield Step(
            name=f"rl-{arm}-{seed}",
            kind="rl-looping",
            title=f"GRPO from the looping start, {'without' if arm == 'loop-off' else 'with'} the stop, seed {seed}",
            settings={"rollouts": how.rollouts, "seed": seed, "steps": how.looping_reinforced, "stop": arm == "loop"},
            inputs=("looping",),
            seeds=(seed,),
            keeps=("run/model",),
            minutes=_minutes(2.5 * _GROUP_STEP_S * how.looping_reinforced),
        )
        yield _asked(how, seed, f"rl-{arm}", inputs=(f"rl-{arm}-{seed}",))


def _shared(how: Settings) -> Iterator[Step]:
    yield Step(
        name="latency",
        kind="latency",
        title="time the sandbox",
        settings={"n": how.latency},
        minutes=0.5,
    )
    if how.shipped:
        yield Step(
            name="shipped",
            kind="shipped",
            title="ask the shipped weights, as README shows them",
            settings={"seed": 7, "per_kind": how.shipped},
            seeds=(7,),
            minutes=_minutes(3 * _ASKED_S * KINDS * how.shipped),
        )


def _starts(how: Settings) -> Iterator[Step]:
    yield Step(
        name="looping",
        kind="looping",
        title="make a start that goes round in circles",
        settings={"rows": how.looping_rows, "steps": how.looping_steps, "batch": 4 if how.smoke else 16},
        keeps=("model",),
        minutes=_minutes(_DEMONSTRATION_S * how.looping_rows + 1.5 * _STEP_S * how.looping_steps),
    )
    if how.careless:
        yield Step(
            name="careless",
            kind="careless",
            title="make a start that leaves out its imports",
            settings={"smoke": how.smoke},
            keeps=("made/model",),
            minutes=6.0,
        )


def _ablation(how: Settings, which: str, minutes: float) -> Iterator[Step]:
    starts = ("grpo-starts",) if which == "grpo" else ()
    for name in starts:
        yield Step(
            name=name,
            kind=name,
            title="make the starts of the ablation of GRPO",
            settings={"smoke": how.smoke},
            keeps=("weak/build", "injected/build", "careless/build"),
            minutes=18.0,
        )
    for seed in how.seeds:
        yield Step(
            name=f"{which}-arms-{seed}",
            kind=f"{which}-arms",
            title=f"train the arms of the ablation of {which.upper()}, seed {seed}",
            settings={"seed": seed, "smoke": how.smoke},
            inputs=starts,
            seeds=(seed,),
            minutes=minutes,
        )
    yield Step(
        name=f"{which}-ablation",
        kind=f"{which}-ablation",
        title=f"put the seeds of the ablation of {which.upper()} together",
        settings={"smoke": how.smoke},
        inputs=(*starts, *(f"{which}-arms-{seed}" for seed in how.seeds)),
        seeds=how.seeds,
        minutes=0.3,
        version=2,
    )
