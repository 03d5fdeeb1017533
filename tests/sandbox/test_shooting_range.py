"""The targets themselves: code that runs without a sandbox is seen to hit them."""

from __future__ import annotations

from attack_records import RECORDS
from shooting_range import open_range

from thyme.types import Execution


def test_range_notices_an_attack_that_works() -> None:
    with open_range() as targets:
        code = targets.aim(RECORDS["given-09_delete_files"].code)
        printed: list[str] = []
        exec(code.replace("print(", "report("), {"report": printed.append})
        assert printed == ["ESC:deleted"]
        assert [hit for hit, happened in targets.hits(Execution(code=code)) if happened] == ["a file is gone"]
