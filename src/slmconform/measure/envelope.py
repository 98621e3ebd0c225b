"""What legitimate variation does to gradients and to a training run, measured when recording."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from slmconform.engine.registry import Inconclusive
from slmconform.measure.batches import Batch, first_batch
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.gradient import Gradients, float64_gradients, take
from slmconform.measure.invariance import other_attention
from slmconform.measure.own_loss import objective
from slmconform.measure.trajectory import (
    PASSES,
    Run,
    device_run,
    finished,
    float64_run,
    fresh,
    gap,
    recipe_of,
    trainer,
)
from slmconform.model.device import threads
from slmconform.model.loaded import DTYPES, LoadedModel

CHAOS = 1e-4  # deviation of a loss beyond which nothing can be told in float32
LEAST = 10  # comparable steps
FACTOR = 4.0  # of the recorded envelope and distances, for another machine of the same class
FLOOR = 4e-7  # a few units of rounding of a float32 loss
# Distance of a gradient from float64 that can be recorded, in units of rounding of its dtype and
# of the global norm, beside that at the outputs. Seen: 0.3 to 23 units in twenty models of 1 to
# 30 layers, 120 in a Mamba with weights four times the usual ones; at most 0.6 times that at the
# outputs where losses of 1e-2 to 1e-4 make it large; 3600 units where one backward function rounds
# to bfloat16.
UNITS = 200
AT_OUTPUTS = 4.0
# Distance of a change, over the whole change, that can be recorded. Seen: up to 0.024, of biases
# of keys, whose gradient is rounding alone and which Adam moves as far as all others.
DRIFT = 0.05
NARROW = (torch.uint8, torch.int8, torch.int16, torch.int32)
RUNS = 6  # ways of training on the device, the plain one included


@dataclass(frozen=True)
class Way:
    """One legitimate way to run the same thing."""

    name: str
    setting: Callable[[LoadedModel], AbstractContextManager[None]] = lambda _: nullcontext()
    arrange: Callable[[Batch], Batch] = lambda examples: examples
    split: int = 1
    prepare: Callable[[LoadedModel], None] = lambda _: None


def ways(bench: Bench, examples: Batch) -> Iterator[Way]:
    """Every way that applies to this model on this device, besides the plain one."""
    other = other_attention(bench.model)
    if other and getattr(bench.model.module, "_supports_sdpa", False):
        yield Way(f"{other} attention", setting=lambda model: model.attention(other))
    if bench.options.device.type == "cpu":
        yield Way("two threads", setting=lambda _: threads(2))
    if examples.size > 1:
        yield Way("rows reversed", arrange=reverse)
        if "pairs" not in examples.labels and objective(bench).kind != "custom":
            yield Way("smaller micro-batches", split=2)


def reverse(examples: Batch) -> Batch:
    """The rows in reverse order; text pairs stay together."""
    return examples.take(list(range(examples.units))[::-1])


def nudged(model: LoadedModel) -> None:
    """Move every weight by about one unit of rounding, up or down."""
    generator = torch.Generator().manual_seed(31)
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.is_floating_point():
                signs = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
                eps = torch.finfo(parameter.dtype).eps
                parameter.mul_(1 + eps * signs.to(parameter.device, parameter.dtype))


@measurement
def native_gradients(bench: Bench) -> Gradients:
    """Gradients of the first batch in the shipped dtype on the device."""
    bench.count(PASSES)
    return take(objective(bench), bench.model, first_batch(bench))


def distances(got: Gradients, want: Gradients) -> dict[str, float]:
    """Frobenius distance of each gradient from float64, over the global norm."""
    scale = want.norm or 1.0
    found = {}
    for name, exact in want.of.items():
        other = got.of.get(name)
        if exact is None or other is None:
            found[name] = 0.0 if exact is None and other is None else math.inf
        else:
            found[name] = _distance(other, exact, scale)
    return found


def _distance(got: Tensor, want: Tensor, scale: float) -> float:
    """Frobenius distance over a scale; infinite where that is no number."""
    return gap(float((got - want).norm()), 0.0, scale)


@measurement
def most_gradient(bench: Bench) -> float:
    """The largest distance of a gradient, over the global norm, that rounding can explain.

    The shipped dtype's units (float32's for float64), and what the gradient at the outputs has
    lost already: near a loss of zero it is the difference of outputs and labels that nearly
    agree, and hands its relative error to every other gradient.
    """
    exact = bench.in_float64(lambda oracle: _at_outputs(bench, oracle, first_batch(bench).wide()))
    bench.count()
    native = _at_outputs(bench, bench.model, first_batch(bench))
    scale = math.hypot(*(float(g.norm()) for g in exact.values())) or 1.0
    lost = math.hypot(*(_distance(native[name], g, scale) for name, g in exact.items()))
    unit = max(torch.finfo(dtype).eps for dtype in (DTYPES[bench.loader.dtype], torch.float32))
    return UNITS * unit + AT_OUTPUTS * lost


def _at_outputs(bench: Bench, model: LoadedModel, examples: Batch) -> dict[str, Tensor]:
    """The gradient of the loss at each output that it is over."""
    outputs = {
        name: value.detach().requires_grad_() if value.is_floating_point() else value
        for name, value in model.forward(examples.inputs).items()
    }
    loss = objective(bench).risk(outputs, examples.labels_on(model.device))
    names = [name for name, value in outputs.items() if value.requires_grad]
    if not loss.requires_grad:
        return {}
    found = torch.autograd.grad(loss, [outputs[n] for n in names], allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def gradient_errors(bench: Bench) -> tuple[dict[str, float], list[str]]:
    """The largest distance of each gradient over all legitimate ways, and the ways."""
    want, examples, names = float64_gradients(bench), first_batch(bench), ["as loaded"]
    worst = distances(native_gradients(bench), want)
    for way in ways(bench, examples):
        if way.split > 1:
            continue  # another sum of the same terms: rows reversed shows as much
        bench.count(PASSES)
        with way.setting(bench.model):
            seen = distances(take(objective(bench), bench.model, way.arrange(examples)), want)
        worst = {name: max(value, seen[name]) for name, value in worst.items()}
        names.append(way.name)
    return worst, names


def change_distances(got: Run, want: Run) -> dict[str, float]:
    """Distance of each parameter's change from the float64 one, over the whole change's norm."""
    scale = want.norm or 1.0
    return {
        name: _distance(value, want.changes[name], scale) for name, value in got.changes.items()
    }


def deviations(got: list[float], want: list[float]) -> list[float]:
    """Deviation of each loss from its float64 value, over the larger of one and that.

    Infinite where one is no number. A small loss is the difference of larger numbers, so that its
    own size says little.
    """
    pairs = zip(got, want, strict=True)
    return [gap(one, exact, max(1.0, abs(exact))) for one, exact in pairs]


@dataclass(frozen=True)
class Envelope:
    """How far legitimate runs are from float64: by step (never falling), and by parameter."""

    losses: list[float]
    changes: dict[str, float]
    ways: list[str]

    @property
    def comparable(self) -> int:
        """Steps before rounding has grown beyond what can be compared."""
        return next((s for s, e in enumerate(self.losses) if e > CHAOS), len(self.losses))


def envelope(bench: Bench, steps: int) -> Envelope:
    """Train once in every legitimate way and keep the largest distances from float64."""
    exact, plain = float64_run(bench, steps), device_run(bench, steps)
    runs = {"as loaded": plain}
    nudge = Way("weights moved by one unit of rounding", prepare=nudged)
    for way in (nudge, *ways(bench, first_batch(bench))):
        model = fresh(bench)
        way.prepare(model)
        with way.setting(model):
            one = trainer(bench, model, split=way.split, arrange=way.arrange)
            runs[way.name] = finished(bench, one, steps)
    by_step = [deviations(run.losses, exact.losses) for run in runs.values()]
    losses, worst = [], 0.0
    for values in zip(*by_step, strict=True):
        worst = max(worst, *values)
        losses.append(worst)
    changes: dict[str, float] = {}
    for run in runs.values():
        for name, value in change_distances(run, exact).items():
            changes[name] = max(changes.get(name, 0.0), value)
    return Envelope(losses, changes, list(runs))


def affordable(bench: Bench, budget: float | None) -> int:
    """The steps of the recipe, or as many as fit into ``budget`` seconds, but at least ten.

    Judged by one step in float64 and one on the device; `RUNS` runs are made on the device.
    """
    wanted = recipe_of(bench).steps
    if budget is None:
        return wanted
    start = time.perf_counter()
    float64_gradients(bench)
    middle = time.perf_counter()
    native_gradients(bench)
    end = time.perf_counter()
    each = (middle - start) + RUNS * (end - middle)
    return max(LEAST, min(wanted, int(budget / max(each, 1e-6))))


def require_calm(found: Envelope, exact: list[float]) -> None:
    """Refuse a recipe under which one unit of rounding grows too fast, or whose loss is none.

    ``exact`` are the float64 losses of its steps.
    """
    at = found.comparable
    if at < LEAST and math.isfinite(exact[at]):
        raise Inconclusive(
            f"the recipe is chaotic: one unit of rounding grows to a deviation of "
            f"{found.losses[at]:.1e} in the loss by step {at + 1}, where {CHAOS:g} is the most "
            "that can be recorded; lower the learning rate, add warm-up steps or set "
            "max_grad_norm"
        )
    for step, loss in enumerate(exact):
        _require_finite(step, loss)


def _require_finite(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise Inconclusive(
            f"the loss of step {step + 1} is {loss} in float64: give it labels that the model "
            "does not rule out (an output of -inf), or lower the learning rate"
        )


def require_precise(bench: Bench, errors: dict[str, float]) -> None:
    """Refuse gradients of lower precision than their dtype has: it would be allowed for ever.

    ``errors`` are those of `gradient_errors`.
    """
    _require_finite(0, float64_gradients(bench).loss)
    most, name = most_gradient(bench), max(errors, key=errors.__getitem__)
    if not errors[name] <= most:
        raise Inconclusive(
            f"the gradient of {name} in {bench.loader.dtype} is {errors[name]:.1e} of the global "
            f"norm off float64, where rounding explains {most:.1e}: look for casts in own "
            "backward functions and for reduced-precision kernels"
        )


def require_close(found: Envelope) -> None:
    """Refuse changes that are not near those in float64."""
    name = max(found.changes, key=found.changes.__getitem__)
    if not found.changes[name] <= DRIFT:
        raise Inconclusive(
            f"the change of {name} is {found.changes[name]:.1e} of the whole change off float64, "
            f"where {DRIFT:g} is the most that can be recorded: lower the learning rate, or, where "
            f'its gradient is rounding alone, exclude it: trainable = ["*", "!{name}"]'
        )


def tensors_of(batches: list[Batch]) -> dict[str, Tensor]:
    """The batches as evidence keeps them: stacked, integers as narrow as they go."""
    kept = {}
    for prefix, part in (("batch", "inputs"), ("labels", "labels")):
        for name in getattr(batches[0], part):
            whole = torch.stack([getattr(one, part)[name] for one in batches])
            kept[f"{prefix}.{name}"] = whole.to(_narrow(whole))
    return kept


def _narrow(values: Tensor) -> torch.dtype:
    if values.is_floating_point():
        return torch.float32
    low, high = int(values.min()), int(values.max())
    fits = (d for d in NARROW if torch.iinfo(d).min <= low and high <= torch.iinfo(d).max)
    return next(fits, torch.int64)
