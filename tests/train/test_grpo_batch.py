"""Rollouts as the loss reads them, and the micro-batches they are cut into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grpo_world import written
from hypothesis import given
from hypothesis import strategies as st

from thyme.errors import EncodeError, UsageError
from thyme.families import Family, load_family
from thyme.train.batches.vision import FreshPixels
from thyme.train.encode import Encoded, encode
from thyme.train.grpo.batch import CODE, TEXT, Rollout, Row, collate_rows, encode_rollout, filler, micro_batches
from thyme.types import Fingerprints, Generated, StopReason, Trajectory


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def read(trajectory: Trajectory, family: Family, policy: Any = "keep") -> Rollout:
    made = encode_rollout(trajectory, family, policy)
    assert made is not None
    return made


def by_hand(trajectory: Trajectory) -> list[tuple[int, str, float, float]]:
    """Id, kind, tau and the sampler's log-probability of each token."""
    found = [(token, "prompt", 1.0, float("nan")) for token in trajectory.prompt.token_ids]
    for segment in trajectory.segments:
        if isinstance(segment, Generated):
            assert segment.logprobs is not None
            each = zip(segment.token_ids, segment.logprobs, strict=True)
            found += [(token, segment.kind, segment.temperature, logprob) for token, logprob in each]
        else:
            found += [(token, "observation", 1.0, float("nan")) for token in segment.token_ids]
    return found


@pytest.mark.parametrize("policy", ["keep", "mask", "tempered"])
@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_every_token_is_what_was_recorded(family: Family, policy: Any, rounds: int) -> None:
    """No id is made anew, no end is added, tau = 0 counts as 1, and observations are never in the loss."""
    code = 0.3 if policy == "tempered" else 0.0
    trajectory = written(family, "t", rounds, text=0.7, code=code, seed=1)
    made, expected = read(trajectory, family, policy), by_hand(trajectory)
    assert made.ids.tolist() == [token for token, *_ in expected]
    kinds = {"text": TEXT, "code": CODE}
    assert made.kinds.tolist() == [kinds.get(kind, 0) for _, kind, *_ in expected]
    assert made.temperatures.tolist() == pytest.approx([tau or 1.0 for *_, tau, _ in expected])
    assert made.greedy.tolist() == [kind == "code" and tau == 0 for _, kind, tau, _ in expected]
    np.testing.assert_allclose(made.logprobs, [logprob for *_, logprob in expected])
    counts = {"text"} if policy == "mask" else {"text", "code"}
    assert made.loss_mask.tolist() == [kind in counts for _, kind, *_ in expected]
    assert len(made.images) == len(made.grids) == trajectory.response.count("<image>") + 1


def test_a_cut_rollout_ends_where_it_was_cut(family: Family) -> None:
    """Fine-tuning adds the end of the turn to whatever it learns from; the policy did not write it."""
    cut = written(family, "t", 1, stop=StopReason.MAX_TOKENS)
    assert read(cut, family).ids.tolist() == encode(cut, family).ids.tolist()[:-1]


def test_a_rollout_without_a_token_is_none(family: Family) -> None:
    empty = written(family, "t", 0).model_copy(update={"segments": (), "stop": StopReason.CONTEXT})
    assert encode_rollout(empty, family, "keep") is None


def test_what_another_tokenizer_wrote_is_refused(family: Family) -> None:
    foreign = written(family, "t", 1).model_copy(update={"fingerprints": Fingerprints(tokenizer="other")})
    with pytest.raises(EncodeError, match="no token ids of this model's tokenizer"):
        encode_rollout(foreign, family, "keep")


def test_greedy_code_cannot_be_tempered(family: Family) -> None:
    with pytest.raises(UsageError, match="temperature above 0 in code"):
        encode_rollout(written(family, "t", 1, code=0.0), family, "tempered")


def rows_of(lengths: list[int]) -> list[Row]:
    def rollout(length: int) -> Rollout:
        zeros, ones = np.zeros(length, dtype=np.bool_), np.ones(length, dtype=np.float32)
        return Rollout(Encoded(np.zeros(length, dtype=np.int32), zeros), ones, ones, np.zeros(length, np.int8), zeros)

    return [Row(rollout(length), 1.0, str(i)) for i, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 10))
def test_micro_batches_are_even_and_of_like_length(lengths: list[int], count: int) -> None:
    lengths += [2] * (count - len(lengths))
    rows = rows_of(lengths)
    made = micro_batches(rows, count)
    assert sorted(row.name for batch in made for row in batch) == sorted(row.name for row in rows)
    assert len(made) == count
    sizes = [len(batch) for batch in made]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    flat = [len(row) for batch in made for row in batch]
    assert flat == sorted(flat, reverse=True)


def test_a_micro_batch_is_shifted_by_one_and_padded_on_the_right(family: Family) -> None:
    rollouts = [read(written(family, "a", 1, seed=3), family, "mask"), read(written(family, "b", 0, images=0), family)]
    batch = collate_rows([Row(r, 0.5, "p") for r in rollouts], FreshPixels(family), family, tokens=7)
    assert {"pixel_values", "image_grid_thw", "mm_token_type_ids", "input_ids"} <= batch["forward"].keys()
    assert "labels" not in batch["forward"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    assert torch.equal(ids, batch["forward"]["input_ids"])
    for i, rollout in enumerate(rollouts):
        n = len(rollout)
        assert batch["tool_mask"][i, : n - 1].tolist() == rollout.loss_mask[1:].tolist()
        assert batch["wanted"][i, : n - 1].tolist() == (rollout.kinds[1:] != 0).tolist()
        assert batch["taus"][i, : n - 1].tolist() == rollout.temperatures[1:].tolist()
        assert not batch["wanted"][i, n - 1 :].any()
        assert not batch["tool_mask"][i, n - 1 :].any()
    assert batch["num_items_in_batch"].item() == 7


def test_a_micro_batch_without_images_has_no_image_tensors(family: Family) -> None:
    rows = [Row(read(written(family, "b", 0, images=0), family), 1.0, "b"), Row(filler(family), 0.0, "")]
    batch = collate_rows(rows, FreshPixels(family), family, tokens=1)
    assert "pixel_values" not in batch["forward"]
    assert not batch["wanted"][1].any()
    assert batch["names"] == ["b"]


def test_a_micro_batch_that_must_show_an_image_gets_one_behind_its_shortest_row(family: Family) -> None:
    rows = [Row(read(written(family, "b", 0, images=0), family), 1.0, "b"), Row(filler(family), 0.0, "")]
    batch = collate_rows(rows, FreshPixels(family), family, tokens=1, always_an_image=True)
    assert len(batch["forward"]["image_grid_thw"]) == 1
    assert batch["forward"]["attention_mask"][1].sum() > 2
    assert not batch["wanted"][1].any()
    assert not batch["tool_mask"][1].any()
