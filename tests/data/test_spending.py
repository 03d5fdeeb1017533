"""What was spent and how fast: bounds that hold over processes, and over processes that are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thyme.config.data import BudgetSettings
from thyme.data.spending import POLL_S, Ledger, Pace, Spent
from thyme.errors import BudgetError, StoreError

SMALL = Pace(first_tokens=10)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledgers(tmp_path: Path, clock: Clock) -> Iterator[list[Ledger]]:
    """Two over the same file, as two processes have them."""
    opened = [Ledger(tmp_path / "s.sqlite", BudgetSettings(requests=5, tokens=1000, usd=1.0), clock) for _ in range(2)]
    yield opened
    for ledger in opened:
        ledger.close()


def test_what_one_process_spends_another_has_not(ledgers: list[Ledger]) -> None:
    for number in range(5):
        assert ledgers[number % 2].admit("a", SMALL).wait_s == 0.0
    with pytest.raises(BudgetError, match=r"5 requests were sent, of 5; raise budget\.requests"):
        ledgers[1].admit("b", SMALL)


@pytest.mark.parametrize(
    ("tokens", "usd", "said"),
    [((900, 100), 0.0, "1000 tokens were read and written, of 1000"), ((1, 1), 1.25, "1.25 US dollars were spent, of")],
)
def test_tokens_and_price_count_when_they_are_known(
    ledgers: list[Ledger], tokens: tuple[int, int], usd: float, said: str
) -> None:
    first, second = ledgers
    admitted = first.admit("a", SMALL)
    assert second.admit("b", SMALL).wait_s == 0.0
    first.settle("a", SMALL, admitted, tokens, usd)
    with pytest.raises(BudgetError, match=said):
        second.admit("b", SMALL)
    assert second.spent() == {"a": Spent(1, 1, *tokens, usd), "b": Spent(1)}


def test_requests_are_spread_over_the_minute_for_all_processes_together(ledgers: list[Ledger], clock: Clock) -> None:
    pace = Pace(requests_per_minute=30, first_tokens=10)
    assert ledgers[0].admit("a", pace).wait_s == 0.0
    assert ledgers[1].admit("a", pace).wait_s == pytest.approx(2.0)
    assert ledgers[1].admit("b", pace).wait_s == 0.0
    clock.now += 2.0
    assert ledgers[1].admit("a", pace).wait_s == 0.0
    assert ledgers[0].admit("a", pace).wait_s == pytest.approx(2.0)
    assert ledgers[0].spent()["a"].requests == 2


def test_tokens_a_minute_are_taken_from_what_answers_need(tmp_path: Path, clock: Clock) -> None:
    ledger = Ledger(None, BudgetSettings(), clock)
    pace = Pace(tokens_per_minute=6000, first_tokens=1000)
    admitted = ledger.admit("a", pace)
    assert (admitted.wait_s, admitted.tokens) == (0.0, 1000)
    assert ledger.admit("a", pace).wait_s == pytest.approx(10.0)
    ledger.settle("a", pace, admitted, (150, 50), 0.0)
    assert ledger.admit("a", pace).wait_s == pytest.approx(2.0), "it needed less than was thought"
    clock.now += 2.0
    again = ledger.admit("a", pace)
    assert (again.wait_s, again.tokens) == (0.0, 200), "the mean of what was needed"
    ledger.take_back("a", pace, again)
    assert ledger.admit("a", pace).wait_s == 0.0, "what was not answered needed none"
    ledger.close()


def test_a_server_that_asks_to_wait_is_left_alone_by_all(ledgers: list[Ledger], clock: Clock) -> None:
    ledgers[0].admit("a", SMALL)
    ledgers[0].hold_off("a", 30.0)
    assert ledgers[1].admit("a", SMALL).wait_s == pytest.approx(30.0)
    clock.now += 30.0
    assert ledgers[1].admit("a", SMALL).wait_s == 0.0


def test_what_is_under_way_is_held_back_as_it_cost_before(ledgers: list[Ledger], clock: Clock) -> None:
    """Of 1000 tokens 400 are spent; a second of 400 fits, a third has to wait until it is known what that took."""
    first, second = ledgers
    pace = Pace(first_tokens=10, timeout_s=60.0)
    first.settle("a", pace, first.admit("a", pace), (300, 100), 0.0)
    under_way = first.admit("a", pace)
    assert under_way.wait_s == 0.0
    assert second.admit("a", pace).wait_s == POLL_S
    first.settle("a", pace, under_way, (50, 50), 0.0)
    assert second.admit("a", pace).wait_s == 0.0, "it took less than thought"
    assert first.admit("a", pace).wait_s == 0.0, "500 are spent, and twice the mean of 250 is under way"
    assert first.admit("a", pace).wait_s == POLL_S
    clock.now += 61.0
    assert first.admit("a", pace).wait_s == 0.0, "whoever held it was killed"
    assert first.spent()["a"].requests == 5


def test_a_single_request_is_sent_even_if_it_may_cost_more_than_is_left(ledgers: list[Ledger]) -> None:
    pace = Pace(first_tokens=5000, first_usd=3.0)
    admitted = ledgers[0].admit("a", pace)
    assert admitted.wait_s == 0.0
    assert ledgers[1].admit("a", pace).wait_s == POLL_S
    ledgers[0].take_back("a", pace, admitted)
    assert ledgers[1].admit("a", pace).wait_s == 0.0


SPENDER = """
import os, sys
from pathlib import Path
from thyme.config.data import BudgetSettings
from thyme.data.spending import Ledger, Pace
from thyme.errors import BudgetError
ledger, sent = Ledger(Path(sys.argv[1]), BudgetSettings(requests=200)), 0
try:
    while sent < int(sys.argv[2]):
        admitted = ledger.admit("a", Pace())
        sent += 1
        ledger.settle("a", Pace(), admitted, (1, 1), 0.5)
except BudgetError:
    pass
print(sent, flush=True)
if int(sys.argv[2]) < 200:
    os.kill(os.getpid(), 9)
"""


def test_processes_at_once_spend_no_request_too_many_even_if_some_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    running = [
        subprocess.Popen([sys.executable, "-c", SPENDER, str(path), str(most)], stdout=subprocess.PIPE, text=True)
        for most in (20, 1000, 1000)
    ]
    sent = [int(process.communicate(timeout=100)[0]) for process in running]
    ledger = Ledger(path, BudgetSettings())
    assert sum(sent) == 200
    assert ledger.spent() == {"a": Spent(200, 200, 200, 200, 100.0)}
    ledger.close()


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"no database at all" * 100)
    ledger = Ledger(tmp_path / "s.sqlite", BudgetSettings())
    with pytest.raises(StoreError, match=r"s\.sqlite: what was spent cannot be counted"):
        ledger.admit("a", Pace())
    ledger.close()
