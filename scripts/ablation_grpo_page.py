"""Put what a run of ``thyme nano ablate-grpo`` found into docs/ablation_grpo.md, and its JSON and plots beside it.

python scripts/ablation_grpo_page.py RUN [--docs DIR]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from thyme.nano.grpo_ablation.findings import Findings
from thyme.nano.grpo_ablation.report import NAME, markdown, picture

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def fill(run: Path, docs: Path) -> None:
    """Write the results of a run between the marks of the page.

    Args:
        run: Its folder.
        docs: Where ``ablation_grpo.md`` is.

    Raises:
        OSError: The run has no report, or the page is not there.
        ValueError: The report cannot be read, or the page has no marks.
    """
    findings = Findings.model_validate_json((run / f"{NAME}.json").read_text(encoding="utf-8"))
    page = docs / f"{NAME}.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no place for results: {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n\n## Results\n\n{markdown(findings)}\n{END}{after}", encoding="utf-8")
    for name in (f"{NAME}.json", *map(picture, findings.starts)):
        if (run / name).exists() and run.resolve() != docs.resolve():
            shutil.copyfile(run / name, docs / name)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    given = parser.parse_args()
    try:
        fill(given.run, given.docs)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
