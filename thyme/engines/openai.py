"""The engine over any OpenAI-compatible server: vLLM, SGLang, a hosted API.

Two styles. ``continue``: the assistant's message is continued in place, images inside it, one request a span, each with
its own temperature. ``chat``: an observation is a user's turn (see `thyme.engines.openai_chat`). What a server can do
is asked when the engine is opened (`thyme.engines.openai_probe`) and reported in `Capabilities`. docs/engines.md says
more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from thyme.config.engine import EngineConfig
from thyme.engines.base import Chunk, EngineInfo, Request, seen_images
from thyme.engines.openai_chat import Answer, ChatAnswers, stop_strings
from thyme.engines.openai_client import Client
from thyme.engines.openai_errors import KEY_VARIABLES, NoVisionError, Server, input_tokens
from thyme.engines.openai_messages import (
    Show,
    bounded_size,
    continued,
    data_url,
    images_of,
    in_turns,
    prompt_images,
)
from thyme.engines.openai_probe import IN_PLACE, WITH_IDS, ServerFacts, probe, with_extra
from thyme.engines.openai_prompt import PromptCheck
from thyme.engines.openai_span import Limits, Reader, TextReader, TokenReader
from thyme.engines.openai_stream import Delta
from thyme.errors import ContextFullError, EngineError, UsageError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint, read_json
from thyme.markup import observation_parts, observation_text
from thyme.types import Execution, Fingerprints, ImageRecord, Observation, Prompt

FORBID = -100.0
"""Bias that keeps a token from being chosen."""


class OpenAIEngine:
    """Goes on writing where a trajectory stands, through a server."""

    def __init__(
        self,
        server: Server,
        facts: ServerFacts,
        config: EngineConfig | None = None,
        *,
        family: Family | None = None,
        vocabulary: int = 0,
        name: str | None = None,
        prompts: str | None = None,
    ) -> None:
        """Take a server whose facts are known; `open` is the usual way.

        Args:
            server: Whom to ask, for which model.
            facts: What it can do.
            config: Time-outs and limits; None is the default.
            family: The served model's tokenizer, where it is at hand.
            vocabulary: Rows of the model's output; those beyond the tokenizer's stand for nothing and are never drawn.
            name: What records call the model; None is its name on the server.
            prompts: Folder of prompt files that belong to it.
        """
        self.facts = facts
        """What the server can do."""
        self._config = config or EngineConfig()
        self._server, self._family = server, family
        self._client = Client(server, self._config.openai, streaming=facts.streaming)
        self._answers = ChatAnswers()
        self._check = PromptCheck(family) if family is not None else None
        self._never = () if family is None else (*family.never_sampled, *range(len(family.token_bytes), vocabulary))
        self._shown: dict[str, dict[str, str]] = {}  # data URLs by trajectory and image
        capabilities = facts.capabilities(self._config.max_context, has_tokenizer=family is not None)
        fingerprints = Fingerprints(tokenizer=family.fingerprint if family is not None else "")
        self._info = EngineInfo(name or server.model, capabilities, fingerprints, prompts)

    @classmethod
    def open(cls, model: str, config: EngineConfig | None = None, *, name: str | None = None) -> OpenAIEngine:
        """Ask a server what it can do, and return the engine over it. Blocks for some requests of one token.

        Args:
            model: ``URL#NAME``, or ``URL`` where there is only one model.
            config: Style, tokenizer, time-outs; None is the default.
            name: What records call it; None is ``NAME``.

        Raises:
            UsageError: The URL is none, or holds a password.
            ModelNotFoundError: The server does not offer the model, or the tokenizer's folder is none.
            EngineError: The server cannot be asked.
            MissingExtraError: A tokenizer is named and transformers is not installed.
        """
        config = config or EngineConfig()
        server = parse_model(model, os.environ)
        family, prompts, vocabulary = None, None, 0
        if (tokenizer := config.openai.tokenizer) is not None:
            family = load_family(tokenizer, min_pixels=config.min_pixels, max_pixels=config.max_pixels)
            folder = find_checkpoint(tokenizer, weights=False)
            prompts = str((folder / "prompts").resolve()) if (folder / "prompts").is_dir() else None
            settings = read_json(folder / "config.json")
            vocabulary = int((settings.get("text_config") or settings).get("vocab_size") or 0)
        server, facts = probe(server, config.openai)
        return cls(server, facts, config, family=family, vocabulary=vocabulary, name=name, prompts=prompts)

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        return self._info

    @property
    def retokenized(self) -> int:
        """Requests whose text the server tokenised in another way than the model had written it."""
        return 0 if self._check is None else self._check.retokenized

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels at which the model sees an image; without a tokenizer, at which the server is sent it."""
        if self._family is not None:
            return self._family.seen_size(width, height)
        return bounded_size(width, height, self._config.min_pixels, self._config.max_pixels)

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """Make the prompt record, tokenised where the tokenizer is at hand.

        Args:
            system: System turn.
            user: User turn with one ``<image>`` for each image, in order.
            images: The problem's images.

        Raises:
            ContextFullError: It does not fit.
            EngineError: The model reads no images.
            UsageError: The user turn does not name every image once.
        """
        prompt_images(user, images)
        if images and not self.facts.images:
            raise NoVisionError(f"{self._server.model} on {self._server} reads no images; name a model that does")
        ids: tuple[int, ...] = ()
        if self._family is not None:
            ids = self._family.encode_parts(self._family.prompt_parts(system, user, images)).ids
            self._room(len(ids))
        return Prompt(system=system, user=user, images=seen_images(images, self.seen_size), token_ids=ids)

    def observation(self, execution: Execution) -> Observation:
        """Render a sandbox result as the model will read it, tokenised where the tokenizer is at hand."""
        family = self._family
        return Observation(
            execution=execution,
            text=observation_text(execution),
            token_ids=() if family is None else family.encode_parts(observation_parts(execution)).ids,
            seen_sizes=tuple(self.seen_size(*image.size) for image in execution.images),
        )

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Generate one span. Closing the iterator closes the connection, and the server stops.

        Raises:
            ContextFullError: There is no room for one more token.
            EngineError: Anything else that keeps the model from answering.
            UsageError: A negative temperature, or no tokens asked for.
        """
        if request.temperature < 0 or request.max_tokens < 1:
            raise UsageError(f"temperature {request.temperature} and max_tokens {request.max_tokens} make no request")
        spans = self._continue(request) if self.facts.style == "continue" else self._chat(request)
        async with aclosing(spans) as chunks:
            async for chunk in chunks:
                yield chunk

    async def release(self, trajectory_id: str) -> None:
        """Forget what was cached for a trajectory. Unknown ids are ignored."""
        self._shown.pop(trajectory_id, None)
        await self._answers.drop(trajectory_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._answers.aclose()
        await self._client.aclose()

    # --- style continue -----------------------------------------------------------------------------------------------

    async def _continue(self, request: Request) -> AsyncGenerator[Chunk, None]:
        body = await self._continue_body(request)
        limits = Limits(request.max_tokens, logprobs=self._true_logprobs(request))
        reader = self._reader(request, limits)
        async with aclosing(self._fitting(body, limits)) as deltas:
            async for delta in deltas:
                if self._check is not None and delta.prompt_ids:
                    self._check.check(request, delta.prompt_ids)
                chunk = reader.feed(delta)
                if chunk is not None:
                    yield chunk
                    if chunk.stop is not None:
                        return
        raise EngineError(f"the answer of {self._server} broke off in the middle; is the server still running?")

    async def _continue_body(self, request: Request) -> dict[str, Any]:
        facts = self.facts
        show = await self._images(request)
        body = self._body(request, continued(request, show))
        if request.segments:
            body |= IN_PLACE
        if facts.names_stop and request.stop:
            body["stop"] = list(request.stop)
        if facts.token_ids:
            body |= WITH_IDS
        if facts.token_texts:
            body["logprobs"] = True
        if request.blocked and facts.kind == "vllm":
            body["bad_words"] = list(request.blocked)
        if bias := self._forbidden(request):
            body["logit_bias"] = bias
        return with_extra(body, self._config.openai)

    def _reader(self, request: Request, limits: Limits) -> Reader:
        if self._family is not None and self.facts.token_ids:
            return TokenReader(request, limits, self._family)
        return TextReader(request, limits, with_ids=self._info.capabilities.token_ids)

    def _true_logprobs(self, request: Request) -> bool:
        """Whether the server's log-probs are those of logits / tau over the whole vocabulary."""
        if self.facts.logprobs == "tempered":
            return not request.blocked  # there they are taken after blocking
        return self.facts.logprobs == "raw" and request.temperature in {0.0, 1.0}

    def _forbidden(self, request: Request) -> dict[str, float]:
        """Tokens that must not be written: those without text, and, but on vLLM, blocked strings of one token."""
        family = self._family
        if family is None:
            return {}
        words = request.blocked if self.facts.kind != "vllm" else ()
        single = [ids[0] for word in words if len(ids := family.encode_text(word)) == 1]
        return {str(token): FORBID for token in (*self._never, *single)}

    # --- style chat ---------------------------------------------------------------------------------------------------

    async def _chat(self, request: Request) -> AsyncGenerator[Chunk, None]:
        answer = await self._answers.take(request)
        if answer is None:
            show = await self._images(request)
            body = self._body(request, in_turns(request, show))
            stops = stop_strings(request) if self.facts.takes_stop else []
            body |= {"stop": stops} if stops else {}
            limits = Limits(request.max_tokens)
            deltas = self._fitting(with_extra(body, self._config.openai), limits)
            answer = Answer(deltas, request.temperature, stops, limits)
        async with aclosing(self._answers.spans(request, answer)) as chunks:
            async for chunk in chunks:
                yield chunk

    # --- both ---------------------------------------------------------------------------------------------------------

    async def _fitting(self, body: dict[str, Any], limits: Limits) -> AsyncGenerator[Delta, None]:
        """Send it; once more with fewer tokens asked for where input and answer together do not fit.

        Before anything is given out, `limits` says whether fewer were asked for than were wanted.
        """
        begun, again = False, False
        while True:
            limits.capped = body.get(self.facts.limit_field, limits.max_tokens) < limits.max_tokens
            try:
                async with aclosing(self._client.deltas(body)) as deltas:
                    async for delta in deltas:
                        begun = True
                        yield delta
                return
            except ContextFullError as error:
                limit, used = self._info.capabilities.max_context, input_tokens(str(error))
                if begun or again or limit is None or used is None or used >= limit:
                    raise
                again, body = True, body | {self.facts.limit_field: limit - used}

    def _body(self, request: Request, messages: list[dict[str, Any]]) -> dict[str, Any]:
        limit = request.max_tokens
        if self._check is not None and self.facts.style == "continue":
            limit = min(limit, self._room(len(self._check.ids(request))))
        elif (context := self._info.capabilities.max_context) is not None:
            limit = min(limit, max(1, context - 1))
        seed = {"seed": request.seed} if request.seed is not None and request.temperature > 0 else {}
        return {
            "model": self._server.model,
            "messages": messages,
            "temperature": request.temperature,
            self.facts.limit_field: limit,
            **seed,
            **self.facts.extra,
        }

    def _room(self, tokens: int) -> int:
        """Tokens that still fit behind so many; any number where the context's length is unknown.

        Raises:
            ContextFullError: None.
        """
        limit = self._info.capabilities.max_context
        if limit is None:
            return 1 << 31
        if tokens >= limit:
            raise ContextFullError(
                f"{tokens} tokens leave no room in a context of {limit}; ask for less, show smaller images "
                "(engine.max_pixels), or start the server with a longer context"
            )
        return limit - tokens

    async def _images(self, request: Request) -> Show:
        """What shows the images of a request; those that are new are encoded off the event loop."""
        shown = self._shown.setdefault(request.trajectory_id, {})
        for image in images_of(request):
            if image.id not in shown:
                shown[image.id] = await asyncio.to_thread(data_url, image, self._sent_size(image))
        return lambda image: shown[image.id]

    def _sent_size(self, image: ImageRecord) -> tuple[int, int]:
        """As they are, unless the settings limit them: then the server gets what the model is to see."""
        limited = self._config.min_pixels is not None or self._config.max_pixels is not None
        return self.seen_size(*image.size) if limited else image.size


def parse_model(model: str, environment: Mapping[str, str]) -> Server:
    """Read ``URL#NAME``.

    Args:
        model: A URL, and behind ``#`` the model's name; a URL without a path gets ``/v1``.
        environment: Where the API key is.

    Raises:
        UsageError: It is no such URL, or it holds a password or a query.
    """
    url, _, name = model.partition("#")
    url = url.rstrip("/").removesuffix("/chat/completions")
    secret = "@" in model or "?" in model  # a URL that cannot be taken apart may hold a password in any place
    shown = "what was given (it may hold a password)" if secret else f"'{url}'"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        why = "" if secret else f" ({error})"
        raise UsageError(f"{shown} is no URL{why}; give URL#NAME, such as http://127.0.0.1:8000/v1#NAME") from None
    if parts.username or parts.password or parts.query:
        raise UsageError(
            f"give the URL of {parts.hostname} without a password or a query; keys go into {KEY_VARIABLES[0]}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise UsageError(f"{shown} is no URL of a server; give URL#NAME, such as http://127.0.0.1:8000/v1#NAME")
    return Server(url if parts.path else f"{url}/v1", _key(environment), name)


def _key(environment: Mapping[str, str]) -> str | None:
    for variable in KEY_VARIABLES:
        if key := environment.get(variable, "").strip():
            if not key.isascii() or not key.isprintable():
                raise UsageError(f"the key in {variable} holds characters that no API key has; set it again")
            return key
    return None
