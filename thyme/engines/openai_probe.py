"""What a server can do, found out by asking it: its models, then a few requests for one or two tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx
from PIL import Image

from thyme.config.openai import OpenAIConfig
from thyme.engines.base import Capabilities
from thyme.engines.openai_client import CHAT, Passing, check, http_options, pause_s, transport_error
from thyme.engines.openai_errors import (
    BusyError,
    NoVisionError,
    RefusedFieldError,
    Server,
    name_models,
    unknown_model,
)
from thyme.engines.openai_messages import data_url
from thyme.engines.openai_stream import DONE, Delta, EventParser, parse_delta, parse_json
from thyme.errors import EngineError, ModelNotFoundError
from thyme.types import ImageRecord

Kind = Literal["vllm", "sglang", "other"]

IN_PLACE = {"continue_final_message": True, "add_generation_prompt": False}
"""Fields by which vLLM and SGLang go on with the last message."""
WITH_IDS = {"return_token_ids": True}
PLAIN_SAMPLING = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "skip_special_tokens": False}
"""Nothing but the temperature shapes the draws, whatever the checkpoint's generation settings say; special tokens (the
points of an image, say) are spelled out."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of a server and the model it was asked for."""

    kind: Kind = "other"
    max_context: int | None = None
    style: Literal["continue", "chat"] = "chat"
    images: bool = True
    streaming: bool = True
    token_ids: bool = False
    logprobs: Literal["none", "raw", "tempered"] = "none"
    """``raw``: of the logits before the temperature, so right at tau 0 and 1 only; ``tempered``: of logits / tau."""
    token_texts: bool = False
    """Whether the text of every single token is told."""
    names_stop: bool = False
    """Whether it says which stop string it hit."""
    takes_stop: bool = True
    """Whether it takes stop strings at all."""
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    why_chat: str = ""
    """Why the assistant's message cannot be continued there, if it cannot."""

    @property
    def extra(self) -> dict[str, Any]:
        """Fields beyond OpenAI's own that the server understands."""
        return dict(PLAIN_SAMPLING) if self.kind != "other" else {}

    def capabilities(self, max_context: int | None = None, *, has_tokenizer: bool = False) -> Capabilities:
        """As an engine reports them.

        Args:
            max_context: A limit of the caller's own, tokens.
            has_tokenizer: Whether the tokenizer is at hand.
        """
        limits = [limit for limit in (max_context, self.max_context) if limit is not None]
        exact = has_tokenizer or (self.token_texts and self.names_stop)
        ids = self.style == "continue" and self.token_ids and exact
        return Capabilities(
            style=self.style,
            token_ids=ids,
            logprobs=ids and self.logprobs == "tempered",
            images=self.images,
            streaming=self.streaming,
            max_context=min(limits, default=None),
        )


def probe(server: Server, config: OpenAIConfig) -> tuple[Server, ServerFacts]:
    """Ask a server what it can do. Blocks for some one-token requests.

    Args:
        server: Its URL, key and the model; an empty model takes the only one there is.
        config: A style that is set there is not asked for.

    Returns:
        The server with the model's name and those it offers, and the facts.

    Raises:
        ModelNotFoundError: It does not offer that model, or several and none was named.
        EngineError: It cannot be asked.
    """
    with httpx.Client(**http_options(server, config)) as http:
        asking = _Probe(http, server, config)
        asking.find_model()
        asking.ask_plainly()
        asking.find_style()
        if asking.facts.style == "continue":
            asking.find_logprobs()
        asking.find_streaming()
        return asking.server, asking.facts


class _Probe:
    """One server being asked."""

    def __init__(self, http: httpx.Client, server: Server, config: OpenAIConfig) -> None:
        self.server, self.facts = server, ServerFacts()
        self._http, self._config = http, config
        self._first = Delta()

    # --- steps --------------------------------------------------------------------------------------------------------

    def find_model(self) -> None:
        """The list of models: kind of server, context, and whether the name is right."""
        server = self.server
        try:
            listed = parse_json(self._send("GET", "models").content, server.url)
        except EngineError as error:
            if isinstance(error, _Missing) and server.model:
                return  # not every server has such a list
            raise
        entries = [entry for entry in listed.get("data") or () if isinstance(entry, Mapping) and entry.get("id")]
        served = tuple(str(entry["id"]) for entry in entries)
        self.server = server = replace(server, served=served)
        if not served and not server.model:
            raise ModelNotFoundError(f"{server} lists no models; name one: {server}#NAME")
        if not server.model and len(served) > 1:
            raise ModelNotFoundError(f"{server} offers {name_models(served)}; name one: {server}#NAME")
        name = server.model or served[0]
        entry = next((entry for entry in entries if entry["id"] == name), None)
        if served and entry is None:
            raise unknown_model(server, name)
        self.server = replace(server, model=name)
        owner = str((entry or {}).get("owned_by", "")).lower()
        length = (entry or {}).get("max_model_len")
        kind: Kind = "vllm" if owner == "vllm" else "sglang" if owner == "sglang" else "other"
        self.facts = replace(self.facts, kind=kind, max_context=length if isinstance(length, int) else None)

    def ask_plainly(self) -> None:
        """A question with an image: does it read images, and which of the common fields does it take?"""
        for _ in range(4):  # each repetition does without one thing more
            try:
                self._ask(_question(image=self.facts.images), stop=["</answer>"] if self.facts.takes_stop else None)
                return
            except NoVisionError:
                self.facts = replace(self.facts, images=False)
            except RefusedFieldError as error:
                self._do_without(error)
        raise EngineError(f"{self.server} refuses even a short question; see docs/engines.md for servers that work")

    def find_style(self) -> None:
        """Whether a message of the assistant with an image inside it is continued in place.

        Raises:
            BusyError: That could not be found out now.
            EngineError: It is not, and the settings want it.
        """
        wanted = self._config.style
        if wanted == "chat":
            self._settle("chat", "engine.openai.style is set so")
            return
        try:
            self._first, tokens = self._go_on()
            if wanted == "auto" and (reason := self._not_in_place(tokens)):
                self._settle("chat", reason)
                return
        except BusyError:
            raise  # a busy moment says nothing of the server, and must not choose the style of a whole session
        except EngineError as error:  # the plain question was answered, so it is this one that the server cannot take
            if wanted == "continue":
                raise EngineError(
                    f"{self.server} cannot continue a message with an image; set engine.openai.style to chat ({error})"
                ) from error
            self._settle("chat", str(error))
            return
        self._settle("continue")
        first = self._first
        self.facts = replace(self.facts, token_ids=bool(first.token_ids), token_texts=bool(first.tokens))

    def find_logprobs(self) -> None:
        """Whether log-probs follow the temperature: gaps between tokens shrink with it where they do."""
        if not self._first.tokens or "temperature" in self._config.extra:
            return
        cold, hot = (self._gaps(temperature) for temperature in (1.0, 2.0))
        shared = [name for name in cold if name in hot and abs(cold[name]) > 0.05]
        if not shared:
            return
        follows = all(abs(hot[name] / cold[name] - 0.5) < 0.1 for name in shared)
        stays = all(abs(hot[name] / cold[name] - 1.0) < 0.1 for name in shared)
        self.facts = replace(self.facts, logprobs="tempered" if follows else "raw" if stays else "none")

    def find_streaming(self) -> None:
        """Whether tokens come one by one, and a stop string that was hit is named: one that is sure to be hit."""
        messages, fields, first = _question(image=False), dict[str, Any](), ""
        if self.facts.style == "continue":
            first = self._first.text
            if first:
                messages, fields = _started(image=self.facts.images), dict(IN_PLACE)
            else:  # it ended its turn at once
                first = self._ask(messages)[0].text
        stop = first[:1]
        body = self._body(messages, max_tokens=2) | fields | ({"stop": [stop]} if stop else {})
        try:
            response = self._send("POST", CHAT, json=with_extra(body | {"stream": True}, self._config))
        except RefusedFieldError:
            self.facts = replace(self.facts, streaming=False)
            return
        if "event-stream" not in response.headers.get("content-type", ""):
            self.facts = replace(self.facts, streaming=False)
            return
        parser = EventParser()
        events = [data for data in (*parser.feed(response.content), *parser.end()) if data.strip() != DONE]
        deltas = [parse_delta(parse_json(data, self.server.url)) for data in events]
        named = bool(stop) and any(delta.stop_string == stop for delta in deltas)
        self.facts = replace(self.facts, streaming=bool(deltas), names_stop=named)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _go_on(self) -> tuple[Delta, int]:
        """The first token behind a begun answer, with ids and log-probs if they are to be had, and tokens read."""
        begun = _started(image=self.facts.images)
        try:
            return self._ask(begun, **IN_PLACE, **_ASKING)
        except RefusedFieldError as error:
            if "logprobs" not in str(error):
                raise
            return self._ask(begun, **IN_PLACE, **WITH_IDS)

    def _settle(self, style: Literal["continue", "chat"], why_chat: str = "") -> None:
        self.facts = replace(self.facts, style=style, why_chat=why_chat)

    def _not_in_place(self, tokens: int) -> str:
        """Why the message was not continued, by the tokens that were read; empty if it was."""
        _, closed = self._ask(_started(image=self.facts.images))
        if tokens >= closed:
            return "it ends the assistant's message and begins another"
        if not self.facts.images:
            return ""
        _, blind = self._ask(_started(image=False), **IN_PLACE)
        return "" if tokens > blind else "its chat template shows no images in an assistant's message"

    def _do_without(self, error: RefusedFieldError) -> None:
        """Leave out of every further request what was refused.

        Raises:
            RefusedFieldError: It is nothing that can be left out.
        """
        message = str(error)
        if "max_tokens" in message and self.facts.limit_field == "max_tokens":
            self.facts = replace(self.facts, limit_field="max_completion_tokens")
        elif "stop" in message and self.facts.takes_stop:
            self.facts = replace(self.facts, takes_stop=False)
        else:
            raise error

    def _gaps(self, temperature: float) -> dict[str, float]:
        """How far the log-prob of each likely first token lies below that of the best."""
        content = self._post(_started(image=False), temperature=temperature, **IN_PLACE, **_ASKING)
        first = (content["choices"][0].get("logprobs") or {}).get("content") or [{}]
        likely = {entry["token"]: float(entry["logprob"]) for entry in first[0].get("top_logprobs") or ()}
        return {name: value - max(likely.values()) for name, value in likely.items()}

    def _ask(self, messages: list[dict[str, Any]], **fields: Any) -> tuple[Delta, int]:
        """The first token, and how many were read before it."""
        content = self._post(messages, **fields)
        if not content.get("choices"):
            raise EngineError(f"{self.server} answered without choices; is it an OpenAI-compatible server?")
        return parse_delta(content), int((content.get("usage") or {}).get("prompt_tokens") or 0)

    def _post(self, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        body = self._body(messages, max_tokens=1) | {key: value for key, value in fields.items() if value is not None}
        return parse_json(self._send("POST", CHAT, json=with_extra(body, self._config)).content, self.server.url)

    def _body(self, messages: list[dict[str, Any]], max_tokens: int) -> dict[str, Any]:
        body = {"model": self.server.model, "messages": messages, "temperature": 0.0}
        return body | {self.facts.limit_field: max_tokens} | self.facts.extra

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        for attempt in range(self._config.retries + 1):
            try:
                response = self._http.request(method, path, **content)
                if response.status_code == 404 and path == "models":
                    raise _Missing(f"{self.server} has no list of models; does the URL end with /v1?")
                check(self.server, response)
                return response
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise transport_error(self.server, error).error from None  # who opens an engine waits for no server
            except httpx.HTTPError as error:
                failure = transport_error(self.server, error)
            except Passing as passing:
                failure = passing
            if attempt < self._config.retries:
                time.sleep(pause_s(self._config, attempt, failure.after_s))
        raise failure.error from None


class _Missing(EngineError):
    """There is no such page."""


def with_extra(body: dict[str, Any], config: OpenAIConfig) -> dict[str, Any]:
    """A request with the fields that the settings add, and without those that they take out."""
    return {key: value for key, value in (body | config.extra).items() if value is not None or key not in config.extra}


_ASKING = {**WITH_IDS, "logprobs": True, "top_logprobs": 5}


def _image() -> dict[str, Any]:
    record = ImageRecord.of(Image.new("RGB", (64, 64), (200, 60, 30)))
    return {"type": "image_url", "image_url": {"url": data_url(record, record.size)}}


def _question(*, image: bool) -> list[dict[str, Any]]:
    text = {"type": "text", "text": "Which colour?"}
    return [{"role": "user", "content": [_image(), text] if image else "Which colour?"}]


def _started(*, image: bool) -> list[dict[str, Any]]:
    """A question, and an answer that has begun, with an image in it."""
    begun = [{"type": "text", "text": "I look:\n"}, *([_image()] if image else []), {"type": "text", "text": "\nIt is"}]
    return [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": begun}]
