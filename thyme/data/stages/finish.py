"""The record that is stored: what the trained model will be asked, and what it is to write."""

from __future__ import annotations

from thyme.config.data import DataRecipe, TeacherSettings
from thyme.data.drafts import Draft
from thyme.data.stages.base import Context
from thyme.types import (
    Fingerprints,
    ImageRecord,
    Prompt,
    Sampling,
    SeenImage,
    StopReason,
    Trajectory,
    Usage,
    input_path,
)


def finish(draft: Draft, context: Context) -> Trajectory:
    """The trajectory of a draft that the teacher has answered.

    Its prompt is the trained model's own (`Context.prompts`); what the teacher was told is not in it. Pictures are
    named by their place alone, since the name of a file may say what was done to it. It is a function of the draft,
    prompts and recipe, so that it can be made again after people have changed a segment.

    Args:
        draft: Its `segments` are taken as they are: code that ran, and what the sandbox gave.
        context: The trained model's prompts, and the recipe.

    Raises:
        ConfigError: The prompts do not fit the problem.
    """
    problem = draft.problem.model_copy(update={"images": neutral(draft.problem.images)})
    system, user = context.prompts.render(problem, [image.size for image in problem.images])
    seen = tuple(SeenImage(image=image, seen_width=image.width, seen_height=image.height) for image in problem.images)
    trajectory = Trajectory(
        id=draft.id,
        problem=problem,
        prompt=Prompt(system=system, user=user, images=seen),
        segments=draft.segments,
        stop=StopReason.ANSWER,
        model=draft.teacher,
        fingerprints=Fingerprints(prompts=context.prompts.fingerprint),
        sampling=_sampling(draft.teacher, context.recipe),
        seed=draft.seed,
    )
    return trajectory.model_copy(update={"usage": Usage(rounds=len(trajectory.observations))})


def neutral(images: tuple[ImageRecord, ...]) -> tuple[ImageRecord, ...]:
    """Input pictures under the names that code finds them by."""
    return tuple(
        image.model_copy(update={"name": input_path(index, image.format).rpartition("/")[2]})
        for index, image in enumerate(images)
    )


def _sampling(teacher: str, recipe: DataRecipe) -> Sampling:
    """How the teacher wrote; text and code come in one answer, at one temperature."""
    settings = next((one for one in recipe.teachers.values() if one.name == teacher), TeacherSettings(model=teacher))
    return Sampling(
        text_temperature=settings.temperature,
        code_temperature=settings.temperature,
        max_rounds=recipe.max_rounds,
        max_round_tokens=settings.max_tokens,
        max_tokens=settings.max_tokens * (recipe.max_rounds + 1),
    )
