"""The report of the last check, kept for the verb that waives one of its failures."""

from __future__ import annotations

import os
from pathlib import Path

from slmconform.package.problem import PackageProblem
from slmconform.package.validated import validated
from slmconform.report.json_text import as_json
from slmconform.report.writing import write_whole
from slmconform.standard.report import Report

LIMIT = 64 * 2**20  # bytes


def _place() -> Path:
    """In the user's cache, by the XDG base directory specification."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "slmconform" / "last-report.json"


def keep(report: Report) -> None:
    """Keep a report as the last one, where the user has a cache that can be written."""
    try:
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole({place: as_json(report).encode()})
    except (OSError, RuntimeError):  # no home, a full or read-only disk: nothing depends on it
        return


def load(path: Path | None = None) -> Report:
    """The report in a file, or the last one; raises `PackageProblem` or OSError."""
    from slmconform.package import strict_json

    place = path or _place()
    if path is None and not place.exists():
        got = "no check is remembered"
        fix = "run `slmconform check` first, or name a report in JSON with --report"
        raise PackageProblem("no-report", str(place), got, "the report of the last check", fix)
    with place.open("rb") as stream:
        data = stream.read(LIMIT)
    return validated(Report, strict_json.loads(data, str(place)), str(place))
