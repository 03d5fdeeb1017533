"""Tiny random-initialised Qwen2.5-VL, Qwen3-VL and InternVL checkpoints with a byte-level BPE tokenizer, made in code.

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
INTERNVL_SPECIAL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
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
INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% elif item.type == 'text' %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TILE = 56
"""Side of a tile of the tiny InternVL, pixels: four tokens."""


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


def build_tokenizer(family: str = "qwen2_5_vl", *, tags_as_tokens: bool = False, vocabulary: int = 420) -> Any:
    """A byte-level BPE tokenizer in Qwen's manner (transformers, fast); InternVL adds its own special tokens to it."""
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
        **({"extra_special_tokens": INTERNVL_SPECIAL} if family == "internvl" else {}),
    )
    own = tuple(INTERNVL_SPECIAL.values()) if family == "internvl" else ()
    fast.add_special_tokens({"additional_special_tokens": [*SPECIAL, *own]})
    if tags_as_tokens:
        fast.add_tokens(list(TAGS))  # ordinary tokens: they survive skip_special_tokens
    return fast


def _text_config(family: str, tokenizer: Any, layers: int, hidden: int, context: int) -> dict[str, Any]:
    heads, head = 4, hidden // 4
    third = head // 2 // 4
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4}
    if family != "internvl":
        rope["mrope_section"] = [head // 2 - 2 * third, third, third]
    if family == "qwen3_vl":
        rope["mrope_interleaved"] = True  # vLLM reads it, transformers knows
    return {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "rope_parameters": rope,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    } | ({"head_dim": head} if family == "qwen3_vl" else {})


def build_config(family: str, tokenizer: Any, *, layers: int = 2, hidden: int = 64, context: int = 4096) -> Any:
    """Configuration of a tiny model of the family."""
    if family == "internvl":
        return _internvl_config(tokenizer, layers, hidden, context)
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


def _internvl_config(tokenizer: Any, layers: int, hidden: int, context: int) -> Any:
    from transformers import InternVLConfig

    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return InternVLConfig(
        text_config=_text_config("internvl", tokenizer, layers, hidden, context) | {"model_type": "qwen2"},
        vision_config=vision | {"image_size": [TILE, TILE], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids(INTERNVL_SPECIAL["context_image_token"]),
        image_seq_length=(TILE // 28) ** 2,
        tie_word_embeddings=False,
    )


def build_checkpoint(
    folder: Path,
    family: str = "qwen2_5_vl",
    *,
    tags_as_tokens: bool = False,
    template: str | None = None,
    scale: float = 4.0,
    seed: int = 0,
    **sizes: int,
) -> Path:
    """Save a tiny checkpoint and return its folder.

    Args:
        folder: Where to; made if missing.
        family: ``qwen2_5_vl``, ``qwen3_vl`` or ``internvl``.
        tags_as_tokens: Whether ``<code>`` and the others are one token each.
        template: Chat template; None is the family's.
        scale: Factor on the matrices' usual initialisation: at 1 the logits are nearly flat and parity says little.
        seed: Of the weights.
        sizes: ``layers``, ``hidden``, ``context``.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    tokenizer = build_tokenizer(family, tags_as_tokens=tags_as_tokens)
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
    template = template or (INTERNVL_TEMPLATE if family == "internvl" else TEMPLATE)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(image_settings(family)), encoding="utf-8")
    if family == "internvl":
        settings = {"processor_class": "InternVLProcessor", "image_seq_length": config.image_seq_length}
        (folder / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def image_settings(family: str) -> dict[str, Any]:
    """Image processor settings, as the family's checkpoints have them, with small limits."""
    if family == "internvl":
        return {
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "crop_to_patches": False,  # so the published ones say, and their processor cuts all the same
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "size": {"height": TILE, "width": TILE},
            "min_patches": 1,
            "max_patches": 6,
        }
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
