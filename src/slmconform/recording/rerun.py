"""The reference training step by step, in the candidate's own process, as SLM-TRN-003 runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slmconform.checks.grd import device_training
from slmconform.checks.los import recorded_training
from slmconform.checks.trn import allowance, require_recipe
from slmconform.engine.registry import NotExamined, Unanswered
from slmconform.measure.bench import Bench
from slmconform.measure.envelope import deviations
from slmconform.measure.trajectory import fresh, recipe_of, steps_of, trained_dtype, trainer

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Reference:
    """Recorded float64 losses and allowed deviations by step; why there are none, else ""."""

    losses: Sequence[float] = ()
    allowed: Sequence[float] = ()
    unanswered: str = ""


def reference(bench: Bench) -> Reference:
    """What the steps can be held against; raises `Nonconformance` where the recipe was changed."""
    try:
        recorded = recorded_training(bench)
    except Unanswered as error:
        return Reference(unanswered=error.reason)
    require_recipe(bench, recorded.recipe)
    try:
        device = device_training(bench, bench.loader.dtype)
    except Unanswered as error:
        return Reference(recorded.losses, unanswered=error.reason)
    return Reference(recorded.losses, [allowance(noise) for noise in device.envelope])


def rerun(bench: Bench, device: str, wanted: int | None, emit: Emit) -> int:
    """Send the plan, then each step as it is made; the number of steps.

    Raises `NotExamined` where more steps are wanted than there are, `Nonconformance` and
    `CandidateError`.
    """
    recipe_of(bench)
    whole, known = steps_of(bench), reference(bench)
    steps = whole if wanted is None else wanted
    if steps > whole:
        raise NotExamined(f"{wanted} steps are wanted, and the reference training has {whole}")
    plan = {"device": device, "dtype": trained_dtype(bench), "steps": steps, "whole": whole}
    said = {"referenced": bool(known.losses), "unanswered": known.unanswered}
    emit({"news": plan | said})
    one = trainer(bench, fresh(bench))
    for index, loss in enumerate(one.run(0, steps)):
        exact = known.losses[index] if known.losses else None
        emit(
            {
                "news": {
                    "step": index + 1,
                    "loss": loss,
                    "reference": exact,
                    "deviation": None if exact is None else deviations([loss], [exact])[0],
                    "allowed": known.allowed[index] if known.allowed else None,
                    "learning_rate": float(one.optimizer.param_groups[0]["lr"]),
                }
            }
        )
    return steps
