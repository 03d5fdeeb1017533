"""Published rows become trajectories that hold their text to the character; what cannot be used says why."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from published_rows import b64, code_round, file_of, response_of, row_of, text_row

from thyme.data import published
from thyme.data.published import REASONS, TOLERATED, split_response, to_row, to_trajectory
from thyme.errors import EncodeError
from thyme.markup import TAGS, Reason, violations
from thyme.store import read_trajectories, write_trajectories
from thyme.types import Generated, Observation, StopReason


def reason_of(row: dict[str, Any], **options: Any) -> str:
    with pytest.raises(EncodeError, match="row 7") as caught:
        to_trajectory(row, name="row 7", **options)
    assert caught.value.reason in REASONS
    return caught.value.reason


def kinds(response: str) -> str:
    return "".join(kind[0] if kind else "o" for kind, _ in split_response(response))


def test_a_row_becomes_the_segments_that_a_rollout_would_have() -> None:
    made = to_trajectory(row_of(3, rounds=2), name="r")
    assert [s.kind for s in made.segments] == ["text", "code", "observation"] * 2 + ["text"]
    first, code, observed = made.segments[:3]
    assert isinstance(first, Generated)
    assert isinstance(code, Generated)
    assert isinstance(observed, Observation)
    assert first.text.endswith("<code>")
    assert code.text.startswith("\n```python")
    assert code.text.endswith("</code>")
    assert observed.text == "\n<sandbox_output><image></sandbox_output>"
    assert observed.execution.code.endswith("print(processed_path)")
    assert [i.size for i in observed.execution.images] == [(20, 20)]
    assert [s.image.size for s in made.prompt.images] == [(60, 40)]
    assert (made.stop, made.problem.answer) == (StopReason.ANSWER, "thing 3")


def test_images_go_to_their_places_in_order() -> None:
    files = [file_of(30 + i, 20, seed=i) for i in range(4)]
    response = f"<think>{code_round(0, 'a<image>b<image>')}{code_round(1)}</think><answer>x</answer>"
    made = to_trajectory({"image": list(map(b64, files)), "question": "<image>?", "response": response}, name="r")
    placed = [made.problem.images, *(o.execution.images for o in made.observations)]
    assert [[image.width for image in images] for images in placed] == [[30], [31, 32], [33]]
    assert made.observations[0].execution.stdout == "ab"


def test_a_text_only_row_keeps_what_was_printed() -> None:
    made = to_trajectory(text_row(6), name="r")
    assert not made.prompt.images
    assert made.observations[0].execution.stdout == "42"


@pytest.mark.parametrize("nothing", [None, [], [""], [None], ""])
def test_no_image_is_said_in_several_ways(nothing: Any) -> None:
    assert to_trajectory({**text_row(), "image": nothing}, name="r").prompt.images == ()


FILE = file_of(33, 21)


@pytest.mark.parametrize(
    "entry",
    [
        b64(FILE),
        f"data:image/jpeg;base64,{b64(FILE)}",
        f"\n data:image/jpeg;base64,\n{b64(FILE)}",
        base64.urlsafe_b64encode(FILE).decode(),
        b64(FILE).rstrip("="),
        base64.encodebytes(FILE).decode(),
        FILE,
        {"bytes": FILE, "path": None},
        [b64(FILE)],
    ],
)
def test_an_image_may_be_written_in_several_ways(entry: Any) -> None:
    row = {"image": [entry], "question": "<image>", "response": response_of(0)}
    assert to_trajectory(row, name="r").problem.images[0].encoded == FILE
    assert to_trajectory(row, name="r", pixels=False).problem.images[0].size == (33, 21)


def test_paths_are_read_where_a_folder_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(FILE)
    row = {"image": ["a.jpg"], "question": "<image>", "response": response_of(0)}
    assert to_trajectory(row, name="r", folder=tmp_path).problem.images[0].encoded == FILE
    assert to_trajectory({**row, "image": [b64(FILE)]}, name="r", folder=tmp_path).problem.images[0].encoded == FILE
    assert reason_of({**row, "image": ["b.jpg"]}, folder=tmp_path) == "image_missing"
    assert reason_of(row) == "image_damaged"


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize(
    "entry", ["../out.jpg", "in/../../out.jpg", "{}/out.jpg", "/dev/full.jpg", "a\0b.jpg", "\ud800.jpg"]
)
def test_a_path_cannot_leave_the_folder(tmp_path: Path, entry: str, pixels: bool) -> None:
    """Rows may come from a stranger, who must not make a picture of this machine part of a model or a report."""
    (tmp_path / "out.jpg").write_bytes(FILE)
    (tmp_path / "rows").mkdir()
    row = {"image": [entry.replace("{}", str(tmp_path))], "question": "<image>", "response": response_of(0)}
    assert reason_of(row, folder=tmp_path / "rows", pixels=pixels) == "image_missing"


def test_a_path_may_be_whole_if_it_leads_into_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(FILE)
    row = {"image": [str(tmp_path / "a.jpg")], "question": "<image>", "response": response_of(0)}
    assert to_trajectory(row, name="r", folder=tmp_path).problem.images[0].encoded == FILE
    monkeypatch.chdir(tmp_path)
    assert to_trajectory(row, name="r", folder=Path()).problem.images[0].encoded == FILE
    assert reason_of({**row, "image": ["../a.jpg"]}, folder=Path()) == "image_missing"


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for without end."""
    os.mkfifo(tmp_path / "a.jpg")
    row = {"image": ["a.jpg"], "question": "<image>", "response": response_of(0)}
    assert reason_of(row, folder=tmp_path) == "image_missing"


def test_images_may_lie_in_lists_of_any_depth() -> None:
    entry: Any = b64(FILE)
    for _ in range(5000):
        entry = [entry]
    row = {"image": [b64(FILE), entry], "question": "<image><image>", "response": response_of(0)}
    assert len(to_trajectory(row, name="r", pixels=False).problem.images) == 2


@pytest.mark.parametrize("column", ["question", "response"])
@pytest.mark.parametrize("value", [None, "", " \n", 7, "half a \ud83d pair"])
def test_a_missing_field_is_named(column: str, value: Any) -> None:
    assert reason_of({**row_of(), column: value}) == "missing_field"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("<think>a <code>x</think>\n<answer>B</answer>", "nested_tag"),
        ("<think>a <code>x", "unclosed_code"),
        ("<think>a <code>x</code> and so on</think>\n<answer>B</answer>", "code_without_observation"),
        ("<think>a x</code></think>\n<answer>B</answer>", "stray_close"),
        ("<think>a <sandbox_output>1</sandbox_output></think>\n<answer>B</answer>", "observation_without_code"),
        ("<think>a <code>x</code><sandbox_output>1", "unclosed_observation"),
        ("<think>a</think>\n<answer>B", "unclosed_answer"),
        ("<think>a</think>\nB", "missing_answer"),
        ("<think>a\n<answer>B</answer>", "unclosed_think"),
        ("<think>a</think>\n<answer> </answer>", "empty_answer"),
        ("<think>a <image></think>\n<answer>B</answer>", "image_outside_observation"),
        ("<think>a</think><answer>B</answer><answer>C</answer>", "second_answer"),
    ],
)
def test_a_broken_response_is_rejected_by_name(response: str, reason: str) -> None:
    assert reason_of({"image": [], "question": "?", "response": response}) == reason


@pytest.mark.parametrize(
    ("response", "tolerated"),
    [
        ("Well. <think>a</think>\n<answer>B</answer>", Reason.TEXT_BEFORE_THINK),
        ("<think>a</think>\nSo:\n<answer>B</answer>\nDone.", Reason.TEXT_AFTER_ANSWER),
        ("a <code>x</code><sandbox_output>1</sandbox_output><answer>B</answer>", Reason.CODE_OUTSIDE_THINK),
    ],
)
def test_a_response_that_only_looks_odd_is_used(response: str, tolerated: Reason) -> None:
    assert tolerated in TOLERATED
    assert tolerated in {violation.reason for violation in violations(response)}
    assert to_trajectory({"image": [], "question": "?", "response": response}, name="r").response == response


@pytest.mark.parametrize("change", [-1, 1])
def test_every_image_must_be_named_once(change: int) -> None:
    row = row_of(rounds=2)
    row["image"] = row["image"][:-1] if change < 0 else [*row["image"], row["image"][0]]
    assert reason_of(row) == "image_count"


def _cut(format: str) -> bytes:
    whole = file_of(64, 64, format=format)
    return whole[: len(whole) * 2 // 3]


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize(
    "entry", ["no base64 at all!", b64(b"hello"), b64(_cut("JPEG")), b64(_cut("PNG")), b64(_cut("WEBP")), 7, "AAAAA"]
)
def test_a_damaged_image_is_found_with_and_without_decoding(entry: Any, pixels: bool) -> None:
    row = {**row_of(rounds=1), "image": [b64(FILE), entry]}
    assert reason_of(row, pixels=pixels) == "image_damaged"


def test_sizes_without_pixels_are_those_with_pixels() -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24)).save(turned, "JPEG", exif=exif)
    noted, xmp = PngInfo(), '<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    noted.add_itxt("XML:com.adobe.xmp", xmp)
    Image.new("RGB", (40, 24)).save(written := io.BytesIO(), "PNG", pnginfo=noted)
    files = [turned.getvalue(), file_of(40, 24, format="WEBP"), file_of(40, 24, format="PNG"), written.getvalue()]
    response = f"<think>{code_round(0, '<image><image><image>')}</think><answer>x</answer>"
    row = {"image": list(map(b64, files)), "question": "<image>", "response": response}
    sizes = [
        [i.size for i in (*made.problem.images, *made.observations[0].execution.images)]
        for made in (to_trajectory(row, name="r"), to_trajectory(row, name="r", pixels=False))
    ]
    assert sizes[0] == sizes[1] == [(24, 40), (40, 24), (40, 24), (24, 40)]


def test_there_and_back(tmp_path: Path) -> None:
    row = row_of(5, rounds=2)
    made = to_trajectory(row, name="r")
    assert to_row(made) == row
    write_trajectories(tmp_path / "t.jsonl", [made])
    assert to_row(next(read_trajectories(tmp_path / "t.jsonl"))) == row


# --- to the character

spaces = st.text(" \n\t\r", max_size=3)
prose = st.text(st.characters(exclude_characters="<>&", codec="utf-8"), max_size=12)
shown = st.lists(st.one_of(prose, st.just("<image>")), max_size=4).map("".join)


@st.composite
def responses(draw: st.DrawFn) -> str:
    rounds = "".join(
        f"{draw(prose)}<code>{draw(spaces)}{draw(prose)}</code>{draw(spaces)}"
        f"<sandbox_output>{draw(shown)}</sandbox_output>{draw(spaces)}"
        for _ in range(draw(st.integers(0, 3)))
    )
    return (
        f"{draw(spaces)}<think>{rounds}{draw(prose)}</think>{draw(spaces)}<answer>x{draw(prose)}</answer>{draw(spaces)}"
    )


@given(responses(), st.integers(0, 2))
def test_a_trajectory_gives_its_response_back_to_the_character(response: str, asked: int) -> None:
    question = "<image>" * asked + " what?"
    images = [b64(FILE)] * (asked + response.count("<image>"))
    row = {"image": images, "question": question, "response": response}
    made = to_trajectory(row, name="r", pixels=False)
    assert made.response == response
    assert made.prompt.user == question
    assert len(made.observations) == response.count("<code>")
    assert sum(len(o.execution.images) for o in made.observations) == response.count("<image>")
    for segment in made.segments:
        if isinstance(segment, Generated):
            assert segment.text.endswith("</code>") == (segment.kind == "code")
            assert "sandbox_output" not in segment.text


@given(st.lists(st.one_of(st.sampled_from([*TAGS, "\n"]), prose), max_size=14).map("".join))
def test_any_text_is_used_to_the_character_or_rejected_by_name(response: str) -> None:
    images = [b64(FILE)] * response.count("<image>")
    assert "".join(text for _, text in split_response(response)) == response
    row = {"image": images, "question": "?", "response": response}
    refused = [v.reason for v in violations(response) if v.reason not in TOLERATED]
    if refused or not response.strip():
        with pytest.raises(EncodeError) as caught:
            to_trajectory(row, name="r", pixels=False)
        assert caught.value.reason == (refused[0] if response.strip() else "missing_field")
        return
    made = to_trajectory(row, name="r", pixels=False)
    assert made.response == response
    assert [s.kind[0] for s in made.segments] == list(kinds(response))
    assert len(made.observations) == response.count("</code>")


def test_reasons_are_those_of_the_grammar_and_of_the_row() -> None:
    assert {published.MISSING_FIELD, published.IMAGE_COUNT, published.IMAGE_MISSING, published.IMAGE_DAMAGED} < set(
        REASONS
    )
    assert not set(REASONS) & {str(reason) for reason in TOLERATED}
