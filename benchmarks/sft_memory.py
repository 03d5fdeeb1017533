"""The memory estimate of a training step against every tensor counted: ``python benchmarks/sft_memory.py``."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "train")]


def main() -> None:
    import memory_runs
    import tiny_model
    import torch

    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(1)
    print("| trained | measured, MB | estimated, MB | error | at |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        base = tiny_model.build_checkpoint(Path(scratch) / "base")
        for index, way in enumerate(memory_runs.STEPS):
            found = memory_runs.peaks(way, base, Path(scratch) / str(index))
            print(
                f"| {way} | {found.measured / 1e6:.1f} | {found.estimated / 1e6:.1f} | {100 * found.error:+.1f} % "
                f"| {found.moment} |"
            )


if __name__ == "__main__":
    main()
