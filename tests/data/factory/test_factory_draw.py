"""The draw is a pure function of recipe and sources: shares hold, no row serves a scenario twice, needs are met."""

from __future__ import annotations

import logging
from collections import Counter

import factory_parts as parts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.config.data import SourceSettings
from thyme.data.factory.draw import Plan, plan
from thyme.data.factory.shuffle import Shuffle
from thyme.data.sources.base import Source
from thyme.errors import ConfigError


def planned(**given: object) -> Plan:
    recipe = parts.recipe(**given)
    return plan(recipe, sources_of(recipe.sources), parts.SCENARIOS)


def sources_of(asked: dict[str, SourceSettings]) -> dict[str, Source]:
    return {name: parts.Squares(name, one, 0) for name, one in asked.items()}


@settings(max_examples=60)
@given(st.integers(1, 700), st.text(max_size=8))
def test_a_shuffle_holds_every_number_once(count: int, seed: str) -> None:
    order = Shuffle(count, seed)
    assert sorted(order[place] for place in range(count)) == list(range(count))


def test_shuffles_of_other_seeds_are_other_orders_and_know_their_end() -> None:
    one, other = ([Shuffle(500, seed)[place] for place in range(500)] for seed in ("a", "b"))
    assert one != other
    assert one != sorted(one)
    with pytest.raises(IndexError):
        Shuffle(500, "a")[500]


def test_scenarios_have_their_shares() -> None:
    made = planned(count=101, scenarios={"plain": 2.0, "boxed": 1.0}, sources={"a": squares(400)})
    counts = Counter(made.draw(index).scenario for index in range(made.count))
    assert counts == {"plain": 67, "boxed": 34}
    assert made.chunks == 13
    assert [len(made.indices(chunk)) for chunk in (0, 12)] == [8, 5]
    early = Counter(made.draw(index).scenario for index in range(30))
    assert min(early.values()) >= 4, "scenarios are mixed, not one behind the other"


def test_no_row_serves_a_scenario_twice_and_every_source_has_its_turn() -> None:
    made = planned(count=60, scenarios={"plain": 1.0}, sources={"a": squares(30), "b": squares(40)})
    rows = [row for index in range(60) for row in made.draw(index).rows()]
    assert len(rows) == len(set(rows)) == 70, "items own rows that no other item has"
    assert {source for source, _ in rows} == {"a", "b"}


def test_items_own_rows_enough_to_meet_what_a_scenario_needs() -> None:
    made = planned(count=10, scenarios={"boxed": 1.0}, sources={"a": squares(100)})
    source = parts.Squares("a", squares(100), 0)
    suited = [any(source.facts(row).meets(frozenset({"box"})) for _, row in made.draw(i).rows()) for i in range(10)]
    assert sum(suited) >= 8, "one row of four has a box, and each item may take one of ten"


def test_ids_and_seeds_tell_items_apart_and_stay() -> None:
    draws = [planned().draw(index) for index in range(40)]
    ids = [draw.id("a") for draw in draws]
    assert len(set(ids)) == len({draw.seed_of(id) for draw, id in zip(draws, ids, strict=True)}) == 40
    assert ids[3] == "a-0000003-plain"
    again, otherwise = planned().draw(3), planned(seed=1).draw(3)
    assert again == draws[3]
    assert again.seed_of(ids[3]) == draws[3].seed_of(ids[3]) != otherwise.seed_of(ids[3])
    assert list(otherwise.rows()) != list(again.rows())


def test_a_scenario_that_no_source_serves_is_an_error_that_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="no source serves the scenario 'text', which needs text_only"):
        planned(scenarios={"text": 1.0})
    with pytest.raises(ConfigError, match="there is no scenario 'crops'; there are plain"):
        planned(scenarios={"crops": 1.0})
    with pytest.raises(ConfigError, match=r"sources\.a\.scenarios: there is no scenario 'zoom'"):
        planned(sources={"a": SourceSettings(world="squares", scenarios=("zoom",))})
    with pytest.raises(ConfigError, match="a share above 0"):
        planned(scenarios={"plain": 0.0})


def test_sources_serve_what_they_are_named_for() -> None:
    asked = {"a": squares(30), "b": SourceSettings(world="squares", count=30, scenarios=("boxed",))}
    made = planned(count=20, scenarios={"plain": 0.5, "boxed": 0.5}, sources=asked)
    serving = {part.scenario: part.sources for part in made.parts}
    assert serving == {"plain": ("a",), "boxed": ("a", "b")}


def test_fewer_are_drawn_where_there_are_fewer_rows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = planned(count=40, sources={"a": squares(25)})
    assert made.count == 25
    assert "scenario plain: its sources have 25 rows for 40 records" in caplog.text


def squares(rows: int) -> SourceSettings:
    return SourceSettings(world="squares", count=rows)
