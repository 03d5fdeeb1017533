"""A build from end to end: real processes and the real sandbox, what it rejects, how it ends, and how it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import factory_parts as parts
import pytest

from thyme.config.data import BudgetSettings, CheckSettings, SourceSettings, TeacherSettings
from thyme.config.rewards import JudgeSettings
from thyme.data.drafts import Rejection
from thyme.data.factory import folder
from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.manifest import read_manifest
from thyme.data.factory.run import run_build
from thyme.data.folders import alone
from thyme.errors import StoreError, UsageError
from thyme.types import ImageRecord, Observation


def made(out: Path, stages: object = parts.SIMPLE, **settings: object) -> Path:
    run_build(parts.build(out, stages, **settings), execute=parts.run_here)
    return out


def reasons(out: Path) -> Counter[str]:
    return Counter(f"{one.stage}: {one.reason}" for one in folder.read_records(out, images=False, rejected=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 24 records by two processes with a sandbox each."""
    out = tmp_path_factory.mktemp("build")
    run_build(parts.build(out, parts.WHOLE, sandbox=True, count=24, duplicates=None))
    return out


def test_processes_with_sandboxes_make_every_record(whole: Path) -> None:
    manifest = read_manifest(whole)
    assert manifest is not None
    assert (manifest.state, manifest.kept + manifest.rejected, manifest.count) == ("finished", 24, 24)
    assert folder.count_records(whole) == (manifest.kept, manifest.rejected)
    assert folder.finished_chunks(whole) == [0, 1, 2]
    assert not list((whole / "journal").iterdir())
    assert reasons(whole) == {"accept: seventh": manifest.rejected}


def test_records_come_back_with_what_was_asked_and_what_code_made(whole: Path) -> None:
    records = list(folder.read_records(whole))
    assert [record.id for record in records] == sorted(record.id for record in records), "in the order of the draw"
    for record in records:
        (seen,) = (segment for segment in record.segments if isinstance(segment, Observation))
        asked = record.problem.images[0].image
        assert seen.execution.images[0].image.tobytes() == asked.crop((8, 8, 40, 40)).tobytes()
        assert asked.tobytes() == parts.square(int(record.origin.answer or "")).tobytes()
        assert set(record.costs.seconds) == set(parts.WHOLE)


def test_a_record_is_found_by_its_id_whatever_became_of_it(whole: Path) -> None:
    for kind in (False, True):
        for record in folder.read_records(whole, rejected=kind):
            found = folder.find_record(whole, record.id)
            assert found is not None
            assert (found.id, isinstance(found, Rejection)) == (record.id, kind)
    assert folder.find_record(whole, "squares-0000000-boxed") is None
    assert folder.find_record(whole, "squares-0000999-plain") is None
    assert folder.find_record(whole, "nothing") is None


def test_each_picture_lies_once(whole: Path) -> None:
    stored = [path.stem for path in (whole / "images").rglob("*.png")]
    named = {id for kind in (False, True) for one in folder.read_outcomes(whole, rejected=kind) for id in one.images}
    assert sorted(stored) == sorted(named)


def test_to_build_again_changes_nothing(whole: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in whole.rglob("*.parquet")}
    again = run_build(parts.build(whole, parts.WHOLE, sandbox=True, count=24, duplicates=None, processes=1))
    assert again.state == "finished"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in whole.rglob("*.parquet")} == before


def test_two_builds_are_equal_but_for_costs_however_they_are_worked_on(whole: Path, tmp_path: Path) -> None:
    stages = parts.WHOLE
    run_build(
        parts.build(tmp_path, stages, sandbox=True, count=24, duplicates=None, concurrency=1), execute=parts.run_here
    )
    assert parts.contents(tmp_path) == parts.contents(whole)
    assert {path.name for path in (tmp_path / "images").rglob("*.png")} == {
        path.name for path in (whole / "images").rglob("*.png")
    }


def test_another_seed_draws_other_records(tmp_path: Path) -> None:
    one, other = (parts.contents(made(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert one != other


def test_near_duplicates_are_dropped_in_the_order_of_the_draw(tmp_path: Path) -> None:
    twins = {"sources": {"squares": SourceSettings(world="squares", count=40, split="twins")}}
    out = made(tmp_path / "here", **twins)
    dropped = [one for one in folder.read_records(out, rejected=True) if one.reason == "duplicate"]
    assert len(dropped) == 20, "each picture is that of two rows"
    for one in dropped:
        other = int(one.note.rpartition(" ")[2])
        assert other < int(one.id.split("-")[1])
        first = folder.find_record(out, f"squares-{other:07d}-plain")
        assert first is not None
        assert (first.draft if isinstance(first, Rejection) else first).origin.answer == one.draft.origin.answer
    kept = made(tmp_path / "kept", duplicates=None, **twins)
    assert "draw: duplicate" not in reasons(kept)


def test_pictures_of_benchmarks_are_kept_out(tmp_path: Path) -> None:
    tests = HeldOut.of([ImageRecord.of(parts.square(number)) for number in range(10)], perceptual=True)
    whole = {"count": 20, "sources": {"squares": SourceSettings(world="squares", count=20)}}
    out = made(tmp_path, held_out=tests, **whole)
    assert reasons(out)["draw: benchmark"] == 10
    answers = {one.origin.answer for one in folder.read_records(out)}
    assert answers.isdisjoint(map(str, range(10)))


def test_rows_that_cannot_be_used_are_rejected_with_their_reason(tmp_path: Path) -> None:
    damaged = {"squares": SourceSettings(world="squares", count=40, split="damaged")}
    assert reasons(made(tmp_path, sources=damaged))["draw: image_damaged"] == 8


def test_rows_that_lack_what_a_scenario_needs_are_passed_over(tmp_path: Path) -> None:
    out = made(tmp_path / "some", count=10, scenarios={"boxed": 1.0})
    assert reasons(out)["draw: unsuited"] <= 2
    assert all(int(one.origin.answer or "") % 4 == 0 for one in folder.read_records(out))
    none = {"text": SourceSettings(world="squares", count=40, split="text", scenarios=("boxed",))}
    assert reasons(made(tmp_path / "none", count=4, scenarios={"boxed": 1.0}, sources=none)) == {"draw: unsuited": 4}


def test_a_stage_that_fails_at_a_record_does_not_end_the_build(tmp_path: Path) -> None:
    out = made(tmp_path, parts.BREAKING)
    broken = [one for one in folder.read_records(out, rejected=True) if one.reason == "broken"]
    assert broken
    assert {(one.stage, one.note) for one in broken} == {("accept", "KeyError: 'box'")}
    assert sum(folder.count_records(out)) == 40


def test_a_spent_budget_ends_the_build_with_what_was_made_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    spent = run_build(parts.build(tmp_path, parts.SPENDING, budget=BudgetSettings(requests=20), processes=1))
    assert spent.state == "spent"
    assert 16 <= spent.kept <= 20, "chunks of eight, two at once: nothing that needed no more was dropped"
    ids = [record.id for record in folder.read_records(tmp_path)]
    assert len(ids) == spent.kept, "what was made is read before the build is finished"
    assert folder.find_record(tmp_path, ids[-1]) is not None
    whole = run_build(parts.build(tmp_path, parts.SPENDING), execute=parts.run_here)
    assert (whole.state, whole.kept) == ("finished", 40)


def test_a_budget_that_is_spent_in_the_last_chunk_is_told_too(tmp_path: Path) -> None:
    few = BudgetSettings(requests=20)
    spent = run_build(parts.build(tmp_path, parts.SPENDING, count=24, budget=few, processes=1))
    assert spent.state == "spent"
    whole = run_build(parts.build(tmp_path, parts.SPENDING, count=24), execute=parts.run_here)
    assert (whole.state, whole.kept) == ("finished", 24)


def test_another_recipe_is_refused_and_free_settings_are_not(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(UsageError, match=r"made otherwise: seed was 0, and is 3 now; .*another --out"):
        made(tmp_path, seed=3)
    changed = replace(parts.build(tmp_path), worlds={"squares": fewer})
    with pytest.raises(UsageError, match=r"sources\.squares was 'squares/100/train', and is"):
        run_build(changed, execute=parts.run_here)
    made(tmp_path, concurrency=9, budget=BudgetSettings(usd=3.0))


def test_a_model_may_be_served_elsewhere_when_a_build_goes_on_and_be_no_other(tmp_path: Path) -> None:
    def asked(url: str, teacher: str, judge: str) -> dict[str, Any]:
        check = CheckSettings(judge=JudgeSettings(model=f"{url}#{judge}"))
        return {"teachers": {"small": TeacherSettings(model=f"{url}#{teacher}")}, "check": check}

    made(tmp_path, **asked("http://localhost:1/v1", "toy", "wise"))
    made(tmp_path, **asked("http://otherhost:2/v1", "toy", "wise"))
    with pytest.raises(UsageError, match=r"teachers\.small\.model was 'toy', and is 'large' now"):
        made(tmp_path, **asked("http://localhost:1/v1", "large", "wise"))
    with pytest.raises(UsageError, match=r"check\.judge\.model was 'wise'"):
        made(tmp_path, **asked("http://localhost:1/v1", "toy", "clever"))


def fewer(name: str, settings: SourceSettings, seed: int) -> parts.Squares:
    return parts.Squares(name, settings.model_copy(update={"count": 90}), seed)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(UsageError, match="another process works in"):
        made(tmp_path)


def test_a_folder_without_a_build_is_named(tmp_path: Path) -> None:
    for read in (lambda: list(folder.read_records(tmp_path)), lambda: folder.find_record(tmp_path, "a-1-b")):
        with pytest.raises(UsageError, match=r"holds no build \(build\.json is missing\)"):
            read()
    with pytest.raises(UsageError, match="holds no build"):
        folder.count_records(tmp_path)


def test_a_missing_or_other_picture_is_noticed(tmp_path: Path) -> None:
    out = made(tmp_path, count=2, duplicates=None)
    first, second = sorted((out / "images").rglob("*.png"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(StoreError, match="shows other pixels than were stored"):
        list(folder.read_records(out)) + list(folder.read_records(out, rejected=True))
    first.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        list(folder.read_records(out)) + list(folder.read_records(out, rejected=True))
    assert sum(1 for kind in (False, True) for _ in folder.read_records(out, images=False, rejected=kind)) == 2


def test_what_a_source_says_in_the_dark_is_no_absolute_path(tmp_path: Path) -> None:
    out = made(tmp_path / "deep" / "down")
    told = [line for line in (out / "build.json").read_text(encoding="utf-8").splitlines() if str(tmp_path) in line]
    assert not told


def test_nothing_here_needs_torch() -> None:
    code = "import sys, thyme.data.factory.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
