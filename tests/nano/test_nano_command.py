"""The names that ``thyme nano`` offers without importing torch are those of the parts behind it."""

from __future__ import annotations

from typing import get_args

from thyme.cli.nano import KindName, SplitName, StageName
from thyme.nano.train import STAGES
from thyme.nano.world import KINDS, Split


def test_names_are_those_of_the_road_and_the_world() -> None:
    assert get_args(StageName) == STAGES
    assert tuple(KindName) == KINDS
    assert get_args(SplitName) == get_args(Split)
