"""The multiple-choice sets as Hugging Face has them give the same problems as VLMEvalKit's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import encoded, picture, problems_of, score_of
from hypothesis import given
from hypothesis import strategies as st

from thyme.eval.benchmarks.layouts import listed_in
from thyme.types import Problem


def image(seed: int = 0) -> dict[str, Any]:
    """As Parquet files hold an image."""
    return {"bytes": picture(seed), "path": f"{seed}.png"}


def read(name: str, path: Path, *rows: dict[str, Any]) -> list[Problem]:
    pq.write_table(pa.Table.from_pylist(list(rows)), path / "test-00000-of-00001.parquet")
    return problems_of(name, path)


def test_vstar(tmp_path: Path) -> None:
    """lmms-lab/vstar-bench; ids start anew in each category."""
    text = "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
    row = {"image": image(), "text": text + "Answer with the option's letter from the given choices directly.",
           "category": "direct_attributes", "label": "A", "question_id": "0"}  # fmt: skip
    first, second = read("VStarBench", tmp_path, row, {**row, "category": "relative_position", "label": "C"})
    assert (first.id, second.id) == ("direct_attributes/0", "relative_position/0")
    assert first.question == "What is the material of the glove?"
    assert first.choices == ("rubber", "cotton", "kevlar", "leather")
    assert (score_of("VStarBench", first, "A"), score_of("VStarBench", second, "kevlar")) == (1.0, 1.0)


def test_hrbench(tmp_path: Path) -> None:
    """DreamMr/HR-Bench: VLMEvalKit's own columns, images in base64."""
    row = {"index": 3, "question": "?", "answer": "B", "category": "single", "A": "1", "B": "2", "C": "3", "D": "4",
           "cycle_category": "3", "image": encoded()}  # fmt: skip
    [problem] = read("HRBench4K", tmp_path, row)
    assert (problem.id, problem.meta["cycle"], problem.images[0].encoded) == ("3", "3", picture())


def test_mme_realworld(tmp_path: Path) -> None:
    """yifanzhang114/MME-RealWorld-lite-lmms-eval."""
    options = ["(A) red", "(B) blue", "(C) green", "(D) black", "(E) This image doesn't feature the colour."]
    row = {"index": "p/7", "bytes": encoded(), "question": "Which?", "multi-choice options": options, "answer": "C",
           "category": "Perception/Remote Sensing", "l2-category": "color"}  # fmt: skip
    [problem] = read("MME-RealWorld-Lite", tmp_path, row)
    assert (problem.choices[4], problem.kind) == ("This image doesn't feature the colour.", "Perception")
    assert score_of("MME-RealWorld-Lite", problem, "(C)") == 1.0


def test_realworldqa(tmp_path: Path) -> None:
    """lmms-lab/RealWorldQA: no ids, options in the question or none."""
    request = "\nPlease answer directly with only the letter of the correct option and nothing else."
    choice = {"image": image(), "question": f"Which way?\n\nA. Left.\nB. Straight.\nC. Right.{request}", "answer": "C"}
    open_question = {"image": image(), "question": "How many?\nPlease answer with a number.", "answer": "3"}
    first, second = read("RealWorldQA", tmp_path, choice, open_question)
    assert (first.id, first.question, first.choices) == ("0", "Which way?", ("Left.", "Straight.", "Right."))
    assert (second.id, second.question, second.choices) == ("1", "How many?\nPlease answer with a number.", ())
    assert (score_of("RealWorldQA", first, "C"), score_of("RealWorldQA", second, "3")) == (1.0, 1.0)


def test_mmstar(tmp_path: Path) -> None:
    """Lin-Chen/MMStar."""
    question = "Which one is right?\nOptions: A: The case is on the book., B: Under the cat., C: Lost., D: Blue."
    row = {"index": 0, "question": question, "image": image(), "answer": "A", "category": "coarse perception",
           "l2_category": "image scene and topic", "meta_info": {"source": "MMBench", "split": "val"}}  # fmt: skip
    [problem] = read("MMStar", tmp_path, row)
    assert problem.question == "Which one is right?"
    assert problem.choices == ("The case is on the book.", "Under the cat.", "Lost.", "Blue.")
    assert problem.meta == {"l2_category": "image scene and topic"}


def test_blink(tmp_path: Path) -> None:
    """BLINK-Benchmark/BLINK: up to four images in columns of their own, the context in the prompt."""
    prompt = (
        "Use the first image as the reference.\nSelect from the following choices.\n(A) the second\n(B) the third\n"
    )
    row = {"idx": "val_Art_Style_1", "question": "Which?", "sub_task": "Art_Style", "image_1": image(1),
           "image_2": image(2), "image_3": image(3), "image_4": None, "choices": ["the second", "the third"],
           "answer": "(B)", "prompt": prompt}  # fmt: skip
    [problem] = read("BLINK", tmp_path, row)
    assert (problem.id, problem.kind, problem.answer) == ("val_Art_Style_1", "Art_Style", "B")
    assert [one.encoded for one in problem.images] == [picture(seed) for seed in (1, 2, 3)]
    assert problem.question == "Use the first image as the reference.\nSelect from the following choices."


def test_hallusionbench(tmp_path: Path) -> None:
    """lmms-lab/HallusionBench."""
    row = {"category": "VS", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": "1",
           "question_id": "2", "question": "Is it?", "gt_answer": "0", "image": image()}  # fmt: skip
    [problem] = read("HallusionBench", tmp_path, row)
    assert (problem.id, problem.answer) == ("VS_chart_1_0_1_2", "No")
    assert {name: problem.meta[name] for name in ("l2_category", "set", "figure", "question")} == {
        "l2_category": "chart", "set": "0", "figure": "1", "question": "2",
    }  # fmt: skip


def test_visulogic(tmp_path: Path) -> None:
    """VisuLogic/VisuLogic: JSON lines beside a folder of images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000.png").write_bytes(picture(5))
    row = {
        "image_path": "images/00000.png",
        "question": "Fits?\nA: A\nB: B",
        "label": "B",
        "tag": "Other",
        "id": "00000",
    }
    (tmp_path / "data.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [problem] = problems_of("VisuLogic", tmp_path / "data.jsonl")
    assert (problem.id, problem.answer, problem.kind, problem.choices) == ("00000", "B", "Other", ())
    assert problem.question == "Fits?\nA: A\nB: B"
    assert problem.images[0].encoded == picture(5)


def test_logicvista(tmp_path: Path) -> None:
    """lscpku/LogicVista: skills as a list."""
    row = {"id": "v1_0", "image": image(), "question": "Which?", "answer": "C", "skill": ["inductive", "spatial"]}
    [problem] = read("LogicVista", tmp_path, row)
    assert (problem.id, problem.meta["skill"]) == ("v1_0", "inductive, spatial")


def test_wemath(tmp_path: Path) -> None:
    """We-Math/We-Math: the image under ``image_path``, options in one text."""
    row = {"ID": 4, "split": "testmini", "knowledge concept": "Area of Circles", "question": "How many?",
           "option": "A. 3; B. 4.5; C. 5 cm; D. No correct answer", "answer": "B", "image_path": image(),
           "key": "3steps_multi", "question number": 2}  # fmt: skip
    [problem] = read("WeMath", tmp_path, row)
    assert problem.choices == ("3", "4.5", "5 cm", "No correct answer")
    assert (problem.id, problem.meta["group"], len(problem.images)) == ("3steps_multi_4", "3_4", 1)


@pytest.mark.parametrize(
    "question",
    [
        "How many?",
        "A man. Who?",
        "Options: A: one",
        "A. Smith is who?\nC. Jones is who?",
        "(A) only one",
        "",
        "A: x B: y",
    ],
)
def test_questions_that_list_no_options_stay_as_they_are(question: str) -> None:
    assert listed_in(question) == (question, {})


@given(st.text(max_size=200))
def test_whatever_stands_in_a_question(question: str) -> None:
    left, options = listed_in(question)
    assert left == question if not options else question.startswith(left)
    assert list(options) == [chr(65 + place) for place in range(len(options))]
