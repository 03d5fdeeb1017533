"""Caches keep what was written, alone and at the desk, however rows come, grow and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from thyme.engines import transformers_model
from thyme.engines.transformers_cache import CacheShape, Desk, RowCache
from thyme.engines.transformers_model import Feed, PackedModel

SHAPE = CacheShape(layers=2, heads=2, head_size=3, dtype=torch.float32, device=torch.device("cpu"))
actions = st.lists(
    st.tuples(st.sampled_from(["arrive", "read", "sit", "leave", "write together", "clear"]), st.integers(0, 4)),
    max_size=40,
)


def tokens(count: int) -> torch.Tensor:
    return torch.randn(1, SHAPE.heads, count, SHAPE.head_size)


class Naive:
    """What a cache should hold: everything ever written, in order."""

    def __init__(self) -> None:
        self.cache = RowCache(SHAPE)
        self.keys = [tokens(0) for _ in range(SHAPE.layers)]
        self.values = [tokens(0) for _ in range(SHAPE.layers)]

    def append(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys[layer] = torch.cat([self.keys[layer], keys], 2)
        self.values[layer] = torch.cat([self.values[layer], values], 2)

    def check(self) -> None:
        held = len(self.cache)
        for layer in range(SHAPE.layers if held else 0):
            assert torch.equal(self.cache.keys[layer][:, :, :held], self.keys[layer])
            assert torch.equal(self.cache.values[layer][:, :, :held], self.values[layer])


def read(row: Naive, count: int) -> None:
    row.cache.reserve(len(row.cache) + count)
    for layer in range(SHAPE.layers):
        keys, values = tokens(count), tokens(count)
        row.append(layer, keys, values)
        seen, _ = row.cache.write(layer, keys, values)
        assert torch.equal(seen, row.keys[layer])
    row.cache.extend([0] * count, 0)


def write_together(desk: Desk, rows: dict[int, Naive]) -> None:
    seated = [rows[id(cache)] for cache in desk.rows]
    for row in seated:
        row.cache.reserve(len(row.cache) + 1)
    lengths = [len(row.cache) for row in seated]
    ends = desk.ends()
    for layer in range(SHAPE.layers):
        keys, values = torch.randn(2, len(seated), SHAPE.heads, SHAPE.head_size)
        seen, _ = desk.write(layer, keys, values, ends, max(lengths))
        for place, row in enumerate(seated):
            row.append(layer, keys[place][None, :, None], values[place][None, :, None])
            assert torch.equal(seen[place : place + 1, :, : lengths[place] + 1], row.keys[layer])
    for row in seated:
        row.cache.extend([0], 0)


@settings(max_examples=60)
@given(actions)
def test_nothing_is_lost_however_rows_come_and_go(drawn: list[tuple[str, int]]) -> None:
    desk, rows = Desk(SHAPE), [Naive()]
    for action, choice in drawn:
        row = rows[choice % len(rows)]
        if action == "arrive":
            rows.append(Naive())
        elif action == "read":
            read(row, 100 * choice + 1)
        elif action == "leave":
            row.cache.leave()
        elif action == "sit" and row.cache.desk is None and len(row.cache):
            desk.seat(row.cache)
        elif action == "write together" and desk.rows:
            write_together(desk, {id(one.cache): one for one in rows})
        elif action == "clear":
            desk.clear()  # frees nothing that is in use
        for one in rows:
            one.check()


@pytest.mark.parametrize("begin", [0, 200], ids=["unlike", "beginning alike"])
@pytest.mark.parametrize("worth", [1, 1000], ids=["at the desk", "one by one"])
@torch.inference_mode()
def test_rows_attend_together_as_they_do_alone(
    tiny_checkpoint: Path, worth: int, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of unlike length, one of which leaves and comes back, against each in a model of its own."""
    monkeypatch.setattr(transformers_model, "_WORTH_SEATING", worth)
    monkeypatch.setattr(transformers_model, "_WORTH_PADDING", 100)
    model = PackedModel(AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval(), image_token_id=-1)

    def feed(cache: RowCache, ids: list[int]) -> Feed:
        at = cache.next_position
        return Feed(cache, ids, np.broadcast_to(np.arange(at, at + len(ids)), (3, len(ids))).copy(), at + len(ids))

    lengths = (3, 40, 7, 300)
    together = [RowCache(model.cache_shape) for _ in lengths]
    alone = [RowCache(model.cache_shape) for _ in lengths]
    alike = [11 * index % 200 for index in range(begin)]
    prompts = [alike + [(7 * index + length) % 200 for index in range(length)] for length in lengths]
    model.step([feed(cache, ids) for cache, ids in zip(together, prompts, strict=True)])
    for cache, ids in zip(alone, prompts, strict=True):
        model.step([feed(cache, ids)])
    for turn in range(6):
        rows = [row for row in range(len(lengths)) if not (row == 1 and turn in {2, 3})]
        if turn == 2:
            together[1].leave()
        logits = model.step([feed(together[row], [turn + row]) for row in rows])
        assert bool(model._desk.rows) == (worth == 1)
        if worth == 1:
            assert model._desk.shared == begin
        monkeypatch.setattr(transformers_model, "_WORTH_SEATING", 1000)
        for row, found in zip(rows, logits, strict=True):
            torch.testing.assert_close(found, model.step([feed(alone[row], [turn + row])])[0], atol=1e-4, rtol=0)
        monkeypatch.setattr(transformers_model, "_WORTH_SEATING", worth)


def test_rows_with_other_pictures_begin_alike_only_before_them() -> None:
    """Placeholders are the same ids whatever they show."""

    def cache(*ids: int, images: tuple[tuple[int, int, str], ...] = ()) -> RowCache:
        return RowCache(SHAPE, list(ids), list(images))

    one = cache(1, 2, 9, 9, 3, 4, images=((2, 2, "a"),))
    assert one.begins_like(cache(1, 2, 9, 9, 3, 5, images=((2, 2, "a"),))) == 5
    assert one.begins_like(cache(1, 2, 9, 9, 3, 4, images=((2, 2, "b"),))) == 2
    assert one.begins_like(cache(1, 2, 9, images=((2, 2, "a"),))) == 2
    assert one.begins_like(cache(2)) == 0


def full(*_: object) -> list[torch.Tensor]:
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("wanted", [{"capacity": 5000}, {"places": 50}], ids=["longer", "more"])
def test_a_desk_that_could_not_grow_goes_on_as_it_was(wanted: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    desk, rows = Desk(SHAPE), [Naive() for _ in range(10)]
    for row in rows:
        read(row, 10)
    for row in rows[:3]:
        desk.seat(row.cache)
    with monkeypatch.context() as patch:
        patch.setattr(CacheShape, "room", full)
        with pytest.raises(torch.OutOfMemoryError):
            desk.grow(**wanted)
    for seated in (3, len(rows)):
        for row in rows[len(desk.rows) : seated]:
            desk.seat(row.cache)
        write_together(desk, {id(row.cache): row for row in rows})
        for row in rows:
            row.check()


def test_dropping_takes_no_memory_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, rows = Desk(SHAPE), [Naive() for _ in range(3)]
    for row in rows:
        read(row, 10)
        desk.seat(row.cache)
    monkeypatch.setattr(CacheShape, "room", full)
    gone = rows.pop(0)
    gone.cache.drop()
    assert (len(gone.cache), gone.cache.keys, gone.cache.desk) == (0, [], None)
    write_together(desk, {id(row.cache): row for row in rows})
    for row in rows:
        row.check()
    desk.empty()
    assert (desk.rows, desk._keys, len(rows[0].cache)) == ([], [], 0)
