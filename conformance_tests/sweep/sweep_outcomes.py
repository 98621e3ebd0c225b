"""What the check of one pair came to, and how it compares with what is expected of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import transformers
from package_builders import MIT
from sweep_data import NOT_BUILT, expected, kind_by, not_built
from sweep_models import NotBuilt, build
from sweep_pairs import Pair

from slmconform.engine.examine import CheckOptions, examine
from slmconform.engine.registry import Inconclusive
from slmconform.isolation.client import ForkServer
from slmconform.model.architecture import task_and_class
from slmconform.standard.report import Outcome, Report, Result

TOLD = (Outcome.FAIL, Outcome.ERROR, Outcome.WARN, Outcome.INCONCLUSIVE)
LIMIT_S = 120.0
ROW = ("id", "outcome", "code", "got", "want", "where", "why")
LINE = "4.57" if transformers.__version__.startswith("4.") else "5.23"


@dataclass(frozen=True)
class Examined:
    """One pair, checked. ``results`` are the answers that neither hold nor fall away.

    ``kind``: pass, finding (something fails or is an error), inconclusive, or not built, which
    ``detail`` explains.
    """

    pair: str
    cls: str
    kind: str
    detail: str = ""
    parameters: int = 0
    seconds: float = 0.0
    results: list[dict[str, str]] = field(default_factory=list)
    not_applicable: dict[str, str] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, str]:
        """Each requirement that is told of, with outcome and failure code."""
        return {row["id"]: f"{row['outcome']} {row['code']}".strip() for row in self.results}

    def as_json(self) -> dict[str, Any]:
        """A record for a file."""
        return asdict(self)


def examined(pair: Pair, folder: Path, server: ForkServer, device: str = "cpu") -> Examined:
    """Build a pair in an empty folder and check it as a stranger's: without a manifest."""
    start = time.perf_counter()
    try:
        parameters = build(pair, folder)
    except NotBuilt as error:
        return Examined(pair.name, pair.cls, NOT_BUILT, str(error))
    (folder / "LICENSE").write_text(MIT, encoding="utf-8")
    report = examine(folder, CheckOptions(device=device, timeout=LIMIT_S), server=server)
    away = {r.id: r.detail for r in report.results if r.outcome is Outcome.NOT_APPLICABLE}
    results = _told(report)
    if (told := _inferred(folder)) != pair.task:
        results.append(dict(zip(ROW, ("task", "taken-for", told, "", "", "", ""), strict=True)))
    kind = kind_by(row["outcome"] for row in results)
    seconds = round(time.perf_counter() - start, 2)
    return Examined(pair.name, pair.cls, kind, "", parameters, seconds, results, away)


def _told(report: Report) -> list[dict[str, str]]:
    """A row an answer; of those that one reason leaves undecided, the first."""
    found: list[dict[str, str]] = []
    reasons: set[str] = set()
    for one in report.results:
        if one.outcome is Outcome.INCONCLUSIVE and one.detail in reasons:
            continue
        reasons.add(one.detail)
        if one.outcome in TOLD:
            found.append(_row(one))
    return found


def _inferred(folder: Path) -> str:
    """The task that the folder is taken for; the reason where it is taken for none."""
    try:
        return task_and_class(json.loads((folder / "config.json").read_text()))[0]
    except Inconclusive as error:
        return error.reason


def _row(one: Result) -> dict[str, str]:
    found = one.finding
    code, got, want = (found.code, found.got, found.want) if found else ("", "", "")
    where, why = (found.where, found.why) if found else ("", "")
    values = (one.id, one.outcome.value, code, got, want, where, why or one.detail)
    return dict(zip(ROW, values, strict=True))


def surprise(one: Examined) -> str:
    """How a pair differs from what is expected of it; empty where it does not."""
    known = not_built(one.pair, LINE)
    if one.kind == NOT_BUILT:
        return "" if known else f"cannot be built: {one.detail}"
    if known:
        return f"is built now, which it was not: {known}"
    got, want = one.told, expected(one.pair, LINE)
    new = {key: value for key, value in got.items() if want.get(key) != value}
    gone = {key: value for key, value in want.items() if key not in got}
    parts = [f"new: {new}"] if new else []
    parts += [f"gone: {gone}"] if gone else []
    return "; ".join(parts)
