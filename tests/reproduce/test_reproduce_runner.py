"""Steps are done once, in processes of their own; what fails or must wait stops nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import reproduce_toy as toy
from waiting import wait_until

from thyme.errors import UsageError
from thyme.reproduce.graph import How, Result, Step, Store
from thyme.reproduce.runner import KEY, Runner, do, pace


def runner(store: Store, **settings: float) -> Runner:
    return Runner(store, "test", where="reproduce_toy", until_s=settings.get("until_s"))


def test_a_run_is_done_once_and_goes_on_where_it_changed(tmp_path: Path) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "run")
    sitting = runner(store).run(toy.steps(log)[:2])
    assert (sitting.did, sitting.left, sitting.failed) == (["a", "b"], [], {})
    assert runner(store).run(toy.steps(log)[:2]).did == []
    result = store.read("b")
    assert result is not None
    assert result.figures == {"total": 1}
    assert result.how.command == "test"
    assert result.how.cpu_s is not None
    assert result.how.cpu_s > 0
    assert result.how.memory_gib
    assert not result.how.resumed
    # Another number that comes to the same figure: the step behind it stays as it is.
    assert runner(store).run(toy.steps(log, first=11)[:2]).did == ["a"]
    assert log.read_text().split() == ["a", "b", "a"]


def test_what_fails_stops_only_what_is_behind_it(tmp_path: Path) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "run")
    told = {"log": str(log)}
    steps = [
        Step(name="broken", kind="fail", title="fails"),
        Step(name="odd", kind="crash", title="has a figure that is none"),
        Step(name="behind", kind="number", title="waits", settings=told, inputs=("broken",)),
        Step(name="beside", kind="number", title="does not", settings=told),
    ]
    sitting = runner(store).run(steps)
    assert sitting.did == ["beside"]
    assert sitting.left == ["broken", "odd", "behind"]
    assert sitting.failed["broken"] == "it cannot be"
    assert "ValueError" in sitting.failed["odd"]


def test_a_sitting_ends_before_its_time_is_up(tmp_path: Path) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "run")
    sitting = runner(store, until_s=60 * 10).run(toy.steps(log))
    assert sitting.did == ["a", "b"]
    assert sitting.left == ["c"], "it is expected to take fifty minutes"


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    store, step = Store(tmp_path / "run"), Step(name="stuck", kind="stuck", title="waits for ever")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "from thyme.reproduce.graph import Step, Store\n"
        "from thyme.reproduce.runner import Runner\n"
        "if __name__ == '__main__':\n"
        "    steps = [Step.model_validate_json(sys.argv[2])]\n"
        "    Runner(Store(Path(sys.argv[1])), 'test', where='reproduce_toy').run(steps)\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, str(script), str(store.folder), step.model_dump_json()], env=path) as run:
        half = store.work("stuck") / "half"
        wait_until(lambda: half.exists() and bool(half.read_text()))
        run.kill()
    wait_until(lambda: not Path(f"/proc/{half.read_text()}").exists())  # its process ends with it
    assert runner(store).run([step]).did == ["stuck"]
    result = store.read("stuck")
    assert result is not None
    assert result.how.resumed


def test_a_slow_machine_is_expected_to_stay_slow(tmp_path: Path) -> None:
    steps = toy.steps(tmp_path / "log")
    assert pace(steps, {}) == 1.0
    how = How(command="test", wall_s=180.0)
    took = Result(step="a", kind="number", settings={}, key="", figures={}, how=how)
    assert pace(steps, {"a": took}) == 3.0
    unknown = took.model_copy(update={"how": How(command="test")})
    assert pace(steps, {"a": took, "c": unknown}) == 3.0


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process works in 'run'"):
            runner(Store(folder)).run([])


def test_what_was_begun_for_other_settings_is_removed(tmp_path: Path) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "run")
    step = toy.steps(log)[0]
    work = store.work("a")
    work.mkdir(parents=True)
    (work / "half").touch()
    do(step, store.folder, "test", "reproduce_toy")
    assert not (work / "half").exists()
    store.path("a").unlink()
    (work / "half").touch()
    do(step, store.folder, "test", "reproduce_toy")
    assert (work / "half").exists(), "the same step goes on with what is there"
    result = store.read("a")
    assert result is not None
    assert result.how.resumed
    assert (work / KEY).read_text() == result.key


def test_a_step_that_another_process_finished_meanwhile_is_not_done_twice(tmp_path: Path) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "run")
    step = toy.steps(log)[0]
    for _ in range(2):
        do(step, store.folder, "test", "reproduce_toy")
    assert log.read_text().split() == ["a"]
