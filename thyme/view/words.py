"""The same facts in the same words, on the terminal and on the page."""

from __future__ import annotations

from thyme.types import Execution, ImageRecord, Score, StopReason, Trajectory

STOPS: dict[StopReason, str] = {
    StopReason.ANSWER: "the model answered",
    StopReason.END: "the model ended its turn without an answer",
    StopReason.MAX_ROUNDS: "the model wanted to run code once more than allowed",
    StopReason.MAX_ROUND_TOKENS: "one round grew longer than allowed",
    StopReason.MAX_TOKENS: "all rounds together grew longer than allowed",
    StopReason.MAX_IMAGES: "its code made more images than allowed",
    StopReason.MAX_PIXELS: "its code made larger images than allowed",
    StopReason.CONTEXT: "the model's context was full",
    StopReason.REPETITION: "the model repeated itself",
    StopReason.CANCELLED: "it was cancelled",
    StopReason.ERROR: "it could not go on",
}
"""Why a rollout ended."""


def verdict(stop: StopReason, score: Score | None) -> str:
    """``right``, ``wrong``, ``failed`` (the machinery did), or empty where it was not scored."""
    if stop is StopReason.ERROR:
        return "failed"
    if score is None or score.value is None:
        return ""
    return "right" if score.value >= 0.5 else "wrong"


def stopped(trajectory: Trajectory) -> str:
    """Why it ended, and what failed where something did."""
    error = trajectory.error
    return STOPS[trajectory.stop] + (f": {error.message} ({error.where})" if error is not None else "")


def size(image: ImageRecord) -> str:
    """Width and height of an image, pixels."""
    return f"{image.width} × {image.height}"


def temperature(trajectory: Trajectory) -> str:
    """How text and code were sampled."""
    text, code = trajectory.sampling.text_temperature, trajectory.sampling.code_temperature
    return "greedy" if text == code == 0 else f"τ {text:g} in text, {code:g} in code"


def isolation(trajectory: Trajectory) -> str:
    """Levels that the code ran under; empty where none ran."""
    levels = dict.fromkeys(o.execution.isolation for o in trajectory.observations)
    return ", ".join(level for level in levels if level)


def remarks(execution: Execution) -> list[str]:
    """What else is to be said about a run."""
    notes = []
    if execution.truncated:
        notes.append("output cut at the limit")
    if execution.session_lost:
        notes.append("the session was lost: variables of earlier code are gone")
    if not (execution.stdout.strip() or execution.images or execution.error):
        notes.append("nothing was printed")
    return notes


def error_line(execution: Execution) -> str:
    """Why the code failed, in one line; empty where it did not."""
    error = execution.error
    if error is None:
        return ""
    where = f" (line {error.line})" if error.line is not None else ""
    return f"{error.type}: {error.message}{where}" if error.message else f"{error.type}{where}"


def facts(trajectory: Trajectory) -> dict[str, str]:
    """What a trajectory was made with and what it took, in the order in which it is shown."""
    usage, timings = trajectory.usage, trajectory.timings
    rows = {
        "model": trajectory.model,
        "sampling": temperature(trajectory) + ("" if trajectory.sampling.tools else ", code blocked"),
        "seed": str(trajectory.seed),
        "code blocks": str(len(trajectory.observations)),
        "isolation": isolation(trajectory),
        "tokens": f"{usage.prompt_tokens} prompt, {usage.generated_tokens} generated, "
        f"{usage.observation_tokens} observed",
        "seconds": f"{timings.total_s:.1f} ({timings.engine_s:.1f} model, {timings.sandbox_s:.1f} sandbox)",
    }
    return {name: value for name, value in rows.items() if value}


def summary(trajectory: Trajectory) -> str:
    """The facts in one line."""
    blocks = len(trajectory.observations)
    parts = [
        trajectory.model,
        temperature(trajectory) + ("" if trajectory.sampling.tools else ", code blocked"),
        f"seed {trajectory.seed}",
        f"{blocks} code block{'' if blocks == 1 else 's'}",
        isolation(trajectory),
        f"{trajectory.usage.generated_tokens} tokens",
        f"{trajectory.timings.total_s:.1f} s",
    ]
    return " · ".join(part for part in parts if part)


def count(number: float | None) -> str:
    """A number with groups of three digits; a dash for none."""
    return "–" if number is None else f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
