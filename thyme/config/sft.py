"""Settings of supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thyme.config.training import TrainingSettings

NOT_OF_THE_RUN = {"device", "workers", "log_steps", "save_steps", "keep_checkpoints", "keep_finished", "eval_steps"}
"""Fields of `SFTSettings` that may change between parts of a run, because no weight depends on them."""


class SFTSettings(TrainingSettings):
    """How `thyme.train.sft.train_sft` trains. The paper's own values stand beside the fields they belong to."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the samples (paper: 3)."""
    accumulation: int = Field(default=1, ge=1)
    """Forward passes in one optimiser step. The loss is the mean over the trained tokens of all of them."""
    loss: Literal["chunked", "full"] = "chunked"
    """How the loss is computed. ``chunked``: in tiles, so that logits of all tokens never stand in memory at once.
    ``full``: from the model's own logits; the same figures, for tiny vocabularies and for comparing."""

    group_by_length: bool = True
    """Put samples of like length into one batch, so that little is padded."""
    packing: bool = False
    """Put samples whole, one behind the other, into rows that are nearly full, instead of padding each to the longest.
    No sample sees another; a row counts as one of `batch_size`."""
    packed_tokens: int = Field(default=10240, ge=1)
    """Tokens of such a row at most; no sample may be longer."""

    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches; worth it only where images are processed for each batch (``cache = "none"``)."""

    keep_finished: bool = False
    """Whether a run of stages leaves those of a finished stage; nothing needs them any more, and they are large."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between losses on the validation samples, where there are any; None: only at the end."""

    @model_validator(mode="after")
    def _settings_agree(self) -> SFTSettings:
        if self.packing and self.attention == "flash_attention_2" and self.batch_size > 1:
            raise ValueError(
                "packing with flash_attention_2 needs batch_size = 1: its kernel keeps samples apart in one row only; "
                "give packed_tokens the size instead"
            )
        return self
