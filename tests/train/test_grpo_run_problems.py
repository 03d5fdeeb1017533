"""Problems to train on: files, the published schema, the embedded world, and several of them mixed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from published_rows import b64, file_of

from thyme.config.training import DataSource
from thyme.errors import ConfigError, StoreError, UsageError
from thyme.nano.rl_problems import parse_shares, training_problems
from thyme.nano.world import KINDS, problem
from thyme.train.grpo.problems import ENDLESS, open_problems

NANO = {"nano": training_problems}


def rl_row(seed: int = 0, **other: Any) -> dict[str, Any]:
    """A row as Thyme-RL is published: base64 nested in lists."""
    question = f"What is at place {seed}?"
    return {
        "messages": [{"role": "system", "content": "be good"}, {"role": "user", "content": f"<image>\n{question}"}],
        "images": [[b64(file_of(40 + seed, 30, seed=seed))]],
        "solution": f"thing {seed}",
        "question": question,
        **other,
    }


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def source(format: str, path: str = "", **other: Any) -> DataSource:
    return DataSource(format=format, path=path, **other)


@pytest.mark.parametrize("kind", ["lines", "parquet", "parquet-limited"])
def test_rows_of_the_published_schema_become_problems(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    rows = [rl_row(i) for i in range(5)]
    if kind == "lines":
        path = lines(tmp_path / "rows.jsonl", rows)
    else:
        from datasets import Dataset

        path = str(tmp_path / "rows.parquet")
        Dataset.from_list(rows).to_parquet(path)
    limit = 3 if kind == "parquet-limited" else None
    problems = open_problems({"rl": source("thyme-rl", path, limit=limit)})
    assert len(problems) == (limit or 5)
    found = problems[2]
    assert (found.question, found.answer) == ("What is at place 2?", "thing 2")
    assert [image.size for image in found.images] == [(42, 30)]
    assert found.images[0].loaded


def test_a_damaged_row_is_passed_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next one takes its place, the same every time; where none is good, it is an error."""
    bad = rl_row(1, images=["no picture"])
    problems = open_problems({"rl": source("thyme-rl", lines(tmp_path / "a.jsonl", [rl_row(0), bad, rl_row(2)]))})
    assert [problems[i].answer for i in range(3)] == ["thing 0", "thing 2", "thing 2"]
    assert "a.jsonl, line 2, image 1 is not base64" in caplog.text
    with pytest.raises(StoreError, match="no problem can be read"):
        open_problems({"rl": source("thyme-rl", lines(tmp_path / "b.jsonl", [bad, bad]))})


def test_problems_of_a_file_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(file_of(20, 10, format="PNG"))
    rows = [{"question": f"q{i}", "answer": str(i), "kind": "k", "images": ["p.png"]} for i in range(3)]
    problems = open_problems({"mine": source("problems", lines(tmp_path / "p.jsonl", rows), limit=2)})
    assert [problems[i].question for i in range(len(problems))] == ["q0", "q1"]
    (tmp_path / "p.png").unlink()
    with pytest.raises(StoreError, match=r"p\.jsonl, line 2"):
        problems[1]


def test_sources_are_mixed_and_repeated(tmp_path: Path) -> None:
    def rows(name: str, count: int) -> str:
        return lines(tmp_path / f"{name}.jsonl", [{"question": f"{name}{i}", "answer": "x"} for i in range(count)])

    data = {
        "a": source("problems", rows("a", 2), repeat=2),
        "b": source("problems", rows("b", 5), limit=3),
        "c": source("nano", subset="arithmetic", limit=1),
    }
    problems = open_problems(data, NANO)
    asked = [problems[i].question for i in range(len(problems) - 1)]
    assert asked == ["a0", "a1", "a0", "a1", "b0", "b1", "b2"]
    assert problems[7].kind == "arithmetic"
    for wrong in (-1, 8):
        with pytest.raises(IndexError):
            problems[wrong]
    again, other = open_problems(data, NANO), open_problems({**data, "a": data["b"]}, NANO)
    assert problems.fingerprint == again.fingerprint != other.fingerprint


def test_kinds_are_drawn_by_their_shares_and_never_those_of_demonstrations() -> None:
    problems = training_problems(source("nano", subset="easy, arithmetic:3", limit=160))
    kinds = Counter(problems[i].kind for i in range(160))
    assert set(kinds) == {"easy", "arithmetic"}
    assert 0.62 < kinds["arithmetic"] / 160 < 0.88  # four standard deviations
    assert problems[7] == training_problems(source("nano", subset="easy, arithmetic:3"))[7]
    seeded = training_problems(source("nano", subset="arithmetic", seed=1))
    assert problems[7] != seeded[7]
    assert seeded[0] != problem("train", 1, 0, "arithmetic")


def test_a_world_without_a_limit_has_no_end(tmp_path: Path) -> None:
    assert open_problems({"nano": source("nano")}, NANO).endless
    assert not open_problems({"nano": source("nano", limit=5)}, NANO).endless
    path = lines(tmp_path / "p.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(ConfigError, match="'nano' is drawn without end"):
        open_problems({"p": source("problems", path), "nano": source("nano")}, NANO)
    assert len(training_problems(source("nano"))) == ENDLESS
    assert set(parse_shares("")) == set(KINDS)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"format": "trajectories"}, ConfigError, "none of problems, thyme-rl, nano; problems are not demonstrations"),
        ({"format": "nano", "subset": "zom"}, ConfigError, "no kind 'zom'"),
        ({"format": "nano", "subset": "zoom:much"}, ConfigError, "'zoom:much' gives no share"),
        ({"format": "nano", "subset": "zoom:-1"}, ConfigError, "'zoom:-1' gives no share"),
        ({"format": "nano", "subset": "zoom,zoom:2"}, ConfigError, "named twice"),
        ({"format": "nano", "split": "test"}, ConfigError, "is to measure on"),
        ({"format": "problems"}, ConfigError, "needs a path"),
        ({"format": "problems", "path": "nowhere.jsonl"}, ConfigError, "no such file"),
        ({"format": "problems", "path": "empty.jsonl"}, UsageError, "holds no problem"),
        ({"format": "problems", "path": "asked.jsonl"}, UsageError, "has no answer"),
        ({"format": "thyme-rl", "path": "nowhere"}, ConfigError, "neither a parquet or JSON-lines file"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    lines(tmp_path / "asked.jsonl", [{"question": "why?"}])
    with pytest.raises(error, match=message):
        open_problems({"it": DataSource(**given)}, NANO)
