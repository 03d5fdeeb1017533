"""Tiny random-initialised Qwen2.5-VL and Qwen3-VL checkpoints with a byte-level BPE tokenizer, made in code.

Not a test. Fixtures in tests/conftest.py hand out folders; the tags are ordinary text there (several tokens each), as
in the real Qwen vocabulary, unless asked for otherwise.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = (
    "<think>",
    "</think>",
    "<code>",
    "</code>",
    "<sandbox_output>",
    "</sandbox_output>",
    "<answer>",
    "</answer>",
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{ message.content }}{%- else %}{%- for item in message.content %}"
    "{%- if item.type == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{ item.text }}{%- endif %}{%- endfor %}{%- endif %}{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def corpus() -> Iterator[str]:
    """Text for the merges: English, Python, digits, and characters of several bytes."""
    draw = random.Random(0)
    words = [
        "the",
        "image",
        "shows",
        "a",
        "small",
        "red",
        "object",
        "zoom",
        "crop",
        "what",
        "number",
        "is",
        "über",
        "图片",
    ]
    for _ in range(200):
        yield " ".join(draw.choice(words) for _ in range(12)) + f" {draw.randint(0, 9999)}."
        yield f"```python\ncrop = image.crop(({draw.randint(0, 99)}, 2, 3, 4))\ncrop.save('a.png')\n```\n"


def build_tokenizer(*, tags_as_tokens: bool = False, vocabulary: int = 420) -> Any:
    """A byte-level BPE tokenizer in Qwen's manner (transformers, fast)."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    if tags_as_tokens:
        fast.add_tokens(list(TAGS))  # ordinary tokens: they survive skip_special_tokens
    return fast


def _text_config(family: str, tokenizer: Any, layers: int, hidden: int, context: int) -> dict[str, Any]:
    heads, head = 4, hidden // 4
    third = head // 2 // 4
    return {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [head // 2 - 2 * third, third, third],
            "rope_theta": 1e4,
        }
        | ({"mrope_interleaved": True} if family == "qwen3_vl" else {}),  # vLLM reads it, transformers knows
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    } | ({"head_dim": head} if family == "qwen3_vl" else {})


def build_config(family: str, tokenizer: Any, *, layers: int = 2, hidden: int = 64, context: int = 4096) -> Any:
    """Configuration of a tiny model of the family."""
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>")
        for name, text in {
            "image": "image_pad",
            "video": "video_pad",
            "vision_start": "vision_start",
            "vision_end": "vision_end",
        }.items()
    }
    text = _text_config(family, tokenizer, layers, hidden, context)
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision["out_hidden_size"] = hidden
    if family == "qwen2_5_vl":
        vision |= {"window_size": 112, "fullatt_block_indexes": [1], "patch_size": 14}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)


def build_checkpoint(
    folder: Path,
    family: str = "qwen2_5_vl",
    *,
    tags_as_tokens: bool = False,
    template: str = TEMPLATE,
    scale: float = 4.0,
    seed: int = 0,
    **sizes: int,
) -> Path:
    """Save a tiny checkpoint and return its folder.

    Args:
        folder: Where to; made if missing.
        family: ``qwen2_5_vl`` or ``qwen3_vl``.
        tags_as_tokens: Whether ``<code>`` and the others are one token each.
        template: Chat template.
        scale: Factor on the matrices' usual initialisation: at 1 the logits are nearly flat and parity says little.
        seed: Of the weights.
        sizes: ``layers``, ``hidden``, ``context``.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    tokenizer = build_tokenizer(tags_as_tokens=tags_as_tokens)
    config = build_config(family, tokenizer, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(scale)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(image_settings(family)), encoding="utf-8")
    return folder


def image_settings(family: str) -> dict[str, Any]:
    """Image processor settings, as the family's checkpoints have them, with small limits."""
    patch = {"qwen2_5_vl": 14, "qwen3_vl": 16}[family]
    side = 2 * patch
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if family == "qwen3_vl" else {}
    return means | {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 4 * side**2, "longest_edge": 36 * side**2},
    }
