"""LOS: the loss is the empirical risk, and its gradient the closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.checks.raising import computing
from slmconform.engine.registry import (
    Inconclusive,
    Nonconformance,
    NoReference,
    NotApplicable,
    Stage,
    check,
)

if TYPE_CHECKING:
    from torch import Tensor

    from slmconform.measure.bench import Bench
    from slmconform.measure.own_loss import OwnLoss
    from slmconform.standard.evidence import TrainingRecord

CLOSED = 1e-12  # float64: closed form against autograd
TELLS = 1e-6  # what the control with wrong labels has to be off by
UNITS = 8  # of rounding, of the largest of one, the loss and the outputs
SATURATED_UNITS = 4


@check("SLM-LOS-001", stage=Stage.DYNAMIC, needs=("SLM-DET-001", "SLM-EVL-001"))
def empirical_risk(bench: Bench) -> str:
    """The model's own loss is the mean loss over counted labels."""
    import torch

    from slmconform.measure import own_loss
    from slmconform.measure.batches import probed
    from slmconform.measure.compare import SEMANTIC, largest

    with computing("the loss that the model, or training.entry, computes"):
        exact = own_loss.in_float64(bench)
    gap, risk = _risk_gap(bench, exact)
    allowed = SEMANTIC * max(1.0, abs(risk))
    if not gap <= allowed:
        raise _wrong_loss(bench, exact, allowed)
    with computing("the same loss in the model's own dtype"):
        native = own_loss.natively(bench)
    goal, labels = own_loss.objective(bench), probed(bench).labels
    names = goal.targets(native.outputs, labels)
    most = max(largest(native.outputs[name]) for name in names)
    eps = max(torch.finfo(native.outputs[name].dtype).eps for name in names)
    off, risk = _risk_gap(bench, native)
    allowed = UNITS * eps * max(1.0, abs(risk), most)
    if not off <= allowed:
        raise Nonconformance(
            code="loss-imprecise",
            got=f"loss {float(native.value):.9g}, off by {off:.3g}",
            want=f"within {allowed:.3g} of the empirical risk of the same outputs",
            where=f"the model's own loss in {bench.loader.dtype}",
            why="in float64 the loss is right: it is computed with too little precision",
            fix="compute the loss in float32 from the logits, with a fused log-softmax",
        )
    return f"off by {gap:.1e} in float64, by {off:.1e} in {bench.loader.dtype}"


def _risk_gap(bench: Bench, own: OwnLoss) -> tuple[float, float]:
    """The distance of an own loss from the float64 risk of its outputs, and this risk."""
    from slmconform.measure.batches import probed
    from slmconform.measure.bench import double
    from slmconform.measure.own_loss import objective

    labels = probed(bench).wide().labels_on(own.value.device)
    risk = float(objective(bench).risk(double(own.outputs), labels))
    return abs(risk - float(own.value)), risk


def _wrong_loss(bench: Bench, own: OwnLoss, allowed: float) -> Nonconformance:
    from slmconform.measure.batches import probed
    from slmconform.measure.bench import double
    from slmconform.measure.own_loss import objective
    from slmconform.measure.suspects import REASONS, name_of, suspects

    goal, outputs = objective(bench), double(own.outputs)
    labels = probed(bench).wide().labels_on(own.value.device)
    code = name_of(float(own.value), suspects(goal, outputs, labels, bench.rules.pad))
    return Nonconformance(
        code=code,
        got=f"loss {float(own.value):.12g}",
        want=f"{float(goal.risk(outputs, labels)):.12g} within {allowed:.1e}: the mean "
        f"{goal.kind} of {goal.counted(labels)} counted labels",
        where="the model's own loss in float64, on the first rows of the first batch",
        why=REASONS.get(code, "the loss is none that the task, or training.loss, means"),
        fix="mend the loss in forward, or declare training.loss as it is meant",
    )


@check("SLM-LOS-002", stage=Stage.DYNAMIC, needs=("SLM-LOS-001",))
def closed_form(bench: Bench) -> str:
    """The gradient at counted outputs is the closed form."""
    gap, _, counted = _gradient_gaps(bench)
    if not gap <= CLOSED:
        raise Nonconformance(
            code="loss-gradient",
            got=f"a gradient that is off by {gap:.3g}",
            want=f"the closed form to {CLOSED:g} in float64",
            where=f"the gradient of the own loss at {counted} counted outputs",
            why="the loss has the right value and another derivative: part of it is detached, "
            "scaled, or has a backward of its own",
            fix="let autograd differentiate the loss itself",
        )
    return f"off by {gap:.1e} at {counted} outputs; labels moved by one do not pass"


@check("SLM-LOS-003", stage=Stage.DYNAMIC, needs=("SLM-LOS-002",))
def ignored_positions(bench: Bench) -> str:
    """The gradient at outputs that do not count is exactly zero."""
    from slmconform.measure.own_loss import objective

    if objective(bench).kind != "cross-entropy" or bench.task in (
        "text-classification",
        "question-answering",
        "multiple-choice",
        "sequence-scoring",
    ):
        raise NotApplicable("every output of this task counts")
    _, uncounted, _ = _gradient_gaps(bench)
    if uncounted != 0.0:
        raise Nonconformance(
            code="ignored-label-counts",
            got=f"a gradient of up to {uncounted:.3g}",
            want="exactly 0",
            where="the gradient of the own loss at ignored, padded or last positions",
            why="outputs whose label is ignored still move the loss",
            fix="leave labels of -100 out of the loss, and the last position of a causal model",
        )
    return "exactly 0 at every ignored, padded and last position"


def _gradient_gaps(bench: Bench) -> tuple[float, float, int]:
    """Distance from the closed form at counted places, the rest's largest, counted places."""
    from slmconform.measure import own_loss
    from slmconform.measure.batches import moved, probed

    own, goal = own_loss.in_float64(bench), own_loss.objective(bench)
    labels = probed(bench).labels_on(own.value.device)
    want = goal.closed_gradient(own.outputs, labels)
    other = goal.closed_gradient(own.outputs, {n: moved(v) for n, v in labels.items()})
    gap, uncounted, counted, control = 0.0, 0.0, 0, 0.0
    for name, closed in want.items():
        got = own.gradients[name]
        if got is None:
            raise Inconclusive(f"the loss is not computed from the {name} that are returned")
        hit = closed.flatten(0, -2).abs().sum(-1) > 0 if closed.dim() > 1 else closed != 0
        flat = got.flatten(0, -2) if got.dim() > 1 else got
        exact = closed.flatten(0, -2) if closed.dim() > 1 else closed
        gap = max(gap, _largest((flat - exact)[hit]))
        uncounted = max(uncounted, _largest(flat[~hit]))
        counted += int(hit.sum())
        control = max(control, _largest(got - other[name]))
    if control <= TELLS:
        raise Inconclusive("labels moved by one give the same gradient: this batch cannot tell")
    return gap, uncounted, counted


def _largest(values: Tensor) -> float:
    """The largest magnitude, 0 of nothing; infinite where one is not a number."""
    return float(values.abs().nan_to_num(nan=float("inf")).max()) if values.numel() else 0.0


@check("SLM-LOS-004", stage=Stage.DYNAMIC, needs=("SLM-LOS-001",))
def accumulation(bench: Bench) -> str:
    """Weighted losses of micro-batches sum to the loss of the whole."""
    from slmconform.measure.compare import SEMANTIC
    from slmconform.measure.own_loss import accumulated

    found = accumulated(bench)
    allowed = SEMANTIC * max(1.0, abs(found.whole))
    sums = {"accumulation-differs": found.weighted}
    if found.told is not None:
        sums["num-items-in-batch"] = found.told
    for code, value in sums.items():
        if not abs(value - found.whole) <= allowed:
            raise Nonconformance(
                code=code,
                got=f"loss {value:.12g}",
                want=f"{found.whole:.12g} within {allowed:.1e}, the loss of the whole batch",
                where="the own loss over two micro-batches in float64, weighted by their labels"
                if code == "accumulation-differs"
                else "the own loss over two micro-batches, each given num_items_in_batch",
                why="the loss of some rows depends on rows outside their micro-batch, or on calls "
                "before",
                fix="divide the sum of the counted losses by their number, and by nothing else",
            )
    if abs(found.mean_of_means - found.whole) <= TELLS * max(1.0, abs(found.whole)):
        raise Inconclusive("the plain mean of the micro-batches agrees too: they cannot tell")
    off = abs(found.weighted - found.whole)
    return f"off by {off:.1e}; the plain mean of means by {found.mean_of_means - found.whole:.1e}"


@check("SLM-LOS-005", stage=Stage.DYNAMIC, needs=("SLM-LOS-002", "SLM-LOS-003"))
def saturation(bench: Bench) -> str:
    """Outputs of magnitude 100 still get their gradient."""
    import torch

    from slmconform.measure.batches import probed
    from slmconform.measure.own_loss import objective
    from slmconform.measure.saturation import LARGE, saturated

    goal = objective(bench)
    if goal.kind == "mean-squared-error":
        raise NotApplicable("a squared error does not saturate")
    own = saturated(bench)
    labels = probed(bench).labels_on(own.value.device)
    worst = 0.0
    for name, closed in goal.closed_gradient(own.outputs, labels).items():
        got = own.gradients[name]
        if got is None:
            raise Inconclusive(f"the loss is not computed from the {name} that are returned")
        gap = (got - closed).abs()
        allowed = SATURATED_UNITS * torch.finfo(got.dtype).eps
        worst = max(worst, _largest(gap))
        if not worst <= allowed:
            flat = int(gap.argmax())
            z = float(own.outputs[name].flatten()[flat])
            raise Nonconformance(
                code="loss-saturates",
                got=f"gradient {float(got.flatten()[flat]):.6g} at output {z:.4g}",
                want=f"{float(closed.flatten()[flat]):.6g} within {allowed:.1e}",
                where=f"the own loss in {bench.loader.dtype}, outputs scaled up to 100",
                why="the loss goes through a probability that rounds to 0 or 1, so that a wrong "
                "and certain answer is no longer corrected",
                fix="compute it from logits: BCEWithLogitsLoss, cross_entropy, log_softmax",
            )
    return f"off by {worst:.1e} at outputs up to {LARGE:.0f}"


@check("SLM-LOS-006", stage=Stage.DYNAMIC, needs=("SLM-REF-001", "SLM-LOS-001"))
def recorded_loss(bench: Bench) -> str:
    """The float64 loss of the first recorded batch is the recorded one."""
    from slmconform.measure.compare import SEMANTIC
    from slmconform.measure.gradient import float64_gradients

    want = recorded_training(bench).losses[0]
    with computing("the loss of the reference training and its gradient"):
        got = float64_gradients(bench).loss
    allowed = SEMANTIC * max(1.0, abs(want))
    if not abs(got - want) <= allowed:
        raise Nonconformance(
            code="loss-changed",
            got=f"loss {got:.15g}",
            want=f"{want:.15g} within {allowed:.1e}",
            where="the first recorded training batch in float64, with gradients enabled",
            why="the recorded outputs come out again without gradients: the code computes "
            "something else when it is trained, or training.loss was changed",
            fix="remove what depends on grad mode; if the change is meant, record again",
        )
    return f"{got:.9g}, off by {abs(got - want):.1e}"


def recorded_training(bench: Bench) -> TrainingRecord:
    """The recorded training; no reference where there is none, or none in the caller's dtype."""
    declared = bench.package.require_manifest().loader.dtype
    if bench.loader.dtype != declared:
        raise NoReference(
            f"the training is recorded in {declared}, the dtype of slm.toml, "
            f"and not in {bench.loader.dtype}: leave --dtype out"
        )
    training = bench.package.require_evidence().training
    if training is None:
        raise NoReference(
            "no training is recorded: declare [training] in slm.toml, then `slmconform record`"
        )
    return training
