"""Pages of the ablations are written from results of the reproduction."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import ablation_pages
from thyme.reproduce.ablations import TABLES
from thyme.reproduce.graph import How, Result, Store

PAGE = "# Title\n\nBefore.\n\n<!-- results -->\nold\n<!-- /results -->\n\nBehind.\n"


def keep(docs: Path, step: str, tables: str) -> None:
    how = How(command="test")
    Store(docs).write(Result(step=step, kind=step, settings={}, key="", figures={TABLES: tables}, how=how))


def test_both_pages_are_filled_and_their_plots_copied(tmp_path: Path) -> None:
    docs, run = tmp_path / "docs", tmp_path / "run"
    for step, name in ablation_pages.PAGES.items():
        keep(docs, step, f"| {step} |\n")
        (docs / f"{name}.md").write_text(PAGE)
        (run / "steps" / step).mkdir(parents=True)
    (run / "steps" / "grpo-ablation" / "ablation_grpo_weak.png").write_bytes(b"drawn")
    ablation_pages.fill(run, docs)
    page = (docs / "ablation_sft.md").read_text()
    assert page == PAGE.replace("old\n", "\n| sft-ablation |\n\n")
    assert (docs / "ablation_grpo_weak.png").read_bytes() == b"drawn"
    ablation_pages.fill(run, docs)
    assert (docs / "ablation_sft.md").read_text() == page


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results/sft-ablation.json is not there; run"):
        ablation_pages.tables(tmp_path, "sft-ablation")
    with pytest.raises(ValueError, match="no place for results"):
        ablation_pages.filled("# Title\n", "")
