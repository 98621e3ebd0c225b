"""GRD: each gradient is the derivative of the loss, and the recorded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.checks.los import recorded_training
from slmconform.checks.raising import computing
from slmconform.checks.ref import recorded_device
from slmconform.engine.registry import (
    Inconclusive,
    Nonconformance,
    NoReference,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.measure.derivative import Derivative
    from slmconform.standard.evidence import DeviceTrainingRecord

RECORDED = 1e-9  # of the global norm
RECOMPUTED = 1e-10


@check("SLM-GRD-001", stage=Stage.DYNAMIC, needs=("SLM-DET-001", "SLM-LOS-006"))
def derivative_of_each(bench: Bench) -> str:
    """Gradients of untied parameters are derivatives of the loss."""
    from slmconform.measure.gradient import probed_gradients

    with computing("a loss and its gradient"):
        size = probed_gradients(bench).norm
    if size == 0.0:
        raise Nonconformance(
            code="no-gradient",
            got="a gradient of exactly 0 for every parameter",
            want="a loss that depends on the parameters",
            where="the loss of the first rows of the first batch",
            why="a loss that is constant teaches nothing: one class, one pair, or a factor of 0",
            fix="correct training.loss, its labels, or the declared outputs",
        )
    return _derivatives(bench, "untied")


@check("SLM-GRD-002", stage=Stage.DYNAMIC, needs=("SLM-GRD-001",))
def derivative_of_tied(bench: Bench) -> str:
    """Gradients of tied parameters count each use."""
    from slmconform.measure.gradient import tied

    if not tied(bench):
        raise NotApplicable("no parameter is tied to another")
    return _derivatives(bench, "tied")


def _derivatives(bench: Bench, which: str) -> str:
    from slmconform.measure.derivative import STEP, derivatives

    found = derivatives(bench, which)
    wrong = [d for d in found if d.verdict == "differs"]
    if wrong:
        raise _wrong_gradient(wrong, which)
    unclear = [d.name for d in found if d.verdict == "unclear"]
    if unclear:
        raise Inconclusive(
            f"differences of the loss settle on no value for {unclear[0]}"
            f"{f' and {len(unclear) - 1} more' if len(unclear) > 1 else ''}: the loss jumps there"
        )
    if not found:
        raise NotApplicable(f"no {which} parameter is trained")
    kinks = sum(d.verdict == "kink" for d in found)
    within = (abs(d.measured - d.product) / d.bound for d in found if d.verdict == "agrees")
    worst = max(within, default=0.0)
    note = f"; {kinks} across a kink, by finer steps" if kinks else f", steps of {STEP:g}"
    return f"{len(found)} tensors agree, at most {worst:.2f} of the bound{note}"


def _wrong_gradient(wrong: list[Derivative], which: str) -> Nonconformance:
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more: {wrong[1].name} ...)" if len(wrong) > 1 else ""
    blind = first.product == 0.0
    code = "detached" if blind else "gradient-differs"
    why = "part of its use is detached, scaled, or has a wrong backward"
    if blind:
        why = "the loss depends on it, but no gradient reaches it: it is detached"
    elif which == "tied":
        code, why = "tied-use-missing", "one of its uses does not add to its gradient"
    return Nonconformance(
        code=code,
        got=f"gradient along a random direction {first.product:.9g}",
        want=f"{first.measured:.9g} within {first.bound:.1e}, the derivative of the loss",
        where=f"{first.name}{more}",
        why=why,
        fix="let autograd differentiate every use; look for detach, no_grad, .data, item and "
        "own autograd functions",
    )


@check("SLM-GRD-003", stage=Stage.DYNAMIC, needs=("SLM-GRD-001",))
def gradient_map(bench: Bench) -> str:
    """Every parameter declared trainable gets a gradient."""
    from slmconform.measure.gradient import probed_gradients
    from slmconform.measure.recipe import selected, unused_patterns
    from slmconform.measure.trajectory import recipe_of

    patterns = recipe_of(bench).trainable
    reached = probed_gradients(bench).of
    parameters = dict(bench.model.module.named_parameters())
    wanted = [name for name in parameters if selected(name, patterns)]
    idle = unused_patterns(list(parameters), patterns)
    if idle or not wanted:
        alias = _other_name(bench, idle[0].removeprefix("!")) if idle else ""
        raise Nonconformance(
            code="pattern-unused" if idle else "none-trained",
            got=(f"{idle[0]!r} fits no parameter" if idle else "patterns that select no parameter")
            + (f": {alias} is the name of this tied parameter" if alias else ""),
            want=f"patterns of names such as {next(iter(parameters))}",
            where="slm.toml: training.trainable",
            fix="correct the pattern, or remove it",
        )
    missing = [name for name in wanted if reached.get(name) is None]
    if missing:
        frozen = not parameters[missing[0]].requires_grad
        raise Nonconformance(
            code="frozen" if frozen else "unreached",
            got=f"no gradient for {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            want=f"a gradient for each of {len(wanted)} parameters declared trainable",
            where="slm.toml: training.trainable",
            why="the model loads it with requires_grad = False"
            if frozen
            else "the loss does not depend on it",
            fix=f'unfreeze it, or exclude it: trainable = ["*", "!{missing[0]}"]',
        )
    return f"{len(wanted)} of {len(parameters)} parameters are trained, all get a gradient"


def _other_name(bench: Bench, alias: str) -> str:
    """The name by which a tied parameter is listed, where ``alias`` is another of its names."""
    listed = dict(bench.model.module.named_parameters())
    groups = [group for group in bench.model.ties() if alias in group]
    return next((name for group in groups for name in group if name in listed), "")


@check("SLM-GRD-004", stage=Stage.DYNAMIC, needs=("SLM-GRD-002",))
def checkpointing(bench: Bench) -> str:
    """Gradient checkpointing gives the same gradients."""
    from slmconform.measure.checkpointing import checkpointed

    found = checkpointed(bench)
    if not found.worst <= RECOMPUTED:
        raise Nonconformance(
            code="checkpointing-differs",
            got=f"{found.name}: {found.worst:.3g} of the global norm",
            want=f"<= {RECOMPUTED:g} in float64",
            where=f"gradients with checkpointing, {found.calls} layers recomputed",
            why="what is computed again in the backward pass is not what was computed before",
            fix="make the recomputed layers depend on nothing but their arguments",
        )
    return f"{found.calls} layers recomputed, gradients differ by {found.worst:.1e}"


@check("SLM-GRD-005", stage=Stage.DYNAMIC, needs=("SLM-GRD-002", "SLM-GRD-003"))
def recorded_gradients(bench: Bench) -> str:
    """Float64 gradients of the first recorded batch are the recorded ones."""
    from slmconform.measure.gradient import float64_gradients
    from slmconform.measure.trajectory import summary_gap, whole_norm

    recorded = recorded_training(bench).gradients
    got = {name: g for name, g in float64_gradients(bench).of.items() if g is not None}
    (name, gap), whole = summary_gap(got, recorded), whole_norm(recorded)
    if not gap <= RECORDED * whole:
        raise Nonconformance(
            code="gradient-changed",
            got=f"{name}: norm or projection off by {gap:.3g}",
            want=f"<= {RECORDED * whole:.1e}",
            where="the first recorded training batch in float64",
            why="outputs and loss are the recorded ones, so a backward pass was changed",
            fix="compare the library versions with `environment` in conformance/evidence.json",
        )
    return f"{len(recorded)} gradients, off by {gap / whole:.1e} of the global norm"


@check("SLM-GRD-006", stage=Stage.DYNAMIC, needs=("SLM-GRD-005", "SLM-REF-002", "SLM-REF-003"))
def gradients_in_shipped_dtype(bench: Bench) -> str:
    """Gradients in the shipped dtype are as near to float64 as recorded."""
    import torch

    from slmconform.measure.envelope import distances, most_gradient, native_gradients
    from slmconform.measure.gradient import float64_gradients
    from slmconform.measure.reference import FACTOR
    from slmconform.model.loaded import DTYPES

    dtype = bench.loader.dtype
    recorded = device_training(bench, dtype).gradients
    if dtype not in FACTOR:
        raise NotApplicable(f"the shipped dtype is {dtype}: there is nothing to lose")
    exact = float64_gradients(bench)
    eps, worst = torch.finfo(DTYPES[dtype]).eps, 0.0
    for name, distance in distances(native_gradients(bench), exact).items():
        own = exact.of[name]
        share = 0.0 if own is None else float(own.norm()) / (exact.norm or 1.0)
        noise = min(recorded.get(name, 0.0), most_gradient(bench))
        allowed = FACTOR[dtype] * noise + eps * (share + eps)
        if not distance <= allowed:
            raise Nonconformance(
                code=f"{dtype}-gradient-differs",
                got=f"{name}: {distance:.3g} of the global norm, {distance / allowed:.3g} times "
                "the bound",
                want=f"<= {allowed:.3g}, from the distance recorded on such a device",
                where=f"gradients of the first recorded batch in {dtype}",
                why="float64 gradients are right: the backward pass loses precision",
                fix="look for casts in own backward functions, and for reduced-precision kernels",
            )
        worst = max(worst, distance / allowed)
    return f"{worst:.2f} of the allowed distance from float64"


def device_training(bench: Bench, dtype: str) -> DeviceTrainingRecord:
    """What was recorded of training on this class of device; no reference where nothing was."""
    recorded_training(bench)
    found = recorded_device(bench).training
    if found is None:
        raise NoReference("no training is recorded for this class of device: `slmconform record`")
    if found.dtype != dtype:
        raise NotExamined(f"recorded in {found.dtype}, run in {dtype}")
    return found
