"""One check of one package, begun by the first item that wants an answer and kept for all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slmconform.standard.catalogue import Requirement
from slmconform.standard.files import MANIFEST

if TYPE_CHECKING:
    from slmconform.plugin.outcomes import Answer
    from slmconform.standard.report import Report


class Examination:
    """A package, how it is asked, and what is ``wanted`` of it: the ids that pytest selected."""

    def __init__(
        self, folder: Path, name: str, options: dict[str, Any], asked: Iterable[Requirement]
    ) -> None:
        self.folder, self.name, self._options = folder, name, options
        self.requirements = sorted(asked, key=lambda one: one.id)
        self.wanted: set[str] = set()
        self.report: Report | None = None
        self.key = f"{name} {sorted(options.items())}"
        self.said = False  # whether a report has told of the whole
        self._first = self._refused = ""

    @property
    def manifest(self) -> Path:
        """Where the package is declared."""
        return self.folder / MANIFEST

    def answer(self, requirement: Requirement) -> Answer:
        """What the engine says of a requirement; fails the test where nothing could be run."""
        from slmconform.plugin.outcomes import answer

        if self.report is None and not self._refused:
            self._first = requirement.id
            self._examine()
        if self.report is None:
            pytest.fail(f"could not run: {self._refused}", pytrace=False)
        return answer(self.report, requirement, self.wanted, self._first)

    def _examine(self) -> None:
        from slmconform.engine.examine import CheckOptions, examine
        from slmconform.engine.options import in_ci
        from slmconform.mishaps import foreseen

        whole = self.wanted.issuperset(one.id for one in self.requirements)
        only = () if whole else sorted(self.wanted)
        options = CheckOptions(only=only, self_test=whole and in_ci(), **self._options)
        try:
            self.report = examine(self.folder, options)
        except Exception as error:
            sentence = foreseen(error)
            self._refused = sentence or "a mistake in slmconform; the first item has its traceback"
            if sentence is None:
                raise
