"""What a check says of a folder, and the assertions that all tests here are made of."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from slmconform.engine.examine import CheckOptions, examine
from slmconform.engine.plan import load_checks, order, select
from slmconform.engine.registry import Stage
from slmconform.engine.run import run_checks
from slmconform.isolation.client import shared_server
from slmconform.measure.opening import opened
from slmconform.report.text import View, render
from slmconform.standard.catalogue import catalogue
from slmconform.standard.files import EVIDENCE
from slmconform.standard.report import Finding, Outcome, Report, Result

SETTLED = (Outcome.PASS, Outcome.WARN, Outcome.NOT_APPLICABLE)
AFTER_A_FAILURE = (*SETTLED, Outcome.BLOCKED)


def judged(folder: Path, **options: object) -> Report:
    """The report of a check; own code is trusted."""
    return examine(folder, CheckOptions(trust_code=True, **options), server=shared_server())


def assert_fails(folder: Path, requirement: str, *words: str, **options: object) -> Finding:
    """Exactly one requirement fails, the finding holds the words, and all else is settled."""
    report = judged(folder, **options)
    text = render(report, View(verbose=True))
    assert [r.id for r in report.failures] == [requirement], text
    left = [r for r in report.results if r not in report.failures]
    bare = () if report.subject.evidence else (Outcome.NO_REFERENCE, Outcome.NOT_EXAMINED)
    assert all(r.outcome in (*AFTER_A_FAILURE, *bare) for r in left), text
    assert report.exit_status == 1
    failure = report.failures[0]
    assert failure.outcome is Outcome.FAIL, text
    said = failure.finding
    assert said is not None
    for word in words:
        assert any(word in line for line in (said.got, said.want, said.where, said.why)), (
            f"{word!r} is not in\n{text}"
        )
    return said


def assert_conformant(folder: Path, **options: object) -> Report:
    """Nothing fails, nothing is left open."""
    report = judged(folder, **options)
    left = [r for r in report.results if r.outcome not in SETTLED]
    assert not left, render(report, View(verbose=True))
    assert report.exit_status == 0
    return report


def assert_patched_fails(folder: Path, requirement: str | None, *words: str) -> Finding | None:
    """Like `assert_fails`, in this process, whose libraries a test has patched.

    Of what the declared profile asks. There is no second process here: SLM-DET-002 is taken as
    met where it is not blocked.
    """
    results = answers(folder)
    settled = AFTER_A_FAILURE
    if not (folder / EVIDENCE).exists():
        settled = (*settled, Outcome.NO_REFERENCE, Outcome.NOT_EXAMINED)
    failed = {one for one, r in results.items() if r.outcome not in settled}
    assert failed == ({requirement} if requirement else set()), [results[one] for one in failed]
    if not requirement:
        return None
    said = results[requirement].finding
    assert results[requirement].outcome is Outcome.FAIL, said
    assert said is not None
    for word in words:
        assert any(word in line for line in (said.got, said.want, said.where, said.why)), said
    return said


def answers(folder: Path, profile: str | None = None) -> dict[str, Result]:
    """Every dynamic result of a profile, or the declared one, by id, computed in this process."""
    checks = dict(load_checks())
    checks["SLM-DET-002"] = replace(checks["SLM-DET-002"], function=lambda _: "taken as met")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = {"package": str(folder), "device": "cpu", "scratch": scratch}
        with opened(arguments) as (bench, _):
            manifest = bench.package.manifest
            declared = manifest.profile if manifest else "reproducible"
            asked = select(catalogue(), profile or declared)
            ids = [one for one in asked if checks[one].stage is Stage.DYNAMIC]
            run = run_checks(order(ids, checks), bench, bench.package, catalogue(), {})
            return {r.id: r for r in run}
