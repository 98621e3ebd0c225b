"""What goes from the process that ran an item to whoever reports it: plain values only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from slmconform.harmless import printable
from slmconform.plugin.case import Case
from slmconform.plugin.examination import Examination
from slmconform.plugin.outcomes import HOLDS, Answer, Meaning
from slmconform.report.text import (
    TOLD,
    finding,
    left_out,
    printed,
    score,
    self_tested,
    unanswered,
    unapplied,
    wrap,
)
from slmconform.standard.report import Outcome, Report

IDLE = "requirement.check() was not called: the test would pass whatever the package is"


def complete(item: pytest.Item, case: Case, report: pytest.TestReport) -> None:
    """Give a report its properties, and the outcome of its requirement whatever the test did."""
    if report.passed and not case.asked:
        report.outcome, report.longrepr = "failed", IDLE
    asked = case.examination
    told = {"package": asked.name, "key": asked.key, "id": case.id, "unanswered": False}
    report.slmconform = told  # type: ignore[attr-defined]
    if asked.report is None:  # nothing could be run: the first item says why
        told["unanswered"] = case.asked and asked.said
    else:
        _answered(item, case, report, asked.report)
    if case.asked and not asked.said:
        told["closing"], asked.said = _closing(asked), True


def _answered(item: pytest.Item, case: Case, report: pytest.TestReport, whole: Report) -> None:
    answer = case.answer
    if report.passed and answer.meaning not in HOLDS:
        report.outcome = "failed"
        report.longrepr = f"the test hid this outcome\n{answer.text(case.again)}"
    if report.skipped and isinstance(report.longrepr, tuple):
        file, line, _ = report.location
        report.longrepr = (file, (line or 0) + 1, report.longrepr[2])
    if answer.result.outcome is Outcome.ERROR and whole.log.strip():
        report.sections.append(("slmconform", "\n".join(printed(whole.log))))
    report.slmconform["unanswered"] = case.asked and answer.meaning is Meaning.UNANSWERED
    item.user_properties += _properties(answer, case.examination.name)
    report.user_properties = [*item.user_properties]


def _properties(answer: Answer, package: str) -> list[tuple[str, str]]:
    """The properties of a test case in a JUnit file; some are words of the model's process."""
    one, result, report = answer.requirement, answer.result, answer.report
    values = [
        ("slm_requirement", one.id),
        ("slm_keyword", one.keyword),
        ("slm_profile", one.profile),
        ("slm_area", one.area),
        ("slm_outcome", result.outcome.value),
        ("slm_code", result.finding.code if result.finding else ""),
        ("slm_spec", report.spec),
        ("slm_device", report.setting.device),
        ("slm_package", package),
        ("slm_weights_digest", report.subject.weights_digest),
    ]
    return [(name, printable(value, 200)) for name, value in values]


def _closing(asked: Examination) -> dict[str, Any]:
    """What the last section says of a package."""
    report = asked.report
    if report is None:
        return {"head": [f"{asked.name}: not run"], "findings": {}, "rest": []}
    device = f", device {report.setting.device}" if report.setting.device else ""
    head = f"{asked.name}: {report.verdict.value}, profile {report.profile}{device}"
    findings = {
        one.id: [*finding(one, report, colour=False)]
        for one in report.results
        if one.outcome in TOLD
    }
    selected = [one for one in report.results if not left_out(one)]
    return {
        "head": [*wrap(head, "", "  "), *wrap(score(report), "  "), *self_tested(report)],
        "findings": findings,
        "rest": [*unapplied(report.waivers), *unanswered(selected)],
    }


def closing(reports: Iterable[Any]) -> Iterator[str]:
    """The last section: each package, what has no answer, and what was seen beside the items."""
    reports = [*reports]
    shown = {(one.slmconform["key"], one.slmconform["id"]) for one in reports}
    said_of: set[str] = set()
    for one in reports:
        package, told = one.slmconform["key"], one.slmconform.get("closing")
        if told is None or package in said_of:
            continue
        said_of.add(package)
        yield from told["head"]
        for requirement, lines in told["findings"].items():
            if (package, requirement) not in shown:
                yield from lines
        yield from told["rest"]
