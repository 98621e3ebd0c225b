"""From a package to its report: plan, static checks, the model's process, summary."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.engine.options import CheckOptions, CouldNotRun, Watch
from slmconform.engine.plan import load_checks, order, select
from slmconform.engine.registry import Stage
from slmconform.engine.run import run_checks
from slmconform.engine.self_test import not_run
from slmconform.engine.state import Run
from slmconform.engine.summary import summary
from slmconform.package.read import Package
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Report

if TYPE_CHECKING:
    from slmconform.isolation.client import ForkServer
    from slmconform.standard.waivers import Waiver

HIGHEST = "trainable"  # what a folder without a manifest can be asked


def judge(
    package: Package, options: CheckOptions, watch: Watch, server: ForkServer | None, start: float
) -> Report:
    """Run what was asked and report it; ``start`` is when, on `time.perf_counter`."""
    run = Run(package, options, catalogue(), watch, _waivers(options))
    known, profile = run.catalogue, _profile(run)
    checks = load_checks()
    plan = order(select(known, profile, options.only, options.skip), checks)
    static = [check for check in plan if check.stage is Stage.STATIC]
    dynamic = [check for check in plan if check.stage is not Stage.STATIC]
    if dynamic and server is None and _may_run(run):
        from slmconform.isolation.client import shared_server

        server = shared_server()  # it imports torch while the files are read here
    for one in run_checks(static, package, package, known, run.outcomes, watch, run.excuse):
        run.add(one)
    if dynamic:
        from slmconform.engine.model_process import ask_model

        ask_model(run, dynamic, server)
    if options.self_test and not run.self_test:
        run.self_test = not_run()
    return summary(run, profile, {check.id for check in plan}, time.perf_counter() - start)


def _waivers(options: CheckOptions) -> tuple[Waiver, ...]:
    if options.waivers is None:
        return ()
    from slmconform.engine.waivers import read_waivers

    return read_waivers(Path(options.waivers), catalogue())


def _profile(run: Run) -> str:
    """The profile to judge by: asked, declared, or the highest that needs neither."""
    manifest, known = run.package.manifest, run.catalogue.profiles
    profile = run.options.profile or (manifest.profile if manifest else HIGHEST)
    if profile not in known:
        raise CouldNotRun(f"no profile is called {profile!r}; choose {', '.join(known)}")
    return profile


def _may_run(run: Run) -> bool:
    """Whether the model would be run if its files are sound: no invalid manifest, trusted code."""
    readable = run.package.manifest is not None or not run.package.has_manifest
    return readable and (run.options.trust_code or not run.own_code)
