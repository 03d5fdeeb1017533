"""What the rule-based teacher does wrong on purpose: classes with a name, where each can come up, and what it makes.

A class says by which outcomes the factory gets hold of it: ``stage/reason``, or `KEPT` where the factory is to mend it
and to keep the record.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from thyme.errors import ConfigError
from thyme.nano.factory import wrong
from thyme.nano.factory.wrong import Case, Make, Script, script

KEPT: Final = "kept"
DEFAULT_RATE: Final = 0.015
"""Share of the requests of a scenario that a class takes, unless it has one of its own."""


@dataclass(frozen=True)
class Fault:
    """A class of errors."""

    name: str
    what: str
    """In a few words, for tables."""
    found: Mapping[str, str]
    """By scenario: the outcomes that catch it, ``stage/reason``, or `KEPT`; separated by ``|``."""
    make: Make
    rate: float | None = None
    """Share of a scenario's requests; None: that of all."""

    def caught_by(self, scenario: str, outcome: str) -> bool:
        """Whether an outcome is one of those that it should have."""
        return outcome in self.found[scenario].split("|")


ONE_BLOCK = ("rotation", "contrast")
CROPPED = ("crop", "enhancement", "correction")
CORRECTS = ("correction", "operations", "computation")
CODED = (*CROPPED, *ONE_BLOCK, "operations", "computation")
PICTURED = ("no_code", *CROPPED, *ONE_BLOCK, "operations")
ALL = ("no_code", *CODED)


def _in(scenarios: Sequence[str], outcome: str, **others: str) -> dict[str, str]:
    return {**dict.fromkeys(scenarios, outcome), **others}


FAULTS: Final[dict[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault(
            "code_fails",
            "a block raises an error",
            _in(("crop", "enhancement", *ONE_BLOCK), "execute/error_in_code"),
            wrong.fails,
        ),
        Fault(
            "code_fails_last",
            "the last block fails, and it answers",
            _in(CORRECTS, "generate/error_in_code"),
            wrong.fails_last,
        ),
        Fault("code_mended", "a block fails, the next one is right", _in(CORRECTS, KEPT), wrong.mends),
        Fault("code_repaired", "a block that the sandbox has to repair", _in(CODED, KEPT), wrong.needs_repair),
        Fault("no_output", "a block gives nothing", _in(CODED, "execute/no_output"), wrong.silent),
        Fault("endless_code", "a block never ends", _in(CODED, "execute/sandbox_limit"), wrong.slow, 0.003),
        Fault("flood", "a block prints without end", _in(CODED, "execute/output_cut"), wrong.floods, 0.005),
        Fault("endless_turns", "it never answers", _in(CODED, "generate/too_many_rounds"), wrong.endless, 0.005),
        Fault(
            "typed_in",
            "code prints a number that was typed in",
            _in(("operations", "computation"), "accept/typed_in"),
            wrong.typed_in,
        ),
        Fault(
            "prints_other",
            "code gives another number than is answered",
            _in(("operations", "computation"), "accept/claim|accept/unlike_answer"),
            wrong.prints_other,
        ),
        Fault(
            "only_crop", "code only cuts something out", _in(("operations",), "accept/nothing_new"), wrong.only_crops
        ),
        Fault("needless_code", "code where none is needed", _in(("no_code",), "accept/code_used"), wrong.needless),
        Fault("no_code", "no code where it is asked for", _in(CODED, "accept/no_code"), wrong.without_code),
        Fault(
            "beside",
            "a crop beside the target",
            _in(("crop", "enhancement"), "accept/misses_target", correction="accept/not_corrected"),
            wrong.beside,
        ),
        Fault(
            "loose",
            "a crop far larger than the target",
            _in(("crop", "correction"), "accept/loose_crop", enhancement="accept/not_tighter"),
            wrong.loose,
        ),
        Fault("one_look", "one look instead of two", _in(("enhancement",), "accept/one_look"), wrong.one_look),
        Fault(
            "first_right",
            "the first look is right already",
            _in(("correction",), "accept/first_right"),
            wrong.first_right,
        ),
        Fault(
            "unnoticed",
            "it does not say that it looked wrongly",
            _in(("correction",), "accept/unnoticed"),
            wrong.unnoticed,
        ),
        Fault("wrong_angle", "turned by a wrong angle", _in(("rotation",), "accept/not_upright"), wrong.wrong_angle),
        Fault("not_raised", "contrast not raised", _in(("contrast",), "accept/not_raised"), wrong.not_raised),
        Fault("wrong_answer", "a wrong answer, with reasons", _in(ALL, "accept/wrong_answer"), wrong.wrong_answer),
        Fault("contradiction", "the reasoning ends otherwise", _in(ALL, "accept/contradiction"), wrong.contradicts),
        Fault(
            "claim",
            "text claims another result",
            _in(("operations", "computation"), "accept/claim"),
            wrong.claims,
        ),
        Fault(
            "invented_sight",
            "it sees what is not there",
            _in(PICTURED, "check/does_not_fit"),
            wrong.invents_sight,
            0.03,
        ),
        Fault(
            "answer_before",
            "the answer stands before the code",
            _in((*CROPPED, *ONE_BLOCK, "computation"), "accept/answer_before"),
            wrong.answers_before,
        ),
        Fault("leak_box", "the box in a comment", _in(CROPPED, "leaks/leak_comment"), wrong.remarking(wrong.box_words)),
        Fault(
            "leak_angle",
            "the angle in a comment",
            _in(("rotation",), "leaks/leak_comment"),
            wrong.remarking(lambda case: f"turn back by {case.asked.back}"),
        ),
        Fault(
            "leak_answer",
            "the answer in a comment",
            _in(CODED, "leaks/leak_comment"),
            wrong.remarking(lambda case: f"it is {case.plan.answer}"),
        ),
        Fault(
            "leak_name",
            "answer or angle in the name of a file",
            _in((*CROPPED, *ONE_BLOCK), "leaks/leak_name"),
            wrong.named_file,
        ),
        Fault(
            "leak_told",
            "it says that it was told",
            _in((*CROPPED, *ONE_BLOCK), "leaks/leak_told"),
            wrong.tells,
        ),
        Fault("no_answer", "no answer", _in(ALL, "generate/no_answer"), wrong.last_turn(wrong.no_answer)),
        Fault("empty_answer", "an empty answer", _in(ALL, "generate/no_answer"), wrong.last_turn(wrong.empty_answer)),
        Fault("malformed", "thinking is not closed", _in(ALL, "generate/malformed"), wrong.last_turn(wrong.unclosed)),
        Fault(
            "invented_output",
            "it writes the sandbox's part",
            _in(CODED, "generate/invented_output"),
            wrong.first_turn(wrong.invents_output),
        ),
        Fault("runs_on", "it goes on behind its block", _in(CODED, KEPT), wrong.first_turn(wrong.runs_on)),
        Fault(
            "cut_off", "cut off by the bound on tokens", _in(ALL, "generate/cut_off"), wrong.last_turn(wrong.cut_off)
        ),
        Fault(
            "refused",
            "the provider holds the answer back",
            _in(ALL, "generate/refused"),
            wrong.first_turn(wrong.refuses),
        ),
    )
}
"""By name."""


@dataclass(frozen=True)
class Rates:
    """How often the teacher errs, and how."""

    usual: float = DEFAULT_RATE
    by_name: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names of no class, and rates of more than everything.

        Raises:
            ConfigError: One of both.
        """
        unknown = sorted(set(self.by_name) - set(FAULTS))
        if unknown:
            raise ConfigError(f"there is no class of errors '{unknown[0]}'; there are {', '.join(FAULTS)}")
        for scenario in ALL:
            if (total := sum(self.of(scenario).values())) > 1:
                raise ConfigError(f"the rates of the scenario {scenario} sum up to {total:.2f}; lower them below 1")

    def of(self, scenario: str) -> dict[str, float]:
        """Rate by class, of those that can come up in a scenario."""
        return {name: self._of(fault) for name, fault in FAULTS.items() if scenario in fault.found}

    def _of(self, fault: Fault) -> float:
        own = self.usual if fault.rate is None or self.usual == 0 else fault.rate
        return self.by_name.get(fault.name, own)

    def draw(self, scenario: str, rng: random.Random) -> Fault | None:
        """The class of one request; None: it is answered without fault."""
        place = rng.random()
        for name, rate in self.of(scenario).items():
            place -= rate
            if place < 0:
                return FAULTS[name]
        return None


def perform(fault: Fault | None, case: Case) -> Script:
    """All turns of the teacher in one conversation."""
    return script(case) if fault is None else fault.make(case)
