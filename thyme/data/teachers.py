"""Those who are asked: several models behind OpenAI-compatible endpoints, their limits, their budget, their answers.

What they answer is recorded (`thyme.data.answers`), what they cost is counted for all processes of a build together
(`thyme.data.spending`). docs/data_teachers.md says more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from thyme.config.data import DataRecipe, TeacherSettings
from thyme.config.openai import OpenAIConfig
from thyme.data import answers, spending
from thyme.data.drafts import Draft
from thyme.data.refusals import Refusals
from thyme.data.stages.base import CHECKER, Reply, UnansweredError
from thyme.engines.openai import parse_model
from thyme.engines.openai_chat import open_tag
from thyme.engines.openai_client import Passing, http_options, pause_s, post_chat
from thyme.engines.openai_errors import (
    KEY_VARIABLES,
    POLICY,
    BusyError,
    ImageRefusedError,
    NoVisionError,
    RefusedFieldError,
    Server,
    error_message,
    passes,
    refusal,
)
from thyme.engines.openai_stream import Delta, parse_delta
from thyme.errors import ConfigError, ContextFullError, EngineError, ThymeError
from thyme.tags import ANSWER_CLOSE, ANSWER_OPEN, CODE_CLOSE, CODE_OPEN

logger = logging.getLogger(__name__)

STOPS = (CODE_CLOSE, ANSWER_CLOSE)
"""Where a teacher's turn ends."""
CONNECT_S = 10.0
"""Longest time until a server takes a connection."""
_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"
_OPTIONAL = ("stop", "seed", "temperature")
"""Fields that a server may refuse, and that a turn can do without."""
_REFUSED = (ContextFullError, ImageRefusedError, NoVisionError, RefusedFieldError)
"""What may be the fault of one request."""


class TeacherPool:
    """The teachers of a recipe and the judge of its check, in one event loop. Fulfils `thyme.data.stages.Teachers`."""

    def __init__(
        self, recipe: DataRecipe, folder: Path | None, *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Connects to nothing yet.

        Args:
            recipe: Who is asked, and what may be spent.
            folder: Of the build: answers and spending lie under it, shared by its processes; None keeps both to this
                object.
            environment: Where API keys are; None is this process's.

        Raises:
            UsageError: A model is not ``URL#NAME``, or a key is missing.
        """
        if CHECKER in recipe.teachers:
            raise ConfigError(f"no teacher can be called '{CHECKER}', which is the name of the check; rename it")
        self._weights = {name: settings.weight for name, settings in recipe.teachers.items()}
        self._answers = answers.Answers(None if folder is None else folder / answers.FOLDER)
        self._ledger = spending.Ledger(None if folder is None else folder / spending.FILE, recipe.budget)
        counted = recipe.budget.usd is not None or recipe.budget.tokens is not None
        where = os.environ if environment is None else environment
        self._lanes = {
            name: _Lane(name, settings, self._ledger, where, must_count=counted)
            for name, settings in _endpoints(recipe).items()
        }

    def choose(self, draft: Draft) -> str:
        """Name of the teacher for a draft, by weight and the draft's seed."""
        digest = hashlib.blake2b(f"{draft.seed}/{draft.id}/teacher".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64 * sum(self._weights.values())
        for name, weight in self._weights.items():
            place -= weight
            if place < 0:
                return name
        return next(reversed(self._weights))  # rounding

    async def ask(self, teacher: str, messages: list[dict[str, Any]], *, seed: int) -> Reply:
        """One turn, from the record if it was asked for before.

        Args:
            teacher: Key in the recipe, or `CHECKER`.
            messages: Of the OpenAI chat protocol, images as data URLs.
            seed: Of its draws, where the server takes one.

        Raises:
            ContextFullError, ImageRefusedError, NoVisionError, RefusedFieldError: The endpoint refuses this request,
                and answers others.
            UnansweredError: The endpoint fails at this request time and again, and answers others meanwhile.
            EngineError: The endpoint failed for good, or refuses one request after the other.
            BudgetError: Nothing is left to spend.
        """
        lane = self._lanes[teacher]
        key = await asyncio.to_thread(lane.key, messages, seed)
        if (kept := await asyncio.to_thread(self._answers.get, key)) is not None:
            return kept
        reply = await lane.ask(messages, seed)
        await asyncio.to_thread(self._answers.put, key, reply)
        return reply

    def spent(self) -> dict[str, spending.Spent]:
        """What was spent in this build so far, by name; answers from the record cost nothing again."""
        return self._ledger.spent()

    async def aclose(self) -> None:
        """Close the connections."""
        for lane in self._lanes.values():
            await lane.aclose()
        self._ledger.close()

    async def __aenter__(self) -> TeacherPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _endpoints(recipe: DataRecipe) -> dict[str, TeacherSettings]:
    """The teachers, and the judge as one more of them."""
    check, judge = recipe.check, recipe.check.judge
    if judge is None:
        return dict(recipe.teachers)
    asked = TeacherSettings(
        model=judge.model,
        concurrency=judge.concurrency,
        temperature=judge.temperature,
        max_tokens=judge.max_tokens,
        timeout_s=judge.timeout_s,
        retries=judge.retries,
        backoff_s=judge.backoff_s,
        input_price=check.input_price,
        output_price=check.output_price,
    )
    return {**recipe.teachers, CHECKER: asked}


class _Lane:
    """One endpoint: its connections, how many requests at once, how fast, and which fields it takes."""

    def __init__(
        self,
        name: str,
        settings: TeacherSettings,
        ledger: spending.Ledger,
        environment: Mapping[str, str],
        *,
        must_count: bool,
    ) -> None:
        self._name, self._settings, self._ledger, self._must_count = name, settings, ledger, must_count
        self._server = _server(name, settings, environment)
        self._config = OpenAIConfig(
            max_concurrent=settings.concurrency,
            connect_timeout_s=min(CONNECT_S, settings.timeout_s),
            first_token_timeout_s=2 * settings.timeout_s,  # `post_chat` ends a request before
            backoff_s=settings.backoff_s,
        )
        self._pace = spending.Pace(
            settings.requests_per_minute,
            settings.tokens_per_minute,
            first_tokens=settings.max_tokens,
            first_usd=settings.max_tokens * settings.output_price / 1e6,
            timeout_s=settings.timeout_s,
        )
        self._http: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(settings.concurrency)
        self._gate = asyncio.Lock()
        self._limit_field = _LIMIT
        self._left_out: set[str] = set()
        self._answered = 0
        self._refusals = {True: Refusals(), False: Refusals()}
        """Of requests with pictures, and of those without: a model that sees nothing answers the latter."""

    def key(self, messages: Sequence[Mapping[str, Any]], seed: int) -> str:
        """Under which an answer is recorded."""
        sampling = {"temperature": self._settings.temperature, "max_tokens": self._settings.max_tokens, "seed": seed}
        return answers.request_key(self._server.model, messages, sampling)

    async def ask(self, messages: Sequence[Mapping[str, Any]], seed: int) -> Reply:
        """Ask until there is an answer, patience ends, or it is clear whether a refusal means this request alone."""
        with_pictures = any(isinstance(one["content"], list) for one in messages)
        refusals = self._refusals[with_pictures]
        with refusals.request():
            try:
                reply = await self._patiently(messages, seed)
            except _REFUSED as error:
                refusals.refused()
                refused = error
            else:
                refusals.answered()
                return reply
        if await refusals.many():
            raise EngineError(
                f"{self._server} refused {refusals.row} requests one after the other, and answered none between them; "
                f"is the model of '{self._name}' the right one, and does it take what the recipe sends? ({refused})"
            )
        if _of_the_endpoint(refused) and not await asyncio.to_thread(self._ever_answered):
            raise EngineError(str(refused))
        raise refused

    def _ever_answered(self) -> bool:
        spent = self._ledger.spent().get(self._name)
        return spent is not None and spent.answers > 0

    async def _patiently(self, messages: Sequence[Mapping[str, Any]], seed: int) -> Reply:
        """Ask until there is an answer, or patience ends."""
        answered, failure = self._answered, Passing(EngineError(""))
        async with self._places:
            for attempt in range(self._settings.retries + 1):
                if attempt:
                    await asyncio.sleep(pause_s(self._config, attempt - 1, failure.after_s))
                try:
                    return await self._once(messages, seed)
                except Passing as error:
                    failure = error
                    if error.after_s:
                        await asyncio.to_thread(self._ledger.hold_off, self._name, error.after_s)
        if not isinstance(failure.error, BusyError) and self._answered > answered:
            raise UnansweredError(str(failure.error))
        raise failure.error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
        self._http = None

    async def _once(self, messages: Sequence[Mapping[str, Any]], seed: int) -> Reply:
        """Send it once, or once more without a field that the server does not take."""
        while True:
            body = self._body(messages, seed)
            content = (await asyncio.to_thread(json.dumps, body)).encode()
            admission = await self._admitted()
            try:
                reply = self._read(await self._sent(content))
            except BaseException as error:
                await asyncio.shield(asyncio.to_thread(self._ledger.take_back, self._name, self._pace, admission))
                if isinstance(error, RefusedFieldError) and self._adapt(str(error), body):
                    continue
                raise
            used = (reply.prompt_tokens, reply.completion_tokens)
            await asyncio.to_thread(self._ledger.settle, self._name, self._pace, admission, used, reply.usd)
            self._answered += 1
            return reply

    async def _sent(self, content: bytes) -> dict[str, Any]:
        late = (
            f"gave no answer in {self._settings.timeout_s:g} s; raise timeout_s of '{self._name}', or lower its "
            "concurrency"
        )
        return await post_chat(self._client(), self._server, content, timeout_s=self._settings.timeout_s, late=late)

    async def _admitted(self) -> spending.Admission:
        """Wait for one's turn."""
        async with self._gate:
            while True:
                admission = await asyncio.to_thread(self._ledger.admit, self._name, self._pace)
                if not admission.wait_s:
                    return admission
                await asyncio.sleep(admission.wait_s)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(**http_options(self._server, self._config))
        return self._http

    def _body(self, messages: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """A chat request, without the fields that the server is known not to take."""
        body: dict[str, Any] = {
            "model": self._server.model,
            "messages": list(messages),
            "temperature": self._settings.temperature,
            self._limit_field: self._settings.max_tokens,
            "stop": list(STOPS),
            "seed": seed,
        }
        if self._name == CHECKER:
            del body["stop"]
        return {field: value for field, value in body.items() if field not in self._left_out}

    def _adapt(self, refusal: str, sent: Mapping[str, Any]) -> bool:
        """Whether the next request will be without what the server refused of this one.

        Several requests may be refused for one field before the first of them is back; all of them are sent again.
        """
        if _NEWER_LIMIT in refusal and _LIMIT in sent:
            self._limit_field = _NEWER_LIMIT  # what hosted models of a newer kind call it
            return True
        named = [field for field in _OPTIONAL if re.search(rf"\b{field}\b", refusal) and field in sent]
        if new := [field for field in named if field not in self._left_out]:
            self._left_out.update(new)
            logger.warning("%s does not take %s; it is asked without", self._server, ", ".join(new))
        return bool(named)

    def _read(self, event: Mapping[str, Any]) -> Reply:
        if event.get("error"):
            raise _told(self._server, event)
        try:
            delta = parse_delta(event)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise Passing(_unknown_form(self._server)) from error
        if not event.get("choices"):
            raise Passing(_unknown_form(self._server))
        if delta.usage is None and self._must_count:
            raise EngineError(
                f"{self._server} does not say how many tokens it used, so no budget of tokens or US dollars can be "
                "kept; bound budget.requests instead"
            )
        prompt, completion = delta.usage or (0, 0)
        usd = (prompt * self._settings.input_price + completion * self._settings.output_price) / 1e6
        text = _whole(self._server, delta)
        return Reply(text, self._settings.name, prompt, completion, usd, recorded=False, finish=delta.finish or "stop")


def _of_the_endpoint(error: ThymeError) -> bool:
    """Whether a refusal would be expected of an endpoint that is not set up as the recipe thinks."""
    return isinstance(error, NoVisionError | RefusedFieldError) and not POLICY.search(str(error))


def _server(name: str, settings: TeacherSettings, environment: Mapping[str, str]) -> Server:
    """Whom to ask.

    Raises:
        UsageError: The model is not ``URL#NAME``, or its key is missing.
    """
    if variable := settings.key_environment:
        if not environment.get(variable, "").strip():
            raise ConfigError(f"the key of teacher '{name}' is missing; put it into the environment as {variable}")
        environment = {KEY_VARIABLES[0]: environment[variable]}
    server = parse_model(settings.model, environment)
    if not server.model:
        raise ConfigError(f"name the model of '{name}': model = '{server.url}#NAME'")
    return replace(server, served=(server.model,))


def _whole(server: Server, delta: Delta) -> str:
    """The text with the stop string that the server took out.

    Raises:
        EngineError: The server takes the thinking out of its answers, and the code with it.
    """
    text = delta.text
    if not text.strip() and any(tag in delta.reasoning for tag in (CODE_OPEN, ANSWER_OPEN)):
        raise EngineError(
            f"{server} takes the thinking out of its answers, and the code with it; start it without a reasoning parser"
        )
    if delta.finish != "stop" or text.rstrip().endswith(STOPS):
        return text
    closing = delta.stop_string if delta.stop_string in STOPS else open_tag(text)
    return text + closing if closing is not None else text


def _told(server: Server, event: Mapping[str, Any]) -> Exception:
    """An error that came with the status of an answer, as some proxies hand them on."""
    code = event["error"].get("code") if isinstance(event["error"], Mapping) else None
    status = code if isinstance(code, int) and code >= 300 else 500
    error = refusal(server, status, error_message(event, ""))
    return Passing(error) if passes(status) else error


def _unknown_form(server: Server) -> BusyError:
    return BusyError(f"{server} answered in an unknown form; is it OpenAI-compatible?")
