"""The command as a whole: light to start, one line and the right exit code for every error."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thyme import __version__
from thyme.cli import COMMANDS, app

run = CliRunner()


def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import sys\n"
        "from thyme.cli import main\n"
        "sys.argv = ['thyme', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    print(stop.code, sorted(m for m in sys.modules if m in "
        "('torch', 'transformers', 'numpy', 'jinja2', 'thyme.cli.ask', 'thyme.sandbox', 'thyme.nano')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for name, (_, help_line) in COMMANDS.items():
        assert name in done.stdout
        assert help_line in done.stdout


def test_version() -> None:
    result = run.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"thyme {__version__}\n")


def test_unknown_command_is_a_usage_error() -> None:
    result = run.invoke(app, ["aks"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'aks'" in result.stderr


@pytest.mark.parametrize("name", ["ask", "serve", "view", "replay", "demo", "sandbox"])
def test_each_command_has_help(name: str) -> None:
    result = run.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert COMMANDS[name][1].rstrip(".") in words, "the overview and the command say the same"


def test_a_usage_error_of_ours_is_exit_code_2(tmp_path: Path) -> None:
    result = run.invoke(app, ["ask", str(tmp_path / "gone.png"), "What?"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"thyme: {tmp_path}/gone.png: no such file; check the path\n"


def test_any_other_error_of_ours_is_exit_code_1(tmp_path: Path) -> None:
    result = run.invoke(app, ["replay", str(tmp_path / "gone.jsonl")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"thyme: {tmp_path}/gone.jsonl: cannot be read")


def test_a_file_that_may_not_be_touched_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "locked"))

    monkeypatch.setattr("thyme.cli.ask.read_problem", refuse)
    result = run.invoke(app, ["ask", "x.png", "What?"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"thyme: {tmp_path}/locked cannot be used (Permission denied); check its permissions"
    )


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("thyme.cli.ask.read_problem", broken)
    assert isinstance(run.invoke(app, ["ask", "x.png", "What?"]).exception, ZeroDivisionError)
