"""What a judge is shown of a trajectory."""

from __future__ import annotations

from thyme.markup import ANSWER_OPEN, IMAGE, THINK_CLOSE, THINK_OPEN
from thyme.rewards.verdicts import Material, shorten
from thyme.types import Problem, Trajectory

REASONING_TAIL = 500
"""Characters of the end of the reasoning that are held against the answer, as released."""
MAX_ANSWER = 2000
"""Longest question, reference and answer that are shown whole, characters."""
MAX_REASONING = 8000
"""Longest reasoning or code that is shown whole, characters."""


def of_result(problem: Problem, answer: str) -> dict[str, Material]:
    """Text only: question, options, reference, answer."""
    options = {"options": [shorten(choice, MAX_ANSWER) for choice in problem.choices]} if problem.choices else {}
    return {
        "question": shorten(problem.question, MAX_ANSWER),
        **options,
        "reference": shorten(problem.answer or "", MAX_ANSWER),
        "answer": shorten(answer, MAX_ANSWER),
    }


def of_comparison(question: str, reference: str, answer: str) -> dict[str, Material]:
    """Question, reference and answer, each shortened where it is too long."""
    return {
        "question": shorten(question, MAX_ANSWER),
        "reference": shorten(reference, MAX_ANSWER),
        "answer": shorten(answer, MAX_ANSWER),
    }


def of_consistency(trajectory: Trajectory, answer: str) -> dict[str, Material]:
    """The end of the reasoning, and the answer."""
    return {"reasoning": _thinking(trajectory)[-REASONING_TAIL:], "answer": shorten(answer, MAX_ANSWER)}


def of_process(trajectory: Trajectory) -> dict[str, Material]:
    """Question, reference, and the whole reasoning."""
    problem = trajectory.problem
    return {
        "question": shorten(problem.question, MAX_ANSWER),
        "reference": shorten(problem.answer or "", MAX_ANSWER),
        "reasoning": shorten(_thinking(trajectory), MAX_REASONING),
    }


def of_code(trajectory: Trajectory) -> dict[str, Material]:
    """Question, and each block with what it printed."""
    blocks: list[Material] = [
        {
            "code": shorten(observation.execution.code, MAX_REASONING),
            "output": shorten(observation.execution.stdout + IMAGE * len(observation.execution.images), MAX_ANSWER),
        }
        for observation in trajectory.observations
    ]
    return {"question": shorten(trajectory.problem.question, MAX_ANSWER), "blocks": blocks}


def _thinking(trajectory: Trajectory) -> str:
    """Everything before the answer, code and its output included, without the tags around it."""
    before, tag, after = trajectory.response.rpartition(ANSWER_OPEN)
    thought = before if tag else after
    for mark in (THINK_OPEN, THINK_CLOSE, IMAGE):
        thought = thought.replace(mark, "")
    return thought.strip()
