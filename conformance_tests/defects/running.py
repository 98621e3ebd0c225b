"""The one runner: a defect or near miss is made, judged, and what is told of it returned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from bases import Bases
from changes import seal
from defect_record import Defect, NearMiss
from hostile_row import Row
from judging import answers, judged

import slmconform
from slmconform.standard.files import EVIDENCE
from slmconform.standard.report import Outcome, Result

Told = dict[str, tuple[str, str]]
QUIET = (Outcome.PASS, Outcome.BLOCKED, Outcome.NOT_APPLICABLE)
OPEN = (Outcome.NO_REFERENCE, Outcome.NOT_EXAMINED)
READ = ("SLM-MAN-001", "SLM-MAN-002")


def told_of(results: Iterable[Result], *, evidence: bool) -> dict[str, Result]:
    """Every result that is no pass. What is blocked or falls away by a failure says no more.

    A package without evidence leaves open what only evidence answers, and one whose manifest
    cannot be read what the manifest answers.
    """
    told = {one.id: one for one in results if one.outcome not in QUIET}
    if evidence and not told.keys() & set(READ):
        return told
    return {one.id: one for one in told.values() if one.outcome not in OPEN}


def as_told(results: dict[str, Result]) -> Told:
    """Outcomes and failure codes by id, as the kill matrix holds them."""
    return {
        one.id: (one.outcome.value, one.finding.code if one.finding else "")
        for one in results.values()
    }


def run(
    one: Defect | NearMiss, profile: str, bases: Bases, scratch: Path
) -> tuple[dict[str, Result], list[Result]]:
    """What is told of a defect or a near miss by a profile, and every result.

    A patched library is one of this process, so that the package is opened here; so are those
    that are only trained, which saves two processes each. SLM-DET-002 is then taken as met.
    """
    folder = bases.copy(one.package, scratch / "package")
    for change in one.changes:
        change(folder)
    if one.sealed:
        seal(folder)
    if one.patch or one.package.startswith("learner-"):
        results = judged(folder, profile="packaged").results
        with pytest.MonkeyPatch.context() as patched:
            if one.patch:
                one.patch(patched)
            results = [*results, *answers(folder, profile).values()]
    else:
        results = judged(folder, profile=profile).results
    return told_of(results, evidence=(folder / EVIDENCE).exists()), results


def run_row(row: Row, scratch: Path) -> tuple[dict[str, Result], slmconform.Report]:
    """What is told of a hostile package, and the report."""
    folder = scratch / "package"
    row.build(folder)
    report = check_row(folder, row)
    return told_of(report.results, evidence=(folder / EVIDENCE).exists()), report


def check_row(folder: Path, row: Row) -> slmconform.Report:
    """The report of a package by the options of a row."""
    return slmconform.check(folder, **{"profile": row.asked} | row.options)
