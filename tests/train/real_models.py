"""Random models of published widths, cut in depth, with the tiny tokenizer. Not a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny_model
import torch

from thyme.train.memory.layouts import layout, shortened

MAX_PIXELS = 3_211_264
"""Of the paper's images: 1792 by 1792."""


def build(folder: Path, name: str, *, layers: int, vision_layers: int) -> Any:
    """Write everything but the weights of a cut-down model into a folder, and make the model in bfloat16.

    The vocabulary keeps its real size; the tiny tokenizer fills the beginning of it.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokenizer = tiny_model.build_tokenizer()
    content = shortened(layout(name), layers=layers, vision_layers=vision_layers)
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    content |= {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>") for key, text in names.items()}
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    content.get("text_config", content).update(ends)
    config = AutoConfig.for_model(**content)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(tiny_model.TEMPLATE, encoding="utf-8")
    images = tiny_model.image_settings(content["model_type"]) | {
        "size": {"shortest_edge": 56 * 56, "longest_edge": MAX_PIXELS}
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
