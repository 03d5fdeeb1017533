"""The embedded model's tokenizer: byte-level BPE with single digits, trained on the world's own sentences.

The tags of a trajectory are added tokens but not special ones, so they survive decoding. Labels are kept out of the
corpus: their characters never merge, and a label is always two tokens.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from thyme.markup import TAGS, format_code
from thyme.nano.perception.questions import COORDINATE_TOKENS, copying, digits, turns
from thyme.nano.perception.views import FAINT, Seen, View
from thyme.nano.teacher import closing, plan
from thyme.nano.world import CHARACTERS, COLORS, GRID, problems

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
VOCABULARY = 640
"""Rows of the embedding; the tokenizer fills all of them but a few."""

_LABEL = re.compile(rf"(?<![A-Za-z0-9])[{CHARACTERS}]{{2}}(?![A-Za-z0-9])")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a token.

    Raises:
        ValueError: The tokenizer lacks it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer lacks {token}")
    return int(found)


def _corpus(prompt_texts: list[str]) -> Iterator[str]:
    """Sentences of every template, with other numbers and colours each time."""
    rng = random.Random("thyme.nano/tokenizer")
    names = list(COLORS)
    tasks = list(problems("train", -1, 20))
    for _ in range(150):
        yield from prompt_texts
        for task in rng.sample(tasks, 6):
            steps = plan(task)
            yield task.question
            yield "".join(text + format_code(code) for text, code in steps.rounds)
            yield closing(steps.conclusion, "")
        for _ in range(12):
            plates = tuple(
                Seen(c, "", rng.random() < 0.5, (GRID * rng.randrange(3, 30), GRID * rng.randrange(3, 30)))
                for c in rng.sample(names, 3)
            )
            view = View("mixed", rng.choice((0, 0, 0, 1, 2, 3, FAINT)), plates)
            for question, answer in turns(rng, view, "mixture", 3):
                yield from (question, answer)
            yield from copying(rng)
            yield digits(plates[0].stated)


def build_tokenizer(prompt_texts: list[str]) -> Tokenizer:
    """Train the tokenizer; the same texts give the same one.

    Args:
        prompt_texts: Rendered prompts, so that their fixed words become few tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [tag for tag in TAGS if tag != "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(COORDINATE_TOKENS) - len(added) - 4,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tags = re.compile("|".join(map(re.escape, TAGS)))
    texts = (_LABEL.sub(" ", tags.sub(" ", text)) for text in _corpus(prompt_texts))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in added])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in COORDINATE_TOKENS])
    return tokenizer
