"""What a run of the evaluation was made with: everything that a stranger needs to make it again, and no path."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from thyme.types import Fingerprints, Record


class BenchmarkUse(Record):
    """A benchmark as it was asked."""

    name: str
    file: str
    """Name of the file or data set, without its folder."""
    digest: str
    """Hash of its content, so that another version of the same name is told apart."""
    problems: int
    """Asked, after `limit`."""
    published: int | None = None
    """Rows that the published set has."""
    limit: int | None = None


class RunManifest(Record):
    """One run. Two runs with equal `identity` ask the same model the same things in the same way."""

    name: str = ""
    model: str
    """As it was asked for; a folder by its last name only."""
    untrained: str | None = None
    """The model of the arm ``untrained``."""
    untrained_fingerprint: str = ""
    """Of its weights; empty until it is loaded."""
    fingerprints: Fingerprints = Fingerprints()
    benchmarks: tuple[BenchmarkUse, ...]
    arms: tuple[str, ...]
    mode: str = "single"
    """``single`` or ``retry``."""
    rollout: dict[str, Any] = Field(default_factory=dict)
    """`RolloutConfig` as JSON."""
    sandbox: dict[str, Any] = Field(default_factory=dict)
    isolation: str = ""
    """Level that the code really ran under."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """`EngineConfig` as JSON, without secrets and paths."""
    min_pixels: int | None = None
    """Smallest and largest picture the model saw, as its processor was set; None where the server decides."""
    max_pixels: int | None = None
    judge: str | None = None
    """Name of the judge's model; None: rules alone."""
    judge_settings: dict[str, Any] = Field(default_factory=dict)
    """What a verdict depends on beside it."""
    prompts: str = ""
    """Fingerprint of the prompts."""
    seed: int = 0
    shards: int = 1
    coverage: float = 0.5
    """Share of the target that a crop must show to count as covering it."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of this package, Python and the libraries that decide."""
    started: str = ""
    """ISO 8601, UTC."""
    seconds: float | None = None
    """Wall clock of the whole run, all of its sittings; None while it goes on."""
