"""The Python that docs/python.md and README.md show runs, and says what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[1]
SNIPPETS = PYTHON.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
README = PYTHON.findall((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def in_a_folder_with_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thyme.nano.world import problem

    (tmp_path / "scenes").mkdir()
    for name in ("scene.png", "scenes/nano-test-7-zoom-0.png"):  # as `thyme nano problems scenes` calls it
        problem("test", 7, 0, "zoom").images[0].image.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("index", "pattern"),
    [
        (0, r"22\nanswer \('from PIL.*question   Which label.*answer     22.*GeneratedEvent.*FinishedEvent.*"),
        (1, r"3901\n22\n22\n22\n"),
        (2, r"\S+ \S+ 22\n"),
        (3, r"<Result '22', stop=answer, 1 code block>\n<Result '3901'.*ImageError\('gone\.png: no such file.*"),
        (4, r"<think>I see blue.*\nran: /mnt/data.*\n answer \d+ tokens\n"),
        (5, r"\['3901', '564'\]\nGeneratedEvent.*FinishedEvent.*"),
        (6, r"<Thyme nano, \w+>\n3901\n\n"),
    ],
    ids=["first", "pictures", "settings", "many", "stream", "asynchronous", "sandbox"],
)
@pytest.mark.usefixtures("in_a_folder_with_a_scene")
def test_the_snippets_of_the_document_run(index: int, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the embedded model are what it says today; a change of it may change them."""
    exec(compile(SNIPPETS[index], f"docs/python.md, snippet {index}", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(pattern, capsys.readouterr().out, re.DOTALL)


@pytest.mark.usefixtures("in_a_folder_with_a_scene")
def test_what_the_readme_asks_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for text in (text for text in README if "from thyme import" in text):
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
        assert "22" in capsys.readouterr().out


def test_every_snippet_is_run() -> None:
    assert len(SNIPPETS) == 7


def test_the_first_lines_are_ten() -> None:
    assert len(SNIPPETS[0].strip().splitlines()) <= 10
