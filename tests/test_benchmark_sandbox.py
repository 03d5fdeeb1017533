"""The sandbox benchmark runs, checks the work of everybody, and writes the figures it promises; not how fast it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from thyme.sandbox import check

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
COLUMNS = ("start", "start_first", "start_first_new", "start_three", "later_jpg", "later_png", "later_calc")
RATES = ("crop_per_minute", "calc_per_minute")
PROMISED = (
    "session_pooled_ms_p50",
    "session_cold_ms_p50",
    "calc_overhead_ms_p50",
    "calc_between_overhead_ms_p50",
    "crop_over_bare_ratio",
    "crop_per_minute_2proc",
)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper modules of the benchmark can be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def sandbox_level() -> str:
    best = check().best
    if best is None:
        pytest.skip("this machine offers no level of isolation")
    return best


OTHERS = [
    pytest.param(["python", "bubblewrap"], id="few"),
    pytest.param(["python", "smolagents", "bubblewrap", "jupyter"], marks=pytest.mark.slow, id="all"),
]


@pytest.mark.parametrize("others", OTHERS)
def test_a_quick_run_writes_every_figure_it_promises(tmp_path: Path, sandbox_level: str, others: list[str]) -> None:
    file, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    command = [sys.executable, BENCHMARKS / "sandbox.py", "--quick", "--peers", ",".join(others)]
    finished = subprocess.run(
        [*command, "--json", file, "--plot", plot], capture_output=True, text=True, timeout=110, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(file.read_text())
    figures = found["figures"]
    assert set(PROMISED) <= set(figures)
    measured = [peer for peer in others if peer not in found["left_out"]]
    assert "python" in measured
    for peer in measured:
        assert all(figures[f"ratio_{peer}_{column}"] > 0 for column in COLUMNS + RATES)
    # The ratio is peer over ours, of the very figures beside it.
    quotient = figures["python_start_first_ms_p50"] / figures["pooled_start_first_ms_p50"]
    assert figures["ratio_python_start_first"] == pytest.approx(quotient)
    if found["machine"]["root"]:
        assert figures["session_pss_mb"] > 0
    assert found["machine"]["isolation"] == sandbox_level
    assert "python script.py" in finished.stdout
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


def test_an_unknown_peer_is_a_usage_error() -> None:
    command = [sys.executable, BENCHMARKS / "sandbox.py", "--peers", "python,docker"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 2
    assert "there is no docker" in finished.stderr


@pytest.mark.usefixtures("peers")
def test_work_that_was_not_done_is_noticed(tmp_path: Path) -> None:
    from sandbox_peers.work import CALC, CROPS, PNG, Picture, Result, WrongResultError
    from sandbox_peers.work import check as check_work

    picture = Picture.make(tmp_path, 0)
    right = picture.expected(CROPS[0].box)
    printed = f"{CROPS[0].output}\n"
    check_work(Result(printed, right), CROPS[0], picture)
    for wrong in (
        Result("", right),
        Result(printed, None),
        Result(printed, right.resize((64, 48))),
        Result(printed, picture.expected(CROPS[1].box)),
    ):
        with pytest.raises(WrongResultError):
            check_work(wrong, CROPS[0], picture)
    right.save(tmp_path / "lossy.jpg")
    with Image.open(tmp_path / "lossy.jpg") as lossy:
        check_work(Result(printed, lossy), CROPS[0], picture)
        with pytest.raises(WrongResultError, match="off by"):
            check_work(Result("crop_1.png\n", lossy), PNG, picture)
    with pytest.raises(WrongResultError, match="printed"):
        check_work(Result("0\n", None), CALC, picture)
