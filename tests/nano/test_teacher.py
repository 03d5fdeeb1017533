"""The teacher's trajectories: real code in the real sandbox, and a region that the text names before the code."""

import re

import pytest

from thyme.markup import is_well_formed
from thyme.nano import CHECKPOINTS
from thyme.nano.perception.views import VIEW, look
from thyme.nano.teacher import TeacherError, compact, demonstrate, demonstrations, plan
from thyme.nano.world import KINDS, problem
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.types import Problem

ROUNDS = {"easy": 0, "zoom": 1, "rotation": 1, "contrast": 1, "arithmetic": 1, "two_round": 2}


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(CHECKPOINTS / "final" / "prompts")


async def test_every_kind_is_solved_in_the_sandbox(prompts):
    async with open_sandbox() as sandbox:
        for kind in KINDS:
            shown = await demonstrate(problem("train", 9, 0, kind), sandbox, prompts)
            assert is_well_formed(shown.response), kind
            assert shown.response.endswith(f"<answer>{shown.problem.answer}</answer>")
            rounds = ROUNDS.get(kind, 0 if shown.problem.meta.get("large", [True])[0] else 1)
            assert len(shown.observations) == rounds == shown.usage.rounds
            assert all(o.execution.error is None and not o.execution.repairs for o in shown.observations)
            if rounds and kind != "arithmetic":
                sizes = [o.execution.images[0].size for o in shown.observations]
                assert sizes == [(1024, 1024) if kind in {"rotation", "contrast"} else (192, 192)] * rounds


async def test_the_sandbox_gives_what_the_world_promises(prompts):
    """The turned picture is upright again, and the computed number is right."""
    async with open_sandbox() as sandbox:
        turned = await demonstrate(problem("train", 9, 1, "rotation"), sandbox, prompts)
        back = turned.observations[0].execution.images[0].image
        original = turned.problem.images[0].image.rotate(360 - turned.problem.meta["angle"], expand=True)
        assert back.tobytes() == original.tobytes()
        computed = await demonstrate(problem("train", 9, 1, "arithmetic"), sandbox, prompts)
        assert computed.observations[0].execution.stdout.strip() == computed.problem.answer


@pytest.mark.parametrize("kind", ["zoom", "two_round"])
def test_the_text_names_the_region_before_the_code_copies_it(kind):
    for text, code in plan(problem("train", 9, 2, kind)).rounds:
        named = re.findall(r"near \w+ \((\d+), (\d+)\)", text)
        copied = re.findall(r"x, y = (\d+), (\d+)", code)
        assert named == copied
        assert len(named) == 1


async def test_compact_trajectories_show_the_model_the_same(prompts):
    async with open_sandbox() as sandbox:
        whole = await demonstrate(problem("train", 9, 3, "zoom"), sandbox, prompts)
    small = compact(whole)
    assert small.response == whole.response
    assert small.prompt.user == whole.prompt.user
    for one, other in zip(
        (whole.problem.images[0], whole.observations[0].execution.images[0]),
        (small.problem.images[0], small.observations[0].execution.images[0]),
        strict=True,
    ):
        assert other.size == (VIEW, VIEW)
        assert (look(one.image) == look(other.image)).all()


async def test_demonstrations_keep_their_order(prompts):
    asked = [problem("train", 9, index, "arithmetic") for index in range(5)]
    async with open_sandbox() as sandbox:
        shown = [t.id async for t in demonstrations(asked, sandbox, prompts, concurrency=2)]
    assert shown == [p.id for p in asked]


async def test_code_that_fails_is_no_demonstration(prompts):
    broken = problem("train", 9, 0, "arithmetic").model_copy(update={"meta": {"expression": "1 / 0"}})
    async with open_sandbox() as sandbox:
        with pytest.raises(TeacherError, match="ZeroDivisionError"):
            await demonstrate(broken, sandbox, prompts)


def test_only_this_world_has_a_plan():
    with pytest.raises(ValueError, match="not one of the embedded world"):
        plan(Problem(id="x", question="?", answer="y", kind="chart"))
