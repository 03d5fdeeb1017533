"""Memory that the loss of one long sample takes, in tiles and from full logits: forward and backward, on the CPU.

    python benchmarks/sft_loss.py [--tokens 2560 5120 10240] [--full-most 5120] [--vocabulary 151936]

Each figure is the most that a fresh process held beyond what it held before the step, around a Qwen2.5-VL of one narrow
layer, so that nearly all of it is the loss. Full logits need many GB: they are left out of what has more tokens than
--full-most.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def step(tokens: int, vocabulary: int, loss: str) -> None:
    """Print the loss, and the MiB that a forward and a backward pass add to the peak of this process."""
    import numpy as np
    import tiny_model
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from thyme.config.sft import SFTSettings
    from thyme.families import load_family
    from thyme.train.batches.vision import FreshPixels
    from thyme.train.data.loader import Collator
    from thyme.train.data.samples import ListSamples
    from thyme.train.encode import Encoded
    from thyme.train.sft.trainer import Data, Trainer

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = tiny_model.build_checkpoint(Path(scratch) / "model", layers=1, context=tokens)
        family, config = load_family(folder), AutoConfig.from_pretrained(folder)
        config.text_config.vocab_size = vocabulary
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config)
        ids = np.random.default_rng(0).integers(0, 300, tokens, dtype=np.int32)
        sample = Encoded(ids=ids, loss_mask=np.ones(tokens, dtype=np.bool_))
        images = FreshPixels(family)
        settings = SFTSettings(device="cpu", loss=loss)  # type: ignore[arg-type]  # one of the two
        trainer = Trainer(model, Data(ListSamples([sample]), None, images, family), settings, Path(scratch) / "out")
        batch = Collator(images, family)([[(0, sample)]])
        before = peak()
        value = trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=torch.tensor(tokens - 1))
        value.backward()
        print(f"{value.item():.4f} {peak() - before}")


def peak() -> int:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2560, 5120, 10240])
    parser.add_argument("--full-most", type=int, default=5120)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--inside", choices=["chunked", "full"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        step(given.tokens[0], given.vocabulary, given.inside)
        return
    print("| tokens | loss | `chunked`, MiB | `full`, MiB |\n|---:|---:|---:|---:|")
    for tokens in given.tokens:
        loss, tiled = apart(tokens, given.vocabulary, "chunked")
        full = apart(tokens, given.vocabulary, "full") if tokens <= given.full_most else ("", "not run")
        if full[0] not in {"", loss}:
            sys.exit(f"{tokens} tokens: the losses differ, {loss} and {full[0]}")
        print(f"| {tokens} | {loss} | {tiled} | {full[1]} |", flush=True)


def apart(tokens: int, vocabulary: int, loss: str) -> tuple[str, str]:
    """Loss and MiB of a step in a process of its own."""
    options = ["--tokens", str(tokens), "--vocabulary", str(vocabulary), "--inside", loss]
    done = subprocess.run([sys.executable, __file__, *options], check=False, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip()[-2000:] or "give fewer --tokens where memory is short"
        sys.exit(f"{loss}, {tokens} tokens: ended with {done.returncode}: {said}")
    value, mib = done.stdout.split()[-2:]
    return value, mib


if __name__ == "__main__":
    main()
