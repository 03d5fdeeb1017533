"""How parts make a reward: the paper's formula and the released code's, by hand and by their properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.config.rewards import RewardSettings
from thyme.rewards import PARTS, combine


def parts(**known: float | None) -> dict[str, float | None]:
    return dict.fromkeys(PARTS) | {"format": 1.0, "tool_cost": 0.0} | known


def settings(**fields: Any) -> RewardSettings:
    judge = {"model": "http://127.0.0.1:1/v1#toy"}
    return RewardSettings.model_validate({"judge": judge} | fields)


@pytest.mark.parametrize(
    ("result", "consistency", "format", "paper", "released", "additive", "none"),
    [
        # result: of the preset paper; released has -1 for wrong.     R(1+.5C)+.5F  R+.5C[R>0]+.5F  R+.5C+.5F  R+.5F
        pytest.param("right", 1.0, 1.0, 2.0, 2.0, 2.0, 1.5, id="right, consistent, well-formed"),
        pytest.param("right", 0.0, 1.0, 1.5, 1.5, 1.5, 1.5, id="right, inconsistent, well-formed"),
        pytest.param("right", 1.0, 0.0, 1.5, 1.5, 1.5, 1.0, id="right, consistent, ill-formed"),
        pytest.param("right", 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, id="right, inconsistent, ill-formed"),
        pytest.param("wrong", 1.0, 1.0, 0.5, -0.5, 1.0, 0.5, id="wrong, consistent, well-formed"),
        pytest.param("wrong", 0.0, 1.0, 0.5, -0.5, 0.5, 0.5, id="wrong, inconsistent, well-formed"),
        pytest.param("wrong", 1.0, 0.0, 0.0, -1.0, 0.5, 0.0, id="wrong, consistent, ill-formed"),
        pytest.param("wrong", 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, id="wrong, inconsistent, ill-formed"),
        pytest.param("empty", 0.0, 1.0, 0.5, 0.5, 0.5, 0.5, id="empty, well-formed"),
        pytest.param("empty", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, id="empty, ill-formed"),
    ],
)
def test_the_formulas(
    result: str, consistency: float, format: float, paper: float, released: float, additive: float, none: float
) -> None:
    value = {"right": 1.0, "wrong": 0.0, "empty": 0.0}[result]
    known = parts(result=value, consistency=consistency, format=format)
    assert combine(known, settings()) == paper
    assert combine(known, settings(gating="additive")) == additive
    assert combine(known, settings(gating="none")) == none
    signed = known | {"result": -1.0 if result == "wrong" else value}
    assert combine(signed, settings(preset="released")) == released


def test_the_presets_agree_wherever_the_answer_is_not_wrong() -> None:
    """The gate of the released code is the paper's product for a result of 0 or 1."""
    for result in (0.0, 1.0):
        for consistency in (0.0, 1.0):
            known = parts(result=result, consistency=consistency)
            assert combine(known, settings()) == combine(known, settings(preset="released"))


@pytest.mark.parametrize("gating", ["multiplicative", "additive", "none"])
def test_process_and_code_are_paid_for_right_answers_alone(gating: str) -> None:
    """As released, whatever the gating of consistency."""
    made = settings(process=0.5, code=0.25, gating=gating)
    right = parts(result=1.0, consistency=0.0, process=0.8, code=1.0)
    assert combine(right, made) == pytest.approx(1 + 0.5 * 0.8 + 0.25 + 0.5)
    assert combine(right | {"result": 0.0}, made) == 0.5


def test_the_cost_of_code_is_taken_off_once() -> None:
    costly = settings(tool_cost=0.1)
    right = parts(result=1.0, consistency=1.0)
    assert combine(right | {"tool_cost": 1.0}, costly) == pytest.approx(1.9)
    assert combine(right, costly) == 2.0
    assert combine(right | {"tool_cost": 1.0}, settings()) == 2.0


def test_the_weight_of_the_result_scales_the_paper_s_product() -> None:
    double = settings(result=2.0)
    right = parts(result=1.0, consistency=1.0)
    assert combine(right, double) == 2 * 1.5 + 0.5
    assert combine(right, settings(result=2.0, preset="released")) == 2 + 0.5 + 0.5


# --- what is unknown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("gating", ["multiplicative", "additive", "none"])
def test_without_a_result_there_is_no_reward(preset: str, gating: str) -> None:
    assert combine(parts(result=None, consistency=1.0), settings(preset=preset, gating=gating)) is None


def test_an_unknown_consistency_matters_where_it_counts() -> None:
    unknown_right, unknown_wrong = parts(result=1.0), parts(result=0.0)
    assert combine(unknown_right, settings()) is None
    assert combine(unknown_wrong, settings()) == 0.5
    assert combine(unknown_wrong, settings(gating="additive")) is None
    assert combine(unknown_right, settings(gating="none")) == 1.5
    assert combine(unknown_right, settings(consistency_by="off")) == 1.5
    assert combine(unknown_right, settings(consistency=0.0)) == 1.5


def test_a_missing_part_is_unknown() -> None:
    assert combine({}, settings()) is None
    assert combine({"result": 1.0, "consistency": 1.0, "format": 1.0}, settings()) == 2.0


unit = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
weights = st.floats(0, 4)
all_settings = st.builds(
    settings,
    preset=st.sampled_from(["paper", "released"]),
    gating=st.sampled_from(["multiplicative", "additive", "none"]),
    consistency_by=st.sampled_from(["judge", "rule", "off"]),
    result=weights, consistency=weights, format=weights, process=weights, code=weights, tool_cost=weights,
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[RewardSettings, dict[str, float | None]]:
    made = draw(all_settings)
    result = draw(st.sampled_from([0.0, 1.0] if made.preset == "paper" else [-1.0, 0.0, 1.0]))
    rest = {name: draw(unit) for name in ("format", "consistency", "process", "code")}
    return made, {"result": result, "tool_cost": draw(st.sampled_from([0.0, 1.0])), **rest}


@given(cases())
def test_a_reward_lies_between_its_bounds(case: tuple[RewardSettings, dict[str, float | None]]) -> None:
    made, known = case
    value = combine(known, made)
    assert value is not None
    scale = made.result if made.preset == "paper" and made.gating == "multiplicative" else 1.0
    most = made.result + scale * made.consistency + made.process + made.code + made.format
    least = -made.tool_cost - (made.result if made.preset == "released" else 0.0)
    assert least - 1e-9 <= value <= most + 1e-9


@given(cases(), st.sampled_from(["format", "result", "consistency", "process", "code"]), unit)
def test_no_part_makes_a_reward_smaller_by_growing(
    case: tuple[RewardSettings, dict[str, float | None]], name: str, more: float
) -> None:
    made, known = case
    before = known[name]
    assert before is not None
    grown = known | {name: 1.0 if name == "result" else max(before, more)}
    low, high = combine(known, made), combine(grown, made)
    assert low is not None
    assert high is not None
    assert high >= low - 1e-9


@given(cases(), st.sets(st.sampled_from(PARTS)))
def test_an_unknown_part_leaves_no_reward_or_the_same(
    case: tuple[RewardSettings, dict[str, float | None]], unknown: set[str]
) -> None:
    """What is not known is never counted as 0: either it could not matter, or there is no reward."""
    made, known = case
    value = combine(known | dict.fromkeys(unknown), made)
    if value is not None:
        assert value == combine(known, made)
        for name in unknown:  # it really could not matter
            for other in (0.0, 1.0):
                if name == "result":
                    continue
                assert value == pytest.approx(combine(known | {name: other}, made))


def test_settings_that_ask_a_judge_name_one() -> None:
    for asks in ({"result_by": "judge"}, {"consistency_by": "judge"}, {"process": 0.1}, {"code": 0.1}):
        with pytest.raises(ValueError, match=r"judge\.model"):
            RewardSettings.model_validate(asks)
    assert RewardSettings().judge is None
