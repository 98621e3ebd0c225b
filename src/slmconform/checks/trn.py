"""TRN: the reference training comes out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.checks.grd import device_training
from slmconform.checks.los import recorded_training
from slmconform.engine.registry import Nonconformance, Stage, check

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.measure.trajectory import Again

EXACT = 1e-9  # of the larger of one and the loss
CHANGED = 1e-8  # of the norm of the whole change


@check("SLM-TRN-001", stage=Stage.DYNAMIC, needs=("SLM-LOS-006", "SLM-GRD-003", "SLM-GRD-005"))
def float64_losses(bench: Bench) -> str:
    """The float64 loss of every step is the recorded one."""
    from slmconform.measure.envelope import deviations
    from slmconform.measure.trajectory import float64_run

    recorded = recorded_training(bench)
    require_recipe(bench, recorded.recipe)
    run = float64_run(bench, recorded.steps)
    offs = deviations(run.losses, recorded.losses)
    for step, off in enumerate(offs):
        if not off <= EXACT:
            raise Nonconformance(
                code="training-differs",
                got=f"loss {run.losses[step]:.15g}, {off:.3g} off",
                want=f"{recorded.losses[step]:.15g} within {EXACT:g} of the larger of one and it",
                where=f"step {step + 1} of {recorded.steps} in float64",
                why="loss and gradients of the first batch are the recorded ones: the optimiser, "
                "the schedule or the clipping does something else",
                fix="compare the torch version with `environment` in conformance/evidence.json",
            )
    return f"{recorded.steps} steps, losses off by at most {max(offs):.1e}"


def require_recipe(bench: Bench, recorded: dict[str, object]) -> None:
    """The declared recipe is the recorded one; raises `Nonconformance`."""
    from slmconform.measure.trajectory import recipe_of

    declared = recipe_of(bench).model_dump(mode="json")
    for key in sorted(declared.keys() | recorded.keys()):
        if declared.get(key) != recorded.get(key):
            raise Nonconformance(
                code="recipe-changed",
                got=f"{key} = {declared.get(key)}",
                want=f"{key} = {recorded.get(key)}, as recorded",
                where=f"slm.toml: training.{key}",
                why="the evidence belongs to another recipe",
                fix="restore the value; if the change is meant, record again",
            )


@check("SLM-TRN-002", stage=Stage.DYNAMIC, needs=("SLM-TRN-001",))
def float64_weights(bench: Bench) -> str:
    """The float64 change of every parameter is the recorded one; frozen ones do not move."""
    from slmconform.measure.trajectory import float64_run, summary_gap, whole_norm

    recorded = recorded_training(bench)
    run = float64_run(bench, recorded.steps)
    if run.frozen_moved:
        raise Nonconformance(
            code="frozen-moved",
            got=f"{run.frozen_moved[0]} changed",
            want="no change in any bit: the recipe does not train it",
            where="weights after the last step in float64",
            why="the forward pass writes into it",
            fix="write into buffers, never into parameters",
        )
    (name, gap), whole = summary_gap(run.changes, recorded.changes), whole_norm(recorded.changes)
    allowed = CHANGED * whole
    if not gap <= allowed:
        raise Nonconformance(
            code="trained-weights-differ",
            got=f"{name}: change off by {gap:.3g} in norm or projection",
            want=f"<= {allowed:.1e}",
            where=f"weights after {recorded.steps} steps in float64",
            why="every loss is the recorded one, so what differs is the last update, or a "
            "parameter that the loss hardly sees",
            fix="compare the torch version with `environment` in conformance/evidence.json",
        )
    return f"{len(run.changes)} changes, off by at most {gap / whole:.1e} of the whole"


@check("SLM-TRN-003", stage=Stage.DYNAMIC, needs=("SLM-TRN-002", "SLM-GRD-006"))
def device_losses(bench: Bench) -> str:
    """The loss of every step on the device stays within the envelope."""
    from slmconform.measure.envelope import deviations
    from slmconform.measure.trajectory import device_run, float64_run, trained_dtype

    steps = recorded_training(bench).steps
    recorded = device_training(bench, bench.loader.dtype)
    exact, run = float64_run(bench, steps), device_run(bench, steps)
    worst = 0.0
    offs = deviations(run.losses, exact.losses)
    for step, (off, noise) in enumerate(zip(offs, recorded.envelope, strict=True)):
        allowed = allowance(noise)
        if not off <= allowed:
            raise Nonconformance(
                code="training-loses-precision",
                got=f"loss {run.losses[step]:.9g}, {off:.3g} off float64",
                want=f"<= {allowed:.3g}, from the envelope recorded on such a device",
                where=f"step {step + 1} of {steps} in {trained_dtype(bench)}",
                why="in float64 the training is the recorded one: precision is lost in the "
                "backward pass or the optimiser on this device",
                fix="look for reduced-precision kernels and gradients, and fused optimisers",
            )
        worst = max(worst, off / allowed)
    return f"{steps} steps, at most {worst:.2f} of the allowed deviation"


def allowance(noise: float) -> float:
    """The deviation that is allowed where legitimate runs were seen to deviate by ``noise``.

    Whatever the evidence says, no more than recording would have accepted.
    """
    from slmconform.measure.envelope import CHAOS, FACTOR, FLOOR

    return FACTOR * min(noise, CHAOS) + FLOOR


@check("SLM-TRN-004", stage=Stage.DYNAMIC, needs=("SLM-TRN-003",))
def device_weights(bench: Bench) -> str:
    """The change of every parameter on the device is as near to float64 as recorded."""
    from slmconform.measure.envelope import DRIFT, FACTOR, FLOOR, change_distances
    from slmconform.measure.trajectory import device_run, float64_run, trained_dtype

    steps = recorded_training(bench).steps
    recorded = device_training(bench, bench.loader.dtype).changes
    worst = 0.0
    found = change_distances(device_run(bench, steps), float64_run(bench, steps))
    for name, distance in found.items():
        allowed = min(FACTOR * recorded.get(name, 0.0) + FLOOR, FACTOR * DRIFT)
        if not distance <= allowed:
            raise Nonconformance(
                code="trained-weights-lose-precision",
                got=f"{name}: {distance:.3g} of the whole change, {distance / allowed:.3g} times "
                "the bound",
                want=f"<= {allowed:.3g}, from the distance recorded on such a device",
                where=f"weights after {steps} steps in {trained_dtype(bench)}",
                why="the losses are within the envelope: a small tensor is updated less precisely",
                fix="look for reduced-precision gradients of this parameter",
            )
        worst = max(worst, distance / allowed)
    return f"{len(found)} changes, at most {worst:.2f} of the allowed distance"


@check("SLM-TRN-005", stage=Stage.DYNAMIC, needs=("SLM-TRN-001",))
def trained_again(bench: Bench) -> str:
    """Training again gives the same bits."""
    from slmconform.measure.trajectory import rerun

    found = rerun(bench, recorded_training(bench).steps)
    _require_same(
        found,
        code="rerun-differs",
        where=f"{found.steps} steps from the shipped weights, twice in one process",
        why="training keeps a state outside the weights, or uses a kernel whose sums vary",
        fix="keep counters and caches out of the module, or in its buffers",
    )
    return f"{found.steps} steps, losses and weights equal in every bit"


@check("SLM-TRN-006", stage=Stage.DYNAMIC, needs=("SLM-TRN-005",))
def resumed_training(bench: Bench) -> str:
    """Resumed training gives the same bits."""
    from slmconform.measure.trajectory import rerun, resumed

    steps = recorded_training(bench).steps
    found, half = resumed(bench, steps), rerun(bench, steps).steps
    _require_same(
        found,
        code="resume-differs",
        where=f"saved and loaded after step {half} of {steps}",
        why="what the model needs to go on is not all in its saved weights",
        fix="register state as parameters or persistent buffers, and keep ties when saving",
    )
    return f"saved after step {half}, equal in every bit up to step {found.steps}"


def _require_same(found: Again, *, code: str, where: str, why: str, fix: str) -> None:
    if found.difference:
        raise Nonconformance(
            code=code,
            got=found.difference,
            want="equal in every bit",
            where=where,
            why=why,
            fix=fix,
        )
