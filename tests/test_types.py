"""The shared nouns: frozen, closed, JSON both ways, and images named by what they show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from thyme import errors
from thyme.types import (
    EXTENSIONS,
    INPUT_DIR,
    Execution,
    ExecutionError,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Repair,
    Sampling,
    SeenImage,
    StopReason,
    Trajectory,
    image_id,
    input_path,
)

SAMPLING = Sampling(text_temperature=1.0, code_temperature=0.0, max_rounds=4, max_round_tokens=9, max_tokens=9)
PICTURE = ImageRecord.of(Image.new("RGB", (3, 2), (1, 2, 3)), name="a.png")

words = st.text(max_size=20)
executions = st.builds(
    Execution,
    code=words,
    stdout=words,
    images=st.sampled_from([(), (PICTURE,), (PICTURE, PICTURE)]),
    error=st.none() | st.builds(ExecutionError, type=words, message=words, line=st.none() | st.integers(1, 99)),
    repairs=st.lists(st.builds(Repair, name=words, note=words), max_size=2).map(tuple),
    duration_s=st.floats(0, 100),
    session_lost=st.booleans(),
)
ids = st.lists(st.integers(0, 10**6), max_size=4).map(tuple)
generated = st.builds(
    Generated,
    kind=st.sampled_from(["text", "code"]),
    text=words,
    token_ids=ids,
    logprobs=st.none() | st.lists(st.floats(-50, 0), max_size=4).map(tuple),
    temperature=st.floats(0, 2),
)
observations = st.builds(Observation, execution=executions, text=words, token_ids=ids)
trajectories = st.builds(
    Trajectory,
    id=words,
    problem=st.builds(Problem, id=words, question=words, images=st.just((PICTURE,))),
    prompt=st.builds(
        Prompt,
        system=words,
        user=words,
        images=st.just((SeenImage(image=PICTURE, seen_width=3, seen_height=2),)),
        token_ids=ids,
    ),
    segments=st.lists(generated | observations, max_size=5).map(tuple),
    stop=st.sampled_from(StopReason),
    sampling=st.just(SAMPLING),
    seed=st.integers(0, 2**31),
)


@given(trajectories)
def test_a_trajectory_is_json_both_ways(trajectory):
    back = Trajectory.model_validate_json(trajectory.model_dump_json())
    assert back.model_dump() == trajectory.model_dump()
    assert "\n" not in trajectory.model_dump_json()


@given(trajectories)
def test_a_trajectory_sorts_its_segments(trajectory):
    assert trajectory.response == "".join(segment.text for segment in trajectory.segments)
    assert len(trajectory.generated) + len(trajectory.observations) == len(trajectory.segments)
    assert {segment.kind for segment in trajectory.observations} <= {"observation"}


def test_records_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        PICTURE.width = 9
    with pytest.raises(ValidationError, match="extra"):
        Problem(id="p", question="q", nonsense=1)


def test_segments_are_told_apart_by_kind():
    trajectory = {
        "id": "t",
        "problem": {"id": "p", "question": "q"},
        "prompt": {"system": "", "user": ""},
        "stop": "answer",
        "sampling": SAMPLING.model_dump(),
    }
    with pytest.raises(ValidationError, match="kind"):
        Trajectory.model_validate({**trajectory, "segments": [{"kind": "thought", "text": "x", "temperature": 0}]})
    with pytest.raises(ValidationError, match="schema_version"):
        Trajectory.model_validate({**trajectory, "schema_version": 2})
    assert Trajectory.model_validate(trajectory).segments == ()


def test_images_are_named_by_what_they_show():
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    assert image_id(red) == image_id(red.copy())
    assert len(image_id(red)) == 32
    different = [red, blue, red.resize((2, 4)), red.convert("RGBA"), red.convert("L"), red.convert("P")]
    assert len({image_id(image) for image in different}) == len(different)


def test_the_palette_is_part_of_the_pixels():
    first, second = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    first.putpalette([255, 0, 0])
    second.putpalette([0, 255, 0])
    assert image_id(first) != image_id(second)


def test_pixels_travel_in_memory_only():
    encoded = b"bytes of a file"
    record = ImageRecord.of(Image.new("L", (5, 4)), format="JPEG", encoded=encoded)
    assert (record.size, record.mode, record.loaded, record.encoded) == ((5, 4), "L", True, encoded)
    back = ImageRecord.model_validate_json(record.model_dump_json())
    assert (back.id, back.loaded, back.encoded) == (record.id, False, None)
    with pytest.raises(ValueError, match="not loaded"):
        _ = back.image


@pytest.mark.parametrize("format", EXTENSIONS)
def test_input_paths_are_neutral_and_true_to_the_format(format):
    assert input_path(0, format) == f"{INPUT_DIR}/image_1.{EXTENSIONS[format]}"
    assert Image.registered_extensions()["." + EXTENSIONS[format]] == format


def test_every_error_of_the_package_hangs_in_the_drawn_tree():
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    for each in classes:
        assert issubclass(each, errors.ThymeError)
        assert each.__name__ in errors.__doc__
    extra = errors.MissingExtraError("the local engine", "local")
    assert str(extra) == "the local engine needs the extra 'local': pip install 'thyme-vl[local]'"
    rebuild, arguments = extra.__reduce__()
    assert str(rebuild(*arguments)) == str(extra)
