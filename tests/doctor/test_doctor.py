"""What the doctor says of machines that lack something, and of this one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thyme.cli import app
from thyme.doctor import CHECKS, Finding, examine, libraries, machine
from thyme.doctor.child import ChildError, told_by
from thyme.errors import UsageError


def fake_command(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def only(findings: list[Finding], name: str) -> Finding:
    (found,) = [one for one in findings if one.name == name]
    return found


def test_code_in_another_process_is_heard_or_its_end_is_told() -> None:
    assert told_by("print('noise'); import json; print(json.dumps({'a': 1}))") == {"a": 1}
    for code, words in {
        "import nothing_of_this_name": "No module named",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "signal 11",
        "print('no json')": "no json",
        "print(3)": "3",
        "": "exit code 0",
    }.items():
        with pytest.raises(ChildError, match=words):
            told_by(code)
    with pytest.raises(ChildError, match="no end after"):
        told_by("import time; time.sleep(60)", timeout_s=0.5)


def test_a_gpu_that_torch_does_not_see_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 570.1'")
    monkeypatch.setenv("PATH", str(tmp_path))
    told = {"version": "2.13", "built": None, "cuda": False, "devices": [], "bf16": False, "sum": 3.0}
    monkeypatch.setattr(libraries, "told_by", lambda code: told)
    gpu = only(libraries.torch(), "GPU")
    assert (gpu.state, "built for CPUs" in gpu.said, "CUDA" in gpu.mend) == ("fault", True, True)
    told["built"] = "12.8"
    assert "torch does not see it" in only(libraries.torch(), "GPU").said
    told |= {"devices": [["NVIDIA H200", 141 << 30]], "bf16": True}
    gpu = only(libraries.torch(), "GPU")
    assert (gpu.state, gpu.said) == ("ok", "NVIDIA H200 (141 GiB)")
    told["bf16"] = False
    assert only(libraries.torch(), "GPU").state == "warning"


def test_no_driver_and_no_torch_are_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(libraries, "_version", lambda name: None)
    found = [*libraries.torch(), *libraries.transformers(), *libraries.vllm(), *libraries.extras(), *machine.chromium()]
    assert {one.state for one in found} == {"absent"}
    assert all(one.mend for one in found if one.name != "GPU")


def test_a_torchvision_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(code: str) -> dict[str, object]:
        raise ChildError("operator torchvision::nms does not exist")

    monkeypatch.setattr(libraries, "told_by", broken)
    monkeypatch.setattr(libraries, "_version", lambda name: "0.1")
    (found,) = libraries.transformers()
    assert found.state == "fault"
    assert "uninstall torchvision" in found.mend
    assert only(libraries.torch(), "torch").state == "fault"


def test_a_model_without_its_weights_is_a_fault_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("thyme.nano.CHECKPOINTS", tmp_path)
    (found,) = examine(["model"])
    assert (found.state, "weights are missing" in found.said) == ("fault", True)
    assert "git restore" in found.mend


def test_an_extra_is_added_to_the_installed_thyme_and_no_index_is_asked_for_it() -> None:
    """What messages about missing extras rely on, for as long as no release is published."""
    if importlib.util.find_spec("pip") is None or not libraries.required():
        pytest.skip("needs pip and an installed thyme-vl")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", f"{libraries.DISTRIBUTION}[serve]"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**kept, "PIP_CONFIG_FILE": os.devnull}
    )
    assert done.returncode == 0, done.stderr


def test_a_browser_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(tmp_path, "chromium", "echo 'no libnss3' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = machine.chromium()
    assert found.state == "warning"
    assert "no libnss3" in found.said


def test_little_room_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "LITTLE_DISK", 1 << 60)
    monkeypatch.setattr(machine, "LITTLE_MEMORY", 1 << 60)
    monkeypatch.setattr(machine, "FEW_FILES", 1 << 60)
    assert {one.state for one in [*machine.disk(), *machine.memory(), *machine.files()]} == {"warning"}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "there"))
    assert str(tmp_path) in only(machine.disk(), "disk, models").said


def test_extras_are_those_of_the_package() -> None:
    assert {"local", "train", "data", "serve", "studio", "eval", "cluster"} <= libraries.required().keys()
    assert "torch" in libraries.required()["local"]


def test_a_check_that_fails_ends_no_other() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("no such thing")

    first, second = examine(checks={"one": broken, "two": lambda: [Finding(name="two", state="ok", said="fine")]})
    assert (first.state, second.state) == ("fault", "ok")
    assert "no such thing" in first.said


def test_there_is_a_command() -> None:
    done = CliRunner().invoke(app, ["doctor", "python", "memory", "model", "--json"])
    assert done.exit_code == 0
    assert [one["name"] for one in json.loads(done.stdout)] == ["Python", "memory", "embedded model"]
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in done.stdout
    shown = CliRunner().invoke(app, ["doctor", "model"])
    assert shown.stdout.startswith("ok    embedded model")


def test_a_fault_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Finding(name="sandbox", state="fault", said="[none]", mend="do this")
    monkeypatch.setattr("thyme.cli.doctor.examine", lambda names: iter([fault]))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "[none]" in done.stdout
    assert "→ do this" in done.stdout
    assert "1 fault; see above" in done.stderr


def test_a_check_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="there is no check gpu; there are: python, memory"):
        list(examine(["gpu"]))
    assert next(iter(CHECKS)) == "python"
