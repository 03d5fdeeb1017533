"""A checkpoint folder as transformers and vLLM read it, written from the lean model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from thyme.nano.model import MERGE, PATCH, NanoConfig, NanoVL, transformers_config
from thyme.nano.perception.views import VIEW
from thyme.nano.tokenizer import (
    CHAT_TEMPLATE,
    END,
    IMAGE_PAD,
    PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    token_id,
)

MIN_PIXELS = (4 * PATCH * MERGE) ** 2
MAX_PIXELS = VIEW**2
CONTEXT = 2048
"""Longest sequence the checkpoint claims, tokens; it was trained on far shorter ones."""


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the control tokens by the names that `transformers_config` wants."""
    names = {
        "image": IMAGE_PAD,
        "video": VIDEO_PAD,
        "vision_start": VISION_START,
        "vision_end": VISION_END,
        "end": END,
        "pad": PAD,
    }
    return {name: token_id(tokenizer, token) for name, token in names.items()}


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "size": {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "eos_token": END,
        "pad_token": PAD,
        "bos_token": None,
        "unk_token": None,
        "processor_class": "Qwen2_5_VLProcessor",
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_checkpoint(folder: Path, model: NanoVL, tokenizer: Tokenizer, prompts: Path | None = None) -> None:
    """Write weights (bf16), configuration, tokenizer, processor and chat template.

    Args:
        folder: Made if it is not there; other files in it stay.
        model: The trained model.
        tokenizer: Its tokenizer.
        prompts: Folder of prompt files to copy in, if they are not there already.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    ids = special_ids(tokenizer)
    config = transformers_config(model.config, ids)
    full: Any = Qwen2_5_VLForConditionalGeneration(config)  # untyped
    missing, unexpected = full.load_state_dict(model.state_dict(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"parameters do not match transformers': missing {missing}, unexpected {unexpected}")
    half = full.to(dtype=torch.bfloat16)
    for part in (half.config.text_config, half.config.vision_config):
        part.dtype = torch.bfloat16
    half.save_pretrained(folder)
    _write_json(
        folder / "generation_config.json",
        {"eos_token_id": [ids["end"], ids["pad"]], "pad_token_id": ids["pad"], "do_sample": False},
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    image = _image_processor()
    video = {**image, "video_processor_type": "Qwen2VLVideoProcessor"}
    del video["image_processor_type"]
    _write_json(folder / "preprocessor_config.json", image)
    _write_json(folder / "video_preprocessor_config.json", video)
    _write_json(folder / "processor_config.json", {"processor_class": "Qwen2_5_VLProcessor"})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    if prompts is not None and prompts != folder / "prompts":
        shutil.copytree(prompts, folder / "prompts", dirs_exist_ok=True)


def _lean_name(stored: str) -> str:
    """The lean name of a stored one: transformers stores this family under the names of its first release."""
    if stored.startswith("visual."):
        return f"model.{stored}"
    if stored.startswith("model.") and not stored.startswith(("model.visual.", "model.language_model.")):
        return "model.language_model." + stored.removeprefix("model.")
    return stored


def read_checkpoint(folder: Path, config: NanoConfig | None = None) -> tuple[NanoVL, Tokenizer]:
    """Load a checkpoint of the embedded model into the lean class, for more training.

    Args:
        folder: As `write_checkpoint` leaves it.
        config: Sizes, if they are not the default ones.
    """
    from safetensors.torch import load_file

    model = NanoVL(config or NanoConfig())
    stored = load_file(folder / "model.safetensors")
    state = {_lean_name(name): tensor.float() for name, tensor in stored.items()}
    state.pop("lm_head.weight", None)
    model.load_state_dict(state)
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))
