"""What a manifest tells a stranger, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_helpers import House, source

from thyme.config import EngineConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.errors import StoreError, UsageError
from thyme.eval.run.folder import file_name, read_run
from thyme.eval.run.settings import chosen_arms, first_manifest, merged, public_name
from thyme.eval.run.sitting import Clock, Sitting, agree, worked
from thyme.eval.run.sources import Shard
from thyme.types import Fingerprints


def test_no_path_and_no_server_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "secret" / "checkpoint-7"
    folder.mkdir(parents=True)
    config = EvaluationConfig.model_validate(
        {
            "engine": {"model": str(folder), "openai": {"tokenizer": str(folder)}},
            "judge": {"model": "http://user:password@host:1/v1#judge-7b", "cache": str(folder)},
            "untrained": "http://host:1/v1#base",
            "arms": ("tools", "untrained"),
        }
    )
    text = first_manifest(config, [source()], None).model_dump_json()
    assert '"model":"checkpoint-7"' in text
    for hidden in ("secret", "password", "host", str(tmp_path)):
        assert hidden not in text
    assert public_name("http://host/v1") == "server"
    assert public_name(f"scripted:{folder}/script.json") == "scripted:script.json"
    assert public_name("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_what_decides_is_stored() -> None:
    config = EvaluationConfig(engine=EngineConfig(model="m", max_pixels=1000), seed=5)
    manifest = first_manifest(config, [source(3)], None)
    assert (manifest.seed, manifest.max_pixels, manifest.rollout["text_temperature"]) == (5, 1000, 0.0)
    assert manifest.versions.keys() >= {"thyme", "python", "numpy", "pillow"}
    assert manifest.started.endswith("+00:00")
    use = manifest.benchmarks[0]
    assert (use.name, use.file, use.digest, use.problems) == ("Toy", "Toy.tsv", "0", 3)


def test_what_a_loaded_model_does_not_tell_differs_from_what_another_told(tmp_path: Path) -> None:
    """A server says nothing of its weights; before a model is loaded nobody does."""
    known = first_manifest(EvaluationConfig(), [source()], None)
    held = known.model_copy(update={"fingerprints": Fingerprints(model="w"), "min_pixels": 3136})
    assert merged(held, known) == held
    assert agree(tmp_path, held) == held
    with pytest.raises(UsageError, match=r"fingerprint of model was 'w', is now ''; min_pixels was 3136, is now None"):
        agree(tmp_path, known)


def test_other_weights_of_the_other_model_and_another_way_to_judge_are_refused() -> None:
    judge = {"model": "http://host:1/v1#judge"}
    one = first_manifest(EvaluationConfig.model_validate({"judge": judge}), [source()], None)
    warm = first_manifest(EvaluationConfig.model_validate({"judge": judge | {"temperature": 1.0}}), [source()], None)
    with pytest.raises(UsageError, match=r"judge_settings.temperature was 0.0, is now 1.0"):
        merged(one, warm)
    base = one.model_copy(update={"untrained": "base", "untrained_fingerprint": "b"})
    assert merged(one, base) == base
    assert merged(base, one) == base
    with pytest.raises(UsageError, match="untrained_fingerprint was 'b', is now 'c'"):
        merged(base, base.model_copy(update={"untrained_fingerprint": "c"}), loaded=True)


def test_arms_stand_in_one_order() -> None:
    assert chosen_arms(EvaluationConfig(arms=("placebo", "no_tools"))) == ("no_tools", "placebo")
    assert chosen_arms(EvaluationConfig(arms=("no_tools",), mode="retry")) == ("tools", "no_tools", "retry")


def test_hours_are_those_in_which_somebody_worked(tmp_path: Path) -> None:
    (tmp_path / "sittings").mkdir()
    for name, start, seconds in (("a", 0.0, 10.0), ("b", 5.0, 10.0), ("c", 100.0, 1.0), ("d", 6.0, 2.0)):
        sitting = Sitting(shard="0/2", started=start, seconds=seconds)
        (tmp_path / "sittings" / f"{name}.json").write_text(sitting.model_dump_json())
    (tmp_path / "sittings" / "cut.json").write_text('{"shard"')
    assert worked(tmp_path) == 16.0


def test_a_clock_counts_what_is_killed_later(tmp_path: Path) -> None:
    clock = Clock(tmp_path, Shard(1, 2))
    clock.beat()
    clock.beat()
    assert len(list((tmp_path / "sittings").iterdir())) == 1
    assert worked(tmp_path) >= 0.0


def test_names_of_benchmarks_become_folders() -> None:
    assert file_name("MME-RealWorld-CN") == "MME-RealWorld-CN"
    odd = [file_name(name) for name in ("../../etc/passwd", "..", "", "my set", "my_set", "my  set", ".my_set")]
    assert len(set(odd)) == len(odd), "one benchmark would be taken for another"
    assert not any("/" in name or name.startswith(".") or not name for name in odd)


async def test_a_folder_without_a_run_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no evaluation"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"run\.json cannot be read"):
        read_run(tmp_path)
    with pytest.raises(StoreError, match=r"run\.json cannot be read"):
        await House().run(tmp_path)
