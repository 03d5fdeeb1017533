"""The report as one HTML page and as a page of the documentation, and its plots."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from thyme.errors import ConfigError
from thyme.nano.sheets import Sheet
from thyme.reproduce.graph import Result, Step, Store, done, write_whole
from thyme.reproduce.measures import Found
from thyme.reproduce.plan import Settings, plan
from thyme.reproduce.plots import PLOTS, drawings, page_claims, page_main
from thyme.reproduce.report import BULKY, Section, sections
from thyme.view.pages import template

NAME = "reproduction"
PAGE = "report.html"
_FIGURE = re.compile(r"[+\-−]?\d[\d.]*( .*)?$|–$")
RUN = "_run"
"""Beside the results: what the plan was made of."""
TITLE = "The paper's claims, in miniature"
LEAD = """\
A model of 2.8 million parameters in a drawn world ([nano.md](nano.md)) goes the paper's road: fine-tuning, then
reinforcement, with code in the sandbox. This tests the machinery and shows what follows from its parts; it is no
evidence about models of real size, in either direction. All of this page is written by `thyme reproduce` from the files
in [results](results). The claims, and the rules by which they are judged, stand in `thyme/reproduce/claims.py`.
"""
HOW = """\
## Run it

    thyme reproduce --quick      # a look; says what it leaves out
    thyme reproduce --dry-run    # the plan: steps, what is done, expected minutes
    thyme reproduce              # everything, over as many sittings as it takes

A step is done again only if its settings or the figures that it builds on change; a run that was killed goes on.
`--until MINUTES` begins no step that is expected to end later, `--only STEP` does one (a kind: all of it) and what it
builds on, `--workers N` does N at a time, `--stored` begins with the results that this page shows and runs only
what they lack. `--docs DIR` writes this page and its files there. A GPU is used if there is one; the ablation of
GRPO stays on the CPU.
"""


def keep_plan(store: Store, settings: Settings) -> None:
    """Write down what the plan is made of, beside the results."""
    text = json.dumps({"settings": settings.model_dump(mode="json")}, indent=1) + "\n"
    write_whole(store.path(RUN), text)


def read_plan(store: Store) -> tuple[list[Step], Settings]:
    """The plan that the results in a folder belong to.

    Raises:
        ConfigError: There is none, or it is of another version.
    """
    try:
        told = json.loads(store.path(RUN).read_text(encoding="utf-8"))
        settings = Settings.model_validate(told["settings"])
        return plan(settings), settings
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise ConfigError(f"'{store.folder.name}' holds no run of thyme reproduce that can be read") from error


def markdown(store: Store) -> str:
    """The page of the documentation, from the results in a folder."""
    steps, settings = read_plan(store)
    results = shown(store, steps)
    drawn = drawings(Found(results))
    parts = [f"# {TITLE}\n", LEAD, HOW]
    for section in sections(results, steps, settings):
        parts.append(f"## {section.title}\n")
        if section.name in drawn:
            parts.append(f"![{drawn[section.name].title}]({picture(section.name)})\n")
        parts.append(_lines(section))
        parts += map(_table, section.sheets)
    return "\n".join(part for part in parts if part)


def picture(section: str) -> str:
    """File name of a section's plot."""
    return f"{NAME}_{section}.png"


def _table(sheet: Sheet) -> str:
    """A table; columns of figures stand to the right."""
    head, *body = sheet.rows
    rule = ["---:" if figures and i else "---" for i, figures in enumerate(figure_columns(sheet))]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]
    return (f"**{sheet.title}**\n\n" if sheet.title else "") + "\n".join(lines) + "\n"


def figure_columns(sheet: Sheet) -> list[bool]:
    """Which columns hold nothing but figures."""
    head, *body = sheet.rows
    return [all(_FIGURE.match(row[i]) for row in body) for i in range(len(head))]


def _unmarked(section: Section) -> Section:
    """The same without what only markdown shows: links to other documents, and bold words."""
    lines = [re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", line).replace("**", "") for line in section.lines]
    return replace(section, lines=lines)


def _lines(section: Section) -> str:
    if section.listed:
        return "".join(f"- {line}\n" for line in section.lines)
    return "".join(f"{line}\n" for line in section.lines)


def shown(store: Store, steps: Sequence[Step]) -> dict[str, Result]:
    """Results that the report may tell of: in a run those that hold, in a copy of it all that were copied."""
    if (store.folder / "steps").exists():
        return done(steps, store)
    return {step.name: result for step in steps if (result := store.read(step.name)) is not None}


def write(store: Store, docs: Path | None = None) -> list[Path]:
    """Write the page and the markdown into the folder of the run, and into a folder of documentation.

    Args:
        store: Of the run.
        docs: Where ``reproduction.md``, its plot and ``results`` go; None: nowhere else.

    Returns:
        What was written.
    """
    steps, settings = read_plan(store)
    results = shown(store, steps)
    written = [store.folder / PAGE, store.folder / f"{NAME}.md"]
    write_whole(written[0], page(results, steps, settings))
    write_whole(written[1], markdown(store))
    drawn = drawings(Found(results))
    for folder in filter(None, (store.folder, docs)):
        for name in PLOTS:
            (folder / picture(name)).unlink(missing_ok=True)
        for name, drawing in drawn.items():
            drawing.save(folder / picture(name))
    if docs is not None:
        _publish(store, Store(docs), results)
        written.append(docs / f"{NAME}.md")
        write_whole(written[-1], markdown(Store(docs)))
    return written


def _publish(store: Store, docs: Store, results: Mapping[str, Result]) -> None:
    """Copy results, of bulky ones only where they come from; what an earlier run left there is removed."""
    for old in docs.path(RUN).parent.glob("*.json"):
        if old.stem not in results and _is_result(docs, old.stem):
            old.unlink()
    write_whole(docs.path(RUN), store.path(RUN).read_text(encoding="utf-8"))
    for result in results.values():
        docs.write(result.without_figures() if result.kind in BULKY else result)


def _is_result(docs: Store, name: str) -> bool:
    try:
        return docs.read(name) is not None
    except ConfigError:
        return False


def page(results: Mapping[str, Result], steps: Sequence[Step], settings: Settings) -> str:
    """The report as one HTML page that needs nothing beside it."""
    found = Found(results)
    return template("reproduction.html.j2", "thyme.reproduce").render(
        title=TITLE,
        sections=[_unmarked(section) for section in sections(results, steps, settings)],
        plots={"claims": page_claims(found), "main": page_main(found)},
        figure_columns=figure_columns,
    )
