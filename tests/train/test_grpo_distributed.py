"""GRPO in two processes, really: what they learn from the same rollouts is what one learns. Spread models:
`test_grpo_spread`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpo_launched
import grpo_worker
import launched
import pytest

from thyme.config.grpo import GRPOSettings
from thyme.errors import ConfigError
from thyme.nano import checkpoint_path
from thyme.train.grpo.arguments import forwards

pytestmark = [
    pytest.mark.timeout(800),  # a hang ends earlier: see `launched.start`
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]

QUICK: dict[str, dict[str, Any]] = {
    "one process sees no image, tower trained": {"roller": {"mixture": "halves"}, "freeze_vision": False},
    "adapters against the start": {"beta": 0.05, "lora": {"rank": 2}, "learning_rate": 1e-2},
}
MORE: dict[str, dict[str, Any]] = {
    "drawn from the model, and run": {"real": True, "group": 4, "beta": 0.01, "learning_rate": 1e-4},
    "images here and there": {},
    "code counts, against the start": {"beta": 0.05, "code_policy": "keep"},
    "one process has no score": {"roller": {"paid": "not the second half"}},
    "one process has no score, against the start": {"roller": {"paid": "not the second half"}, "beta": 0.05},
    "one process has nothing in the loss": {"roller": {"stops": "cut"}},
    "scores here and there": {"roller": {"paid": "some"}, "group": 4},
    "kept features": {"cache": "features"},
    "code at a temperature of its own": {"roller": {"tau_code": 0.3}, "code_policy": "tempered"},
    "recomputed activations": {"gradient_checkpointing": True},
    "groups that teach nothing are replaced": {"roller": {"paid": "flat at first"}, "zero_variance": "resample"},
}
SAVED: dict[str, Any] = {"save_steps": 2, "max_steps": 4, "beta": 0.05, "lora": {"rank": 2}}
WHOLE, RESUMED = len(QUICK), len(QUICK) + 1

Runs = tuple[Path, dict[str, list[list[Any]]]]


def started_from(changes: dict[str, Any], tiny: Path) -> Path:
    """Only a model that has learnt something writes code and is right at times."""
    return checkpoint_path() if changes.get("real") else tiny


def run_both(names: dict[str, dict[str, Any]], more: Sequence[launched.Plan], tiny: Path, out: Path) -> Runs:
    """Every plan by one process, this one, and by two, their folders ``one`` and ``ddp``."""
    plans = [grpo_launched.plan(started_from(changes, tiny), **changes) for changes in names.values()]
    one = [[grpo_worker.run(plan)] for plan in grpo_launched.placed(plans, out / "one")]
    return out, {"one": one, "ddp": grpo_launched.reports([*plans, *more], out / "ddp", "ddp")}


@pytest.fixture(scope="module")
def quick(tiny_qwen2_5_vl: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    resumed = [grpo_launched.plan(tiny_qwen2_5_vl, **SAVED, resume_from=before) for before in (None, (WHOLE, 2))]
    return run_both(QUICK, resumed, tiny_qwen2_5_vl, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def more(tiny_qwen2_5_vl: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_both(MORE, [], tiny_qwen2_5_vl, tmp_path_factory.mktemp("more"))


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_learn_what_one_learns(quick: Runs, name: str) -> None:
    assert_the_same(quick, list(QUICK).index(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_two_processes_learn_what_one_learns_in_every_way(more: Runs, name: str) -> None:
    assert_the_same(more, list(MORE).index(name))


def assert_the_same(runs: Runs, at: int) -> None:
    """Rollouts, loss, gradient norm, KL, entropy and gaps of every step; weights and files in the end.

    The members differ in tokens, images and advantages: a mean over processes would differ from the mean over the
    step's tokens.
    """
    out, found = runs
    (one,), two = found["one"][at], found["ddp"][at]
    assert len(one["told"]) == 2
    for step, alone in enumerate(one["told"]):
        parts = [process["told"][step] for process in two]
        assert [group for part in parts for group in part["groups"]] == alone["groups"], "each process has its share"
        assert len(parts[0]["groups"]) == len(parts[1]["groups"])
        for part in parts:
            grpo_launched.assert_alike(part["trained"], alone["trained"])
    folders = [out / name / str(at) for name in ("one", "ddp")]
    assert launched.distance(folders[0] / "model", folders[1] / "model") < 5e-5
    assert all(step["trained"]["grad_norm"] > 0 for step in one["told"]), "there is something to learn"
    assert launched.files(folders[0]) == launched.files(folders[1])


def test_a_resumed_run_of_two_processes_ends_as_the_whole_one(quick: Runs) -> None:
    out, found = quick
    for whole, resumed in zip(found["ddp"][WHOLE], found["ddp"][RESUMED], strict=True):
        assert [one["step"] for one in resumed["told"]] == [3, 4]
        assert [one["trained"] for one in resumed["told"]] == [one["trained"] for one in whole["told"][2:]]
        assert [one["groups"] for one in resumed["told"]] == [one["groups"] for one in whole["told"][2:]]
    assert launched.distance(out / "ddp" / str(WHOLE) / "model", out / "ddp" / str(RESUMED) / "model") == 0


@pytest.mark.slow
def test_one_process_that_cannot_roll_out_ends_all_with_its_own_error(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    plan = grpo_launched.plan(tiny_qwen2_5_vl, roller={"fails": (1, 1)}, max_steps=3)
    done = grpo_launched.start([plan], tmp_path, "ddp", patience=200)
    assert done.returncode != 0
    assert "OSError: the disk of the sandbox is gone" in done.stderr
    assert "process 1 could not roll out (OSError: the disk of the sandbox is gone)" in done.stderr, "process 0 says so"
    assert time.monotonic() - started < 150, "the other process was told, it did not wait"
    assert not (tmp_path / "0" / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_nobody_is_scored_and_all_processes_end(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    plan = grpo_launched.plan(tiny_qwen2_5_vl, roller={"paid": "nobody"}, patience=2, max_steps=9)
    done = grpo_launched.start([plan], tmp_path, "ddp", patience=200)
    assert done.returncode != 0
    assert done.stderr.count("in the last 2 steps, up to step 2, not one group had two rollouts to compare") >= 2


def test_problems_that_make_no_equal_shares_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert forwards(GRPOSettings(problems=4, group=2, batch_size=2)) == 2
    with pytest.raises(ConfigError, match=r"make train\.problems a multiple of 2"):
        forwards(GRPOSettings(problems=3, group=2, batch_size=2))
    with pytest.raises(ConfigError, match=r"let train\.batch_size divide 4"):
        forwards(GRPOSettings(problems=4, group=2, batch_size=8))
