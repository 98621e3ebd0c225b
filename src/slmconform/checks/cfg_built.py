"""CFG: what the configuration describes, seen by building it in the model's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.checks.cfg import LOADABLE
from slmconform.engine.registry import Inconclusive, Nonconformance, NotApplicable, Stage, check
from slmconform.package.read import CONFIG

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench


@check("SLM-CFG-006", stage=Stage.DYNAMIC, needs=LOADABLE)
def model_is_in_proportion(bench: Bench) -> str:
    """The model that the configuration describes is at most four times the size of the weights."""
    from slmconform.measure.proportion import FACTOR, described, held
    from slmconform.model.loaded import CandidateError

    if bench.loader.kind != "transformers":
        raise NotApplicable("own code builds its model by itself")
    values, name = held(bench.package), bench.loader.class_
    try:
        outline = described(bench)
    except CandidateError as error:
        _require_unloadable(bench)
        raise Inconclusive(f"{name} loads and cannot be built without memory: {error}") from error
    if not outline.fits:
        kind = "parameters" if outline.parameters > outline.parameter_limit else "buffers"
        count, limit = getattr(outline, kind), getattr(outline, f"{kind[:-1]}_limit")
        raise Nonconformance(
            code="out-of-proportion",
            where=f"{CONFIG}: {name}",
            got=f"{kind} of at least {count:,} values for weights of {values:,}",
            want=f"{kind} of at most {limit:,} values; of large weights {FACTOR} times as many",
            why="loading would take memory for all of them, whatever the weights hold",
            fix="restore the configuration that belongs to these weights",
        )
    return f"{outline.parameters:,} parameters described, {values:,} values in the weights"


def _require_unloadable(bench: Bench) -> None:
    """Leave what cannot be built at all to the requirement that reports it."""
    from slmconform.model.loaded import CandidateError

    try:
        _ = bench.model
    except CandidateError as error:
        raise NotApplicable("the model does not load: see SLM-IFC-002") from error
