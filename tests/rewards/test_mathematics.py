"""Mathematics is compared in processes that can be stopped, from any thread, whatever a model writes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.errors import MissingExtraError, ThymeError
from thyme.rewards import mathematics
from thyme.rewards.mathematics import MathVerifier, StoppedError, expressions
from thyme.types import Problem


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    made = MathVerifier(20.0)
    yield made
    made.close()


def asked(reference: str, answer: str) -> tuple[str, str] | None:
    return expressions(Problem(id="p", question="?", answer=reference), answer)


def right(verifier: MathVerifier, reference: str, answer: str) -> bool | None:
    """None where mathematics has no say."""
    both = asked(reference, answer)
    return None if both is None else verifier.compare_now(*both).equal


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{1}{2}", "0.5"), (r"\frac{1}{2}", "1/2"), (r"$\frac{1}{2}$", r"The area is $\frac{2}{4}$."),
        ("42", r"$6 \times 7$"), ("42", "6 × 7 = 42"), ("42", "x = 42"), ("42", r"\boxed{42}"), ("0.5", r"\frac{1}{2}"),
        ("x^2-1", "(x-1)(x+1)"), (r"2\sqrt{2}", r"\sqrt{8}"), ("√2", r"\sqrt{2}"), ("2π", r"2\pi"), ("x+1", "1+x"),
        ("x=3", "3"), ("10^3", "1000"), (r"\{1,2\}", r"\{2,1\}"), (r"90^\circ", "90"), ("sin(x)+1", r"1+\sin x"),
        (r"\frac{1}{2}", r"\frac{1}{2} cm"), ("x > 2*1", "2 < x"), (r"\(\frac{3}{4}\)", r"\[0.75\]"),
    ],
)  # fmt: skip
def test_the_same_in_another_form(verifier: MathVerifier, reference: str, answer: str) -> None:
    assert right(verifier, reference, answer) is True


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{1}{2}", "0.6"), (r"\frac{1}{2}", r"\frac{1}{3}"), ("x^2-1", "x^2+1"), ("42", r"6 \times 8"),
        ("42", "41 = 42"), ("42", "42 = 41"), ("42", r"\{41, 42\}"), ("42", r"\pm 42"), ("42", r"41 \text{ or } 42"),
        ("42", r"41, 42, x^2"), ("42", "x"), ("42", r"x^2 = 42"), ("42", r"42 \lor 41"), ("42", r"[0, 10^9]"),
        ("42", r"x \ge 42"), ("42", r"\boxed{}"), ("42", r"\text{forty-two}"), ("1+x", r"\frac{"),
    ],
)  # fmt: skip
def test_something_else_or_more_than_one_thing(verifier: MathVerifier, reference: str, answer: str) -> None:
    assert not right(verifier, reference, answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("42", "41 or 42"), ("42", "40 2"), ("42", "43"), ("KX 47", "KX 48"), ("12-3", "9"), ("cat", "dog + 1"),
        ("12/05/2024", "0.00118"), ("stop sign", "x = 1"), (r"\frac{1}{2}", "one half"), ("42", "x" * 1000 + "+1"),
        (r"\frac{1}{2}", "$1$ or $0.5$"), ("", "1+1"), (r"\frac{1}{2}", ""),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_left_to_the_other_rules(reference: str, answer: str) -> None:
    assert asked(reference, answer) is None


@given(st.text(max_size=80), st.text(alphabet="\\${}()[]^_=+-*/0123456789xyfrac π√", max_size=80))
def test_any_texts_can_be_looked_at(reference: str, answer: str) -> None:
    for one, other in ((reference, answer), (answer, reference)):
        assert asked(one, other) is None or all(isinstance(text, str) for text in asked(one, other) or ())


def test_the_value_of_an_answer_is_told(verifier: MathVerifier) -> None:
    assert verifier.compare_now("3.14", r"\frac{22}{7}").value == pytest.approx(22 / 7)
    assert verifier.compare_now("3", "x = 4").value == 4.0
    assert verifier.compare_now("3", "x").value is None
    assert verifier.compare_now("3", r"\sqrt{-1}").value is None


def test_an_expression_is_not_run_as_code(verifier: MathVerifier, tmp_path: Path) -> None:
    """Sympy's own parser would evaluate it."""
    for attack in (f"__import__('os').mkdir('{tmp_path}/x')", f"\\text{{}}__import__('os').mkdir('{tmp_path}/x')"):
        verifier.compare_now("1", attack)
        verifier.compare_now(attack, "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [r"$\frac{1}{2}$ or 3", r"\boxed{\frac{1}{2}} or 1/3", r"0.7, no: $\frac{1}{2}$"])
def test_an_expression_with_numbers_beside_it_is_no_single_answer(answer: str) -> None:
    assert asked(r"\frac{1}{2}", answer) is None


# --- time -------------------------------------------------------------------------------------------------------------

TOWER = "9^{9^{9^{9}}}"
HANGING = (TOWER, "123456789!", "(" * 400)


def test_an_expression_that_takes_for_ever_is_stopped() -> None:
    """Also where the interpreter is inside one long operation and sees no signal, and not in the main thread."""
    made = MathVerifier(1.0, processes=1)
    told: list[object] = []

    def ask() -> None:
        for answer in (*HANGING, "2+2"):
            try:
                told.append(made.compare_now("4", answer).equal)
            except StoppedError as error:
                told.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)
    made.close()
    assert told == ["no result after 1 s"] * 3 + [True]  # the last by another process


async def test_one_that_hangs_holds_up_neither_the_loop_nor_the_others() -> None:
    made = MathVerifier(2.0, processes=2)
    try:
        await asyncio.gather(*(made.compare("4", "4") for _ in range(4)))
        hanging = asyncio.create_task(made.compare("4", TOWER))
        await asyncio.sleep(0.05)
        told = await asyncio.gather(*(made.compare("4", "2+2") for _ in range(5)))
        assert [one.equal for one in told] == [True] * 5
        assert not hanging.done()
        with pytest.raises(StoppedError, match="no result after 2 s"):
            await hanging
    finally:
        await asyncio.to_thread(made.close)


def test_a_busy_machine_is_not_the_answers_fault() -> None:
    """A process that is given no time says nothing about the answer: an outage, not a 0."""
    made = MathVerifier(1.0, processes=1)
    try:
        assert made.compare_now("4", "2+2").equal
        os.kill(_pid(made), signal.SIGSTOP)
        with pytest.raises(ThymeError, match="the machine is busy") as caught:
            made.compare_now("4", "2+2")
        assert not isinstance(caught.value, StoppedError)
        assert made.compare_now("4", "2+2").equal
    finally:
        made.close()


# --- processes --------------------------------------------------------------------------------------------------------


def _pid(made: MathVerifier) -> int:
    made.compare_now("1", "1")
    (process,) = made._alive
    return process._popen.pid


def test_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started when it is needed, anew and not as a fork, without keys, bounded, used again, replaced, ended."""
    monkeypatch.setenv("THYME_API_KEY", "sk-secret")
    made = MathVerifier(20.0, processes=1)
    assert not made._alive
    first = _pid(made)
    facts = Path(f"/proc/{first}")
    assert b"math_worker.py" in (facts / "cmdline").read_bytes()
    assert b"sk-secret" not in (facts / "environ").read_bytes()
    assert "torch" not in (facts / "maps").read_text()
    assert f"Max address space {2 << 30}" in " ".join((facts / "limits").read_text().split())
    assert _pid(made) == first
    os.kill(first, signal.SIGKILL)
    assert made.compare_now("4", "2+2").equal
    second = _pid(made)
    assert second != first
    made.close()
    assert not Path(f"/proc/{second}").exists()
    with pytest.raises(ThymeError, match="closed"):
        made.compare_now("1", "1")


def test_a_process_whose_owner_is_gone_ends_by_itself() -> None:
    """The kernel ends it after the processor time that was allowed, also inside one long operation."""
    worker = Path(mathematics.__file__).with_name("math_worker.py")
    order = json.dumps({"reference": "4", "answer": TOWER, "cpu_s": 0.1}).encode() + b"\n"
    done = subprocess.run([sys.executable, "-P", worker], input=order, capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGXCPU


async def test_closing_ends_a_comparison_at_once() -> None:
    made = MathVerifier(60.0, processes=1)
    hanging = asyncio.create_task(made.compare("4", TOWER))
    while not made._alive:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(made.close)
    with pytest.raises(ThymeError, match="closed"):
        await asyncio.wait_for(hanging, 30)


def test_without_math_verify_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(mathematics, "installed", lambda: False)
    made = MathVerifier(20.0, processes=1)
    try:
        with pytest.raises(MissingExtraError, match=r"thyme-vl\[train\]"):
            made.compare_now("1", "1")
    finally:
        made.close()
