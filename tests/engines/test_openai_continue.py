"""What the engine sends a server that continues messages, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest
from engine_helpers import picture
from openai_client_helpers import collect, engine_over, request, text
from openai_server import Fake, error, images, serving
from PIL import Image

from thyme.agent.rollout import rollout
from thyme.config import RolloutConfig
from thyme.engines import open_engine
from thyme.engines.base import Request
from thyme.errors import ContextFullError, EngineError, UsageError
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.sandbox import open_sandbox
from thyme.types import Execution, Generated, Observation, Problem, StopReason

IMAGE, CROP = picture(0, 50, 40), picture(1, 30, 20)
NANO = str(checkpoint_path("final"))


def generated(words: str, kind: Any = "text") -> Generated:
    return Generated(kind=kind, text=words, temperature=0.0)


def pixels(part: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_the_assistants_message_goes_on_with_images_inside_it() -> None:
    fake = Fake(["I zoom.<code>\ncrop()</code>", "Red.</answer>"])
    async with engine_over(fake) as engine:
        seen = engine.observation(Execution(code="", stdout="a.png", images=(CROP,)))
        begun = generated("I zoom.<code>"), generated("\ncrop()</code>", "code")
        chunks = await collect(engine, request(engine, *begun, seen, temperature=0.7, seed=5, max_tokens=9))
    system, user, assistant = fake.last["messages"]
    assert (system, user["content"][1]) == (
        {"role": "system", "content": "Look."},
        {"type": "text", "text": " What?"},
    )
    assert pixels(user["content"][0]).tobytes() == IMAGE.image.tobytes()
    head, shown, tail = assistant["content"]
    assert head["text"] == "I zoom.<code>\ncrop()</code>\n<sandbox_output>\na.png\n"
    assert pixels(shown).tobytes() == CROP.image.tobytes()
    assert tail["text"] == "\n</sandbox_output>\n"
    sent = {key: value for key, value in fake.last.items() if key != "messages"}
    assert sent == {
        "model": "toy", "temperature": 0.7, "max_tokens": 9, "seed": 5, "stream": True, "stop": ["<code>", "</answer>"],
        "continue_final_message": True, "add_generation_prompt": False, "return_token_ids": True, "logprobs": True,
        "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "skip_special_tokens": False,
    }  # fmt: skip
    assert text(chunks) == "Red.</answer>"


async def test_a_first_span_asks_for_a_new_message() -> None:
    fake = Fake(["Red.<code>x"])
    async with engine_over(fake) as engine:
        await collect(engine, request(engine))
    assert [message["role"] for message in fake.last["messages"]] == ["system", "user"]
    assert not {"continue_final_message", "add_generation_prompt"} & fake.last.keys()


async def test_a_greedy_span_needs_no_seed() -> None:
    fake = Fake()
    async with engine_over(fake) as engine:
        await collect(engine, request(engine, seed=1))
    assert "seed" not in fake.last


async def test_settings_add_fields_and_take_them_out() -> None:
    fake = Fake()
    extra = {"seed": None, "repetition_penalty": 1.1, "priority": 2}
    async with engine_over(fake, openai={"extra": extra}) as engine:
        await collect(engine, request(engine, seed=1, temperature=1.0))
    assert "seed" not in fake.last
    assert (fake.last["repetition_penalty"], fake.last["priority"]) == (1.1, 2)


async def test_limits_of_pixels_are_kept_before_an_image_is_sent() -> None:
    fake = Fake()
    async with engine_over(fake, max_pixels=500, min_pixels=200) as engine:
        sent = engine.prompt("", "<image><image>", [IMAGE, picture(3, 10, 5)])
        sizes = [(seen.seen_width, seen.seen_height) for seen in sent.images]
        await collect(engine, Request("t", sent))
    parts = fake.last["messages"][0]["content"]
    assert sizes == [pixels(part).size for part in parts] == [(25, 20), (20, 10)]


async def test_an_image_is_sent_as_the_file_it_came_in() -> None:
    from thyme.images import load_image

    file = io.BytesIO()
    IMAGE.image.save(file, "JPEG")
    fake = Fake()
    async with engine_over(fake) as engine:
        prompt = engine.prompt("", "<image>", [load_image(file.getvalue())])
        await collect(engine, Request("t", prompt))
    url = fake.last["messages"][0]["content"][0]["image_url"]["url"]
    assert url == f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


# --- what comes back --------------------------------------------------------------------------------------------------


async def test_ids_and_logprobs_come_with_the_text_and_the_overhang() -> None:
    fake = Fake(["ab <code>\nx"])  # tokens of four characters: the last one is "de>\n"
    async with engine_over(fake) as engine:
        chunks = await collect(engine, request(engine, temperature=0.5))
    ids = [token for chunk in chunks for token in chunk.token_ids]
    assert ids == [fake.ids(piece) for piece in ("ab <", "code", ">\nx")]
    assert text(chunks) == "ab <code>\nx"
    assert [value for chunk in chunks for value in chunk.logprobs] == [-1.0] * 3  # of logits / 0.5
    assert (chunks[-1].stop, chunks[-1].stop_string) == ("stop", "<code>")


@pytest.mark.parametrize(("temperature", "known"), [(0.0, True), (1.0, True), (0.5, False)])
async def test_logprobs_of_other_temperatures_are_left_out(temperature: float, known: bool) -> None:
    async with engine_over(Fake(logprobs="raw")) as engine:
        assert not engine.info.capabilities.logprobs
        chunks = await collect(engine, request(engine, temperature=temperature))
    assert any(chunk.logprobs for chunk in chunks) is known
    assert any(chunk.token_ids for chunk in chunks)


@pytest.mark.parametrize("server", [{"names_stop": False}, {"strips_stop": False}, {"streams": False}, {}])
async def test_a_span_ends_at_its_stop_string_on_every_server(server: dict[str, Any]) -> None:
    async with engine_over(Fake(["ab <code>\nx", ""], with_ids=False, logprobs=None, **server)) as engine:
        chunks = await collect(engine, request(engine))
    assert text(chunks) == "ab <code>"
    assert (chunks[-1].stop, chunks[-1].stop_string) == ("stop", "<code>")


@pytest.mark.parametrize(
    ("said", "fields", "stop"),
    [("abc", {}, "end"), ("", {}, "end"), ("abcdefgh", {"max_tokens": 1}, "length")],
)
async def test_other_ends_of_a_span(said: str, fields: dict[str, Any], stop: str) -> None:
    async with engine_over(fake := Fake(["xyz."])) as engine:
        fake.script = [said]
        chunks = await collect(engine, request(engine, **fields))
    assert (chunks[-1].stop, chunks[-1].stop_string) == (stop, None)


async def test_closing_the_iterator_stops_the_server() -> None:
    fake = Fake(["word" * 5000], delay_s=0.002)
    async with engine_over(fake) as engine:
        spans = engine.stream(request(engine, max_tokens=5000))
        async for _ in spans:
            break
        await spans.aclose()  # type: ignore[attr-defined]  # an async generator
        for _ in range(500):
            if not fake.running:
                break
            await asyncio.sleep(0.02)
        assert fake.running == 0
        assert fake.written < 4000


async def test_no_more_requests_at_once_than_allowed() -> None:
    fake = Fake(["word" * 5], delay_s=0.02)
    async with engine_over(fake, openai={"max_concurrent": 3}) as engine:
        await asyncio.gather(*(collect(engine, request(engine, seed=n)) for n in range(12)))
    assert len(fake.requests) == 12
    assert fake.most == 3


def test_one_engine_serves_several_event_loops() -> None:
    fake = Fake()
    with serving(fake) as url:
        engine = open_engine(f"{url}#toy")

        async def ask() -> str:
            said = text(await collect(engine, request(engine)))
            await engine.aclose()
            return said

        assert [asyncio.run(ask()) for _ in range(2)] == ["Red."] * 2


async def test_release_forgets_the_images() -> None:
    async with engine_over(Fake()) as engine:
        await collect(engine, request(engine))
        assert engine._shown
        await engine.release("t")
        await engine.release("unknown")
        assert not engine._shown


# --- whole rollouts ---------------------------------------------------------------------------------------------------

CODE = "\nImage.open(image_path).crop((0, 0, 9, 9)).save('a.png')\nprint('a.png')\n"


async def test_a_rollout_samples_text_and_code_at_their_own_temperatures() -> None:
    fake = Fake([f"<think>I zoom in.<code>{CODE}</code>", "Red.</think><answer>red</answer>"])
    problem = Problem(id="p", question="Which colour?", images=(IMAGE,))
    config = RolloutConfig(text_temperature=1.0, code_temperature=0.0)
    async with engine_over(fake) as engine, open_sandbox() as sandbox:
        made = await rollout(problem, engine, sandbox, config)
        assert not engine._shown
    assert made.stop == StopReason.ANSWER
    text, code, observation, answer = made.segments
    assert (text.text, code.kind, answer.text) == ("<think>I zoom in.<code>\n", "code", fake.script[1])  # an overhang
    assert f"{text.text}{code.text}" == fake.script[0]
    assert isinstance(observation, Observation)
    assert [image.size for image in observation.execution.images] == [(9, 9)]
    asked = [(body["temperature"], body["stop"]) for body in fake.requests]
    assert asked == [(1.0, ["<code>", "</answer>"]), (0.0, ["</code>"]), (1.0, ["<code>", "</answer>"])]
    assert all(segment.logprobs for segment in made.generated)


async def test_a_loop_is_cut_short_at_the_server_too() -> None:
    fake = Fake(["<think>" + "again and again, " * 2000], delay_s=0.002, context=20_000)
    async with engine_over(fake) as engine, open_sandbox() as sandbox:
        limits = {"max_tokens": 9000, "max_round_tokens": 9000}
        made = await rollout(Problem(id="p", question="?"), engine, sandbox, RolloutConfig(**limits))
        assert made.stop == StopReason.REPETITION
        for _ in range(500):
            if not fake.running:
                break
            await asyncio.sleep(0.02)
        assert fake.running == 0
    assert fake.written < 8000  # of 8500


# --- blocked strings --------------------------------------------------------------------------------------------------


async def test_blocked_strings_are_bad_words_and_what_slips_through_is_no_result() -> None:
    fake = Fake(["I write <code>x</code>"])
    async with engine_over(fake) as engine:
        asked = request(engine, stop=("</answer>",), blocked=("<code>",))
        with pytest.raises(EngineError, match="<code>, which is not allowed here"):
            await collect(engine, asked)
    assert fake.last["bad_words"] == ["<code>"]


# --- context ----------------------------------------------------------------------------------------------------------


async def test_a_full_context_is_told_as_such() -> None:
    fake = Fake()
    async with engine_over(fake) as engine:
        fake.failures = [error("This model's maximum context length is 4096 tokens, the prompt contains 5000.")]
        with pytest.raises(ContextFullError, match="does not fit"):
            await collect(engine, request(engine))


async def test_fewer_tokens_are_asked_for_where_input_and_answer_do_not_fit_together() -> None:
    fake = Fake(["word" * 20])
    async with engine_over(fake, max_context=100) as engine:
        refusal = (
            "maximum context length is 100 tokens. You requested 130 tokens (90 in the messages, 40 in the completion)"
        )
        fake.failures = [error(refusal)]
        chunks = await collect(engine, request(engine, max_tokens=40))
    assert [sent["max_tokens"] for sent in fake.requests] == [40, 10]
    assert (chunks[-1].stop, len(chunks)) == ("context", 10)


async def test_an_answer_cut_by_the_context_says_so_where_tokens_are_not_counted() -> None:
    fake = Fake(["word" * 20], with_ids=False, logprobs=None)
    async with engine_over(fake, max_context=100) as engine:
        fake.failures = [error("maximum context length is 100 tokens, the prompt contains 90 input tokens")]
        chunks = await collect(engine, request(engine, max_tokens=40))
        assert fake.last["max_tokens"] == 10
        assert chunks[-1].stop == "context"
        assert (await collect(engine, request(engine, max_tokens=10)))[-1].stop == "length"


async def test_a_request_that_is_none_is_refused() -> None:
    async with engine_over(Fake()) as engine:
        for wrong in ({"temperature": -1.0}, {"max_tokens": 0}):
            with pytest.raises(UsageError, match="make no request"):
                await collect(engine, request(engine, **wrong))
        with pytest.raises(UsageError, match="1 <image> for 2 images"):
            engine.prompt("", "<image>", [IMAGE, CROP])


# --- with the tokenizer at hand ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nano() -> Family:
    return load_family(NANO)


def nano_server(family: Family, *script: str, **fields: Any) -> Fake:
    """A server that has the very tokenizer; its pieces are the tokens of the script."""

    def tokenize(said: str) -> list[str]:
        return [family.decode([token]) for token in family.encode_text(said)]

    return Fake(script, tokenize=tokenize, ids=lambda piece: family.encode_text(piece)[0], **fields)


async def test_records_are_as_complete_as_local_ones(nano: Family) -> None:
    fake = nano_server(nano, "I see.<code>x</code>", "Red.")
    async with engine_over(fake, openai={"tokenizer": NANO}) as engine:
        asked = request(engine)
        fake.prompt_ids = lambda body: list(asked.prompt.token_ids)
        chunks = await collect(engine, asked)
        info, seen = engine.info, engine.observation(Execution(code="", images=(CROP,)))
    assert asked.prompt.token_ids == nano.encode_parts(nano.prompt_parts("Look.", "<image> What?", [IMAGE])).ids
    assert (asked.prompt.images[0].seen_width, asked.prompt.images[0].seen_height) == nano.seen_size(*IMAGE.size)
    assert seen.seen_sizes == (nano.seen_size(*CROP.size),)
    assert seen.token_ids.count(nano.image_token_id) == nano.image_tokens(nano.grid(*CROP.size))
    assert info.fingerprints.tokenizer == nano.fingerprint
    assert info.capabilities.token_ids
    assert info.prompts is not None
    assert tuple(t for c in chunks for t in c.token_ids) == tuple(nano.encode_text("I see.<code>"))
    beyond = range(len(nano.token_bytes), 640)  # rows of the model's output that stand for no token
    assert fake.last["logit_bias"] == {str(token): -100.0 for token in (*nano.never_sampled, *beyond)}


async def test_what_the_server_reads_is_compared(nano: Family, caplog: pytest.LogCaptureFixture) -> None:
    fake = nano_server(nano, "The plate")
    async with engine_over(fake, openai={"tokenizer": NANO}) as engine:
        asked = request(engine)
        ours = list(asked.prompt.token_ids)
        pad = nano.image_token_id
        fake.prompt_ids = lambda body: [t for i, t in enumerate(ours) if t != pad or ours[i - 1] != pad]
        await collect(engine, asked)  # placeholders not expanded
        for wrong in (ours[:-1], [*ours, 7], [t for i, t in enumerate(ours) if i != ours.index(pad)]):
            fake.prompt_ids = lambda body, wrong=wrong: wrong
            with pytest.raises(EngineError, match=r"reads the conversation as .*Name the checkpoint that is served"):
                await collect(engine, asked)
        single = nano.encode_text("The")
        letters = [token for letter in "The" for token in nano.encode_text(letter)]
        assert single != letters
        begun = Generated(kind="text", text="The", token_ids=tuple(letters), temperature=1.0)
        fake.prompt_ids = lambda body: [*ours, *single]
        for _ in range(2):
            await collect(engine, request(engine, begun))
        assert engine.retokenized == 2
    assert sum("tokenises the model's own text" in record.message for record in caplog.records) == 1


async def test_room_is_counted_before_anything_is_sent(nano: Family) -> None:
    fake = nano_server(nano, "red " * 200)
    async with engine_over(fake, openai={"tokenizer": NANO}, max_context=90) as engine:
        asked = request(engine, max_tokens=500)
        fake.prompt_ids = lambda body: list(asked.prompt.token_ids)
        chunks = await collect(engine, asked)
        room = 90 - len(asked.prompt.token_ids)
        assert fake.last["max_tokens"] == room
        assert (chunks[-1].stop, sum(len(chunk.token_ids) for chunk in chunks)) == ("context", room)
        sent = len(fake.requests)
        with pytest.raises(ContextFullError, match="leave no room in a context of 90"):
            await collect(engine, request(engine, generated("red " * 100)))
        with pytest.raises(ContextFullError):
            engine.prompt("", "red " * 100, [])
    assert len(fake.requests) == sent


async def test_images_are_sent_once_for_each_place_they_stand_at() -> None:
    fake = Fake(["a</code>", "b"])
    async with engine_over(fake) as engine:
        seen = engine.observation(Execution(code="", images=(CROP, CROP)))
        await collect(engine, request(engine, generated("a</code>"), seen))
    assert images(fake.last["messages"]) == 3
