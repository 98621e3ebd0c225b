"""One check of one package, from its path to its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.engine.options import CheckOptions, CouldNotRun, Watch
from slmconform.package.read import Package

if TYPE_CHECKING:
    from slmconform.isolation.client import ForkServer
    from slmconform.standard.report import Report

__all__ = ["CheckOptions", "CouldNotRun", "Watch", "examine"]


def examine(
    path: Path | str,
    options: CheckOptions | None = None,
    *,
    watch: Watch = lambda _: None,
    server: ForkServer | None = None,
) -> Report:
    """Check a package. ``watch`` is told the id of each requirement as it is begun.

    Raises `UnreadablePackage`, `UnknownRequirement` or `CouldNotRun` where no check can begin,
    and `ServerUnavailable` where no process for the model can be started.
    """
    start = time.perf_counter()
    options = options or CheckOptions()
    package = Package(path, ignore=options.ignore, hub_cache=options.hub_cache)
    if not options.only:
        package.weights.begin()  # hashed by threads while what judges them is imported
    from slmconform.engine.judging import judge

    return judge(package, options, watch, server, start)
