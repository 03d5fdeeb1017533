"""What a teacher is asked with: the functional prompt of a draft's scenario, filled with the draft's hints.

It never reaches the stored trajectory; see `thyme.data.leaks`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Scenario
from thyme.errors import ConfigError
from thyme.prompts import PACKAGED, PromptSet, compiled

FOLDER = PACKAGED / "teacher"
"""``system.txt`` says the form, ``request.txt`` holds the question, the others are tasks, one a scenario."""


def functional_prompt(draft: Draft, scenario: Scenario) -> tuple[str, str]:
    """Fill the prompts for one prepared draft.

    Args:
        draft: Prepared.
        scenario: Its own.

    Returns:
        System turn, and user turn with one ``<image>`` for each image of ``draft.problem``, in order. Boxes are pixels
        of the image files, angles degrees. Tags in the question are escaped.

    Raises:
        ConfigError: A template is broken or asks for a hint that the scenario does not give.
    """
    try:
        task = compiled(_read(FOLDER / scenario.prompt)).render(hints=draft.hints).strip()
    except Exception as error:  # a template is a small program and may raise any
        raise ConfigError(f"teacher/{scenario.prompt} cannot be filled for {draft.id}: {error}") from error
    request = _read(FOLDER / "request.txt")
    prompts = PromptSet(_read(FOLDER / "system.txt"), request, request, "the teachers' prompts")
    system, user = prompts.render(draft.problem, [image.size for image in draft.problem.images])
    return system, f"{user}\n\nKind of example: {scenario.name}\n{task}"


@lru_cache(maxsize=64)
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
