"""A model of another size, made in code: random weights, the shape of Qwen2.5-VL, the tokenizer of the shipped one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make_small(nano: Path, folder: Path) -> Path:
    """Save a model of about 115 M parameters, a vocabulary of 32,768 among them; its images take up to 576 tokens.

    Args:
        nano: The shipped checkpoint, whose tokenizer it takes.
        folder: Where to.
    """
    import torch
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig
    from transformers.utils import logging

    settings = json.loads((nano / "config.json").read_text(encoding="utf-8"))
    settings["text_config"] |= {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 32768,
        "max_position_embeddings": 16384,
        "layer_types": ["full_attention"] * 12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    }
    settings["vision_config"] |= {
        "depth": 8,
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_heads": 8,
        "out_hidden_size": 768,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [3, 7],
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = AutoModelForImageTextToText.from_config(Qwen2_5_VLConfig(**settings), dtype=torch.float32)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    for name in _COPIED:
        shutil.copy(nano / name, folder / name)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"):
        if (nano / name).exists():
            _write_image_settings(nano / name, folder / name)
    return folder


def _write_image_settings(source: Path, target: Path) -> None:
    found = json.loads(source.read_text(encoding="utf-8"))
    for one in (found, found.get("image_processor"), found.get("video_processor")):
        if one and "patch_size" in one:
            one |= {"patch_size": 14, "size": {"shortest_edge": 4 * 28**2, "longest_edge": 576 * 28**2}}
            for name in ("min_pixels", "max_pixels"):
                one.pop(name, None)
    target.write_text(json.dumps(found), encoding="utf-8")
