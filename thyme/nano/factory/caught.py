"""What became of every error that the teacher planted: the log of the server beside the folder of the build."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.folder import read_records
from thyme.errors import StoreError
from thyme.nano.factory.faults import FAULTS, KEPT
from thyme.nano.factory.server import conversation_key
from thyme.types import Observation

HONEST: Final = ""
"""Name under which records without a planted error are counted."""
NEEDLESS, MISSING = "target_at_sight", "target_too_small"
"""What the recipe's source plants: a large plate that is to be cut out, a small one to be read without code."""
_BY_SOURCE = {
    NEEDLESS: ("code for what can be read at sight", "check/code_not_needed"),
    MISSING: ("no code for what cannot be read at sight", "check/code_missing"),
}
_LOOKED_AT: Final = ("crop", "enhancement", "correction")


@dataclass
class Caught:
    """One class."""

    name: str
    what: str
    planted: int = 0
    as_meant: int = 0
    """Outcomes that are among those that the class should have."""
    otherwise: Counter[str] = field(default_factory=Counter)
    """Rejections for another reason."""
    outcomes: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    to_keep: bool = False
    """Whether the factory is to mend it and to keep the record."""

    @property
    def rate(self) -> float | None:
        """Share that was caught, or kept where it is to be; None without cases."""
        good = self.kept if self.to_keep else self.planted - self.kept
        return good / self.planted if self.planted else None


@dataclass
class Table:
    """What became of a build."""

    classes: dict[str, Caught]
    honest: Counter[str] = field(default_factory=Counter)
    """Outcomes of records without a planted error."""
    not_asked: Counter[str] = field(default_factory=Counter)
    """Outcomes of records for which the teacher was not asked."""
    slips: Counter[str] = field(default_factory=Counter)
    """What the checker did wrong, by kind; `HONEST` counts all that it was asked."""
    repaired: Counter[bool] = field(default_factory=Counter)
    """Blocks of kept records that the sandbox repaired, by whether the record holds the code that ran."""
    repeats: int = 0
    """Items that ask the same of the same picture as another item of their scenario, beyond the first of them."""
    unknown: int = 0
    """Records that were asked for and are in no line of the log."""

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "classes": {
                name: {
                    "planted": one.planted,
                    "kept": one.kept,
                    "as_meant": one.as_meant,
                    "rate": one.rate,
                    "to_keep": one.to_keep,
                    "outcomes": dict(one.outcomes.most_common()),
                }
                for name, one in self.classes.items()
            },
            "honest": dict(self.honest.most_common()),
            "not_asked": dict(self.not_asked.most_common()),
            "slips": dict(self.slips),
            "repaired": {"as_ran": self.repaired[True], "otherwise": self.repaired[False]},
            "repeats": self.repeats,
            "unknown": self.unknown,
        }


def compare(out: Path, log: Path) -> Table:
    """Hold the outcomes of a build against what was planted.

    Args:
        out: Folder of the build.
        log: Of the server.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged.
    """
    return tally(_records(out), *read_log(log))


def tally(records: Iterable[Draft | Rejection], planted: Mapping[str, str], slips: Counter[str]) -> Table:
    """Count what became of records.

    Args:
        records: All outcomes of a build; pictures are not looked at.
        planted: Class by conversation, as in `read_log`.
        slips: Of the checker.
    """
    table = Table({name: _class(name) for name in (*FAULTS, *_BY_SOURCE)}, slips=slips)
    seen = Counter[tuple[str, ...]]()
    for record in records:
        _count(table, record, planted)
        origin = (record if isinstance(record, Draft) else record.draft).origin
        if isinstance(record, Draft):
            table.repaired.update(_repairs(record))
        if origin.images:
            seen[record.scenario, origin.question, origin.images[0].id] += 1
    table.repeats = seen.total() - len(seen)
    return table


def read_log(log: Path) -> tuple[dict[str, str], Counter[str]]:
    """Planted class by conversation, and how often the checker erred.

    Raises:
        StoreError: It cannot be read.
    """
    planted: dict[str, str] = {}
    slips: dict[str, str] = {}
    try:
        for line in log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "planted" in row:
                planted[row["key"]] = row["planted"]
            elif not (row["slip"] == HONEST and row["key"] in slips):
                slips[row["key"]] = row["slip"]
    except (OSError, ValueError, LookupError) as error:
        raise StoreError(f"{log} cannot be read as the log of `thyme nano teacher` ({error})") from error
    return planted, Counter(slips.values())


def _class(name: str) -> Caught:
    if name in _BY_SOURCE:
        return Caught(name, _BY_SOURCE[name][0])
    return Caught(name, FAULTS[name].what, to_keep=set(FAULTS[name].found.values()) == {KEPT})


def _records(out: Path) -> Iterator[Draft | Rejection]:
    yield from read_records(out, images=False)
    yield from read_records(out, images=False, rejected=True)


def _count(table: Table, record: Draft | Rejection, planted: Mapping[str, str]) -> None:
    draft = record if isinstance(record, Draft) else record.draft
    outcome = KEPT if isinstance(record, Draft) else f"{record.stage}/{record.reason}"
    if not draft.conversation:
        table.not_asked[outcome] += 1
        return
    name = planted.get(key_of(draft))
    if name is None:
        table.unknown += 1
        return
    if name == HONEST:
        name = by_source(draft)
    if name == HONEST:
        table.honest[outcome] += 1
        return
    one = table.classes[name]
    one.planted += 1
    one.outcomes[outcome] += 1
    one.kept += outcome == KEPT
    meant = _BY_SOURCE[name][1] == outcome if name in _BY_SOURCE else FAULTS[name].caught_by(draft.scenario, outcome)
    one.as_meant += meant
    if not meant and outcome != KEPT:
        one.otherwise[outcome] += 1


def key_of(draft: Draft) -> str:
    """Key of a draft's conversation in the log."""
    first = next(said for said in draft.conversation if said.role == "user")
    return conversation_key(first.text, first.images)


def by_source(draft: Draft) -> str:
    """What the source planted into a problem, if it did."""
    large = draft.problem.meta.get("large")
    if large is None:
        return HONEST
    if draft.scenario in _LOOKED_AT and all(large):
        return NEEDLESS
    return MISSING if draft.scenario == "no_code" and not all(large) else HONEST


def _repairs(draft: Draft) -> Iterator[bool]:
    """For each block that the sandbox repaired: whether the record holds the code that ran."""
    for before, after in pairwise(draft.segments):
        if isinstance(after, Observation) and after.execution.ran not in ("", after.execution.code):
            yield after.execution.ran.strip() in before.text
