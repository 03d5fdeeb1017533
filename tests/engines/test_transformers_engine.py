"""What the local engine promises its callers: stops, blocked strings, seeds, limits, errors, who it says it is."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import tiny_model
import torch
from engine_helpers import Reference, collect, engine_over, picture, span
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from thyme.config.engine import EngineConfig
from thyme.engines import open_engine
from thyme.engines.base import Engine, Request
from thyme.engines.span_text import SpanText
from thyme.engines.transformers import TransformersEngine
from thyme.engines.transformers_sampling import choose
from thyme.errors import ContextFullError, EngineError, MissingExtraError, ModelNotFoundError, UsageError
from thyme.families import load_family
from thyme.types import Execution, Fingerprints, Generated, Observation, Prompt, SeenImage

IMAGE = picture(0, 150, 100)


def request(engine: TransformersEngine, **changes: object) -> Request:
    prompt = engine.prompt("Look.", "<image> What is it?", [IMAGE])
    return replace(Request("t", prompt, max_tokens=40, seed=3), **changes)  # type: ignore[arg-type]  # any field


# --- sampling ---------------------------------------------------------------------------------------------------------


async def test_greedy_takes_the_best_token_whatever_the_seed(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as engine:
        one, _ = await span(engine, request(engine))
        two, _ = await span(engine, request(engine, trajectory_id="u", seed=99))
        prompt = request(engine).prompt
    assert one.token_ids == two.token_ids
    logits = Reference(tiny_checkpoint).logits([*prompt.token_ids, *one.token_ids], [IMAGE])
    never = [*load_family(tiny_checkpoint).never_sampled, *range(len(engine.family.token_bytes), logits.shape[1])]
    best = logits.index_fill(1, torch.tensor(never), -torch.inf).argmax(-1)
    start = len(prompt.token_ids)
    assert best[start - 1 : start - 1 + len(one.token_ids)].tolist() == list(one.token_ids)


async def test_same_seed_same_tokens_other_seed_other_tokens(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as engine:
        spans = [
            (await span(engine, request(engine, trajectory_id=name, temperature=1.0, seed=seed)))[0].token_ids
            for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None), ("e", None))
        ]
    assert spans[0] == spans[1]
    assert len({*spans[1:]}) == 4


def test_tokens_are_drawn_as_often_as_their_probabilities_say() -> None:
    """Against the distribution itself, with masked and blocked tokens left out and the rest in proportion."""
    import random

    logits = torch.tensor([[1.0, 2.0, 0.0, 3.0, 1.0]])
    table = [b"a", b"b", b"c", b"<code>", b"x"]

    class Row:
        temperature, draws, text = 0.5, random.Random(0), SpanText(table, blocked=("<code>",))

    counts = torch.zeros(5)
    for _ in range(4000):
        (token,), (logprob,) = choose(logits, [Row()], torch.tensor([4]))
        counts[token] += 1
        assert logprob == pytest.approx(float(torch.log_softmax(logits[0] / 0.5, -1)[token]), abs=1e-5)
    expected = torch.softmax(logits[0] / 0.5, -1)
    expected[[3, 4]] = 0.0
    torch.testing.assert_close(counts / 4000, expected / expected.sum(), atol=0.03, rtol=0)
    assert counts[3] == counts[4] == 0


async def test_image_tokens_are_never_written(tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    """A model whose favourite token is an image placeholder still writes text."""
    family = load_family(tiny_qwen2_5_vl)
    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen2_5_vl).eval()
    with torch.no_grad():
        model.lm_head.weight[family.image_token_id] = 0
    head = torch.nn.Linear(model.lm_head.in_features, model.lm_head.out_features)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()[list(family.never_sampled)] = 1e3
        head.bias[len(family.token_bytes) :] = 1e3
    model.lm_head = head
    engine = TransformersEngine(model, family)
    for temperature in (0.0, 1.0):
        generated, _ = await span(engine, request(engine, temperature=temperature))
        assert not set(generated.token_ids) & set(family.never_sampled)
        assert max(generated.token_ids) < len(family.token_bytes)
    await engine.aclose()


# --- how spans end ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_end")
async def test_stop_string_across_tokens_ends_the_span_with_the_token_that_completes_it(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as engine:
        free, last = await span(engine, request(engine, temperature=1.0))
        assert last.stop in {"length", "end"}
        decode = engine.family.decode
        # Any three characters from inside the text that two tokens share will do as a stop string.
        for count in range(4, len(free.token_ids)):
            text, shorter = decode(free.token_ids[:count]), decode(free.token_ids[: count - 1])
            stop = text[-3:]
            if len(text) - len(shorter) < 3 and "\ufffd" not in text[-6:] and text.find(stop) == len(text) - 3:
                break
        else:
            pytest.fail("no text to stop at")
        cut, end = await span(engine, request(engine, trajectory_id="u", temperature=1.0, stop=("no such", stop)))
    assert (end.stop, end.stop_string) == ("stop", stop)
    assert cut.token_ids == free.token_ids[:count]
    assert cut.text == text


@pytest.mark.usefixtures("no_end")
async def test_blocked_string_is_avoided_by_the_next_best_token(tiny_checkpoint: Path) -> None:
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        free, _ = await span(engine, request(engine))
        whole = [free.text[at : at + 2] for at in range(4, len(free.text) - 1)]
        blocked = next(text for text in whole if "\ufffd" not in text)
        kept, _ = await span(engine, request(engine, trajectory_id="u", blocked=(blocked,)))
        prompt, never = request(engine).prompt, list(engine.family.never_sampled)
    assert blocked in free.text
    assert blocked not in kept.text
    assert kept.token_ids != free.token_ids
    parted = next(i for i, (a, b) in enumerate(zip(free.token_ids, kept.token_ids, strict=False)) if a != b)
    logits = reference.logits([*prompt.token_ids, *kept.token_ids[:parted]], [IMAGE])[-1]
    logits[never] = -torch.inf
    assert logits.topk(2).indices.tolist() == [free.token_ids[parted], kept.token_ids[parted]]


async def test_end_of_turn_is_among_the_ids_and_has_no_text(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        for seed in range(50):
            wanted = request(engine, trajectory_id=str(seed), temperature=1.5, seed=seed, max_tokens=200)
            generated, last = await span(engine, wanted)
            if last.stop == "end":
                break
        assert last.stop == "end"
        assert generated.token_ids[-1] in engine.family.end_ids
        assert generated.text == engine.family.decode(generated.token_ids[:-1])


async def test_texts_of_chunks_join_to_the_decoding_of_their_ids(tiny_checkpoint: Path) -> None:
    """At high temperature a byte-level model breaks characters all the time."""
    async with engine_over(tiny_checkpoint) as engine:
        for seed in range(5):
            chunks = await collect(engine, request(engine, trajectory_id=str(seed), temperature=3.0, seed=seed))
            ids = [token for chunk in chunks for token in chunk.token_ids]
            text = "".join(chunk.text for chunk in chunks)
            assert text == engine.family.decode(ids)
            assert len(ids) == sum(len(chunk.logprobs) for chunk in chunks)


@pytest.mark.usefixtures("no_end")
async def test_length_is_counted_in_tokens(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as engine:
        generated, last = await span(engine, request(engine, max_tokens=3))
    assert (len(generated.token_ids), last.stop) == (3, "length")


@pytest.mark.usefixtures("no_end")
async def test_full_context_ends_the_span_and_refuses_the_next(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as free:
        used = len(request(free).prompt.token_ids)
    async with engine_over(tiny_checkpoint, max_context=used + 5) as engine:
        assert engine.info.capabilities.max_context == used + 5
        generated, last = await span(engine, request(engine))
        assert (len(generated.token_ids), last.stop) == (5, "context")
        with pytest.raises(ContextFullError, match=str(used + 5)):
            await collect(engine, request(engine, segments=(generated,)))
        with pytest.raises(ContextFullError):
            engine.prompt("Look. " * 20, "<image> What is it?", [IMAGE])


# --- records ----------------------------------------------------------------------------------------------------------


async def test_prompt_and_observation_records_say_what_the_model_sees(tiny_checkpoint: Path) -> None:
    big = picture(1, 900, 600)
    async with engine_over(tiny_checkpoint) as engine:
        assert isinstance(engine, Engine)
        prompt = engine.prompt("Look.", "<image> What is it?", [big])
        observation = engine.observation(Execution(code="", stdout="<|im_end|>", images=(big,)))
        seen = engine.seen_size(900, 600)
        family = engine.family
    assert prompt.images == (SeenImage(image=big, seen_width=seen[0], seen_height=seen[1]),)
    assert observation.seen_sizes == (seen,)
    assert observation.text.count("<image>") == 1
    placeholders = family.image_tokens(family.grid(900, 600))
    assert prompt.token_ids.count(family.image_token_id) == placeholders
    assert observation.token_ids.count(family.image_token_id) == placeholders
    assert not set(family.end_ids) & set(observation.token_ids)


async def test_text_without_ids_is_tokenised(tiny_qwen2_5_vl: Path) -> None:
    """Text of a teacher from an API, and a prompt made elsewhere, go on like any other."""
    execution = Execution(code="", stdout="3", images=(picture(4),))
    async with engine_over(tiny_qwen2_5_vl) as engine:
        known = request(engine)
        bare = Prompt(system="Look.", user="<image> What is it?", images=known.prompt.images)
        text = Generated(kind="text", text="I look.", temperature=0.0)
        with_ids = text.model_copy(update={"token_ids": tuple(engine.family.encode_text("I look."))})
        one, _ = await span(engine, replace(known, segments=(with_ids, engine.observation(execution))))
        segments = (text, Observation(execution=execution))
        two, _ = await span(engine, replace(known, trajectory_id="u", prompt=bare, segments=segments))
    assert one.token_ids == two.token_ids


async def test_a_record_made_with_other_pixel_limits_is_refused(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine, engine_over(tiny_qwen2_5_vl, max_pixels=28 * 28 * 4) as other:
        prompt = engine.prompt("", "<image>", [picture(0, 600, 600)])
        with pytest.raises(EngineError, match="pixel limits"):
            await collect(other, Request("t", prompt))


# --- who it is, and what it refuses -----------------------------------------------------------------------------------


async def test_info_names_model_and_fingerprints_but_no_path(tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    folder = Path(shutil.copytree(tiny_qwen2_5_vl, tmp_path / "my-model"))
    (folder / "prompts").mkdir()
    async with engine_over(folder) as engine, engine_over(tiny_qwen2_5_vl) as plain:
        assert engine.info.name == "my-model"
        assert engine.info.prompts == str(folder / "prompts")
        assert plain.info.prompts is None
        assert engine.info.fingerprints == plain.info.fingerprints
        assert engine.info.fingerprints == Fingerprints(
            model=engine.info.fingerprints.model, tokenizer=engine.family.fingerprint
        )
    tiny_model.build_checkpoint(tmp_path / "other", seed=1)
    async with engine_over(tmp_path / "other") as other:
        assert other.info.fingerprints.model != plain.info.fingerprints.model
        assert other.info.fingerprints.tokenizer == plain.info.fingerprints.tokenizer


async def test_bfloat16_checkpoint_runs_in_float32_on_a_cpu(tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    folder = Path(shutil.copytree(tiny_qwen2_5_vl, tmp_path / "half"))
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    async with engine_over(folder, device="cpu") as engine:
        half, _ = await span(engine, request(engine))
    async with engine_over(folder, device="cpu", dtype="bfloat16") as engine:
        assert (await span(engine, request(engine)))[0].token_ids
    logits = Reference(folder).logits([*request(engine).prompt.token_ids, *half.token_ids], [IMAGE])
    start = len(request(engine).prompt.token_ids)
    expected = torch.log_softmax(logits[start - 1], -1)[half.token_ids[0]]
    assert half.logprobs is not None
    assert half.logprobs[0] == pytest.approx(float(expected), abs=1e-4)


def test_open_engine_says_what_is_wrong(tmp_path: Path, tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        open_engine(str(tmp_path / "nowhere"))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no GPU"):
            open_engine(str(tiny_qwen2_5_vl), EngineConfig(device="cuda"))
    monkeypatch.setitem(sys.modules, "thyme.engines.transformers", None)
    with pytest.raises(MissingExtraError, match=r"thyme-vl\[local\]"):
        open_engine(str(tiny_qwen2_5_vl))


def test_a_broken_installation_is_not_called_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thyme.engines.transformers", ModuleType("half of it"))
    with pytest.raises(EngineError, match=r"cannot be used \(cannot import name .*reinstall"):
        open_engine("model")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_broken_weights_are_named(tmp_path: Path, tiny_qwen2_5_vl: Path, damage: str) -> None:
    folder = Path(shutil.copytree(tiny_qwen2_5_vl, tmp_path / "broken"))
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelNotFoundError, match="weights of 'broken'"):
        open_engine(str(folder))


def test_weights_that_lack_a_tensor_are_not_made_up(tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    folder = Path(shutil.copytree(tiny_qwen2_5_vl, tmp_path / "partial"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotFoundError, match=r"'partial' lack 1 tensors, lm_head\.weight"):
        open_engine(str(folder))


@pytest.mark.parametrize("changes", [{"temperature": -1.0}, {"max_tokens": 0}], ids=str)
async def test_requests_that_make_no_sense(tiny_qwen2_5_vl: Path, changes: dict[str, float]) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        with pytest.raises(UsageError, match="no request"):
            await collect(engine, request(engine, **changes))
