"""One check of one package, from its path to its report."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmconform import __version__
from slmconform.engine.plan import load_checks, order, select
from slmconform.engine.registry import Check, Stage
from slmconform.engine.run import BLOCKING, result, run_checks, unasked
from slmconform.engine.verdict import EXIT, verdict
from slmconform.isolation.client import ForkServer, Job, shared_server
from slmconform.isolation.ending import Ending, Kind
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.standard.catalogue import Catalogue, catalogue
from slmconform.standard.report import (
    Finding,
    Outcome,
    Report,
    Result,
    Setting,
    Subject,
    Timing,
)

UNASKED = (Outcome.NOT_EXAMINED, Outcome.NO_REFERENCE)
HIGHEST = "reproducible"

Watch = Callable[[str], None]


class CouldNotRun(Exception):  # noqa: N818 - the check did not begin; exit status 2
    """Nothing could be examined; the message says why and what to do."""


@dataclass(frozen=True)
class CheckOptions:
    """What a caller may choose. ``timeout`` is the wall limit of the model's process, seconds.

    ``ignore`` names documents ("manifest", "evidence") to be treated as absent.
    """

    profile: str | None = None
    device: str = "auto"
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    dtype: str | None = None
    trust_code: bool = False
    timeout: float = 600.0
    strict: bool = False
    ignore: Sequence[str] = ()


@dataclass
class Run:
    """What is known so far."""

    package: Package
    options: CheckOptions
    catalogue: Catalogue
    watch: Watch
    results: dict[str, Result] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    setting: Setting = field(default_factory=Setting)
    timings: list[Timing] = field(default_factory=list)
    log: str = ""

    def add(self, one: Result) -> None:
        """Note a result."""
        self.results[one.id], self.outcomes[one.id] = one, one.outcome


def examine(
    path: Path | str,
    options: CheckOptions | None = None,
    *,
    watch: Watch = lambda _: None,
    server: ForkServer | None = None,
) -> Report:
    """Check a package. ``watch`` is told the id of each requirement as it is begun.

    Raises `UnreadablePackage`, `UnknownRequirement` or `CouldNotRun` where no check can begin.
    """
    start = time.perf_counter()
    options = options or CheckOptions()
    package, known = Package(path, ignore=options.ignore), catalogue()
    profile = options.profile or (package.manifest.profile if package.manifest else HIGHEST)
    if profile not in known.profiles:
        raise CouldNotRun(f"no profile is called {profile!r}; choose {', '.join(known.profiles)}")
    plan = order(_selected(known, profile, options), load_checks())
    run = Run(package, options, known, watch)
    if any(check.stage is Stage.DYNAMIC for check in plan):
        server = server or shared_server()  # it imports torch while the files are read here
    static = [check for check in plan if check.stage is Stage.STATIC]
    for one in run_checks(static, package, package, known, run.outcomes, begin=watch):
        run.add(one)
    _dynamic(run, [check for check in plan if check.stage is Stage.DYNAMIC], server)
    return _report(run, profile, {check.id for check in plan}, time.perf_counter() - start)


def _selected(known: Catalogue, profile: str, options: CheckOptions) -> set[str]:
    load_checks()
    return select(known, profile, options.only, options.skip)


def _dynamic(run: Run, checks: list[Check], server: ForkServer | None) -> None:
    manifest = run.package.manifest
    if checks and manifest and manifest.loader.kind == "torch" and not run.options.trust_code:
        reason = f"{manifest.loader.entry} is own code: it runs only with --trust-code"
        for check in checks:
            requirement = run.catalogue.requirements[check.id]
            run.add(result(requirement, Outcome.NOT_EXAMINED, detail=reason))
        return
    if not _reachable(run, checks) or server is None:
        for one in run_checks(checks, None, run.package, run.catalogue, run.outcomes):
            run.add(one)
        return
    with tempfile.TemporaryDirectory(prefix="slmconform-") as scratch:
        begun: list[str] = []
        ending = server.run(
            _job(run, checks, scratch),
            timeout=run.options.timeout,
            on_record=lambda record: _receive(run, record, begun),
        )
    run.log = ending.log_tail
    run.setting = run.setting.model_copy(update={"isolation": ["process"]})
    if ending.kind is not Kind.COMPLETE:
        _blame(run, checks, begun, ending)


def _reachable(run: Run, checks: list[Check]) -> list[Check]:
    """The checks that need the model: neither blocked by what is known nor without a source."""
    blocked = {one for one, outcome in run.outcomes.items() if outcome in BLOCKING}
    left = []
    for check in checks:
        if blocked.intersection(check.needs):
            blocked.add(check.id)
        elif unasked(run.catalogue.requirements[check.id], run.package) is None:
            left.append(check)
    return left


def _job(run: Run, checks: list[Check], scratch: str) -> Job:
    ids = [check.id for check in checks]
    return Job(
        "slmconform.engine.child:examine",
        {
            "package": str(run.package.root),
            "ids": ids,
            "outcomes": {one: outcome.value for one, outcome in run.outcomes.items()},
            "device": run.options.device,
            "dtype": run.options.dtype,
            "scratch": scratch,
            "replay": "SLM-DET-002" in ids,
            "ignore": list(run.options.ignore),
        },
    )


def _receive(run: Run, record: dict[str, Any], begun: list[str]) -> None:
    if "phase" in record:
        begun.append(str(record["phase"]))
        run.watch(begun[-1])
    elif "result" in record:
        run.add(Result.model_validate(record["result"]))
    elif "setting" in record:
        run.setting = Setting.model_validate(record["setting"])
        run.timings = [Timing.model_validate(row) for row in record["timings"]]
    elif "unavailable" in record:
        raise CouldNotRun(str(record["unavailable"]))


def _blame(run: Run, checks: list[Check], begun: list[str], ending: Ending) -> None:
    """The requirement at which the process ended is an error; those after it are blocked.

    Results that a forging process sent are worth nothing: all of its checks are taken back.
    """
    if ending.kind is Kind.FORGED:
        for check in checks:
            run.results.pop(check.id, None)
    left = [check.id for check in checks if check.id not in run.results]
    if not left:  # everything was answered, and then it went wrong
        left = [checks[-1].id]
    guilty = begun[-1] if begun and begun[-1] in left else left[0]
    for one in left:
        requirement = run.catalogue.requirements[one]
        if one != guilty:
            run.add(result(requirement, Outcome.BLOCKED, blocked_by=guilty))
            continue
        finding = Finding(
            code=ending.kind.value,
            got=ending.detail,
            want="a model that stays within its process until every answer is given",
            where=f"after {ending.wall_s:.1f} s",
            fix="run the model by hand; --timeout changes the wall limit",
        )
        run.add(result(requirement, Outcome.ERROR, finding=finding))


def _report(run: Run, profile: str, selected: set[str], seconds: float) -> Report:
    known, package = run.catalogue, run.package
    manifest = package.manifest
    ids = known.profiles[profile].ids
    shown = [*ids, *(one for one in run.results if one not in ids)]
    results = [_finished(run, one, selected) for one in shown]
    provisional = not package.has_manifest
    left_out = frozenset(
        r.id for r in results if provisional and r.id in selected and r.outcome in UNASKED
    )
    reached = verdict(results, unasked=left_out)
    status = 1 if provisional and run.options.strict and left_out else EXIT[reached]
    inside = [r for r in results if r.id in ids]
    counts = Counter(r.outcome for r in inside)
    return Report(
        spec=known.version,
        status=known.status,
        tool=f"slmconform {__version__}",
        subject=Subject(
            path=str(package.root),
            name=manifest.model.name if manifest else "",
            version=manifest.model.version if manifest else "",
            task=manifest.model.task if manifest else "",
            weights_digest=_digest(package, run.outcomes),
            manifest=package.has_manifest,
            evidence=package.has_evidence,
        ),
        profile=profile,
        profile_digest=known.profiles[profile].digest,
        verdict=reached,
        provisional=provisional,
        exit_status=status,
        counts=dict(counts),
        applicable=len(inside) - counts[Outcome.NOT_APPLICABLE],
        results=results,
        setting=run.setting,
        timings=run.timings,
        log=run.log,
        seconds=round(seconds, 3),
    )


def _finished(run: Run, one: str, selected: set[str]) -> Result:
    found = run.results.get(one)
    if found is None:
        reason = "left out by --only or --skip"
        if one in selected:
            reason = "the run ended before it"
        return result(run.catalogue.requirements[one], Outcome.NOT_EXAMINED, detail=reason)
    return found.model_copy(update={"again": _again(run, one)})


def _again(run: Run, one: str) -> str:
    """The command that repeats one requirement under the same options."""
    words = ["slmconform", "check", str(run.package.root), "--only", one]
    if run.options.device != "auto":
        words += ["--device", run.options.device]
    if run.options.dtype:
        words += ["--dtype", run.options.dtype]
    if run.options.trust_code:
        words += ["--trust-code"]
    return shlex.join(words)


def _digest(package: Package, outcomes: dict[str, Outcome]) -> str:
    """The digest of the weights, where they were read whole anyway."""
    if outcomes.get("SLM-WGT-003") not in (Outcome.PASS, Outcome.FAIL):
        return ""
    try:
        return package.weights.digest
    except PackageProblem:
        return ""
