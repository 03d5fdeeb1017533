"""A judge: a model behind an OpenAI-compatible endpoint that is asked for verdicts, with patience and a memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from thyme.config.openai import OpenAIConfig
from thyme.config.rewards import JudgeSettings
from thyme.engines.openai import parse_model
from thyme.engines.openai_client import Passing, http_options, pause_s, post_chat
from thyme.engines.openai_errors import BusyError, RefusedFieldError
from thyme.engines.openai_stream import parse_delta
from thyme.errors import ConfigError, ThymeError
from thyme.rewards.cache import VerdictCache
from thyme.rewards.verdicts import Kind, Material, NotAVerdictError, Verdict, form, quote, read_verdict

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""Longest time until a server takes a connection."""
MAX_QUOTED = 1000
"""Most characters of a refused reply that the judge is shown again."""


class NoVerdictError(ThymeError):
    """A judge could not be asked, or did not give a verdict."""


class Judge:
    """Asks for verdicts, in one event loop. What was judged before, here or in another run, is not asked again."""

    def __init__(
        self,
        settings: JudgeSettings,
        counts: Counter[str],
        *,
        cache: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            settings: Whom to ask, and how patiently.
            counts: ``requests``, ``cache_hits``, ``retries`` and ``refused_verdicts`` are counted here.
            cache: Folder of verdicts where the settings name none.
            environment: Where the API key is; None is this process's.

        Raises:
            UsageError: The model is not ``URL#NAME``.
        """
        self._server = parse_model(settings.model, os.environ if environment is None else environment)
        if not self._server.model:
            raise ConfigError(f"name the model of the judge: judge.model = '{self._server.url}#NAME'")
        self._settings, self._counts = settings, counts
        self._cache = VerdictCache(Path(settings.cache) if settings.cache else cache)
        self._config = OpenAIConfig(
            max_concurrent=settings.concurrency,
            connect_timeout_s=min(CONNECT_S, settings.timeout_s),
            first_token_timeout_s=2 * settings.timeout_s,  # `_answer` ends a request before
            retries=settings.retries,
            backoff_s=settings.backoff_s,
        )
        self._http = httpx.AsyncClient(**http_options(self._server, self._config))
        self._places = asyncio.Semaphore(settings.concurrency)
        self._asking: dict[str, asyncio.Task[Verdict]] = {}
        self._limit_field = "max_tokens"

    async def ask(self, kind: Kind, material: Mapping[str, Material]) -> float:
        """A verdict, from 0 to 1. What is asked by several at once is asked once.

        Args:
            kind: What is to be judged.
            material: By the names that the prompt uses.

        Raises:
            NoVerdictError: There is none, after all repetitions.
        """
        return (await self.verdict(kind, material)).value

    async def verdict(self, kind: Kind, material: Mapping[str, Material]) -> Verdict:
        """As `ask`, whole: what was extracted, for one, is more than a number."""
        quoted = quote(material)
        key = self._key(kind, quoted)
        if key not in self._asking:
            task = asyncio.create_task(self._remembered(kind, key, quoted))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._settle(key, done))
        else:
            self._counts["cache_hits"] += 1
        asking = self._asking[key]
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if asking.cancelled():
                raise NoVerdictError("the scorer was closed meanwhile") from None
            raise

    async def check(self) -> None:
        """Ask the judge something simple, so that no run begins with one that cannot judge.

        Raises:
            NoVerdictError: It gives no verdict.
        """
        await self._judge("result", quote({"question": "What is 1 + 1?", "reference": "2", "answer": "2"}))

    async def aclose(self) -> None:
        """Close the connections; who still waits gets no verdict."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._http.aclose()

    def _settle(self, key: str, task: asyncio.Task[Verdict]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    def _key(self, kind: Kind, quoted: str) -> str:
        """Of everything that a verdict depends on. The same model elsewhere gives the same."""
        asked = form(kind)
        parts = (self._server.model, kind, asked.fingerprint, str(self._settings.temperature), quoted)
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    async def _remembered(self, kind: Kind, key: str, quoted: str) -> Verdict:
        if (kept := await asyncio.to_thread(self._cache.get, key)) is not None:
            try:
                verdict = form(kind).verdict.model_validate(kept)
            except ValidationError:
                logger.warning("a kept verdict is damaged; it is asked for again")
            else:
                self._counts["cache_hits"] += 1
                return verdict
        verdict = await self._judge(kind, quoted)
        await asyncio.to_thread(self._cache.put, key, verdict.model_dump())
        return verdict

    async def _judge(self, kind: Kind, quoted: str) -> Verdict:
        """Ask until there is a verdict, or patience ends."""
        first = [{"role": "system", "content": form(kind).prompt}, {"role": "user", "content": quoted}]
        messages, failure = first, Passing(NoVerdictError(""))
        async with self._places:
            for attempt in range(self._settings.retries + 1):
                if attempt:
                    self._counts["retries"] += 1
                    await asyncio.sleep(pause_s(self._config, attempt - 1, failure.after_s))
                try:
                    reply = await self._answer(messages)
                    return read_verdict(kind, reply)
                except NotAVerdictError as error:
                    self._counts["refused_verdicts"] += 1
                    failure = Passing(NoVerdictError(f"{self._server} gave no verdict ({error})"))
                    messages = [*first, *_reminder(kind, reply)]
                except Passing as error:
                    failure = error
                except ThymeError as error:  # asking again would not help
                    raise NoVerdictError(str(error)) from error
        raise NoVerdictError(str(failure.error))

    async def _answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """What the judge writes.

        Raises:
            Passing: It may answer the next time.
            ThymeError: It will not.
        """
        self._counts["requests"] += 1
        late = (
            f"gave no verdict in {self._settings.timeout_s:g} s; raise rewards.judge.timeout_s, "
            "or lower rewards.judge.concurrency"
        )
        content = json.dumps(self._body(messages)).encode()
        try:
            event = await post_chat(self._http, self._server, content, timeout_s=self._settings.timeout_s, late=late)
            return parse_delta(event).text
        except RefusedFieldError as error:
            if "max_completion_tokens" not in str(error) or self._limit_field == "max_completion_tokens":
                raise
            self._limit_field = "max_completion_tokens"  # what hosted models of a newer kind call it
            return await self._answer(messages)
        except (AttributeError, KeyError, TypeError, IndexError, ValidationError) as error:
            raise Passing(BusyError(f"{self._server} answered in an unknown form; is it OpenAI-compatible?")) from error

    def _body(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        return {
            "model": self._server.model,
            "messages": list(messages),
            "temperature": self._settings.temperature,
            self._limit_field: self._settings.max_tokens,
        }


def _reminder(kind: Kind, reply: str) -> list[dict[str, str]]:
    """A judge that always writes the most likely would write the same again."""
    return [
        {"role": "assistant", "content": reply[:MAX_QUOTED] or "(nothing)"},
        {"role": "user", "content": f"Reply with the JSON object alone, in the form {form(kind).example}, no words."},
    ]
