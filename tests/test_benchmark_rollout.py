"""The rollout benchmark runs, sees that every side wrote the same tokens, and writes its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
SMALLEST = ["--trajectories", "1", "--rounds", "1", "--repetitions", "1"]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The helper modules of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rollout_peers.side

    return rollout_peers.side


def run(file: Path, *options: str) -> dict[str, dict[str, dict[str, float]]]:
    command = [sys.executable, BENCHMARKS / "rollout.py", *SMALLEST, *options, "--json", file]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, dict[str, dict[str, float]]] = json.loads(file.read_text())
    return found


@pytest.mark.slow
def test_the_smallest_run_writes_its_figures(tmp_path: Path) -> None:
    """It ends with an error where a side writes other tokens than the script's, so what is here was written by both."""
    found = run(tmp_path / "figures.json", "--sides", "one-by-one,vllm", "--vllm", str(tmp_path / "no python"))
    figures = found["figures"]
    assert figures["fed_over_useful"] == 1.0
    assert figures["speedup_over_reencoding"] > 0
    assert figures["ratio_to_vllm"] is None
    assert "make test-vllm" in str(found["missing"])
    sides, gaps = found["sides"], found["log_prob_gaps"]
    assert sides["re-encoding, one by one"]["fed"] > 1.5 * sides["thyme"]["fed"]
    # The same model saw the same pictures: the tokens that were forced are as likely on both sides.
    assert gaps["re-encoding, one by one"]["max"] < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_vllm_does_the_same_work(tmp_path: Path) -> None:
    python = ROOT / ".venv-vllm" / "bin" / "python"
    if not python.exists():
        pytest.skip("vLLM is not installed in .venv-vllm: make test-vllm")
    found = run(tmp_path / "figures.json", "--sides", "one-by-one,batched,vllm")
    assert found["figures"]["ratio_to_vllm"] > 0
    assert found["log_prob_gaps"]["vLLM"]["mean"] < 1e-2


def test_a_side_that_writes_other_tokens_is_refused(tmp_path: Path, peers: ModuleType) -> None:
    from rollout_peers.protocol import Script, Work

    script = Script("t", "", "", "", [1, 2], [], [3, 4])
    work = Work("", 1, 0, 0, [script], tmp_path)
    (tmp_path / "log").write_text("Traceback: the last words")

    def answer(written: list[list[int]]) -> None:
        reply = json.dumps({"seconds": 1.0, "written": written, "fed": 3})
        with subprocess.Popen(
            [sys.executable, "-c", f"input(); print({reply!r})"], stdin=-1, stdout=-1, text=True
        ) as process:
            peers.Side("a side", process, work, tmp_path / "log").run(1)

    answer([[3, 4]])
    with pytest.raises(peers.SideError, match="a side wrote other tokens"):
        answer([[3, 5]])
    with (
        subprocess.Popen([sys.executable, "-c", ""], stdin=-1, stdout=-1, text=True) as process,
        pytest.raises(peers.SideError, match="a side ended with exit code 0:\nTraceback: the last words"),
    ):
        peers.Side("a side", process, work, tmp_path / "log").wait()
