"""The check by a model: what it is shown, what it may say, and what follows from it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from teacher_server import Says, TeacherServer, draft_of, recipe_of, teaching, workplace

from thyme.data.drafts import Draft, Rejection, Verdict
from thyme.data.stages import reasons
from thyme.data.stages.check import check, form
from thyme.data.stages.finish import finish
from thyme.errors import EngineError
from thyme.markup import observation_text
from thyme.types import Execution, Generated, ImageRecord, Observation, Segment

GOOD = '{"reason": "All is there.", "fits": 1, "needed": 1}'


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teaching() as found:
        found.always = Says(GOOD)
        yield found


def segments(*, code: bool) -> tuple[Segment, ...]:
    if not code:
        return (Generated(kind="text", text="<think>I see.</think><answer>red</answer>", temperature=0.7),)
    part = ImageRecord.of(Image.new("RGB", (10, 10), (255, 0, 0)))
    execution = Execution(code="crop()", stdout="/mnt/crop_1.png", images=(part,))
    return (
        Generated(kind="text", text="<think>I cut it out.<code>", temperature=0.7),
        Generated(kind="code", text="\n```python\ncrop()\n```\n</code>", temperature=0.7),
        Observation(execution=execution, text=observation_text(execution), seen_sizes=((10, 10),)),
        Generated(kind="text", text="Red.</think><answer>red</answer>", temperature=0.7),
    )


async def checked(
    server: TeacherServer, *replies: str, code: bool = True, judge: bool = True, check_by: Any = None, **settings: Any
) -> Draft | Rejection:
    server.replies = [Says(reply) for reply in replies]
    values = {"check": {"judge": server.judge() if judge else None, **settings}}
    async with workplace(recipe_of(server, **values), None) as context:
        draft = draft_of(segments=segments(code=code), teacher="toy", finished=True)
        draft = draft.model_copy(update={"trajectory": finish(draft, context)})
        if check_by is not None:
            object.__setattr__(context, "check", check_by)
        return await check(draft, context)


async def test_the_judge_sees_the_record_as_quoted_material_and_every_picture_under_its_name(
    server: TeacherServer,
) -> None:
    draft = await checked(server)
    assert isinstance(draft, Draft)
    assert draft.verdicts == (Verdict(judge="toy", fits=True, needed=True, reason="All is there."),)
    assert (draft.costs.requests, draft.costs.prompt_tokens) == (1, 100)
    system, user = server.requests[0]["messages"]
    assert system["content"] == form(needed=True).prompt
    parts = user["content"]
    material = json.loads(parts[0]["text"].partition("\n\nImage 1")[0])
    assert material["question"] == "Which colour has the square? (image 1)"
    assert [next(iter(step)) for step in material["steps"]] == ["text", "code", "output", "text"]
    assert material["steps"][1] == {"code": "crop()"}
    assert "(image 2)" in material["steps"][2]["output"]
    assert material["answer"] == "red"
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in pictures]
    assert sizes == [(64, 48), (10, 10)]
    assert "boxes" not in json.dumps(material)


OUTCOMES = {
    "fits, and code was needed": (GOOD, True, None),
    "does not fit": ('{"reason": "The crop is grey.", "fits": 0, "needed": 1}', True, reasons.DOES_NOT_FIT),
    "code for nothing": ('{"reason": "Plain to see.", "fits": 1, "needed": 0}', True, reasons.CODE_NOT_NEEDED),
    "no code where it is needed": ('{"reason": "Too small.", "fits": 1, "needed": 1}', False, reasons.CODE_MISSING),
    "no code and none needed": ('{"reason": "Plain to see.", "fits": 1, "needed": 0}', False, None),
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_what_the_judge_says_decides(server: TeacherServer, name: str) -> None:
    reply, code, reason = OUTCOMES[name]
    record = await checked(server, reply, code=code)
    draft = record.draft if isinstance(record, Rejection) else record
    assert (record.reason if isinstance(record, Rejection) else None) == reason
    assert draft.verdicts[0].reason == json.loads(reply)["reason"]


async def test_whether_code_was_needed_is_only_asked_where_that_is_wanted(server: TeacherServer) -> None:
    record = await checked(server, '{"reason": "Good.", "fits": 1}', needed=False)
    assert isinstance(record, Draft)
    assert record.verdicts[0].needed is None
    assert "code is needed" not in server.requests[0]["messages"][0]["content"]


NO_VERDICTS = [
    "It fits.",
    f"{GOOD} I hope this helps.",
    '{"reason": "", "fits": true, "needed": true}',
    '{"reason": "", "fits": 1}',
    '{"reason": "", "fits": 2, "needed": 1}',
    '{"reason": "", "fits": 0, "fits": 1, "needed": 1}',
    '{"reason": "", "fits": 1, "needed": 1, "score": 9}',
    "",
]


@pytest.mark.parametrize("reply", NO_VERDICTS)
async def test_what_is_no_verdict_is_asked_for_again_with_a_reminder(server: TeacherServer, reply: str) -> None:
    record = await checked(server, reply)
    assert isinstance(record, Draft)
    assert [len(request["messages"]) for request in server.requests] == [2, 4]
    assert "Reply with the JSON object alone" in server.requests[1]["messages"][3]["content"]
    assert record.costs.requests == 2


async def test_a_record_that_gets_no_verdict_is_dropped_and_never_taken_for_checked(server: TeacherServer) -> None:
    server.always = Says("It fits.")
    record = await checked(server)
    assert isinstance(record, Rejection)
    assert (record.stage, record.reason, record.draft.verdicts) == ("check", reasons.NO_VERDICT, ())
    assert len(server.requests) == 3


async def test_a_record_that_forges_a_verdict_stays_inside_its_quotation(server: TeacherServer) -> None:
    server.always = lambda body: Says(f"It says {body['messages'][1]['content'][0]['text']}")
    record = await checked(server)
    assert isinstance(record, Rejection)
    assert not {"\n", "`", "<", "|"} & set(server.requests[0]["messages"][1]["content"][0]["text"].partition("\n\n")[0])


async def test_without_a_judge_records_pass_and_say_that_nobody_checked(server: TeacherServer) -> None:
    record = await checked(server, judge=False)
    assert isinstance(record, Draft)
    assert record.verdicts == ()
    assert server.requests == []


async def test_somebody_else_can_check_in_its_place(server: TeacherServer) -> None:
    async def strict(draft: Draft) -> Verdict:
        return Verdict(judge="a person", fits=False, reason=f"I do not like {draft.id}.")

    record = await checked(server, check_by=strict)
    assert isinstance(record, Rejection)
    assert (record.reason, record.note) == (reasons.DOES_NOT_FIT, "I do not like pictures-0-crop.")
    assert server.requests == []


async def test_a_judge_that_cannot_be_asked_stops_the_build(server: TeacherServer) -> None:
    server.always = Says(status=401, error="no")
    with pytest.raises(EngineError):
        await checked(server)
