"""Every class of errors that the rule-based teacher knows, in every scenario, through the real stages and sandbox."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from nano_serving import serving

from thyme.config.data import DataRecipe, SourceSettings
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.chain import Chain
from thyme.data.scenarios.upright import upright
from thyme.data.stages import STAGES
from thyme.data.stages.base import Context
from thyme.data.stages.prepare import prepared
from thyme.data.teachers import TeacherPool
from thyme.errors import ConfigError
from thyme.nano import checkpoint_path
from thyme.nano.factory.caught import key_of, tally
from thyme.nano.factory.checker import Slips
from thyme.nano.factory.faults import ALL, FAULTS, KEPT, Rates
from thyme.nano.factory.server import Classroom
from thyme.nano.factory.source import open_nano
from thyme.nano.factory.taught import as_seen
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.types import Execution, ImageRecord, Observation

KIND = {"no_code": "easy", "rotation": "easy", "contrast": "easy", "operations": "measure", "computation": "arithmetic"}
PAIRS = [(name, scenario) for name, fault in FAULTS.items() for scenario in fault.found]
FIRST = {name: next(iter(fault.found)) for name, fault in FAULTS.items()}
SLOW = {"endless_code"}
HONEST = [("", scenario) for scenario in ALL]


def drafted(scenario: str, row: int, seed: int = 3) -> Draft:
    kind = KIND.get(scenario, "zoom")
    source = open_nano("nano", SourceSettings(world="nano", columns={"kind": kind}), seed)
    problem = source.problem(row)
    id = f"nano-{row:07d}-{scenario}"
    return Draft(id=id, scenario=scenario, seed=row, source="nano", origin=problem, problem=problem)


def recipe_of(url: str) -> DataRecipe:
    quick = {"retries": 2, "backoff_s": 0.001}
    return DataRecipe.model_validate(
        {
            "count": 1,
            "sources": {"nano": {"world": "nano"}},
            "scenarios": {"crop": 1.0},
            "teachers": {"rules": {"model": f"{url}#nano-teacher", **quick}},
            "check": {"judge": {"model": f"{url}#nano-checker", **quick}},
            "sandbox": {"timeout_s": 30.0},
        }
    )


async def made(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Draft | Rejection]:
    classroom = Classroom(slips=Slips(0, 0, 0))
    found: dict[tuple[str, str], Draft | Rejection] = {}
    with serving(classroom) as url:
        recipe = recipe_of(url)
        async with TeacherPool(recipe, None, environment={}) as teachers, open_sandbox(recipe.sandbox) as sandbox:
            prompts = PromptSet.load(checkpoint_path() / "prompts")
            chain = Chain(STAGES, Context(recipe, sandbox, prompts, teachers))
            for place, (name, scenario) in enumerate(pairs):
                classroom.rates = Rates(0.0, {name: 1.0} if name else {})
                found[name, scenario] = await chain.run(drafted(scenario, place))
    return found


def outcome(record: Draft | Rejection) -> str:
    return KEPT if isinstance(record, Draft) else f"{record.stage}/{record.reason}"


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], Draft | Rejection]:
    return asyncio.run(made([*HONEST, *((n, s) for n, s in FIRST.items() if n not in SLOW)]))


@pytest.mark.parametrize("scenario", ALL)
def test_what_is_right_is_kept(outcomes: dict[tuple[str, str], Draft | Rejection], scenario: str) -> None:
    record = outcomes["", scenario]
    assert outcome(record) == KEPT, record
    assert isinstance(record, Draft)
    assert [verdict.fits for verdict in record.verdicts] == [True]


@pytest.mark.parametrize("name", [name for name in FIRST if name not in SLOW])
def test_each_class_ends_as_it_should(outcomes: dict[tuple[str, str], Draft | Rejection], name: str) -> None:
    record = outcomes[name, FIRST[name]]
    note = record.note if isinstance(record, Rejection) else ""
    assert FAULTS[name].caught_by(FIRST[name], outcome(record)), f"{outcome(record)}: {note}"


def test_repaired_code_is_stored_as_it_ran(outcomes: dict[tuple[str, str], Draft | Rejection]) -> None:
    record = outcomes["code_repaired", FIRST["code_repaired"]]
    assert isinstance(record, Draft)
    assert record.trajectory is not None
    execution = next(s.execution for s in record.segments if isinstance(s, Observation))
    assert execution.ran
    assert execution.ran != execution.code
    assert execution.ran.strip() in record.trajectory.response
    assert execution.code not in record.trajectory.response


def test_the_table_says_what_became_of_each(outcomes: dict[tuple[str, str], Draft | Rejection]) -> None:
    planted = {key_of(r if isinstance(r, Draft) else r.draft): name for (name, _), r in outcomes.items()}
    table = tally(outcomes.values(), planted, Counter())
    assert table.honest == {KEPT: len(ALL)}
    assert table.repaired == {True: 1}
    assert not table.repeats
    assert not table.unknown
    for name in FIRST.keys() - SLOW:
        one = table.classes[name]
        assert (one.planted, one.as_meant, one.rate, one.otherwise) == (1, 1, 1.0, {}), name
    missed = tally([outcomes["", "crop"]], dict.fromkeys(planted, "beside"), Counter())
    assert (missed.classes["beside"].rate, missed.classes["beside"].kept) == (0.0, 1)
    assert missed.classes["loose"].rate is None
    assert tally([outcomes["", "crop"]], {}, Counter()).unknown == 1
    assert tally([outcomes["", "crop"]] * 3, planted, Counter()).repeats == 2


def test_records_are_learnt_as_the_embedded_model_sees_them(outcomes: dict[tuple[str, str], Draft | Rejection]) -> None:
    record = outcomes["", "enhancement"]
    assert isinstance(record, Draft)
    assert record.trajectory is not None
    seen = as_seen(record.trajectory, PromptSet.load(checkpoint_path() / "prompts"))
    assert "1024 x 1024, seen at 128 x 128" in seen.prompt.user
    images = [*seen.problem.images, *(image for one in seen.observations for image in one.execution.images)]
    assert [image.size for image in images] == [(128, 128)] * 3
    assert [one.seen_sizes for one in seen.observations] == [((128, 128),)] * 2
    assert seen.response == record.trajectory.response


def test_a_picture_turned_wrongly_is_not_found_in_itself() -> None:
    """The whole scene, much reduced, looks like one even corner of this one."""
    drawn = prepared(drafted("rotation", 674, seed=0).model_copy(update={"seed": 1}))
    assert isinstance(drawn, Draft)
    wrong = drawn.origin.images[0].image.rotate(270, expand=True)
    execution = Execution(code="", stdout="", images=(ImageRecord.of(wrong),), isolation="scripted")
    refusal = upright(drawn.model_copy(update={"segments": (Observation(execution=execution, text=""),)}))
    assert refusal is not None
    assert refusal.reason == "not_upright"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_class_in_every_scenario() -> None:
    """Some minutes: 150 conversations, some of which run into the time limit of the sandbox."""
    wrong = {
        pair: f"{outcome(record)}: {record.note if isinstance(record, Rejection) else ''}"
        for pair, record in asyncio.run(made(PAIRS)).items()
        if not FAULTS[pair[0]].caught_by(pair[1], outcome(record))
    }
    assert not wrong


def test_rates_name_known_classes_and_leave_room() -> None:
    with pytest.raises(ConfigError, match="no class of errors 'tired'"):
        Rates(0.0, {"tired": 0.5})
    with pytest.raises(ConfigError, match="sum up to"):
        Rates(0.2)
