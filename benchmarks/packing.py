"""How full rows are, packed or padded: lengths drawn as those of training samples are spread.

    python benchmarks/packing.py [--samples 20000] [--seed 0]

Lengths are log-normal between 300 and 10240 tokens. Nothing is timed: the same numbers come out everywhere.
"""

from __future__ import annotations

import argparse

import numpy as np

from thyme.train.data.packing import pack
from thyme.train.data.sampling import epoch_order

ROW, BATCH = 10_240, 4


def main() -> None:
    """Plan both ways, and print how much of the rows is real."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    drawn = np.random.default_rng(given.seed).lognormal(7.8, 0.6, given.samples).astype(int)
    lengths = np.clip(drawn, 300, ROW).tolist()
    rows = len(pack(lengths, ROW))
    print(f"{len(lengths)} lengths, {np.mean(lengths):.0f} tokens on average, fill {rows} rows of {ROW}.")
    print("| | tokens that are real, % |\n|---|---:|")
    print(f"| packed | {100 * sum(lengths) / (rows * ROW):.1f} |")
    for grouped in (True, False):
        order = epoch_order(lengths, BATCH, seed=given.seed, epoch=0, group_by_length=grouped)
        held = sum(BATCH * max(lengths[i] for i in order[k : k + BATCH]) for k in range(0, len(order), BATCH))
        print(f"| padded in fours, `group_by_length = {str(grouped).lower()}` | {100 * sum(lengths) / held:.1f} |")


if __name__ == "__main__":
    main()
