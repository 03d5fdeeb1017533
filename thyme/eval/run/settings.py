"""What a run is made with, and whether that fits what its folder holds."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import thyme
from thyme.config import EngineConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.engines.base import Engine
from thyme.errors import UsageError
from thyme.eval.arms import ARMS
from thyme.eval.items import RETRY, TOOLS
from thyme.eval.manifest import BenchmarkUse, RunManifest
from thyme.eval.run.sources import Source
from thyme.prompts import PromptSet

LIBRARIES = ("torch", "transformers", "vllm", "numpy", "pillow", "opencv-python-headless", "math-verify")
"""Whose versions may change an answer or a score."""

_FREE: Mapping[str, frozenset[str]] = {
    "engine": frozenset(
        {"model", "threads", "max_batch", "prefill_tokens", "max_cached_tokens", "min_pixels", "max_pixels"}
    ),
    "engine.openai": frozenset(
        {"max_concurrent", "connect_timeout_s", "first_token_timeout_s", "token_timeout_s", "retries", "backoff_s"}
    ),
    "engine.vllm": frozenset(
        {"gpu_memory_utilization", "kv_cache_gib", "tensor_parallel", "enforce_eager", "block_size"}
    ),
    "sandbox": frozenset({"isolation", "pool", "max_sessions", "inputs_mb", "start_timeout_s"}),
}
"""Settings that change how fast a run is and what fits into memory, not what is asked; another machine may need
others. They are not stored; model, pixels and the isolation in force are fields of their own."""


def chosen_arms(config: EvaluationConfig) -> tuple[str, ...]:
    """The arms of a run, in the order of `ARMS`; with the one that others are held against or begin with.

    Raises:
        UsageError: There is no such arm, or the arm ``untrained`` without its model.
    """
    named = config.all_arms
    unknown = [name for name in named if name not in ARMS]
    if unknown:
        raise UsageError(f"there is no arm {', '.join(unknown)}; there are {', '.join(ARMS)}")
    arms = [ARMS[name] for name in named]
    if any(arm.untrained for arm in arms) and config.untrained is None:
        raise UsageError("the arm untrained asks another model; name it with --untrained MODEL")
    needs_tools = any(arm.retry or arm.counterfactual or arm.needs_donor for arm in arms)
    wanted = {*named, *({TOOLS} if needs_tools else ())}
    return tuple(name for name in ARMS if name in wanted)


def first_manifest(config: EvaluationConfig, sources: Sequence[Source], words: PromptSet | None) -> RunManifest:
    """The manifest as far as it is known before a model is loaded."""
    arms = chosen_arms(config)
    rollout = config.rollout.model_dump(mode="json") | (
        {"retry": config.retry.model_dump(mode="json")} if RETRY in arms else {}
    )
    return RunManifest(
        model=public_name(config.engine.model),
        untrained=None if config.untrained is None else public_name(config.untrained),
        benchmarks=tuple(_use(source) for source in sources),
        arms=arms,
        mode="retry" if RETRY in arms else "single",
        rollout=rollout,
        sandbox=_without(config.sandbox.model_dump(mode="json"), "sandbox"),
        engine=_engine(config.engine),
        min_pixels=config.engine.min_pixels,
        max_pixels=config.engine.max_pixels,
        judge=None if config.judge is None else config.judge.name,
        judge_settings={} if config.judge is None else config.judge.model_dump(include={"temperature", "max_tokens"}),
        prompts="" if words is None else words.fingerprint,
        seed=config.seed,
        coverage=config.coverage,
        versions=_versions(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def full_manifest(known: RunManifest, engine: Engine, isolation: str, words: PromptSet) -> RunManifest:
    """The manifest with what only the loaded model can tell."""
    limits = getattr(engine, "family", None)  # of local weights; a server decides by itself
    return known.model_copy(
        update={
            "fingerprints": engine.info.fingerprints.model_copy(update={"prompts": words.fingerprint}),
            "isolation": isolation,
            "prompts": words.fingerprint,
            "min_pixels": getattr(limits, "min_pixels", known.min_pixels),
            "max_pixels": getattr(limits, "max_pixels", known.max_pixels),
        }
    )


def merged(held: RunManifest, asked: RunManifest, *, loaded: bool = False) -> RunManifest:
    """The manifest of a folder after more was asked: benchmarks and arms may come in addition.

    Args:
        held: That of the folder.
        asked: That of this call.
        loaded: Whether `asked` holds what only the loaded model can tell, so that nothing there differs, too.

    Raises:
        UsageError: Anything else differs; the message says what.
    """
    uses = {use.name: use for use in held.benchmarks}
    found = _differences(held, asked, loaded)
    for use in asked.benchmarks:
        if use.name in uses and uses[use.name] != use:
            found += _fields(uses[use.name], use, f"benchmark {use.name}, ")
    if found:
        raise UsageError(
            f"the folder holds a run with other settings: {'; '.join(found)}; use the same ones, or another --out"
        )
    arms = tuple(name for name in ARMS if name in {*held.arms, *asked.arms})
    return held.model_copy(
        update={
            "benchmarks": tuple({**uses, **{use.name: use for use in asked.benchmarks}}.values()),
            "arms": arms,
            "mode": "retry" if RETRY in arms else "single",
            "untrained": held.untrained or asked.untrained,
            "untrained_fingerprint": held.untrained_fingerprint or asked.untrained_fingerprint,
            "rollout": {**held.rollout, **asked.rollout},
            "seconds": None,
        }
    )


_FREELY_DIFFERENT = {"name", "benchmarks", "arms", "mode", "shards", "versions", "started", "seconds"}
_UNKNOWN_YET: tuple[Any, ...] = (None, "")


def _differences(held: RunManifest, asked: RunManifest, loaded: bool) -> list[str]:
    """What two manifests do not share, in words."""
    found: list[str] = []
    for name in RunManifest.model_fields:
        old, new = getattr(held, name), getattr(asked, name)
        if name in _FREELY_DIFFERENT or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _table(old, new, name)
        elif name == "fingerprints":
            found += [line for line in _fields(old, new, "fingerprint of ") if loaded or not line.endswith("now ''")]
        elif name.startswith("untrained") and (old in _UNKNOWN_YET or new in _UNKNOWN_YET):
            continue  # the arm comes in addition, or is not asked for this time
        elif not loaded and name in {"prompts", "isolation", "min_pixels", "max_pixels"} and new in _UNKNOWN_YET:
            continue  # known once the model is loaded
        else:
            found.append(_words(name, old, new))
    return found


def _table(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> list[str]:
    """Settings of a table that differ; ``retry`` stands in it only where that arm is asked."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key), new.get(key)
        if one == other or (key == "retry" and None in (one, other)):
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _table(one, other, f"{where}.{key}")
        else:
            found.append(_words(f"{where}.{key}", one, other))
    return found


def _fields(old: Any, new: Any, where: str) -> list[str]:
    names = type(old).model_fields
    return [_words(where + n, getattr(old, n), getattr(new, n)) for n in names if getattr(old, n) != getattr(new, n)]


def _words(name: str, old: Any, new: Any) -> str:
    return f"{name} was {old!r}, is now {new!r}"


def public_name(model: str) -> str:
    """What a model is called where others read it: no folder, no server."""
    if "://" in model:
        return model.rpartition("#")[2] if "#" in model else "server"
    if model.startswith("scripted:"):
        return f"scripted:{Path(model.partition(':')[2]).name}"
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model


def _engine(config: EngineConfig) -> dict[str, Any]:
    plain = _without(config.model_dump(mode="json"), "engine")
    if plain["openai"]["tokenizer"]:
        plain["openai"]["tokenizer"] = public_name(plain["openai"]["tokenizer"])
    return plain


def _without(table: dict[str, Any], where: str) -> dict[str, Any]:
    kept = {key: value for key, value in table.items() if key not in _FREE.get(where, ())}
    return {key: _without(value, f"{where}.{key}") if isinstance(value, dict) else value for key, value in kept.items()}


def _use(source: Source) -> BenchmarkUse:
    return BenchmarkUse(
        name=source.benchmark.name,
        file=source.file,
        digest=source.digest,
        problems=source.count,
        published=source.benchmark.rows,
        limit=source.limit,
    )


def _versions() -> dict[str, str]:
    """Of this package, Python and the libraries that decide; what is not installed is left out."""
    found = {"thyme": thyme.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
