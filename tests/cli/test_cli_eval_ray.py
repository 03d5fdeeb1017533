"""A run on a local Ray gives what one process gives."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from thyme.cli.eval_work import Asked, run_part
from thyme.config import EngineConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.errors import EngineError, MissingExtraError
from thyme.eval.run.folder import read_run
from thyme.eval.run.sources import Shard
from thyme.eval.run.spread import Spread

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _ray() -> Iterator[None]:
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its future
        import ray

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
        try:
            yield
        finally:
            ray.shutdown()


def asked(tmp_path: Path, out: str, bench: str) -> Asked:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(["<think>I add.</think>\n<answer>4</answer>"]), encoding="utf-8")
    config = EvaluationConfig(engine=EngineConfig(model=f"scripted:{script}"))
    return Asked(config, (bench,), tmp_path / out)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_ray")
def test_ray_equals_one_process(tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"index": row, "question": f"What is {row} + 1?", "answer": str(row + 1)} for row in range(7)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_part(asked(tmp_path, "one", str(file)), Shard())
    Spread(2, "ray", cpus=1.0).run(partial(run_part, asked(tmp_path, "two", str(file))))
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert two.missing == {}
    assert two.manifest.shards == 2
    assert [item.model_copy(update={"seconds": 0.0}) for item in one.items] == [
        item.model_copy(update={"seconds": 0.0}) for item in two.items
    ]
    with pytest.raises(EngineError, match="2 of 2 parts failed: part 0: there is no benchmark"):
        Spread(2, "ray").run(partial(run_part, asked(tmp_path, "three", "sums=nothing.jsonl")))


def test_missing_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="cluster"):
        Spread(1, "ray").run(partial(run_part, asked(tmp_path, "out", "x")))
