"""Which problems a step asks: epochs, mixtures, any number of processes, and spares; seeds that share nothing."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from grpo_rollers import Questions
from hypothesis import given
from hypothesis import strategies as st

from thyme.errors import ConfigError
from thyme.train.grpo.draws import Draws, member_seed, share

counts, places, seeds = st.integers(1, 60), st.integers(1, 17), st.integers(0, 2**32)


@given(counts, places, seeds, st.integers(1, 4))
def test_every_problem_is_asked_once_an_epoch(count: int, places: int, seed: int, epochs: int) -> None:
    draws = Draws(count, places, seed)
    asked = [draws.index(step, place) for step in range(draws.steps(epochs)) for place in range(places)]
    for epoch in range(epochs):
        assert sorted(asked[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert count * epochs <= len(asked) < count * epochs + places


@given(st.integers(1, 60), st.integers(1, 6), st.sampled_from((1, 2, 3, 6)), seeds, st.integers(0, 40))
def test_processes_share_out_what_one_would_ask(count: int, each: int, processes: int, seed: int, step: int) -> None:
    """Whatever the number of processes, and wherever the run begins: nothing but the place decides."""
    places = 6 * each
    draws = Draws(count, places, seed)
    parts = [share(places, rank, processes) for rank in range(processes)]
    assert list(chain.from_iterable(parts)) == list(range(places))
    assert len({len(part) for part in parts}) == 1
    for attempt in (0, 1, 2):
        alone = [draws.index(step, place, attempt) for place in range(places)]
        # Each process has draws of its own, and asks for its own places only.
        apart = [[Draws(count, places, seed).index(step, place, attempt) for place in part] for part in parts]
        assert alone == list(chain.from_iterable(apart))


@given(st.integers(8, 60), st.integers(1, 8), seeds, st.integers(0, 30))
def test_spares_are_new_problems_as_long_as_there_are_any(count: int, places: int, seed: int, step: int) -> None:
    draws = Draws(count, places, seed)
    first = [draws.index(step, place) for place in range(places)]
    rounds = (count - len(set(first))) // places
    spares = [draws.index(step, place, attempt) for attempt in range(1, rounds + 1) for place in range(places)]
    assert len(set(spares)) == len(spares)
    assert not set(spares) & set(first)


@given(st.integers(1, 5), st.integers(1, 5), seeds)
def test_there_is_a_spare_even_where_all_problems_are_asked(count: int, places: int, seed: int) -> None:
    assert {Draws(count, places, seed).index(3, 0, attempt) for attempt in range(1, 9)} <= set(range(count))


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_seeds_of_runs_give_orders_of_their_own(one: int, other: int) -> None:
    orders = [
        [Draws(50, 10, seed).index(step, place) for step in range(5) for place in range(10)] for seed in (one, other)
    ]
    assert (orders[0] == orders[1]) == (one == other)


def test_epochs_and_spares_have_orders_of_their_own() -> None:
    draws = Draws(50, 10)
    orders = [[draws.index(step, place) for step in range(5 * e, 5 * e + 5) for place in range(10)] for e in range(3)]
    spares = [[draws.index(step, place, 1) for place in range(10)] for step in range(5)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(order) for order in spares}) == 5


def test_sources_are_mixed_in_every_part_of_an_epoch() -> None:
    """Three sources behind one another, of 600, 300 and 100 problems: a tenth of the epoch holds each by its share."""
    draws = Draws(1000, 10, seed=4)
    for start in range(0, 100, 10):
        asked = [draws.index(step, place) for step in range(start, start + 10) for place in range(10)]
        found = Counter("a" if index < 600 else "b" if index < 900 else "c" for index in asked)
        assert abs(found["a"] - 60) < 20
        assert abs(found["b"] - 30) < 18
        assert 1 <= found["c"] <= 25


def test_problems_are_loaded_for_the_places_that_are_asked_for() -> None:
    draws, problems = Draws(8, 4, seed=1), Questions(8)
    asked = draws.asked(problems, 5, [2, 3], attempt=1)
    assert [(one.place, one.attempt) for one in asked] == [(2, 1), (3, 1)]
    assert [one.problem.id for one in asked] == [f"q{draws.index(5, place, 1)}" for place in (2, 3)]


def test_epochs_make_steps() -> None:
    assert Draws(100, 8).steps(1) == 13
    assert Draws(96, 8).steps(1) == 12
    assert Draws(96, 8).steps(0.1) == 2
    assert Draws(3, 8).steps(0.01) == 1
    assert Draws(30, 3).steps(0.3) == 3  # 9.000000000000002 problems, were it taken at its word


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"10 problems a step .* 4 processes"):
        share(10, 0, 4)
    with pytest.raises(ConfigError, match="0 problems for 4 places"):
        Draws(0, 4)
    with pytest.raises(ValueError, match="no place 4 among 4"):
        Draws(9, 4).index(0, 4)


def test_seeds_of_rollouts_share_nothing() -> None:
    """Neighbouring runs, steps, places, attempts and members: none the same twice."""
    found = [
        member_seed(seed, step, place, attempt, member)
        for seed in (0, 1)
        for step in range(4)
        for place in range(4)
        for attempt in range(2)
        for member in range(4)
    ]
    assert all(0 <= one < 2**31 for one in found)
    assert len(set(found)) == len(found)
