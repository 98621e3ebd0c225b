"""One requirement asked of one package, as a test sees it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from slmconform.plugin.examination import Examination
    from slmconform.plugin.outcomes import Answer
    from slmconform.standard.catalogue import Requirement

CASE: pytest.StashKey[Case] = pytest.StashKey()


class RequirementWarning(UserWarning):
    """A package does not do what it SHOULD."""


class Case:
    """What the argument ``requirement`` of a test function is."""

    def __init__(self, requirement: Requirement, examination: Examination) -> None:
        self.requirement, self.examination = requirement, examination
        self.asked = False
        self.again = ""

    @property
    def id(self) -> str:
        """Such as SLM-INV-004."""
        return self.requirement.id

    def __repr__(self) -> str:
        return f"<{self.id} of {self.examination.folder}>"

    def collected(self, item: pytest.Item) -> None:
        """Note the command that repeats the item."""
        from slmconform.plugin.collecting import again

        self.again = again(item)

    @property
    def answer(self) -> Answer:
        """What the engine says; fails the test where nothing could be run."""
        return self.examination.answer(self.requirement)

    def check(self) -> None:
        """Pass, fail, skip, warn, or fail as expected: as the requirement came out."""
        from slmconform.plugin.outcomes import Meaning

        self.asked = True
        answer = self.answer
        text = answer.text(self.again)
        match answer.meaning:
            case Meaning.PASSED:
                return
            case Meaning.SKIPPED:
                pytest.skip(text)
            case Meaning.WARNED:
                self._warn(text)
            case Meaning.EXCUSED:
                pytest.xfail(answer.excuse)
                pytest.fail(text, pytrace=False)  # with --runxfail the line above does nothing
            case Meaning.FAILED | Meaning.UNANSWERED:
                pytest.fail(text, pytrace=False)

    def _warn(self, text: str) -> None:
        """Warn; where warnings are errors, the finding is what is read and no traceback."""
        file = str(self.examination.manifest)
        try:
            warnings.warn_explicit(RequirementWarning(f"\n{text}"), None, file, 0)
        except RequirementWarning:
            pytest.fail(text, pytrace=False)
