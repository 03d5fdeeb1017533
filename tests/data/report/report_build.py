"""A small build as it lies in its folder, its records written by hand, for the tests of its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import drafted

from thyme.config.data import DataRecipe
from thyme.data.drafts import Costs, Draft, Rejection, Said, Verdict
from thyme.data.factory import folder
from thyme.data.factory.journal import Outcome, open_journal
from thyme.data.factory.manifest import Manifest, write_manifest
from thyme.data.factory.shard import write_shard

CHUNK = 4
SECONDS = {"prepare": 0.01, "generate": 2.0, "execute": 0.5, "accept": 0.03, "leaks": 0.001, "check": 1.0}
STAGES = list(SECONDS)


def record(index: int, scenario: str = "crop", *, after: str = "check", blocks: int = 1, **changes: Any) -> Draft:
    """A finished record that came as far as a stage."""
    draft = drafted.ready(scenario)
    box = (380, 100, 490, 180)
    rounds = [drafted.cropped(draft, box) for _ in range(blocks)]
    done = drafted.finished(draft, rounds, "It says KX.", "KX")
    passed = STAGES[: STAGES.index(after) + 1]
    costs = Costs(
        requests=blocks + 1,
        recorded=1,
        prompt_tokens=100,
        completion_tokens=20,
        usd=0.5,
        seconds={name: SECONDS[name] for name in passed},
    )
    asked = Said(role="user", text="The sign lies at (400, 120, 470, 160).")
    fields = {"id": f"photos-{index:07d}-{scenario}", "costs": costs, "conversation": (asked,), **changes}
    return done.model_copy(update=fields)


def dropped(draft: Draft, stage: str, reason: str, note: str = "") -> Rejection:
    return Rejection.of(draft, stage, reason, note)


def at_draw(index: int, reason: str, note: str = "", scenario: str = "crop") -> Rejection:
    """One that no stage ever saw."""
    fresh = drafted.ready(scenario).model_copy(update={"id": f"photos-{index:07d}-{scenario}", "hints": {}})
    return Rejection.of(fresh.model_copy(update={"problem": fresh.origin}), "draw", reason, note)


def usual() -> list[Draft | Rejection]:
    """Ten items: four accepted, six dropped."""
    judged = (Verdict(judge="judge", fits=True, needed=True, reason="it fits"),)
    said = (Said(role="user", text="Look."), Said(role="assistant", text="<think>well</think> KX, I think"))
    early = {"segments": (), "conversation": said, "finished": False}
    return [
        record(0, verdicts=judged),
        record(1, blocks=2),
        at_draw(2, "duplicate", "nearly the same as item 0"),
        record(3, "rotation"),
        dropped(record(4, after="generate", blocks=0, **early), "generate", "no_answer", "neither code nor an answer"),
        dropped(record(5, after="accept"), "accept", "misses_target", "no crop holds it"),
        dropped(record(6, after="accept"), "accept", "misses_target", "no crop holds it"),
        dropped(record(7, "rotation", after="accept", teacher="other"), "accept", "not_upright"),
        at_draw(8, "benchmark", "its picture is one of a benchmark's"),
        record(9, teacher="other"),
    ]


def store(
    out: Path, records: Sequence[Draft | Rejection], *, planned: int | None = None, rolled: bool = True, **changes: Any
) -> Path:
    """Write a build's folder: shards, or journals of chunks that are not finished."""
    recipe = DataRecipe.model_validate(
        {
            "count": planned or len(records),
            "chunk": CHUNK,
            "sources": {"photos": {"path": "photos.jsonl"}},
            "scenarios": {"crop": 3.0, "rotation": 1.0},
            "teachers": {"hand": {"model": "http://localhost:1/v1#hand"}},
        }
    )
    asked: dict[str, int] = {}
    for one in records:
        asked[one.scenario] = asked.get(one.scenario, 0) + 1
    fields: dict[str, Any] = {"state": "finished", "seconds": 7200.0, "started": "2026-01-01T00:00:00+00:00"}
    manifest = Manifest(recipe=recipe, count=planned or len(records), scenarios=asked, **{**fields, **changes})
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, manifest)
    outcomes = [_outcome(out, index, one) for index, one in enumerate(records)]
    for first in range(0, len(outcomes), CHUNK):
        _chunk(out, first // CHUNK, outcomes[first : first + CHUNK], rolled=rolled)
    return out


def _outcome(out: Path, index: int, one: Draft | Rejection) -> Outcome:
    stored = folder.stored(out, one)
    return Outcome.of(index, stored, folder.image_ids(stored))


def _chunk(out: Path, number: int, outcomes: Sequence[Outcome], *, rolled: bool) -> None:
    if not rolled:
        with open_journal(folder.chunk_file(out, folder.JOURNAL, number)) as journal:
            for one in outcomes:
                journal.add(one)
        return
    for kind, kept in ((folder.REJECTED, False), (folder.RECORDS, True)):
        path = folder.chunk_file(out, kind, number)
        write_shard(path, (one for one in outcomes if one.kept is kept), kept=kept)
