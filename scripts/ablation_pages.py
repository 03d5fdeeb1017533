"""Put what the ablations found into docs/ablation_sft.md and docs/ablation_grpo.md, and their plots beside them.

    python scripts/ablation_pages.py [RUN] [--docs DIR]

The tables are those of `results/sft-ablation.json` and `results/grpo-ablation.json` in the documentation, as
`thyme reproduce --docs docs` leaves them there; plots are copied from the folder of that run where it has them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from thyme.reproduce.ablations import TABLES
from thyme.reproduce.graph import Store, write_whole

PAGES = {"sft-ablation": "ablation_sft", "grpo-ablation": "ablation_grpo"}
"""Page of each step."""
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def tables(docs: Path, step: str) -> str:
    """The tables of an ablation.

    Raises:
        ValueError: There is no such result.
    """
    result = Store(docs).read(step)
    if result is None:
        raise ValueError(f"results/{step}.json is not there; run `thyme reproduce --docs docs`")
    return str(result.figures[TABLES])


def filled(page: str, found: str) -> str:
    """A page with its results between the marks.

    Raises:
        ValueError: It has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for results: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{found}\n{END}{after}"


def fill(run: Path, docs: Path) -> None:
    """Write both pages.

    Args:
        run: Folder of the reproduction.
        docs: Where the pages and results are.

    Raises:
        OSError: A page is not there.
        ValueError: A result or the marks are missing.
    """
    for step, name in PAGES.items():
        page = docs / f"{name}.md"
        write_whole(page, filled(page.read_text(encoding="utf-8"), tables(docs, step)))
        for plot in (run / "steps" / step).glob(f"{name}*.png"):
            shutil.copyfile(plot, docs / plot.name)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/reproduction"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    given = parser.parse_args()
    try:
        fill(given.run, given.docs)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
