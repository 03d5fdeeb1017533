"""Fine-tune a model on recorded trajectories: read, encode, train, save.

    python examples/sft_minimal.py MODEL TRAJECTORIES.jsonl OUT

MODEL is a Qwen2.5-VL or Qwen3-VL checkpoint (folder or hub id); TRAJECTORIES is what `thyme ask --save` wrote.
OUT becomes a checkpoint that loads wherever MODEL does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from thyme.config.sft import SFTSettings
from thyme.families import load_family
from thyme.store import read_trajectories
from thyme.train.encode import MaskPolicy, encode_all
from thyme.train.sft import train_sft


def main(model: str, trajectories: Path, out: Path) -> None:
    """Train, and say what was trained on."""
    samples, drops = encode_all(
        read_trajectories(trajectories),
        load_family(model),
        MaskPolicy.RELEASED,  # of several rounds, the last two are trained on
        max_tokens=10_240,  # the paper's limit; longer samples are dropped, never cut
    )
    print(f"{len(samples)} samples, dropped: {dict(drops) or 'none'}")
    settings = SFTSettings(epochs=3, batch_size=1, accumulation=16, learning_rate=1e-5, save_steps=100)
    report = train_sft(samples, model, settings, out, resume=True)
    first, last = report.curve[0], report.curve[-1]
    print(f"{report.steps} steps, {report.samples_per_second:.1f} samples/s, loss {first.loss:.3f} -> {last.loss:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
