"""The page of a filter: funnel, reasons, distributions before and after, examples of what was kept and dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from thyme.data.filter.figures import DISTRIBUTIONS, Figures
from thyme.data.filter.manifest import FilterManifest
from thyme.data.filter.meanings import REASONS, STEPS
from thyme.data.filter.records import READ, Seen
from thyme.data.filter.sources import Rows
from thyme.data.report.words import percent
from thyme.errors import EncodeError, StoreError
from thyme.images import to_rgb
from thyme.store import write_text
from thyme.types import ImageRecord, Problem
from thyme.view.pages import duration, template
from thyme.view.pictures import Inlined, Picture
from thyme.view.words import count

SIDE = 480
"""Longest side of a picture on the page, pixels."""
_NAMES = 30
"""Names of a distribution that are shown; the others together."""
_MARK, _MARK_WIDTH = "#00b89c", 3


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    title: str
    cells: Sequence[str]
    note: str = ""
    width: float = 0.0
    """Of its bar, 0 to 100."""
    lost: float = 0.0
    """Of the part of the bar that was lost."""
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as it is shown."""

    seen: Seen
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a kind."""

    anchor: str
    title: str
    about: str
    count: int
    examples: Sequence[Example]


def write_report(
    path: Path,
    manifest: FilterManifest,
    examples: Mapping[tuple[str, str], Sequence[Seen]],
    rows: Mapping[str, Rows],
) -> None:
    """Write the page; one file that needs nothing beside it.

    Args:
        path: Of the page.
        manifest: With its figures.
        examples: Rows to show, by step and reason, or by the category of the kept.
        rows: Sources, for the pictures.

    Raises:
        StoreError: It cannot be written, or a source not read.
    """
    write_text(path, render(path.resolve().parent.name, manifest, examples, rows))


def render(
    name: str,
    manifest: FilterManifest,
    examples: Mapping[tuple[str, str], Sequence[Seen]],
    rows: Mapping[str, Rows],
) -> str:
    """The page as text; the arguments are those of `write_report`."""
    figures = manifest.figures
    problems = _problems(rows, [seen for some in examples.values() for seen in some])
    groups = [
        _group(f"k{place}", kind, some, figures, problems) for place, (kind, some) in enumerate(examples.items(), 1)
    ]
    anchors = {kind: group.anchor for kind, group in zip(examples, groups, strict=True)}
    return template("rl_filter.html.j2", "thyme.data.filter", "thyme.data.report").render(
        title=f"Filter: {name}",
        manifest=manifest,
        cards=_cards(manifest),
        funnel=list(_funnel(figures)),
        kept=count(figures.kept),
        kept_width=100 * figures.kept / max(1, figures.rows),
        reasons=list(_reasons(figures, anchors)),
        distributions=[(DISTRIBUTIONS[name].title, list(_names(figures, name))) for name in DISTRIBUTIONS],
        groups_kept=[one for one, (step, _) in zip(groups, examples, strict=True) if not step],
        groups_dropped=[one for one, (step, _) in zip(groups, examples, strict=True) if step],
        everything=manifest.model_dump_json(indent=2),
    )


def _cards(manifest: FilterManifest) -> list[tuple[str, str, str]]:
    figures, asked = manifest.figures, manifest.recipe.difficulty
    found = [
        ("rows", count(figures.rows), f"of {count(len(manifest.sources))} sources"),
        ("kept", count(figures.kept), percent(figures.kept / figures.rows if figures.rows else None)),
        ("dropped", count(figures.rows - figures.kept), f"for {sum(map(len, figures.dropped.values()))} reasons"),
        ("benchmark pictures", count(manifest.benchmarks), "none of them may come in"),
        ("last run", duration(manifest.seconds), "what earlier ones found was used"),
    ]
    if asked.model:
        found.insert(3, ("asked", asked.model.rpartition("#")[2] or asked.model, f"{asked.samples} times each"))
    return found


def _funnel(figures: Figures) -> Iterator[Row]:
    whole = max(1, figures.rows)
    for step, entered, lost in figures.funnel:
        share = percent(lost / entered if entered else None)
        cells = (count(entered), count(lost), share, count(entered - lost))
        yield Row(step, cells, STEPS.get(step, ""), width=100 * entered / whole, lost=100 * lost / whole)


def _reasons(figures: Figures, anchors: Mapping[tuple[str, str], str]) -> Iterator[Row]:
    for step, reasons in figures.dropped.items():
        for reason, often in reasons.items():
            cells = (step, count(often), percent(often / figures.rows))
            yield Row(reason, cells, REASONS.get(reason, ""), anchor=anchors.get((step, reason), ""))


def _names(figures: Figures, name: str) -> Iterator[Row]:
    """Names of a distribution, in its order or by their number, with the number of rows and of those kept."""
    found, left = figures.all.get(name, {}), figures.left.get(name, {})
    asked = DISTRIBUTIONS[name]
    order = sorted(found, key=_figure) if asked.figures else [one for one in asked.order if one in found]
    names = [*order, *(one for one in found if one not in order)]
    whole = max(found.values(), default=1)
    for one in names[:_NAMES]:
        kept = left.get(one, 0)
        cells = (count(found[one]), count(kept), percent(kept / figures.kept if figures.kept else None))
        yield Row(one, cells, width=100 * found[one] / whole, lost=100 * (found[one] - kept) / whole)
    if rest := names[_NAMES:]:
        number, kept = sum(found[one] for one in rest), sum(left.get(one, 0) for one in rest)
        yield Row(f"{len(rest)} others", (count(number), count(kept), ""))


def _figure(name: str) -> float:
    return float(name.partition(" ")[0])


def _group(
    anchor: str,
    kind: tuple[str, str],
    some: Sequence[Seen],
    figures: Figures,
    problems: Mapping[str, Problem],
) -> Group:
    step, name = kind
    often = figures.dropped[step][name] if step else figures.left.get("kind", {}).get(name, 0)
    title = f"{step}: {name}" if step else name
    shown = [Example(seen, _pictures(problems.get(seen.id))) for seen in some]
    return Group(anchor, title, REASONS.get(name, "") if step else "", often, shown)


def _problems(rows: Mapping[str, Rows], some: Sequence[Seen]) -> dict[str, Problem]:
    """Problems by id, their pictures made small; none of a row that cannot be read."""
    found: dict[str, Problem] = {}
    for name, source in rows.items():
        places = sorted({seen.row for seen in some if seen.source == name and seen.step != READ})
        try:
            for _, problem in source.each(places):
                if not isinstance(problem, EncodeError):
                    found[problem.id] = _small(problem)
        except StoreError:
            continue  # the page has no pictures then; the rows themselves were read before
    return found


def _small(problem: Problem) -> Problem:
    """The problem with pictures as large as the page shows them, the box drawn into the first."""
    images = tuple(_marked(image, problem.meta.get("box") if not place else None)
                   for place, image in enumerate(problem.images[:4]))  # fmt: skip
    return problem.model_copy(update={"images": images})


def _marked(image: ImageRecord, box: Sequence[float] | None) -> ImageRecord:
    factor = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    small = to_rgb(image.image.resize(size, Image.Resampling.BOX) if factor < 1 else image.image)
    if box:
        left, top, right, bottom = (side * factor for side in box)
        corners = (left - _MARK_WIDTH, top - _MARK_WIDTH, right + _MARK_WIDTH - 1, bottom + _MARK_WIDTH - 1)
        ImageDraw.Draw(small).rectangle(corners, outline=_MARK, width=_MARK_WIDTH)
    return ImageRecord.of(small, name=f"{image.width} × {image.height} pixels")


def _pictures(problem: Problem | None) -> list[Picture]:
    images = () if problem is None else problem.images
    shown = Inlined(max_side=SIDE)
    made = [shown.picture(image, f"Image {place}, {image.name}") for place, image in enumerate(images, 1)]
    return [replace(picture, caption=image.name) for picture, image in zip(made, images, strict=True)]
