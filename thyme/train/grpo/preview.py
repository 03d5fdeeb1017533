"""A group of rollouts as a person can read it before training: what each earned, its advantage, and all its tokens.

Colours say what the loss sees of a token, and whether it was drawn or greedy. Printed by ``thyme grpo --dry-run``, and
written as a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from thyme.config.grpo import GRPOSettings
from thyme.families import Family
from thyme.train.grpo.advantages import Standing, group_standings
from thyme.train.grpo.batch import CODE, Rollout, encode_rollout
from thyme.train.grpo.groups import Group, Member
from thyme.train.report.pages import template
from thyme.train.report.preview import STYLES, Look, Piece, coloured, pieces, token_looks
from thyme.train.run.disk import write_atomically
from thyme.types import Problem
from thyme.view import words
from thyme.view.parts import make_scene, seen_sizes
from thyme.view.pictures import Inlined, Picture
from thyme.view.terminal import clean

GROUP_PAGE = "group.html"
"""In the folder of a run."""
LOOKS: dict[Look, tuple[str, str]] = {
    "trained": ("bold green", "text in the loss"),
    "tempered": ("bold blue", "code in the loss, drawn"),
    "greedy": ("bold yellow", "code in the loss, greedy"),
    "masked": (STYLES["masked"], "written, not in the loss"),
    "observation": (STYLES["observation"], "from the sandbox"),
    "prompt": (STYLES["prompt"], "prompt"),
    "image": (STYLES["image"], "picture"),
}
"""Style on a terminal, and what it means."""
_STYLES: dict[Look, str] = {look: style for look, (style, _) in LOOKS.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """One rollout of the group."""

    title: str
    facts: Sequence[str]
    """Parts of the reward, why it ended, tokens."""
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Preview:
    """The group."""

    problem: Problem
    lead: str
    verdict: str
    legend: dict[Look, str]
    parts: Sequence[Part]


def preview(group: Group, family: Family, settings: GRPOSettings, *, limit: int | None = None) -> RenderableType:
    """The group for a terminal; for the arguments and errors see `read_group`.

    Args:
        group: Scored rollouts of one problem.
        family: Of the model in training.
        settings: Advantages and code policy.
        limit: Characters of a rollout's tokens that are shown, counted from its end; None shows all.
    """
    return group_table(read_group(group, family, settings), limit=limit)


def write_group_page(group: Group, family: Family, settings: GRPOSettings, out: Path) -> Path:
    """Write the group as a page into a folder, and return where it is; for the errors see `read_group`."""
    path = out / GROUP_PAGE
    write_atomically(path, group_page(group, read_group(group, family, settings)))
    return path


def read_group(group: Group, family: Family, settings: GRPOSettings) -> Preview:
    """Read a group as the trainer would.

    Args:
        group: Scored rollouts of one problem.
        family: Of the model in training.
        settings: Advantages and code policy.

    Raises:
        EncodeError: A rollout was not recorded by this model's tokenizer or under its pixel limits.
        UsageError: Code was greedy, and the policy is ``tempered``.
    """
    found = group_standings(group, settings)
    parts = [
        _part(index, member, standing, family, settings)
        for index, (member, standing) in enumerate(zip(group.members, found.members, strict=True))
    ]
    seen = {piece.look for part in parts for piece in part.pieces}
    legend: dict[Look, str] = {look: meaning for look, (_, meaning) in LOOKS.items() if look in seen}
    verdict = {
        "learnt": "There is something to learn.",
        "flat": "All compared members earn the same: the advantages are 0, and the group teaches nothing.",
        "dropped": "Fewer than two members can be compared: the group is dropped.",
    }[found.verdict]
    return Preview(group.asked.problem, _lead(group, settings), verdict, legend, parts)


def group_table(shown: Preview, *, limit: int | None = None) -> RenderableType:
    """The group for a terminal.

    Args:
        shown: What to show.
        limit: Characters of a rollout's tokens that are shown, counted from its end; None shows all.
    """
    problem = shown.problem
    asked = Text(clean(f"{problem.question}{f'  ({problem.kind})' if problem.kind else ''}"), style="bold")
    legend = Text("  ").join(Text(f" {meaning} ", style=_STYLES[look]) for look, meaning in shown.legend.items())
    lines: list[RenderableType] = [asked, *_choices(problem), Text(shown.lead), legend]
    for part in shown.parts:
        facts = Text(clean("   ".join(part.facts)), style="dim")
        lines += [Text(), Text(part.title, style="bold"), facts, coloured(part.pieces, limit, _STYLES)]
    return Lines(*lines, Text(), Text(shown.verdict))


def group_page(group: Group, shown: Preview, *, title: str = "One group of rollouts") -> str:
    """The group as one HTML page that needs nothing beside it.

    Args:
        group: The rollouts, pictures loaded.
        shown: Of the same group.
        title: Heading.
    """
    return template("group.html.j2").render(title=title, preview=shown, scene=_scene(group))


def _scene(group: Group) -> list[Picture]:
    seen = seen_sizes(group.members[0].trajectory) if group.members else {}
    return make_scene(group.asked.problem, seen, Inlined())


def _choices(problem: Problem) -> list[Text]:
    named = [f"{chr(ord('A') + index)}. {choice}" for index, choice in enumerate(problem.choices)]
    known = [] if problem.answer is None else [f"reference: {problem.answer}"]
    return [Text(clean(line), style="dim") for line in (*named, *known)]


def _lead(group: Group, settings: GRPOSettings) -> str:
    sampling = group.members[0].trajectory.sampling if group.members else None
    drawn = f"τ {sampling.text_temperature:g} in text, {sampling.code_temperature:g} in code; " if sampling else ""
    return f"{len(group.members)} rollouts; {drawn}code policy: {settings.code_policy}"


def _part(index: int, member: Member, standing: Standing, family: Family, settings: GRPOSettings) -> Part:
    trajectory, score = member.trajectory, member.score
    earned = "not scored" if score.value is None else f"reward {score.value:g}"
    place = f"advantage {standing.advantage:+.3f}" if standing.in_loss else "not in the loss"
    parts = [f"{name.replace('_', ' ')} {value:g}" for name, value in score.parts.items() if value is not None]
    rollout = encode_rollout(trajectory, family, settings.code_policy)
    told = [
        " · ".join(parts),
        words.stopped(trajectory),
        score.note and f"note: {score.note}",
        _tokens(rollout, standing),
    ]
    shown = [] if rollout is None else pieces(rollout.encoded, family, _looks(rollout, standing))
    if index:  # one prompt is enough: it is the same for all of them
        shown = list(dropwhile(lambda piece: piece.look in {"prompt", "image"}, shown))
    return Part(f"rollout {index + 1}: {earned}, {place}", [fact for fact in told if fact], shown)


def _tokens(rollout: Rollout | None, standing: Standing) -> str:
    if rollout is None:
        return "nothing was written"
    written = int((rollout.kinds != 0).sum())
    in_loss = rollout.encoded.trained if standing.in_loss else 0
    return f"{len(rollout)} tokens, {written} written, {in_loss} in the loss"


def _looks(rollout: Rollout, standing: Standing) -> list[Look]:
    """How each token looks: what the loss sees of it, if the rollout is in the loss at all."""
    looks = token_looks(rollout.encoded)
    for place in rollout.loss_mask.nonzero()[0].tolist():
        if not standing.in_loss:
            looks[place] = "masked"
        elif rollout.kinds[place] == CODE:
            looks[place] = "greedy" if rollout.greedy[place] else "tempered"
    return looks
