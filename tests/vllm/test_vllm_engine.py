"""vLLM in process over the nano model: the same trajectories as the local engine, and what training needs of it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch
from engine_helpers import PLANS, Plan, Reference, Written, collect, picture, span, write
from safetensors.torch import load_file

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig, RolloutConfig
from thyme.config.vllm import VllmConfig
from thyme.engines.base import Chunk, Engine, Request
from thyme.engines.span_text import SpanText
from thyme.engines.transformers import TransformersEngine
from thyme.engines.transformers_load import model_fingerprint
from thyme.engines.vllm import VllmEngine
from thyme.errors import ContextFullError, EngineError, ModelNotFoundError, UsageError
from thyme.nano import checkpoint_path
from thyme.nano.world import KINDS, problems
from thyme.sandbox import open_sandbox
from thyme.types import Execution, Generated, Observation, Problem, Trajectory

BLOCK = 32
FINAL, BASE = checkpoint_path("final"), checkpoint_path("base")
CONFIG = EngineConfig(backend="vllm", vllm=VllmConfig(kv_cache_gib=0.5, block_size=BLOCK))
GREEDY = RolloutConfig(max_round_tokens=256, max_tokens=768)


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    opened = VllmEngine.load(FINAL, CONFIG)
    yield opened
    asyncio.run(opened.aclose())
    assert not [thread for thread in threading.enumerate() if thread.name == "thyme-vllm"]


@pytest.fixture(scope="module")
def local() -> Iterator[TransformersEngine]:
    opened = TransformersEngine.load(FINAL, EngineConfig())
    yield opened
    asyncio.run(opened.aclose())


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(FINAL)


def drawn(count: int, kinds: Sequence[str] = KINDS, seed: int = 5) -> list[Problem]:
    return list(islice(problems("test", seed, count, kinds), count * len(kinds)))


async def ask(
    engine: Engine, asked: Sequence[Problem], config: RolloutConfig = GREEDY, seeds: Sequence[int] = (0,)
) -> list[Trajectory]:
    """All at once, with the real sandbox."""
    async with open_sandbox() as sandbox:
        jobs = [rollout(problem, engine, sandbox, config, seed=seed) for problem in asked for seed in seeds]
        return list(await asyncio.gather(*jobs))


def spans(trajectory: Trajectory) -> list[Generated]:
    return [segment for segment in trajectory.segments if isinstance(segment, Generated)]


def as_written(trajectory: Trajectory) -> Written:
    return Written(trajectory.prompt, list(trajectory.segments))


def plain(engine: Engine, **changes: object) -> Request:
    prompt = engine.prompt("Look closely.", "<image>\nWhat number is it?", [picture(0)])
    return replace(Request("t", prompt, max_tokens=40, seed=3), **changes)  # type: ignore[arg-type]  # any field


# --- the same as the local engine -------------------------------------------------------------------------------------


async def test_greedy_rollouts_are_those_of_the_local_engine(
    engine: VllmEngine, local: TransformersEngine, reference: Reference
) -> None:
    """Every kind of question, with the real sandbox and its pictures."""
    asked = drawn(2)
    ours, theirs = await ask(engine, asked), await ask(local, asked)
    for one, other in zip(ours, theirs, strict=True):
        assert one.error is None
        assert (one.stop, one.prompt) == (other.stop, other.prompt)
        assert [s.token_ids for s in one.segments] == [s.token_ids for s in other.segments]
        assert [s.text for s in one.segments] == [s.text for s in other.segments]
        assert reference.gap(as_written(one)) < 2e-4
    shown = [len(s.execution.images) for t in ours for s in t.segments if isinstance(s, Observation)]
    assert sum(shown) >= len(asked) // 2
    assert max(t.usage.rounds for t in ours) >= 2
    assert engine.info.fingerprints == local.info.fingerprints


async def test_without_tools_too(engine: VllmEngine, local: TransformersEngine, reference: Reference) -> None:
    """What is blocked is avoided by the same tokens, and its log-probs stay those over the whole vocabulary."""
    asked = drawn(2, ("zoom", "arithmetic"))
    config = GREEDY.model_copy(update={"tools": False})
    ours, theirs = await ask(engine, asked, config), await ask(local, asked, config)
    free = await ask(engine, asked)
    for one, other, tempted in zip(ours, theirs, free, strict=True):
        assert "<code>" not in "".join(s.text for s in spans(one))
        assert "<code>" in "".join(s.text for s in spans(tempted))
        assert [s.token_ids for s in one.segments] == [s.token_ids for s in other.segments]
        assert reference.gap(as_written(one)) < 2e-4


async def test_log_probs_are_those_of_one_plain_forward(engine: VllmEngine, reference: Reference) -> None:
    """Several rounds and images, greedy and sampled spans mixed, several trajectories in one batch."""
    written = await asyncio.gather(*(write(engine, plan) for plan in PLANS))
    for plan, one in zip(PLANS, written, strict=True):
        assert reference.gap(one) < 2e-4, plan.id
    assert reference.gap(written[2], images=[picture(99, 60, 60)]) > 1e-2  # the pictures are really looked at


# --- temperatures -----------------------------------------------------------------------------------------------------


async def test_each_span_has_its_own_temperature(engine: VllmEngine, reference: Reference) -> None:
    """Text is sampled; in the same trajectories code always takes the best token."""
    (problem,) = drawn(1, ("zoom",))
    config = GREEDY.model_copy(update={"text_temperature": 1.3, "code_temperature": 0.0})
    trajectories = await ask(engine, [problem], config, seeds=range(8))
    best: Counter[tuple[str, bool]] = Counter()
    never = list(engine.family.never_sampled)
    for trajectory in trajectories:
        one = as_written(trajectory)
        choices = reference.logits(one.ids, one.images).index_fill(1, torch.tensor(never), -torch.inf).argmax(-1)
        places = iter(one.scored)
        for generated in spans(trajectory):
            for token, (place, temperature, _) in zip(generated.token_ids, places, strict=False):
                assert temperature == {"text": 1.3, "code": 0.0}[generated.kind]
                best[generated.kind, int(choices[place - 1]) == token] += 1
        assert reference.gap(one) < 2e-4
    assert best["text", False] > 0
    assert best["code", True] > 0
    assert best["code", False] == 0
    assert len({spans(t)[0].token_ids for t in trajectories}) > 1


async def test_tokens_are_drawn_as_often_as_their_probabilities_say(engine: VllmEngine, reference: Reference) -> None:
    asked = plain(engine, temperature=0.8, max_tokens=1)
    got = await asyncio.gather(*(span(engine, replace(asked, seed=seed)) for seed in range(600)))
    logits = reference.logits(asked.prompt.token_ids, [picture(0)])[-1]
    likely = logits.topk(6).indices
    counts = torch.tensor([sum(one.token_ids == (token,) for one, _ in got) for token in likely.tolist()]) / 600
    assert float((counts - torch.softmax(logits / 0.8, -1)[likely]).abs().max()) < 0.06
    assert float((counts - torch.softmax(logits / 0.4, -1)[likely]).abs().max()) > 0.06


async def test_the_same_seed_gives_the_same_tokens(engine: VllmEngine) -> None:
    asked = plain(engine, temperature=1.5)
    one, two, other = [(await span(engine, replace(asked, seed=seed)))[0].token_ids for seed in (7, 7, 8)]
    assert one == two
    assert one != other


# --- many at once -----------------------------------------------------------------------------------------------------


async def test_many_trajectories_in_different_states_write_what_each_writes_alone(engine: VllmEngine) -> None:
    plans = [replace(plan, id=f"{plan.id} {number}") for number in range(4) for plan in PLANS]
    alone = [await write(engine, plan, seed=number) for number, plan in enumerate(plans)]
    steps = engine.counters.steps
    together = await asyncio.gather(*(write(engine, plan, seed=number) for number, plan in enumerate(plans)))
    assert [one.ids for one in together] == [one.ids for one in alone]
    longest = max(len(one.scored) for one in together)
    assert engine.counters.steps - steps < sum(len(one.scored) for one in together) / 2
    assert engine.counters.steps - steps >= longest


async def test_a_trajectory_that_goes_on_is_not_read_again(engine: VllmEngine, reference: Reference) -> None:
    plan = Plan("cached", "<image>\nWhat is it?", (picture(40, 200, 150),), (Execution(code="", stdout="7"),))
    first = await write(engine, replace(plan, temperatures=(0.0,), observations=()))
    before = replace(engine.counters)
    await write(engine, plan)
    asked = engine.counters.prompt_tokens - before.prompt_tokens
    cached = engine.counters.cached_tokens - before.cached_tokens
    assert asked > 3 * len(first.prompt.token_ids)
    # The prompt is known whole from before; what each later span reads anew is less than a block and an observation.
    assert cached >= 3 * (len(first.prompt.token_ids) // BLOCK * BLOCK - BLOCK)
    other = replace(plan, images=(picture(41, 200, 150),))
    assert reference.gap(await write(engine, other)) < 2e-4  # the same ids, another picture: not taken from the cache


async def test_closing_a_stream_cancels_it(engine: VllmEngine) -> None:
    asked = plain(engine, temperature=2.0, max_tokens=2000)
    others = asyncio.gather(*(write(engine, plan) for plan in PLANS))
    stream = engine.stream(asked)
    seen = [await anext(stream) for _ in range(3)]
    await stream.aclose()
    await others
    made = engine.counters.generated_tokens
    again, _ = await span(engine, replace(asked, max_tokens=3))  # also: the thread has heard of the cancel by now
    assert again.token_ids == tuple(token for chunk in seen for token in chunk.token_ids)
    await asyncio.sleep(0.3)
    assert engine.counters.generated_tokens == made + 3


async def test_a_cancelled_task_leaves_nothing_running(engine: VllmEngine) -> None:
    task = asyncio.create_task(collect(engine, plain(engine, temperature=2.0, max_tokens=2000)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await span(engine, plain(engine, max_tokens=1))
    made = engine.counters.generated_tokens
    await asyncio.sleep(0.3)
    assert engine.counters.generated_tokens == made


# --- how spans end ----------------------------------------------------------------------------------------------------


async def test_a_stop_string_ends_the_span_with_the_token_that_completes_it(engine: VllmEngine) -> None:
    (known,) = await ask(engine, drawn(1, ("easy",)))
    asked = Request("t", known.prompt, max_tokens=200)
    free, end = await span(engine, asked)
    assert (end.stop, free.token_ids[-1]) == ("end", engine.family.tokenizer.eos_token_id)
    cut, last = await span(engine, replace(asked, stop=("</think>", "no such")))
    assert (last.stop, last.stop_string) == ("stop", "</think>")
    assert cut.text.endswith("</think>")
    assert free.token_ids[: len(cut.token_ids)] == cut.token_ids != free.token_ids
    short, last = await span(engine, replace(asked, max_tokens=3))
    assert (last.stop, short.token_ids) == ("length", free.token_ids[:3])


async def test_a_full_context_ends_the_span_or_refuses_it(engine: VllmEngine) -> None:
    asked = plain(engine, temperature=2.0, max_tokens=500)
    limit = engine.info.capabilities.max_context
    assert limit == 4096

    def filled(room: int) -> Request:
        word = engine.family.encode_text(" red")
        count = limit - room - len(asked.prompt.token_ids)
        ids = (word * count)[:count]
        before = Generated(kind="text", text=engine.family.decode(ids), token_ids=tuple(ids), temperature=1.0)
        return replace(asked, segments=(before,))

    chunks = await collect(engine, filled(5))
    assert chunks[-1].stop in {"context", "end"}
    if chunks[-1].stop == "context":
        assert len(chunks) == 5
    assert (await collect(engine, filled(1)))[-1].stop in {"context", "end"}
    with pytest.raises(ContextFullError, match="4096 tokens leave no room"):
        await collect(engine, filled(0))


def test_what_is_masked_is_what_would_complete_a_blocked_string(engine: VllmEngine) -> None:
    """Every token of the vocabulary, after every beginning of the string, against the text that watches for it."""
    from thyme.engines.vllm_worker import SpanMask

    class Row:
        blocked = ("<code>", "ab")

        def __init__(self, tail: bytes) -> None:
            self.tail = lambda reach, token_bytes: tail

    mask = SpanMask.__new__(SpanMask)
    table = (*engine.family.token_bytes, b"<", b"<co", b"de>x", b"de>", b"x<code>y", b"code><code>", b"b", b"xab")
    mask._token_bytes, mask._device, mask._tables, mask._never = table, torch.device("cpu"), {}, torch.tensor([5])
    for before in ("", "a", "<", "<c", "<code", "x<co", "<code>", "de>", "<<code"):
        mask._rows = {1: Row(before.encode())}
        logits = mask.apply(torch.zeros(2, len(table)))
        text = SpanText(table, blocked=Row.blocked, before=before)
        expected = {token for token in range(len(table)) if text.completes_blocked(token)} | {5}
        assert set(logits[1].isinf().nonzero()[:, 0].tolist()) == expected, before
        assert logits[0].isinf().nonzero()[:, 0].tolist() == [5]


async def test_a_blocked_string_that_began_before_the_span_is_not_completed(engine: VllmEngine) -> None:
    asked = plain(engine, max_tokens=200)
    free, _ = await span(engine, asked)
    at = next(n for n in range(4, 30) if len(engine.family.token_bytes[free.token_ids[n]].strip()) > 1)
    before = Generated(
        kind="text",
        text=engine.family.decode(free.token_ids[:at]),
        token_ids=free.token_ids[:at],
        temperature=0.0,
    )
    blocked = before.text[-1] + engine.family.decode(free.token_ids[at : at + 1])
    going_on = replace(asked, segments=(before,))
    assert (await span(engine, going_on))[0].token_ids[0] == free.token_ids[at]
    kept, _ = await span(engine, replace(going_on, blocked=(blocked,)))
    assert kept.token_ids[0] != free.token_ids[at]
    assert blocked not in before.text[-1] + kept.text


# --- new weights ------------------------------------------------------------------------------------------------------


async def greedy(engine: Engine) -> list[tuple[int, ...]]:
    written = await asyncio.gather(*(write(engine, replace(plan, temperatures=(0.0, 0.0))) for plan in PLANS))
    return [tuple(one.ids) for one in written]


@pytest.fixture(scope="module")
def of_base() -> list[tuple[int, ...]]:
    async def ask_base() -> list[tuple[int, ...]]:
        engine = TransformersEngine.load(BASE, EngineConfig())
        try:
            return await greedy(engine)
        finally:
            await engine.aclose()

    return asyncio.run(ask_base())


async def test_new_weights_from_a_folder_and_back(
    engine: VllmEngine, local: TransformersEngine, of_base: list[tuple[int, ...]]
) -> None:
    old = await greedy(engine)
    assert old == await greedy(local) != of_base
    await engine.update_weights(BASE)
    assert await greedy(engine) == of_base
    assert engine.info.fingerprints.model == model_fingerprint(BASE) != model_fingerprint(FINAL)
    assert (engine.info.fingerprints.tokenizer, engine.info.name) == (local.info.fingerprints.tokenizer, "final")
    await engine.update_weights(FINAL)
    assert await greedy(engine) == old
    assert engine.info.fingerprints == local.info.fingerprints


async def test_new_weights_from_tensors(
    engine: VllmEngine, local: TransformersEngine, reference: Reference, of_base: list[tuple[int, ...]]
) -> None:
    base, final = load_file(BASE / "model.safetensors"), load_file(FINAL / "model.safetensors")
    prints = [engine.info.fingerprints.model]
    try:
        await engine.update_weights((name, tensor) for name, tensor in base.items())
        prints.append(engine.info.fingerprints.model)
        assert await greedy(engine) == of_base
        await engine.update_weights(base.items(), fingerprint="step 7")
        assert engine.info.fingerprints.model == "step 7"
        await engine.update_weights(final.items())
        prints.append(engine.info.fingerprints.model)
        assert await greedy(engine) == await greedy(local)
        await engine.update_weights(base.items())
        await engine.update_weights(reference.model.named_parameters())  # as a trainer holds them
        assert await greedy(engine) == await greedy(local)
    finally:
        await engine.update_weights(FINAL)
    assert len({*prints}) == 3


async def test_a_running_span_keeps_its_weights_and_the_next_has_the_new(
    engine: VllmEngine, of_base: list[tuple[int, ...]]
) -> None:
    asked = plain(engine, temperature=1.0, seed=11)
    expected, _ = await span(engine, asked)
    assert len(expected.token_ids) > 10
    stream = engine.stream(asked)
    chunks: list[Chunk] = [await anext(stream) for _ in range(2)]
    update = asyncio.create_task(engine.update_weights(BASE))
    await asyncio.sleep(0)
    later = asyncio.create_task(greedy(engine))
    chunks += [chunk async for chunk in stream]
    try:
        assert tuple(token for chunk in chunks for token in chunk.token_ids) == expected.token_ids
        await update
        assert await later == of_base
    finally:
        await engine.update_weights(FINAL)


async def test_who_gives_up_waiting_for_new_weights_gets_them_all_the_same(
    engine: VllmEngine, of_base: list[tuple[int, ...]]
) -> None:
    update = asyncio.create_task(engine.update_weights(BASE))
    await asyncio.sleep(0)
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    try:
        assert await greedy(engine) == of_base
        assert engine.info.fingerprints.model == model_fingerprint(BASE)
    finally:
        await engine.update_weights(FINAL)


async def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(
    engine: VllmEngine, tiny_qwen2_5_vl: object, tmp_path: object
) -> None:
    before, said = engine.info, await greedy(engine)
    with pytest.raises(ModelNotFoundError, match="other weights than the engine runs"):
        await engine.update_weights(str(tiny_qwen2_5_vl))
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        await engine.update_weights(str(tmp_path))
    assert engine.info == before
    assert await greedy(engine) == said


# --- what cannot be ---------------------------------------------------------------------------------------------------


async def test_what_cannot_be_says_so(engine: VllmEngine) -> None:
    for temperature in (0.005, 2.5):
        with pytest.raises(UsageError, match=f"no temperature {temperature}: give 0"):
            await collect(engine, plain(engine, temperature=temperature))
    with pytest.raises(UsageError, match="make no request"):
        await collect(engine, plain(engine, max_tokens=0))
    many = [picture(number, 60, 60) for number in range(17)]
    prompt = engine.prompt("", "<image>" * 17, many)
    with pytest.raises(EngineError, match=r"holds 17 images.*takes 16: raise vllm\.max_images"):
        await collect(engine, Request("many", prompt))
    with pytest.raises(EngineError, match="runs in this process already"):
        VllmEngine.load(BASE, CONFIG)
    fine = await span(engine, replace(plain(engine), prompt=engine.prompt("", "<image>" * 16, many[:16]), max_tokens=3))
    assert len(fine[0].token_ids) == 3
    await engine.release("t")
    await engine.release("never heard of")


async def test_the_engine_is_one_of_ours(engine: VllmEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.info.capabilities.token_ids
    assert engine.info.capabilities.logprobs
    assert str(FINAL) not in engine.info.name
