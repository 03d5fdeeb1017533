"""Whether a server reads what we think it reads: its prompt ids against those of the tokenizer at hand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby

from thyme.engines.base import Request
from thyme.errors import EngineError
from thyme.families import Family
from thyme.markup import observation_parts
from thyme.types import Generated, Segment

log = logging.getLogger(__name__)


class PromptCheck:
    """Compares what a server says it read with what the record says the model was fed."""

    def __init__(self, family: Family) -> None:
        """Take the tokenizer.

        Args:
            family: The served model's, as far as the user says.
        """
        self._family = family
        self.retokenized = 0
        """Requests whose text the server tokenised in another way than the model had written it."""

    def ids(self, request: Request) -> tuple[int, ...]:
        """Everything that stands before the first token to generate, image placeholders expanded."""
        ids = list(request.prompt.token_ids)
        for segment in request.segments:
            ids += segment.token_ids or self._encode(segment)
        return tuple(ids)

    def check(self, request: Request, read: Sequence[int]) -> None:
        """Compare.

        The model's own text goes to the server as text, so it may come back as other tokens for the same text: the
        tokenizer's way of writing it need not be the model's. That is counted and, once, logged.

        Args:
            request: What was sent.
            read: Prompt ids as the server gives them, each image as one placeholder or as many as it takes.

        Raises:
            EngineError: The server read something else: another template, other pixel limits, another model.
        """
        ours = self.ids(request)
        if tuple(read) == ours:
            return
        if self._pads(read) < self._pads(ours) and self._collapse(read) == list(read):
            ours = tuple(self._collapse(ours))
            if tuple(read) == ours:
                return
        if self._same_text(request, ours, read):
            self._count()
            return
        at = next((i for i, (a, b) in enumerate(zip(ours, read, strict=False)) if a != b), min(len(ours), len(read)))
        raise EngineError(
            f"the server reads the conversation as {len(read)} tokens, and by the tokenizer of engine.openai.tokenizer "
            f"it is {len(ours)}; they part at token {at}. Name the checkpoint that is served, with its chat template "
            "and pixel limits, or leave engine.openai.tokenizer out"
        )

    def _same_text(self, request: Request, ours: Sequence[int], read: Sequence[int]) -> bool:
        """Whether nothing differs but how the model's own text is tokenised."""
        if not request.segments:
            return False
        # The line break before the model's first token may be written together with it.
        prompt = request.prompt.token_ids
        start = (len(prompt) if self._pads(ours) == self._pads(self.ids(request)) else len(self._collapse(prompt))) - 1
        if list(ours[:start]) != list(read[:start]):
            return False
        return self._family.decode(ours[start:]) == self._family.decode(read[start:])

    def _count(self) -> None:
        self.retokenized += 1
        if self.retokenized == 1:
            log.warning(
                "the server tokenises the model's own text in another way than the model wrote it, so log-probs of "
                "later tokens are those under other ids than the record's; for training, run the engine in process"
            )

    def _encode(self, segment: Segment) -> list[int]:
        if isinstance(segment, Generated):
            return self._family.encode_text(segment.text)
        return list(self._family.encode_parts(observation_parts(segment.execution)).ids)

    def _pads(self, ids: Sequence[int]) -> int:
        return sum(index == self._family.image_token_id for index in ids)

    def _collapse(self, ids: Sequence[int]) -> list[int]:
        """Each image as one placeholder."""
        pad = self._family.image_token_id
        return [index for key, group in groupby(ids) for index in ([pad] if key == pad else group)]
