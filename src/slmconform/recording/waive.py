"""Writing a waiver for a failure that a report tells."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import NoReturn

import tomlkit

from slmconform.engine.plan import canonical, unknown
from slmconform.engine.waivers import now, parse_waivers, unwaivable
from slmconform.package.problem import PackageProblem
from slmconform.report.writing import require_writable, write_file
from slmconform.standard.catalogue import SPEC_VERSION, Catalogue, catalogue
from slmconform.standard.report import Outcome, Report, Result

USUAL = timedelta(days=90)
HEAD = f"""\
# Failures that are known and accepted for a while. `slmconform check` and the pytest plugin read
# this file; it fails where a waiver is expired, stale, or the failure is another one.
spec = "{SPEC_VERSION}"
"""


def waive(
    report: Report, one: str, path: Path, *, reason: str, issue: str, expires: date | None = None
) -> str:
    """Add a waiver for a failure of a report to a file and say what was written.

    Its scope is the model, the class of device and the versions that the report names. What else
    stands in the file is left as it is. Raises `PackageProblem`, `Unwritable` or OSError.
    """
    known = catalogue()
    result = _failure(report, canonical(one), known)
    assert result.finding is not None
    until = expires or now() + USUAL
    if until < now():
        _refuse(f"expires on {until}", f"a day from {now()} on", "name a later day")
    require_writable(path)
    before = path.read_bytes() if path.exists() else HEAD.encode()
    parse_waivers(before, str(path), known)  # what is broken is not added to
    document = tomlkit.parse(before)
    document.add(tomlkit.nl())
    row = tomlkit.table()
    row.update(id=result.id, code=result.finding.code, reason=reason, issue=issue, expires=until)
    if scope := _scope(report):
        row["scope"] = tomlkit.inline_table()
        row["scope"].update(scope)
    document.setdefault("waiver", tomlkit.aot()).append(row)
    after = tomlkit.dumps(document).encode()
    parse_waivers(after, str(path), known)
    write_file(path, after)
    return f"{path}: waives {result.id} where it fails by {result.finding.code}, until {until}"


def _failure(report: Report, one: str, known: Catalogue) -> Result:
    """The failure of a requirement in a report; raises `PackageProblem` where it has none."""
    if one not in known.requirements:
        _refuse(unknown(known, one), "an id of the standard", "correct the id")
    if reason := unwaivable(one, known):
        _refuse(reason, "a MUST of a higher profile", "mend the model")
    result = next((r for r in report.results if r.id == one), None)
    if result is None or result.outcome is not Outcome.FAIL:
        got = f"{one} is {result.outcome.value if result else 'not asked'} in the report of "
        _refuse(
            got + report.subject.path,
            "a requirement that fails",
            "only failures can be waived; check again if the model has changed",
        )
    return result


def _scope(report: Report) -> dict[str, str]:
    """What the report says of where it was obtained; versions up to their last number."""
    found = {"model": report.subject.name, "device": report.setting.device}
    for name in ("torch", "transformers"):
        version = str(report.setting.environment.get(name) or "").partition("+")[0]
        found[name] = f"=={version.rpartition('.')[0]}.*" if version.count(".") > 1 else ""
    return {name: value for name, value in found.items() if value}


def _refuse(got: str, want: str, fix: str) -> NoReturn:
    raise PackageProblem("not-waivable", "waive", got, want, fix)
