"""The dynamic part of a check, in the candidate's own process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from slmconform.engine.plan import load_checks, order
from slmconform.engine.registry import CHECKS, Unanswered
from slmconform.engine.run import run_checks
from slmconform.engine.waivers import Excuse, excused
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome

Emit = Callable[[dict[str, Any]], None]


def examine(arguments: dict[str, Any], emit: Emit) -> None:
    """Run the checks of ``arguments["ids"]`` and send each result as it is reached."""
    from slmconform.measure.opening import opened
    from slmconform.measure.self_test import self_test
    from slmconform.model.device import DeviceUnavailable
    from slmconform.model.loaded import CandidateError

    checks = order(arguments["ids"], load_checks())
    outcomes = {one: Outcome(value) for one, value in arguments["outcomes"].items()}
    excuses = [Excuse(*row) for row in arguments["excuses"]]
    try:
        with opened(arguments) as (bench, setting):
            for result in run_checks(
                checks,
                bench,
                bench.package,
                catalogue(),
                outcomes,
                begin=lambda one: emit({"phase": one}),
                excuse=lambda one: excused(one, excuses, setting["device"]),
            ):
                emit({"result": result.model_dump(mode="json")})
            with suppress(Unanswered, CandidateError):  # a folder whose loader cannot be inferred
                setting["dtype"] = bench.loader.dtype
            timings = [timing.model_dump() for timing in bench.timings]
            emit({"setting": setting, "timings": timings})
            if arguments["self_test"]:
                rows = [row.model_dump() for row in self_test(bench, CHECKS, outcomes)]
                emit({"self_test": rows})
    except DeviceUnavailable as error:
        emit({"unavailable": str(error)})
