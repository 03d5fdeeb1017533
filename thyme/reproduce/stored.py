"""Results of earlier runs, taken from files of this repository, with what is known of where they come from."""

from __future__ import annotations

import json
from typing import Any

from thyme.errors import StoreError
from thyme.nano.grpo_ablation.findings import Findings
from thyme.reproduce.ablations import grpo_figures, sft_figures
from thyme.reproduce.graph import How
from thyme.reproduce.plan import DOCS, STORED
from thyme.reproduce.runner import HOW, Doing

SFT, (GRPO,) = STORED["sft-ablation"], STORED["grpo-ablation"]
NOT_KNOWN = ("processor", "memory_gib", "cores", "load", "wall_s", "cpu_s", "peak_memory_mib", "versions")
"""Of these nothing was written down when the files were made."""

SFT_HOW = How(
    command="thyme nano ablate-sft --out runs/ablation --seeds 1,2,3 --workers 2 --demonstrations FILE",
    commit="trainer 5bfa6d0, ablation c1aec1f; the arms of ablation_sft_able and ablation_sft_paper 82d0589",
    seeds=(1, 2, 3),
    unknown=NOT_KNOWN,
    taken_from=", ".join(SFT),
)
GRPO_HOW = How(
    command="thyme nano ablate-grpo --out runs/ablation_grpo --seeds 1,2,3 --workers 2",
    seeds=(1, 2, 3),
    unknown=("commit", *NOT_KNOWN),
    taken_from=GRPO,
)


def stored_sft(doing: Doing) -> dict[str, Any]:
    """What docs/ablation_sft.md tells of."""
    return {**sft_figures([json.loads(_text(name)) for name in SFT]), HOW: SFT_HOW.model_dump(mode="json")}


def stored_grpo(doing: Doing) -> dict[str, Any]:
    """What docs/ablation_grpo.md tells of."""
    found = Findings.model_validate_json(_text(GRPO))
    return {**grpo_figures(found), HOW: GRPO_HOW.model_dump(mode="json")}


def _text(name: str) -> str:
    """A file of the documentation.

    Raises:
        StoreError: There is none, outside of a checkout.
    """
    try:
        return (DOCS / name).read_text(encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"docs/{name} is not here, so nothing can be taken from it; leave out --stored, or work in a checkout"
        ) from error
