"""Directional derivatives of the loss, which the gradients have to agree with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slmconform.measure.batches import probed
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.gradient import (
    Gradients,
    fixed,
    padding_rows,
    probed_gradients,
    take,
    tied,
)
from slmconform.measure.own_loss import objective
from slmconform.model.loaded import LoadedModel

STEP = 1e-4  # of a unit direction: error 8e-10 in float64, noise below 5e-9
FINER = (1e-5, 1e-6, 1e-7)  # tried where a kink lies within the step
RELATIVE = 1e-6  # of norm(g) / sqrt(n), the usual size of g.v
FLOOR = 1e-9  # of the global norm: structurally zero gradients are not exactly zero
DECIDES = 1e-3  # a finer step decides only where its own bound is below this share of g.v
BESIDE = 1e-3  # of each weight: where the derivative is taken again that has none where they are
TOGETHER = 16  # parameters that are moved at once
AGAIN = {"agrees": "kink", "kink": "kink", "differs": "differs"} | dict.fromkeys(
    ("bent", "unclear"), "unclear"
)  # the verdict of a doubtful derivative by what it is beside the weights
NOISE = 16 * 2.0**-52  # of the loss, over the step: rounding of two float64 losses


@dataclass(frozen=True)
class Derivative:
    """One parameter: the product g.v and what differences along v made of it.

    ``verdict`` is "agrees", "kink" (agrees at a finer step, beside, or lies between the sides),
    "differs", "bent" (is none of these where the two sides differ: there is no derivative) or
    "unclear" (the differences do not settle on any value).
    """

    name: str
    product: float
    measured: float
    bound: float
    verdict: str


@measurement
def derivatives(bench: Bench, which: str) -> list[Derivative]:
    """Directional derivatives of the "tied" or "untied" parameters, largest gap first."""
    gradients = probed_gradients(bench)
    left_out = fixed(bench)
    names = [
        n for n in gradients.of if n not in left_out and (n in tied(bench)) == (which == "tied")
    ]
    found = bench.in_float64(lambda oracle: _along(bench, oracle, gradients, names))
    doubtful = [d.name for d in found if d.verdict in ("bent", "unclear")]
    if doubtful:
        again = {d.name: AGAIN[d.verdict] for d in _beside(bench, doubtful)}
        found = [replace(d, verdict=again.get(d.name, d.verdict)) for d in found]
    return sorted(found, key=lambda d: -abs(d.measured - d.product) / d.bound)


def idle(bench: Bench, names: list[str]) -> set[str]:
    """Those of the parameters that the loss does not depend on."""
    gradients = probed_gradients(bench)
    found = bench.in_float64(lambda oracle: _along(bench, oracle, gradients, names, together=1))
    return {d.name for d in found if d.product == d.measured == 0.0}


def _along(
    bench: Bench,
    oracle: LoadedModel,
    gradients: Gradients,
    names: list[str],
    *,
    together: int = TOGETHER,
) -> list[Derivative]:
    examples, goal = probed(bench).wide(), objective(bench)
    labels = examples.labels_on(oracle.device)
    parameters, still = dict(oracle.module.named_parameters()), padding_rows(oracle.module)

    def loss() -> float:
        bench.count()
        return float(goal.risk(oracle.forward(examples.inputs), labels))

    bounds = {name: _bound(gradients, name, parameters[name].numel()) for name in names}
    alike = sorted(names, key=bounds.__getitem__)
    found = []
    for start in range(0, len(alike), together):
        slopes = []
        for name in alike[start : start + together]:
            along = direction(name, parameters[name], still.get(name, ()))
            gradient = gradients.of[name]
            product = float((gradient * along).sum()) if gradient is not None else 0.0
            slopes.append(Slope(name, parameters[name], along, product, bounds[name]))
        found += _together(slopes, loss, gradients.loss)
    return found


def _bound(gradients: Gradients, name: str, values: int) -> float:
    gradient = gradients.of[name]
    size = float(gradient.norm()) if gradient is not None else 0.0
    bound = RELATIVE * size / math.sqrt(values) + FLOOR * gradients.norm
    return bound + NOISE * max(1.0, abs(gradients.loss)) / STEP  # more than nothing at an optimum


def _beside(bench: Bench, names: list[str]) -> list[Derivative]:
    """The same beside the shipped weights: a kink that lies exactly there is left behind.

    Units that get 0 from every input (pruned ones, say) have a derivative on each side only; a
    backward pass that is wrong is wrong beside them, too.
    """

    def moved(oracle: LoadedModel) -> list[Derivative]:
        twin = oracle.with_module(copy.deepcopy(oracle.module))
        generator = torch.Generator().manual_seed(47)
        with torch.no_grad():
            for parameter in twin.module.parameters():
                if parameter.is_floating_point():
                    drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(drawn.to(parameter.device), alpha=BESIDE)
        bench.count(2)
        return _along(bench, twin, take(objective(bench), twin, probed(bench).wide()), names)

    return bench.in_float64(moved)


def direction(name: str, like: Tensor, still: tuple[int, ...] = ()) -> Tensor:
    """A random unit vector of the shape of a parameter, fixed by its name; 0 in ``still`` rows."""
    generator = torch.Generator().manual_seed(sum(name.encode()) * 7919 + like.numel())
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    drawn[list(still)] = 0.0
    unit: Tensor = drawn / drawn.norm()
    return unit.to(like.device)


@dataclass(frozen=True)
class Slope:
    """A parameter, a unit direction of its shape, the product g.v and its bound."""

    name: str
    parameter: Tensor
    along: Tensor
    product: float
    bound: float


def _at(slopes: list[Slope], step: float, loss: Callable[[], float]) -> float:
    """The loss after a step along each direction; parameters are put back in every bit."""
    kept = [one.parameter.detach().clone() for one in slopes]
    with torch.no_grad():
        for one in slopes:
            one.parameter.add_(one.along, alpha=step)
        value = loss()
        for one, before in zip(slopes, kept, strict=True):
            one.parameter.copy_(before)
    return value


def _difference(slopes: list[Slope], step: float, loss: Callable[[], float]) -> float:
    return (_at(slopes, step, loss) - _at(slopes, -step, loss)) / (2 * step)


def _together(slopes: list[Slope], loss: Callable[[], float], here: float) -> list[Derivative]:
    """Several parameters moved at once; one by one where they are off the tightest of the bounds.

    To escape, two wrong gradients would have to cancel along random directions. The step is that
    of one parameter in length, so the error of the difference stays what it is.
    """
    if len(slopes) > 1:
        step = STEP / math.sqrt(len(slopes))
        gap = _difference(slopes, step, loss) - math.fsum(one.product for one in slopes)
        bound = min(one.bound for one in slopes)
        if abs(gap) <= bound:
            return [Derivative(s.name, s.product, s.product + gap, bound, "agrees") for s in slopes]
    return [_alone(one, loss, here) for one in slopes]


def _alone(slope: Slope, loss: Callable[[], float], here: float) -> Derivative:
    product, bound = slope.product, slope.bound
    measured = _difference([slope], STEP, loss)
    verdict = "agrees"
    if not math.isfinite(product):
        verdict = "differs"
    elif not abs(measured - product) <= bound:
        verdict, measured, bound = _closer(
            lambda step: _at([slope], step, loss), here, product, measured, bound
        )
    return Derivative(slope.name, product, measured, bound, verdict)


def _closer(
    at: Callable[[float], float], here: float, product: float, coarse: float, bound: float
) -> tuple[str, float, float]:
    """Differences over finer steps: a kink agrees at some of them, a wrong gradient at none."""
    seen: list[float] = [coarse]
    widest, bent = 0.0, False
    for step in FINER:
        up, down = at(step), at(-step)
        sides = ((up - here) / step, (here - down) / step)
        central = (up - down) / (2 * step)
        allowed = bound + NOISE * max(1.0, abs(here)) / step
        size = max(abs(product), abs(central))
        decides = allowed <= DECIDES * size
        if decides and abs(central - product) <= allowed:
            return "kink", central, allowed
        if decides:
            bent = abs(sides[0] - sides[1]) > 2 * DECIDES * size
        if bent and min(sides) - allowed <= product <= max(sides) + allowed:
            return "kink", central, allowed  # a subgradient at the kink itself
        seen.append(central)
        widest = max(widest, allowed)
    spread = max(seen) - min(seen)
    off = abs(seen[1] - product)
    settled = spread <= 0.1 * off + 2 * widest and off > 2 * widest
    verdict = "bent" if bent else "differs"
    return (verdict if settled else "unclear"), seen[1], bound
