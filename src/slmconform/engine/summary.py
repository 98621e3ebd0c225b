"""From the results of a run to its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from slmconform import __version__
from slmconform.engine.command import cache_option, command
from slmconform.engine.plan import closure, matches
from slmconform.engine.registry import CHECKS
from slmconform.engine.run import result
from slmconform.engine.state import Run
from slmconform.engine.verdict import EXIT, verdict
from slmconform.package.problem import PackageProblem
from slmconform.standard.report import (
    BROKEN_WAIVERS,
    Outcome,
    Report,
    Result,
    Subject,
    Verdict,
    WaiverUse,
)

LEFT_OUT = "left out by "  # how the reason of a result begins that nobody wanted
UNASKED = (Outcome.NOT_EXAMINED, Outcome.NO_REFERENCE)


def summary(run: Run, profile: str, selected: Collection[str], seconds: float) -> Report:
    """The report of a run over ``profile``; every id of the profile has a result."""
    known = run.catalogue
    ids = known.profiles[profile].ids
    shown = [*ids, *(one for one in run.results if one not in ids)]
    results = [_finished(run, one, selected) for one in shown]
    provisional = not run.package.has_manifest
    open_ = frozenset(
        r.id for r in results if provisional and r.id in selected and r.outcome in UNASKED
    )
    reached = verdict(results, unasked=open_)
    waivers = _waivers(run)
    if (run.options.strict and open_) or any(use.state in BROKEN_WAIVERS for use in waivers):
        reached = Verdict.NOT_CONFORMANT
    counts = Counter(r.outcome for r in results if r.id in ids)
    return Report(
        spec=known.version,
        status=known.status,
        tool=f"slmconform {__version__}",
        subject=_subject(run),
        profile=profile,
        profile_digest=known.profiles[profile].digest,
        verdict=reached,
        provisional=provisional,
        strict=run.options.strict,
        exit_status=EXIT[reached],
        counts=dict(counts),
        applicable=len(ids) - counts[Outcome.NOT_APPLICABLE],
        results=results,
        waivers=waivers,
        self_test=run.self_test,
        setting=run.setting,
        timings=run.timings,
        peak_bytes=run.peak_bytes,
        log=run.log,
        seconds=round(seconds, 3),
    )


def _subject(run: Run) -> Subject:
    package, manifest = run.package, run.package.manifest
    return Subject(
        path=str(package.root),
        name=run.model_name,
        version=manifest.model.version if manifest else "",
        task=manifest.model.task if manifest else "",
        weights_digest=_digest(run),
        manifest=package.has_manifest,
        evidence=package.has_evidence,
        hub_cache=package.hub_cache,
    )


def _waivers(run: Run) -> list[WaiverUse]:
    if not run.waivers:
        return []
    from slmconform.engine.waivers import settled

    return settled(run.waivers, run.results, run.model_name, run.setting.device)


def _finished(run: Run, one: str, selected: Collection[str]) -> Result:
    found = run.results.get(one)
    if found is None:
        reason = _left_out(run, one) if one not in selected else "the run ended before it"
        return result(run.catalogue.requirements[one], Outcome.NOT_EXAMINED, detail=reason)
    return found.model_copy(update={"again": _again(run, one)})


def _left_out(run: Run, one: str) -> str:
    """Why a requirement of the profile was not asked."""
    skip = run.options.skip
    if matches(one, skip):
        return f"{LEFT_OUT}--skip"
    if run.options.only and not matches(one, run.options.only):
        return f"{LEFT_OUT}--only"
    needed = sorted(need for need in closure([one], CHECKS) if matches(need, skip))
    return f"{LEFT_OUT}--skip, with {needed[0]} which it needs"


def _again(run: Run, one: str) -> str:
    """The command that repeats one requirement under the same options."""
    options = run.options
    words = ["slmconform", "check", str(run.package.root), "--only", one]
    if options.device != "auto":
        words += ["--device", options.device]
    if options.dtype:
        words += ["--dtype", options.dtype]
    if options.trust_code:
        words += ["--trust-code"]
    return command(*words, *cache_option(run.package.hub_cache))


def _digest(run: Run) -> str:
    """The digest of the weights, where they were read whole anyway."""
    if run.outcomes.get("SLM-WGT-003") not in (Outcome.PASS, Outcome.FAIL):
        return ""
    try:
        return run.package.weights.digest
    except PackageProblem:
        return ""
