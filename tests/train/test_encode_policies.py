"""Mask policies: where training begins, what each leaves out, and that nothing is ever cut; for every family."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thyme.errors import EncodeError, TooLongError
from thyme.families import Family, load_family
from thyme.train.encode import (
    Dialogue,
    Encoded,
    MaskPolicy,
    encode,
    encode_all,
    encode_item,
    encode_turns,
    turn_end_id,
)
from thyme.types import Execution, StopReason

ENDED = st.sampled_from([StopReason.ANSWER, StopReason.END, StopReason.MAX_TOKENS])
executions = st.builds(
    samples.crop, st.integers(0, 5), images=st.integers(0, 2), stdout=st.sampled_from(["", "7", "<image> </code>"])
)
rounds_of = st.lists(executions, max_size=4)
quietly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def family(any_checkpoint: Path) -> Family:
    return load_family(any_checkpoint)


def first_trained(sample: Encoded) -> int:
    return int(np.flatnonzero(sample.loss_mask)[0])


def observation_ends(sample: Encoded) -> list[int]:
    return [span.end for span in sample.spans if span.kind == "observation"]


@given(rounds=rounds_of, stop=ENDED, images=st.integers(0, 2))
@quietly
def test_policies_begin_where_their_definitions_say_and_leave_out_nothing_after(
    family: Family, rounds: list[Execution], stop: StopReason, images: int
) -> None:
    shown = [samples.picture(i) for i in range(images)]
    given_one = samples.trajectory(rounds, images=shown, stop=stop)
    by_policy = {policy: encode(given_one, family, policy) for policy in MaskPolicy}
    whole = by_policy[MaskPolicy.ALL]
    ends = observation_ends(whole)
    assert len(ends) == len(rounds)
    begin = dict.fromkeys(MaskPolicy, whole.spans[0].end)
    if len(ends) >= 2:
        begin |= {MaskPolicy.RELEASED: ends[-2], MaskPolicy.PAPER: ends[-1]}
    for policy, sample in by_policy.items():
        assert np.array_equal(sample.ids, whole.ids)
        assert first_trained(sample) == begin[policy]
        after = np.arange(len(whole)) >= begin[policy]
        assert np.array_equal(sample.loss_mask, whole.loss_mask & after)
    # Hence nested, as is said everywhere.
    everything, released, paper = (by_policy[policy].loss_mask for policy in MaskPolicy)
    assert (released <= everything).all()
    assert (paper <= released).all()


@given(rounds=rounds_of, policy=st.sampled_from(list(MaskPolicy)), stop=ENDED)
@quietly
def test_under_all_exactly_what_the_model_wrote_is_trained(
    family: Family, rounds: list[Execution], policy: MaskPolicy, stop: StopReason
) -> None:
    sample = encode(samples.trajectory(rounds, stop=stop), family, policy)
    written = np.zeros(len(sample), dtype=bool)
    for span in sample.spans:
        written[span.start : span.end] = span.kind in {"text", "code"} or (
            span.kind == "end" and stop in {StopReason.ANSWER, StopReason.END}
        )
    assert not (sample.loss_mask & ~written).any()
    if policy is MaskPolicy.ALL:
        assert np.array_equal(sample.loss_mask, written)


@given(rounds=st.lists(st.builds(samples.crop, st.integers(0, 5), images=st.just(0), stdout=st.just("7"))))
@quietly
def test_the_policy_is_the_callers_whether_there_are_images_or_not(family: Family, rounds: list[Execution]) -> None:
    """Maths has no images and takes `all` in its stage; nothing here decides by the images instead."""
    plain, seen = (samples.trajectory(rounds, images=images) for images in ([], [samples.picture(0)]))
    for policy in MaskPolicy:
        texts = [
            family.decode(sample.ids[sample.loss_mask].tolist())
            for sample in (encode(plain, family, policy), encode(seen, family, policy))
        ]
        assert texts[0] == texts[1]
    assert encode(plain, family, MaskPolicy.ALL).trained == sum(
        span.end - span.start
        for span in encode(plain, family, MaskPolicy.ALL).spans
        if span.kind in {"text", "code", "end"}
    )


@given(many=st.lists(rounds_of, max_size=5), share=st.floats(0, 1))
@quietly
def test_what_is_too_long_is_dropped_and_counted_and_the_rest_is_whole(
    family: Family, many: list[list[Execution]], share: float
) -> None:
    trajectories = [samples.trajectory(rounds) for rounds in many]
    whole = [encode(trajectory, family) for trajectory in trajectories]
    limit = int(share * max(map(len, whole), default=0))
    kept, drops = encode_all(trajectories, family, max_tokens=limit)
    expected = [sample.ids.tolist() for sample in whole if len(sample) <= limit]
    assert [sample.ids.tolist() for sample in kept] == expected
    assert drops == Counter({"TooLongError": len(whole) - len(expected)} if len(expected) < len(whole) else {})


@given(
    turns=st.lists(st.tuples(st.text(max_size=20), st.text(min_size=1, max_size=20)), min_size=1, max_size=3),
    images=st.integers(0, 2),
    system=st.sampled_from(["", "Be brief."]),
)
@quietly
def test_every_answer_of_a_dialogue_is_trained_and_nothing_else(
    family: Family, turns: list[tuple[str, str]], images: int, system: str
) -> None:
    shown = tuple(samples.picture(i) for i in range(images))
    dialogue = Dialogue(tuple(turns), shown, system)
    sample = encode_item(dialogue, family, MaskPolicy.PAPER)
    assert sample.ids.tolist() == encode_turns(turns, shown, family, system=system).ids.tolist()
    answers = [i for _, answer in turns for i in (*family.encode_text(answer), turn_end_id(family))]
    assert sample.ids[sample.loss_mask].tolist() == answers
    assert (sample.ids == family.image_token_id).sum() == sum(map(family.image_tokens, sample.grids))
    assert [span.kind for span in sample.spans] == ["prompt", "text"] * len(turns)
    assert sample.spans[-1].end == len(sample)


def test_either_kind_of_item_is_encoded_and_refused_alike(family: Family) -> None:
    recorded = samples.trajectory([samples.crop(0), samples.crop(1)], family=family)
    dialogue = Dialogue((("which?", "red"),))
    for policy in MaskPolicy:
        assert encode_item(recorded, family, policy).labels.tolist() == encode(recorded, family, policy).labels.tolist()
    for item in (recorded, dialogue):
        length = len(encode_item(item, family))
        assert len(encode_item(item, family, max_tokens=length)) == length
        with pytest.raises(TooLongError, match="dropped, never cut"):
            encode_item(item, family, max_tokens=length - 1)
    with pytest.raises(EncodeError, match="no question"):
        encode_item(Dialogue(()), family)


def test_a_record_that_does_not_name_its_images_fails_alone(family: Family) -> None:
    shown = (samples.picture(0),)
    for turns, images in [
        ((("<image><image>which?", "red"),), shown),
        ((("<image>which?", "red"),), ()),
        ((("which?", "red"), ("and <image>?", "blue")), shown),
    ]:
        with pytest.raises(EncodeError, match="one for each"):
            encode_item(Dialogue(turns, images), family)
    good = samples.trajectory([], images=shown)
    bad = good.model_copy(update={"prompt": good.prompt.model_copy(update={"user": "What number is it?"})})
    kept, drops = encode_all([bad, good], family)
    assert len(kept) == 1
    assert drops == {"EncodeError": 1}
