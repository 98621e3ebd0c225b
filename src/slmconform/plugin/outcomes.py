"""From the outcome of a requirement to what it means to pytest, and the words for it.

A run of pytest over a whole profile is green exactly where the verdict is conformant, with waivers
or without, so the rules are those of the verdict: an error counts whatever the keyword, and what a
MUST has no answer to is a failure. No requirement without an answer passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from slmconform.harmless import printable
from slmconform.report.text import SHOWN, TOLD, excuses, finding, reason_of, unapplied
from slmconform.standard.catalogue import Requirement
from slmconform.standard.report import (
    BROKEN_WAIVERS,
    UNDECIDED,
    Outcome,
    Report,
    Result,
    WaiverUse,
)


class Meaning(Enum):
    """What a test does; unanswered ones fail and are told together, by reason."""

    PASSED = auto()
    WARNED = auto()
    SKIPPED = auto()
    EXCUSED = auto()
    FAILED = auto()
    UNANSWERED = auto()


HOLDS = (Meaning.PASSED, Meaning.WARNED)
MEANINGS = {
    Outcome.PASS: Meaning.PASSED,
    Outcome.WARN: Meaning.WARNED,
    Outcome.WAIVED: Meaning.EXCUSED,
    Outcome.FAIL: Meaning.FAILED,
    Outcome.ERROR: Meaning.FAILED,
    Outcome.NOT_APPLICABLE: Meaning.SKIPPED,
}


@dataclass(frozen=True)
class Answer:
    """What the engine says of one requirement; ``broken`` are waivers that make it fail."""

    requirement: Requirement
    result: Result
    report: Report
    broken: tuple[WaiverUse, ...] = ()

    @property
    def meaning(self) -> Meaning:
        """What pytest makes of it."""
        if self.broken:
            return Meaning.FAILED
        if self.result.outcome in UNDECIDED:
            return Meaning.UNANSWERED if self.requirement.mandatory else Meaning.SKIPPED
        return MEANINGS[self.result.outcome]

    def text(self, again: str) -> str:
        """What a person reads of it; ``again`` is the command for pytest."""
        lines = [*unapplied(self.broken)]
        if self.result.outcome in TOLD:
            lines += finding(self.result, self.report, colour=False)
        elif not lines:
            return f"{SHOWN[self.result.outcome]}: {printable(reason_of(self.result))}"
        return "\n".join([*lines, f"      or     {again}"])

    @property
    def excuse(self) -> str:
        """Why and until when a failure is accepted."""
        return "; ".join(printable(text) for text in excuses(self.result, self.report))


def answer(report: Report, requirement: Requirement, wanted: set[str], first: str) -> Answer:
    """The answer to one requirement of those ``wanted``, of which ``first`` was asked first.

    A waiver that is not as it has to be makes its requirement fail; one of a requirement that is
    not asked here makes the first fail, since the verdict is not conformant.
    """
    result = next(one for one in report.results if one.id == requirement.id)
    broken = tuple(
        use
        for use in report.waivers
        if use.state in BROKEN_WAIVERS and requirement.id == (use.id if use.id in wanted else first)
    )
    return Answer(requirement, result, report, broken)
