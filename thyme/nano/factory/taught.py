"""Records of the data factory as the embedded model is to see them.

The factory does not know the size at which the trained model sees a picture, and this model's prompts name it; it is
always the same.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from thyme.data.factory.folder import read_records
from thyme.nano import checkpoint_path
from thyme.nano.perception.views import VIEW
from thyme.nano.teacher import compact
from thyme.prompts import PromptSet
from thyme.store import append_trajectory
from thyme.types import Observation, Segment, Trajectory


def write_taught(out: Path, to: Path) -> dict[str, int]:
    """Write the accepted records of a build as trajectories, pictures as large as they are seen.

    Scenarios have files of their own, since not all of them are learnt with the same mask: of a wrong look that is put
    right, the wrong one is not to be learnt.

    Args:
        out: Folder of the build.
        to: Folder that gets a JSON-lines file for each scenario, images beside them.

    Returns:
        Trajectories by scenario.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing, damaged or cannot be written.
    """
    prompts = PromptSet.load(checkpoint_path() / "prompts")
    to.mkdir(parents=True, exist_ok=True)
    written = Counter[str]()
    for draft in read_records(out):
        if draft.trajectory is not None:
            append_trajectory(to / f"{draft.scenario}.jsonl", as_seen(draft.trajectory, prompts))
            written[draft.scenario] += 1
    return dict(sorted(written.items()))


def as_seen(trajectory: Trajectory, prompts: PromptSet) -> Trajectory:
    """A trajectory with the prompt that names the size at which the embedded model sees, and pictures of that size."""
    system, user = prompts.render(trajectory.problem, [(VIEW, VIEW) for _ in trajectory.problem.images])
    segments = tuple(_as_seen(segment) for segment in trajectory.segments)
    prompt = trajectory.prompt.model_copy(update={"system": system, "user": user})
    return compact(trajectory.model_copy(update={"prompt": prompt, "segments": segments}))


def _as_seen(segment: Segment) -> Segment:
    if not isinstance(segment, Observation):
        return segment
    seen = tuple((VIEW, VIEW) for _ in segment.execution.images)
    return segment.model_copy(update={"seen_sizes": seen})
