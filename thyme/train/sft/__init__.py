"""Supervised fine-tuning: `train_sft` trains one stage, `run.run_sft` a whole recipe."""

from thyme.train.sft.train import CHECKPOINTS, train_sft

__all__ = ["CHECKPOINTS", "train_sft"]
