"""Which steps are done, and which have to be done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reproduce_toy as toy

from thyme.errors import ConfigError, UsageError
from thyme.reproduce.graph import How, Result, Step, Store, check, chosen, done, key_of


def finish(store: Store, step: Step, figures: dict[str, Any]) -> None:
    """Write the result of a step as if it had been done."""
    before = {name: result for name in step.inputs if (result := store.read(name)) is not None}
    digests = {name: result.digest for name, result in before.items()}
    for name in step.keeps:
        path = store.work(step.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    store.write(
        Result(
            step=step.name,
            kind=step.kind,
            settings=step.settings,
            inputs=digests,
            key=key_of(step, digests),
            figures=figures,
            how=How(command="test"),
        )
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run whose steps are all done."""
    made = Store(tmp_path / "run")
    for step in toy.steps(tmp_path / "log"):
        finish(made, step, {"total": 1})
    return made


def names(store: Store, steps: list[Step]) -> list[str]:
    return list(done(steps, store))


def test_nothing_is_done_at_first_and_all_of_it_at_last(tmp_path: Path, store: Store) -> None:
    steps = toy.steps(tmp_path / "log")
    assert names(Store(tmp_path / "other"), steps) == []
    assert names(store, steps) == ["a", "b", "c"]


def test_other_settings_undo_a_step_and_those_behind_it(tmp_path: Path, store: Store) -> None:
    changed = toy.steps(tmp_path / "log", first=2)
    assert names(store, changed) == ["c"]


def test_the_same_figures_leave_what_is_behind_untouched(tmp_path: Path, store: Store) -> None:
    changed = toy.steps(tmp_path / "log", first=2)
    finish(store, changed[0], {"total": 1})
    assert names(store, changed) == ["a", "b", "c"]
    finish(store, changed[0], {"total": 2})
    assert names(store, changed) == ["a", "c"]


def test_how_long_it_took_does_not_count(store: Store) -> None:
    result = store.read("a")
    assert result is not None
    other = result.model_copy(update={"how": How(command="test", wall_s=5.0)})
    assert other.digest == result.digest


def test_a_step_whose_files_are_gone_is_done_again_where_they_are_read(tmp_path: Path, store: Store) -> None:
    steps = toy.steps(tmp_path / "log")
    (store.work("a") / "kept").unlink()
    assert names(store, steps) == ["a", "b", "c"], "nobody reads them any more"
    store.path("b").unlink()
    assert names(store, steps) == ["c"]


def test_a_counted_up_version_undoes_a_step(tmp_path: Path, store: Store) -> None:
    steps = toy.steps(tmp_path / "log")
    steps[2] = steps[2].model_copy(update={"version": 2})
    assert names(store, steps) == ["a", "b"]


def test_titles_and_estimates_undo_nothing(tmp_path: Path, store: Store) -> None:
    steps = [step.model_copy(update={"title": "x", "minutes": 9.0}) for step in toy.steps(tmp_path / "log")]
    assert names(store, steps) == ["a", "b", "c"]


def test_a_damaged_result_names_itself(tmp_path: Path, store: Store) -> None:
    store.path("b").write_text("{")
    with pytest.raises(ConfigError, match=r"results/b\.json"):
        done(toy.steps(tmp_path / "log"), store)


def test_what_a_step_builds_on_comes_with_it(tmp_path: Path) -> None:
    steps = toy.steps(tmp_path / "log")
    assert [step.name for step in chosen(steps, ["b"])] == ["a", "b"]
    assert [step.name for step in chosen(steps, ["number"])] == ["a", "b", "c"]
    assert chosen(steps, []) == steps
    with pytest.raises(UsageError, match="no such step: d"):
        chosen(steps, ["a", "d"])


def test_a_plan_out_of_order_is_refused(tmp_path: Path) -> None:
    first, second, _ = toy.steps(tmp_path / "log")
    with pytest.raises(ConfigError, match="'b' builds on a"):
        check([second, first])
    with pytest.raises(ConfigError, match="two steps are called 'a'"):
        check([first, first])
