"""How often an interval of the evaluation holds the truth, over simulated answers whose rate is known.

    python benchmarks/coverage.py [--runs 1000]

Members of a cluster mostly agree, as the orders of one question do. Seeded: the same numbers come out everywhere.
"""

from __future__ import annotations

import argparse

import numpy as np

from thyme.eval.statistics import estimate

RATE = 0.7
CASES = {
    "60 independent problems": (3, 60, 1, True),
    "50 clusters of four, drawn as clusters": (4, 50, 4, True),
    "50 clusters of four, taken for independent problems": (4, 50, 4, False),
}
"""Seed, clusters, problems of each, and whether the interval is told of them."""


def covers(seed: int, clusters: int, size: int, runs: int, *, told: bool) -> float:
    """Share of simulated sets whose 95 % interval holds the true rate."""
    rng, hits = np.random.default_rng(seed), 0
    names = [str(place // size) for place in range(clusters * size)]
    for run in range(runs):
        rate = rng.beta(2 * RATE, 2 * (1 - RATE), clusters)
        scores = (rng.random((clusters, size)) < rate[:, None]).astype(float).ravel()
        found = estimate(scores.tolist(), names if told else None, seed=run, draws=600)
        hits += found.low is not None and found.high is not None and found.low <= RATE <= found.high
    return hits / runs


def main() -> None:
    """Simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print(f"| of {runs} simulated sets | the interval holds the truth, % |\n|---|---:|")
    for said, (seed, clusters, size, told) in CASES.items():
        print(f"| {said} | {100 * covers(seed, clusters, size, runs, told=told):.1f} |", flush=True)


if __name__ == "__main__":
    main()
