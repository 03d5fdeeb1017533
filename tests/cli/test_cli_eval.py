"""``thyme eval`` as its users call it: processes that are killed, parts, files, and errors that say the way out."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.eval import spelled_out
from thyme.cli.eval_work import KNOWN, Asked, open_source, run_spread
from thyme.config import EngineConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.errors import EngineError, UsageError
from thyme.eval.run.folder import read_items, read_run
from thyme.eval.run.sources import Shard
from thyme.eval.run.spread import Part, Spread
from thyme.store import read_trajectories

ROWS = 10


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a V* of ten rows, and a model that knows some of the answers."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["index\timage\tquestion\tA\tB\tC\tD\tanswer\tcategory"]
    script = {}
    for row in range(ROWS):
        buffer = io.BytesIO()
        Image.effect_noise((60, 40), 60).convert("RGB").save(buffer, "PNG")
        image = base64.b64encode(buffer.getvalue()).decode()
        category = "direct_attributes" if row % 2 else "relative_position"
        lines.append(f"{row}\t{image}\tWhat is number {row}?\tred\tblue\tgreen\twhite\t{'ABCD'[row % 4]}\t{category}")
        code = "image = Image.open(image_path)\nimage.crop((5, 5, 25, 25)).save('c.png')\nprint('c.png')"
        looks = f"<think>I look.\n<code>\n```python\n{code}\n```\n</code>"
        script[f"number {row}?"] = [looks, f"So.</think>\n<answer>{'ABCD'[row % 3]}</answer>"]
    (folder / "VStarBench.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    return folder


def command(files: Path, out: Path, *more: object) -> list[object]:
    model = f"scripted:{files / 'script.json'}"
    return ["eval", "--model", model, "--bench", "VStarBench", "--data", files, "--out", out, "--quiet", *more]


def facts(out: Path) -> list[dict[str, Any]]:
    return [item.model_dump(mode="json", exclude={"seconds"}) for item in read_run(out).items]


def call(files: Path, out: Path, *more: object) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, list(map(str, command(files, out, *more))))


@pytest.fixture(scope="module")
def whole(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = call(files, out, "--arms", "tools", "swapped", "--concurrency", 2)
    assert done.exit_code == 0, done.stderr
    return out


def test_a_run_and_what_it_leaves(files: Path, whole: Path) -> None:
    run = read_run(whole)
    assert run.missing == {}
    assert run.manifest.benchmarks[0].problems == ROWS
    assert run.manifest.isolation in {"namespaces", "landlock"}
    tools = [item for item in run.items if item.arm == "tools"]
    assert [item.score for item in tools] == [float("ABCD"[row % 3] == "ABCD"[row % 4]) for row in range(ROWS)]
    assert all(item.blocks == item.ran == 1 for item in tools)
    assert all(item.changed == 1 for item in run.items if item.arm == "swapped")
    for name in ("run.json", "results.json", "report.html", "report.md"):
        assert (whole / name).is_file()
    told = (whole / "run.json").read_text(encoding="utf-8")
    assert str(whole.parent) not in told
    assert str(files) not in told


def test_killed_for_real_and_started_again(files: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    more = ("--arms", "tools", "swapped", "--concurrency", 2)
    arguments = [sys.executable, "-c", "from thyme.cli import main; main()", *map(str, command(files, out, *more))]
    process = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        limit = time.monotonic() + 90
        while len(read_items(out)) < 3:
            assert process.poll() is None, "it was over before it could be killed"
            assert time.monotonic() < limit
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = len(read_items(out))
    assert 3 <= left < 2 * ROWS
    assert call(files, out, *more).exit_code == 0
    assert facts(out) == facts(whole)
    ids = [t.id for path in out.glob("trajectories/*/*.jsonl") for t in read_trajectories(path, images=False)]
    assert len(ids) == len(set(ids)) == 2 * ROWS, "something was asked twice"


@pytest.mark.slow
def test_processes_equal_one(files: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    done = call(files, out, "--processes", 2)
    assert done.exit_code == 0, done.stderr
    assert facts(out) == [one for one in facts(whole) if one["arm"] == "tools"]
    assert sorted(path.name for path in (out / "items" / "VStarBench").iterdir()) == ["tools.0.jsonl", "tools.1.jsonl"]
    assert read_run(out).manifest.shards == 2


class Here(Spread):
    """Asks the parts one after the other, in this process."""

    rounds = 0

    def run(self, part: Part) -> None:
        Here.rounds += 1
        for number in range(self.parts):
            part(Shard(number, self.parts))


def test_what_waits_for_all_parts_is_asked_in_a_second_round(files: Path, whole: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(
        engine=EngineConfig(model=f"scripted:{files / 'script.json'}"), arms=("swapped",), concurrency=2
    )
    Here.rounds = 0
    run_spread(Asked(config, ("VStarBench",), tmp_path, data=files), Here(2))
    assert Here.rounds == 2
    assert facts(tmp_path) == facts(whole)


def refused(shard: Shard) -> None:
    """A part that another process runs."""
    if shard.number == 1:
        raise UsageError("not like this")


def lost(shard: Shard) -> None:
    """The same."""
    os._exit(7)


def waiting(shard: Shard) -> None:
    """The same."""
    Path(os.environ["PID_OF_A_PART"]).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def test_parts_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Nobody would know that they still ask."""
    told = tmp_path / "pid"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "from test_cli_eval import Spread, waiting; Spread(1).run(waiting)"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PID_OF_A_PART": str(told)})
    limit = time.monotonic() + 120
    try:
        while not (told.is_file() and told.read_text()):
            assert parent.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    state = Path(f"/proc/{told.read_text()}/stat")
    while state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < limit, "it goes on by itself"
        time.sleep(0.02)


def test_a_part_that_fails_is_told_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="part 1 ended with code 2"):
        Spread(2).run(refused)
    assert "thyme: part 1: not like this" in capfd.readouterr().err
    with pytest.raises(EngineError, match="1 of 1 parts failed: part 0 ended with code 7; what was asked is kept"):
        Spread(1).run(lost)


def test_other_settings_are_a_usage_error(files: Path, whole: Path) -> None:
    done = call(files, whole, "--set", "rollout.max_rounds=1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "rollout.max_rounds was 4, is now 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--bench thyme-mini"),
        (["--bench", "thyme-mini"], "--out DIR"),
        (["--bench", "VStar", "--out", "x"], "did you mean VStarBench?"),
        (["--bench", "VStarBench", "--out", "x"], "no VStarBench.tsv in"),
        (["--bench", "VStarBench=", "--out", "x"], "'VStarBench=' names no file; write NAME=FILE"),
        (["--bench", "VStarBench=mine", "--out", "x"], "mine: no such file or folder; check the path"),
        (["--bench", "thyme-mini", "--out", "x", "--arms", "tolls"], "there is no arm tolls"),
        (["--bench", "thyme-mini", "--out", "x", "--arms", "untrained"], "--untrained MODEL"),
        (["--bench", "thyme-mini", "--out", "x", "--shard", "3/2"], "I/N"),
        (["--bench", "thyme-mini", "--out", "x", "--shard", "0/2", "--processes", "2"], "take one of them"),
        (["--bench", "thyme-mini", "--out", "x", "--judge", "nobody"], "URL#NAME"),
    ],
)
def test_bad_calls_name_the_way_out(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LMUData", raising=False)
    done = CliRunner().invoke(app, ["eval", "--quiet", *(arguments or ["--seed", "1"])])
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


def test_several_values_behind_one_name() -> None:
    given = ["--bench", "A", "B", "--out", "DIR", "--arms", "tools", "no_tools", "--quiet"]
    assert list(spelled_out(given)) == [
        "--bench", "A", "--bench", "B", "--out", "DIR", "--arms", "tools", "--arms", "no_tools", "--quiet",
    ]  # fmt: skip
    assert list(spelled_out(["--bench=A", "B", "--seed=1"])) == ["--bench=A", "--bench", "B", "--seed=1"]
    assert list(spelled_out(["report", "DIR"])) == ["report", "DIR"]


def test_files_are_found_by_name_by_path_and_as_ones_own(files: Path, tmp_path: Path) -> None:
    by_name = open_source("VStarBench", files, None, 0)
    named = open_source(f"VStarBench={files / 'VStarBench.tsv'}", None, None, 0)
    by_path = open_source(str(files / "VStarBench.tsv"), None, None, 0)
    for one in (by_name, named, by_path):
        assert (one.benchmark, one.count, one.file) == (KNOWN["VStarBench"], ROWS, "VStarBench.tsv")
        assert one.digest == by_name.digest
    mine = tmp_path / "mine.tsv"
    mine.write_bytes((files / "VStarBench.tsv").read_bytes())
    own = open_source(str(mine), None, 4, 3)
    assert (own.benchmark.name, own.count, own.limit) == ("mine", 4, 4)
    drawn = [one.id for _, one in own.read(lambda place: True)]
    assert drawn == [one.id for _, one in open_source(str(mine), None, 4, 3).read(lambda place: True)]
    assert drawn != [one.id for _, one in open_source(str(mine), None, 4, 4).read(lambda place: True)]
    assert [place for place, _ in own.read(lambda place: place % 2 == 1)] == [1, 3]
    with pytest.raises(UsageError, match="no benchmark or file 'nothing'"):
        open_source("nothing", files, None, 0)


def test_thyme_mini_needs_no_file() -> None:
    source = open_source("thyme-mini", None, 3, 0)
    assert (source.count, source.limit, source.file) == (3, 3, "thyme-mini version 1")
    assert [place for place, _ in source.read(lambda place: place == 2)] == [2]
    assert open_source("thyme-mini", None, 5000, 0).limit is None, "all of them is no part"


def test_list_shows_what_there_is(files: Path) -> None:
    done = CliRunner().invoke(app, ["eval", "list", "--json", "--data", str(files)])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == KNOWN.keys()
    assert rows["VStarBench"]["file"] == str(files / "VStarBench.tsv")
    assert (rows["VStarBench"]["rows"], rows["HRBench4K"]["file"]) == (191, None)
    shown = CliRunner().invoke(app, ["eval", "list", "--data", str(files)])
    assert "VStarBench" in shown.stdout


def test_two_runs_are_compared_and_a_report_is_written_again(whole: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    done = CliRunner().invoke(app, ["eval", "compare", str(whole), str(whole), "--out", str(page)])
    assert (done.exit_code, "second less first" in done.stdout, page.is_file()) == (0, True, True)
    (whole / "report.md").unlink()
    assert CliRunner().invoke(app, ["eval", "report", str(whole)]).exit_code == 0
    assert KNOWN["VStarBench"].title in (whole / "report.md").read_text(encoding="utf-8")
    missing = CliRunner().invoke(app, ["eval", "report", str(tmp_path)])
    assert (missing.exit_code, "holds no evaluation" in missing.stderr) == (2, True)
