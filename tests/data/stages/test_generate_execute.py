"""A teacher over HTTP and a real sandbox: what becomes of a draft, and why some are dropped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from teacher_server import Says, TeacherServer, draft_of, made, recipe_of, teaching, workplace

from thyme.data.drafts import Draft, Rejection
from thyme.data.stages import reasons
from thyme.data.stages.base import UnansweredError
from thyme.errors import EngineError
from thyme.markup import is_well_formed
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.types import Observation

pytestmark = pytest.mark.asyncio(loop_scope="module")

CROP = """```python
from PIL import Image
crop = Image.open(image_path).crop((40, 20, 50, 30))
processed_path = "/mnt/data/temp_processed_images/crop_1.png"
crop.save(processed_path)
print(processed_path)
```
"""
FIRST = f"<think>The square is small; I cut it out.\n<code>\n{CROP}</code>"
LAST = "It is all red.</think>\n<answer>red</answer>"


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teaching() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Broker]:
    async with open_sandbox(SandboxConfig(timeout_s=3, stdout_chars=2000)) as broker:
        yield broker


async def outcome(
    server: TeacherServer, sandbox: Broker, *texts: str | Says, scenario: str = "crop", **fields: Any
) -> Draft | Rejection:
    server.replies = [text if isinstance(text, Says) else Says(text) for text in texts]
    async with workplace(recipe_of(server, **fields), sandbox) as context:
        return await made(draft_of(scenario), context)


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


async def test_what_is_stored_is_asked_as_the_trained_model_will_be_and_holds_what_the_code_gave(
    server: TeacherServer, sandbox: Broker
) -> None:
    draft = await outcome(server, sandbox, FIRST, LAST)
    assert isinstance(draft, Draft)
    trajectory = draft.trajectory
    assert trajectory is not None
    assert draft.finished
    assert is_well_formed(trajectory.response)
    assert [segment.kind for segment in trajectory.segments] == ["text", "code", "observation", "text"]
    (observation,) = trajectory.observations
    assert [image.size for image in observation.execution.images] == [(10, 10)]
    assert set(observation.execution.images[0].image.get_flattened_data()) == {(255, 0, 0)}
    told = draft.conversation[1].text
    assert "Target: (40, 20, 50, 30)" in told
    asked = trajectory.prompt.system + trajectory.prompt.user
    assert "Target" not in asked
    assert "Which colour has the square?" in asked
    assert trajectory.problem.images[0].name == "image_1.png"
    assert "red_square" not in trajectory.model_dump_json()
    assert (draft.teacher, trajectory.model, trajectory.usage.rounds) == ("toy", "toy", 1)


async def test_the_teacher_sees_its_pictures_and_what_its_code_gave_turn_by_turn(
    server: TeacherServer, sandbox: Broker
) -> None:
    await outcome(server, sandbox, FIRST, LAST)
    first, second = (request["messages"] for request in server.requests)
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[:2] == first
    shown = next(part for part in first[1]["content"] if part["type"] == "image_url")
    assert picture(shown["image_url"]["url"]).size == (64, 48)
    assert second[2]["content"] == FIRST
    *_, made_image, closing = second[3]["content"]
    assert picture(made_image["image_url"]["url"]).getpixel((5, 5)) == (255, 0, 0)
    assert closing["text"].strip() == "</sandbox_output>"
    assert server.requests[0]["stop"] == ["</code>", "</answer>"]
    assert server.requests[0]["seed"] != server.requests[1]["seed"]


async def test_large_pictures_are_shown_as_small_as_the_teacher_wants_them(
    server: TeacherServer, sandbox: Broker
) -> None:
    await outcome(server, sandbox, teachers={"first": server.teacher(max_pixels=768)})
    shown = next(p for p in server.requests[0]["messages"][1]["content"] if p["type"] == "image_url")
    assert picture(shown["image_url"]["url"]).size == (32, 24)


async def test_what_the_teacher_invents_behind_its_block_is_cut_and_really_run(
    server: TeacherServer, sandbox: Broker
) -> None:
    """A server that knows no stop strings hands on all that the teacher made up."""
    invented = f"{FIRST}\n<sandbox_output>\n7\n</sandbox_output>\nSo it is 7.</think>\n<answer>7</answer>"
    server.always = Says(error="'stop' is not supported by this model", status=400)
    server.replies = [server.always]
    server.always = lambda body: Says(LAST if len(body["messages"]) > 2 else invented)
    async with workplace(recipe_of(server), sandbox) as context:
        draft = await made(draft_of(), context)
    assert isinstance(draft, Draft)
    assert draft.trajectory is not None
    assert "7" not in draft.trajectory.response.replace("(40, 20, 50, 30)", "")
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["system", "user", "assistant", "user"]
    assert server.requests[-1]["messages"][2]["content"] == FIRST


async def test_code_that_was_repaired_is_stored_as_it_ran(server: TeacherServer, sandbox: Broker) -> None:
    """The block is indented as a whole, which Python refuses."""
    indented = "<think>I compute.\n<code>\n    x = 6\n    print(x * 7)\n</code>"
    draft = await outcome(server, sandbox, indented, "So 42.</think><answer>42</answer>")
    assert isinstance(draft, Draft)
    code, observation = draft.segments[1], draft.segments[2]
    assert isinstance(observation, Observation)
    assert observation.execution.repairs
    assert code.text == "\n```python\nx = 6\nprint(x * 7)\n```\n</code>"
    assert observation.execution.stdout.strip() == "42"
    assert draft.conversation[2].text == indented


async def test_variables_live_on_from_block_to_block(server: TeacherServer, sandbox: Broker) -> None:
    first, second = "<think>First.<code>x = 6\nprint(x)</code>", "Then.<code>print(x * 7)</code>"
    draft = await outcome(server, sandbox, first, second, "So 42.</think><answer>42</answer>")
    assert isinstance(draft, Draft)
    assert [o.execution.stdout.strip() for o in draft.trajectory.observations] == ["6", "42"]  # type: ignore[union-attr]  # finished


async def test_a_teacher_that_thinks_anew_each_turn_is_put_into_one_thinking(
    server: TeacherServer, sandbox: Broker
) -> None:
    first = f"<think>I cut it out.</think>\n<code>\n{CROP}</code>"
    draft = await outcome(server, sandbox, first, f"<think>{LAST}")
    assert isinstance(draft, Draft)
    assert draft.trajectory is not None
    assert draft.trajectory.response.count("<think>") == draft.trajectory.response.count("</think>") == 1


FAULTY = "<think>a<code>print(1 / 0)</code>"
REJECTED: dict[str, tuple[str, list[str | Says]]] = {
    "an error where none is corrected": (reasons.ERROR_IN_CODE, [FAULTY]),
    "a block without end": (reasons.SANDBOX_LIMIT, ["<think>a<code>while True: pass</code>"]),
    "a block that prints too much": (reasons.OUTPUT_CUT, ["<think>a<code>print('x' * 9999)</code>"]),
    "a block that gives nothing": (reasons.NO_OUTPUT, ["<think>a<code>x = 1</code>"]),
    "neither code nor answer": (reasons.NO_ANSWER, ["<think>I do not know."]),
    "an empty answer": (reasons.NO_ANSWER, ["<think>a</think><answer> </answer>"]),
    "nothing at all": (reasons.NO_ANSWER, [""]),
    "no thinking": (reasons.MALFORMED, ["<answer>red</answer>"]),
    "thinking that does not end": (reasons.MALFORMED, ["<think>It is red. <answer>red</answer>"]),
    "words before the answer": (reasons.MALFORMED, ["<think>a</think> So: <answer>red</answer>"]),
    "output that nothing gave": (
        reasons.INVENTED_OUTPUT,
        ["<think>I run it.\n<sandbox_output>\n7\n</sandbox_output>\n7.</think><answer>7</answer>"],
    ),
    "output in a later turn": (reasons.INVENTED_OUTPUT, [FIRST, "<sandbox_output>7</sandbox_output></think>"]),
    "a turn that is too long": (reasons.CUT_OFF, [Says("<think>and then and then", finish="length")]),
    "a block that is too long": (reasons.CUT_OFF, [Says("<think>a<code>x = [1, 1, 1", finish="length")]),
    "a filter of the provider": (reasons.REFUSED, [Says("", finish="content_filter")]),
    "a refusal of the provider": (reasons.REFUSED, [Says(status=400, error="rejected by our content policy")]),
    "a full context": (reasons.CONTEXT_FULL, [Says(status=400, error="maximum context length is 4096 tokens")]),
    "a picture that is not taken": (reasons.IMAGE_REFUSED, [Says(status=400, error="image too large")]),
    "one block too many": (reasons.TOO_MANY_ROUNDS, [FIRST, f"again <code>{CROP}</code>", "<code>print(1)</code>"]),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_a_draft_is_dropped_for_its_own_reason(server: TeacherServer, sandbox: Broker, name: str) -> None:
    reason, texts = REJECTED[name]
    rejection = await outcome(server, sandbox, *texts, max_rounds=2)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.note != "" or reason in {reasons.NO_OUTPUT, reasons.OUTPUT_CUT}) == (
        reason,
        True,
    )
    assert rejection.stage in {"generate", "execute"}
    assert reason in reasons.REASONS


async def test_a_rejection_says_how_far_the_draft_came_and_what_it_cost(server: TeacherServer, sandbox: Broker) -> None:
    rejection = await outcome(
        server, sandbox, FIRST, "I do not know.", teachers={"first": server.teacher(input_price=2.0, output_price=50.0)}
    )
    assert isinstance(rejection, Rejection)
    assert [said.role for said in rejection.draft.conversation] == ["system", "user", "assistant", "user", "assistant"]
    costs = rejection.draft.costs
    assert (costs.requests, costs.recorded, costs.prompt_tokens, costs.completion_tokens) == (2, 0, 200, 20)
    assert costs.usd == pytest.approx((200 * 2.0 + 20 * 50.0) / 1e6)


async def test_a_scenario_that_corrects_errors_lets_the_teacher_read_them(
    server: TeacherServer, sandbox: Broker
) -> None:
    draft = await outcome(server, sandbox, FAULTY, f"That failed.\n<code>{CROP}</code>", LAST, scenario="correction")
    assert isinstance(draft, Draft)
    failed, worked = draft.trajectory.observations  # type: ignore[union-attr]  # finished
    assert failed.execution.error is not None
    assert "ZeroDivisionError: division by zero" in server.requests[1]["messages"][3]["content"]
    assert worked.execution.error is None


async def test_an_error_that_is_not_put_right_drops_the_draft_in_any_scenario(
    server: TeacherServer, sandbox: Broker
) -> None:
    rejection = await outcome(server, sandbox, FAULTY, LAST, scenario="correction")
    assert isinstance(rejection, Rejection)
    assert (rejection.stage, rejection.reason) == ("generate", reasons.ERROR_IN_CODE)


STOPPING = {
    "a key that is refused": (Says(status=401, error="no"), EngineError),
    "a model that is blind": (Says(status=400, error="this is not a multimodal model"), EngineError),
    "a field that nobody knows": (Says(status=400, error="unknown field 'model'"), EngineError),
    "a server that fails at all": (Says(status=500, error="oh"), EngineError),
    "thinking that was taken out": (Says("", reasoning="I look. <code>print(1)</code>"), EngineError),
}


@pytest.mark.parametrize("name", STOPPING)
async def test_what_is_wrong_with_the_endpoint_stops_the_build(
    server: TeacherServer, sandbox: Broker, name: str
) -> None:
    server.always, error = STOPPING[name]
    with pytest.raises(error) as raised:
        await outcome(server, sandbox)
    assert not isinstance(raised.value, UnansweredError)


async def test_a_draft_that_was_cut_off_is_made_again_for_free_and_to_the_same_bytes(
    server: TeacherServer, sandbox: Broker, tmp_path: Path
) -> None:
    """It ends after the block ran, as if the process had been killed; then it is made twice."""
    recipe = recipe_of(server)
    server.replies = [Says(FIRST), Says(status=401, error="gone")]
    async with workplace(recipe, sandbox, tmp_path) as context:
        with pytest.raises(EngineError):
            await made(draft_of(), context)
    server.replies, drafts = [Says(LAST)], []
    for _ in range(2):
        async with workplace(recipe, sandbox, tmp_path) as context:
            drafts.append(await made(draft_of(), context))
    assert [(draft.costs.requests, draft.costs.recorded) for draft in drafts if isinstance(draft, Draft)] == [
        (1, 1),
        (0, 2),
    ]
    first, second = (bytes_of(draft) for draft in drafts)
    assert first == second
    assert len(server.requests) == 3


def bytes_of(record: Draft | Rejection) -> str:
    """What is stored, but for seconds and costs."""
    return re.sub(r'"duration_s":[0-9.e-]+', "", record.model_dump_json(exclude={"costs"}))
