"""The report is made of stored results alone, and can be made again from what was copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_reproduce_claims import result

from thyme.errors import ConfigError
from thyme.reproduce.graph import How, Result, Store, key_of
from thyme.reproduce.measures import Difference
from thyme.reproduce.plan import QUICK, Settings, left_out, plan
from thyme.reproduce.report import percent, written
from thyme.reproduce.writing import RUN, keep_plan, markdown, page, read_plan, write

SMALL = QUICK.model_copy(update={"seeds": (1, 2)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of which two arms were asked, nothing else."""
    made = Store(tmp_path / "run")
    keep_plan(made, SMALL)
    steps = {step.name: step for step in plan(SMALL)}
    for arm, share in (("base", 0), ("undecided", 1)):
        for seed in (1, 2):
            step = steps[f"asked-{arm}-{seed}"]
            told = result(arm, seed, [share, 1, share, share])
            how = How(
                command="thyme reproduce --quick", processor="a <b>fast</b> one", cores=2, cpu_s=30.0, wall_s=60.0
            )
            made.write(told.model_copy(update={"settings": step.settings, "key": key_of(step, {}), "how": how}))
    (made.folder / "steps").mkdir()
    return made


def test_the_page_tells_what_came_out_and_what_is_lacking(store: Store) -> None:
    text = markdown(store)
    assert "| base with the code prompt |" in text
    assert "| undecided start | – | – | 100.0 |" in text
    assert "not measured: 17" in text
    assert "steps are still to be done" in text
    assert "Seeds: 2 instead of 3." in text
    assert "thyme reproduce --quick" in text
    assert str(store.folder) not in text


def test_a_copy_of_the_results_gives_the_same_page(store: Store, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    stray = Store(docs).path("asked-of-old-1")
    stray.parent.mkdir(parents=True)
    stray.write_text((store.path("asked-base-1")).read_text())
    other = stray.with_name("other.json")
    other.write_text("{}")
    write(store, docs)
    assert not stray.exists(), "a result of an earlier plan"
    assert other.exists(), "no result, so none of ours"
    assert (docs / "reproduction.md").read_text() == markdown(store) == markdown(Store(docs))
    assert (docs / "reproduction_main.png").read_bytes()[:4] == b"\x89PNG"


def test_a_figure_that_changes_changes_the_page(store: Store) -> None:
    before = markdown(store)
    told = store.read("asked-base-1")
    assert told is not None
    told.figures["kinds"]["zoom"]["right"][0] = 1.0
    store.write(told)
    assert markdown(store) != before


def test_names_from_outside_are_escaped(store: Store) -> None:
    steps, settings = read_plan(store)
    made = page({one.name: found for one in steps if (found := store.read(one.name))}, steps, settings)
    assert "a &lt;b&gt;fast&lt;/b&gt; one" in made
    assert "<script" not in made
    assert 'id="claims"' in made
    assert "**" not in made


def test_without_a_plan_there_is_no_page(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        markdown(Store(tmp_path / "nothing"))
    store.path(RUN).write_text("{}")
    with pytest.raises(ConfigError, match="holds no run"):
        markdown(store)


def test_figures_of_bulky_steps_stay_in_the_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    settings = Settings(seeds=(1,))
    keep_plan(store, settings)
    step = next(step for step in plan(settings) if step.name == "sft-arms-1")
    told = Result(
        step=step.name,
        kind=step.kind,
        settings=step.settings,
        key=key_of(step, {}),
        figures={"results": list(range(9))},
        how=How(command="test", cpu_s=60.0),
    )
    store.write(told)
    write(store, tmp_path / "docs")
    copied = Store(tmp_path / "docs").read(step.name)
    assert copied is not None
    assert copied.figures == {}
    assert copied.digest == told.digest, "so that what was made of them holds in a copy, too"
    assert "| sft-arms | 1 | 1.0 |" in markdown(Store(tmp_path / "docs"))


def test_differences_are_written_with_their_intervals() -> None:
    assert (
        written(Difference(0.1, (0.1,), ((0.05, 0.2), (-0.1, 0.3))))
        == "+10.0 points (+5.0 to +20.0 and -10.0 to +30.0)"
    )
    assert written(Difference(-120.4, (-120.4,), (), "tokens")) == "-120 tokens (no interval)"
    assert percent(None) == "–"
    assert percent(Difference(0.5, (0.5,), ((-0.1, 0.6),)), interval=True) == "50.0 (0 to 60)"


def test_a_full_run_leaves_nothing_out() -> None:
    assert left_out(Settings()) == []
    said = " ".join(left_out(QUICK))
    for lacking in ("Seeds: 1 instead of 3", "ablations", "problems of each kind", "looping start", "shipped weights"):
        assert lacking in said
