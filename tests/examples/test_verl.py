"""The example for verl: against stand-ins of its names, and with the real ones where `THYME_VERL_PYTHON` has them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
from extend_examples import FOLDER, ROOT, example
from stand_ins import stand_in

PYTHON = os.environ.get("THYME_VERL_PYTHON")


def check(calls: list[dict[str, Any]]) -> None:
    """Variables live as long as a trajectory, and no longer; an error is text."""
    crop, variable, foreign, after = calls
    assert ([list(size) for size in crop["sizes"]], crop["facts"]["failed"]) == ([[20, 10]], 0.0)
    assert "42" in variable["text"]
    assert "NameError" in foreign["text"]
    assert (foreign["facts"]["failed"], foreign["reward"]) == (1.0, 0.0)
    assert "1" in after["text"]
    assert not any("<image>" in call["text"] for call in calls)


def test_a_session_lives_as_long_as_its_trajectory() -> None:
    stand_in()
    check(asyncio.run(example("verl_run").calls()))


def test_the_oldest_session_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in()
    module = example("verl_thyme")
    monkeypatch.setattr(module, "MOST_SESSIONS", 1)

    async def runs() -> list[str]:
        tool = module.ThymeTool({}, None)
        said = []
        try:
            for name, code in (("a", "x = 1"), ("b", "print(2)"), ("a", "print(x)")):
                response, _, _ = await tool.execute(name, {"code": code})
                said.append(response.text)
        finally:
            await tool.aclose()
        return said

    assert "NameError" in asyncio.run(runs())[2]


@pytest.mark.parametrize(
    ("response", "paid"),
    [
        ("<think>I see.</think>\n<answer>22</answer>", {"score": 1.5, "result": 1.0, "format": 1.0}),
        ("<think>I see.</think>\n<answer>23</answer>", {"score": 0.5, "result": 0.0, "format": 1.0}),
        ("<answer>22</answer>", {"score": 1.0, "result": 1.0, "format": 0.0}),
        ("I do not know.", {"score": 0.0, "result": 0.0, "format": 0.0}),
    ],
)
def test_a_response_is_paid_by_result_and_format(response: str, paid: dict[str, float]) -> None:
    stand_in()
    assert example("verl_thyme").compute_score("", response, "22") == paid


def test_no_reference_is_no_zero() -> None:
    stand_in()
    with pytest.raises(ValueError, match="without ground truth"):
        example("verl_thyme").compute_score("", "<answer>22</answer>", None)


def test_the_file_runs_as_verl_runs_it() -> None:
    """By its path, and without an entry in `sys.modules`."""
    stand_in()
    spec = spec_from_file_location("custom_module_1", FOLDER / "verl_thyme.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.compute_score("", "<answer>22</answer>", "22")["result"] == 1.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(PYTHON is None, reason="THYME_VERL_PYTHON names no interpreter that has verl and thyme")
def test_the_real_verl_takes_it() -> None:
    command = [str(PYTHON), str(ROOT / "tests/examples/verl_run.py")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    check(told["calls"])
    assert (told["name"], told["score"]["score"]) == ("python", 1.5)
    assert told["paid"] == {"reward_score": 1.5, "reward_extra_info": {"score": 1.5, "result": 1.0, "format": 1.0}}
