"""The bytes behind the tokens of a byte-level BPE vocabulary."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from thyme.errors import ModelNotFoundError


def _byte_characters() -> dict[str, int]:
    """The printable character that stands for each byte in such vocabularies (the alphabet of GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + index): byte for index, byte in enumerate(others)}


def vocabulary_bytes(tokenizer: Any, *, silent: Collection[int] = ()) -> tuple[bytes, ...]:
    """Bytes of every token by id; ids without a token have none.

    Args:
        tokenizer: A fast tokenizer of transformers.
        silent: Ids whose bytes are left out.

    Raises:
        ModelNotFoundError: The tokenizer does not work on bytes.
    """
    decoder = type(tokenizer.backend_tokenizer.decoder).__name__
    if decoder != "ByteLevel":
        raise ModelNotFoundError(f"the tokenizer decodes by {decoder}, not byte by byte; it is not supported")
    alphabet = _byte_characters()
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    table = [b""] * (max(tokenizer.get_vocab().values()) + 1)
    for token, index in tokenizer.get_vocab().items():
        if index in silent:
            continue
        token = added.get(index, token)
        in_alphabet = all(character in alphabet for character in token)
        table[index] = bytes(map(alphabet.__getitem__, token)) if in_alphabet else token.encode()
    return tuple(table)
