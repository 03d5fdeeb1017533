"""The same tables as markdown, for a README or an issue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from thyme.eval.report import tables
from thyme.eval.report.cells import Cell
from thyme.eval.report.words import cautions, findings
from thyme.eval.results import Results
from thyme.view.terminal import clean


def render_markdown(results: Results) -> str:
    """Scores, arms, answers that turn and counterfactuals."""
    return "\n".join(_lines(results)).rstrip() + "\n"


def _lines(results: Results) -> Iterator[str]:
    manifest = results.manifest
    yield from (f"# Evaluation: {_text(manifest.name or manifest.model)}", "")
    judge = manifest.judge or "none"
    pixels = f"{manifest.min_pixels or '–'} to {manifest.max_pixels or '–'}"
    yield from (f"mode {manifest.mode}, judge {_text(judge)}, pixels {pixels}, seed {manifest.seed}", "")
    for name, sentences in findings(results).items():
        yield from (f"- {_text(name)}: {_text(sentence)}" for sentence in sentences)
    if told := cautions(results):
        yield from ("", "To be careful about:", "")
        yield from (f"- {_text(sentence)}" for sentence in told)
    yield from (
        "",
        "## Scores",
        "",
        "Percent, 95 % interval in brackets; bold where it is significant. The paper's columns were not measured here.",
        "",
    )
    yield from _scores(results)
    rows = [(benchmark, row) for benchmark, list in tables.arm_rows(results).items() for row in list]
    if rows:
        yield from ("", "## Worth of the tools", "", "With code less the arm, on the same problems, points.", "")
        head = ["benchmark", "arm", "pairs", "with code", "arm", "difference", "better", "worse", "p, corrected"]
        body = []
        for benchmark, row in rows:
            shown = map(_cell, (row.first, row.second, row.difference))
            body.append([benchmark, row.title, str(row.pairs), *shown, str(row.gained), str(row.lost), row.adjusted])
        yield from _table(head, body)
    if changed := tables.change_rows(results):
        yield from ("", "## Answers that change with the evidence", "")
        head = ["benchmark", "arm", "cases", "answer changes, %", "right to wrong, %"]
        yield from _table(head, [[row.part, row.title, *map(_cell, row.cells)] for row in changed])


def _scores(results: Results) -> Iterator[str]:
    models = [f"{model} (paper)" for model in tables.paper_columns(results)]
    head = ["figure", *(tables.title_of(arm) for arm in tables.columns(results)), *models]
    body = []
    for block in tables.blocks(results):
        for row in block.rows:
            label = row.label if row.label != row.name else f"{block.benchmark.title} {row.label}"
            ours, theirs = row.cells[: len(head) - 1 - len(models)], row.cells[len(head) - 1 - len(models) :]
            body.append([label, *map(_cell, ours), *(cell.value for cell in theirs)])
    yield from _table(head, body)


def _cell(cell: Cell) -> str:
    text = f"{cell.value} ({cell.note})" if cell.note else cell.value
    return f"**{text}**" if cell.verdict else text


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_text, head))} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(map(_text, row))} |" for row in body)


def _text(text: str) -> str:
    """Foreign text that can neither end a cell nor become markup."""
    plain = " ".join(clean(text).split())
    return "".join(f"\\{sign}" if sign in "\\|<>[]`_" else sign for sign in plain)
