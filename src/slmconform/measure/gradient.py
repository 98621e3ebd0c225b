"""Gradients of the empirical risk, and the derivatives that they have to agree with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from slmconform.engine.registry import Nonconformance
from slmconform.measure.batches import Batch, first_batch, probed
from slmconform.measure.bench import Bench, double, measurement
from slmconform.measure.own_loss import objective
from slmconform.measure.recipe import selected
from slmconform.measure.risk import Objective
from slmconform.model.float64 import NoFloat64Kernel
from slmconform.model.loaded import CandidateError, LoadedModel

STEP = 1e-4  # of a unit direction: error 8e-10 in float64, noise below 5e-9
FINER = (1e-5, 1e-6, 1e-7)  # tried where a kink lies within the step
RELATIVE = 1e-6  # of norm(g) / sqrt(n), the usual size of g.v
FLOOR = 1e-9  # of the global norm: structurally zero gradients are not exactly zero
DECIDES = 1e-3  # a finer step decides only where its own bound is below this share of g.v
BESIDE = 1e-3  # of each weight: where the derivative is taken again that has none where they are
NOISE = 16 * 2.0**-52  # of the loss, over the step: rounding of two float64 losses


@dataclass(frozen=True)
class Gradients:
    """Loss and gradients by parameter name; None where the graph does not reach one."""

    loss: float
    of: dict[str, Tensor | None]

    @cached_property
    def norm(self) -> float:
        """The norm of all gradients together."""
        squares = [float(g.double().square().sum()) for g in self.of.values() if g is not None]
        return math.sqrt(sum(squares))


def take(goal: Objective, model: LoadedModel, examples: Batch) -> Gradients:
    """One forward and one backward pass over a batch.

    Raises `CandidateError` with phase "backward" and `Nonconformance` where nothing can be
    differentiated at all.
    """
    labels = {name: value.to(model.device) for name, value in examples.labels.items()}
    loss = goal.risk(model.forward(examples.inputs, gradients=True), labels)
    names, parameters = [], []
    for name, parameter in model.module.named_parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            names.append(name)
            parameters.append(parameter)
    if not parameters or not loss.requires_grad:
        raise Nonconformance(
            code="no-gradient",
            got="a loss without a graph: no parameter gets a gradient",
            want="a loss that can be differentiated",
            where="forward with gradients enabled",
            why="the forward pass runs under no_grad, detaches its output or freezes everything",
            fix="remove torch.no_grad and detach from the forward pass",
        )
    try:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    except (RuntimeError, NoFloat64Kernel) as error:
        raise CandidateError("backward", error) from error
    return Gradients(float(loss.detach()), dict(zip(names, found, strict=True)))


def wide(examples: Batch) -> Batch:
    """Floating-point inputs and labels in float64."""
    return Batch(double(examples.inputs), double(examples.labels))


def _float64(bench: Bench, examples: Batch) -> Gradients:
    goal, given = objective(bench), wide(examples)
    bench.count(2)  # the backward pass costs about two forward passes; one is counted by the call
    return bench.in_float64(lambda oracle: take(goal, oracle, given))


@measurement
def float64_gradients(bench: Bench) -> Gradients:
    """Float64 loss and gradients of the whole first batch."""
    return _float64(bench, first_batch(bench))


@measurement
def probed_gradients(bench: Bench) -> Gradients:
    """Float64 loss and gradients of its first rows, which the differences are taken on."""
    if probed(bench).size == first_batch(bench).size:
        return float64_gradients(bench)
    return _float64(bench, probed(bench))


@dataclass(frozen=True)
class Derivative:
    """One parameter: the product g.v and what differences along v made of it.

    ``verdict`` is "agrees", "kink" (agrees at a finer step, beside, or lies between the sides),
    "differs" or "unclear" (the differences do not settle on any value).
    """

    name: str
    product: float
    measured: float
    bound: float
    verdict: str


@measurement
def tied(bench: Bench) -> frozenset[str]:
    """Names under which a parameter with several names is known."""
    return frozenset(name for group in bench.model.ties() for name in group)


@measurement
def derivatives(bench: Bench, which: str) -> list[Derivative]:
    """Directional derivatives of the "tied" or "untied" parameters, largest gap first."""
    gradients = probed_gradients(bench)
    left_out = fixed(bench)
    names = [
        n for n in gradients.of if n not in left_out and (n in tied(bench)) == (which == "tied")
    ]
    found = bench.in_float64(lambda oracle: _along(bench, oracle, gradients, names))
    doubtful = [d.name for d in found if d.verdict in ("differs", "unclear")]
    if doubtful:
        calm = {d.name for d in _beside(bench, doubtful) if d.verdict in ("agrees", "kink")}
        found = [replace(d, verdict="kink") if d.name in calm else d for d in found]
    return sorted(found, key=lambda d: -abs(d.measured - d.product) / d.bound)


def _along(
    bench: Bench, oracle: LoadedModel, gradients: Gradients, names: list[str]
) -> list[Derivative]:
    examples, goal = wide(probed(bench)), objective(bench)
    labels = {name: value.to(oracle.device) for name, value in examples.labels.items()}
    parameters, still = dict(oracle.module.named_parameters()), padding_rows(oracle.module)

    def loss() -> float:
        bench.count()
        return float(goal.risk(oracle.forward(examples.inputs), labels))

    found = []
    for name in names:
        along = direction(name, parameters[name], still.get(name, ()))
        found.append(_derivative(name, Line(parameters[name], along, loss), gradients))
    return found


def _beside(bench: Bench, names: list[str]) -> list[Derivative]:
    """The same beside the shipped weights: a kink that lies exactly there is left behind.

    Units that get 0 from every input (pruned ones, say) have no derivative; a backward pass that
    is wrong is wrong beside them, too.
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
        return _along(bench, twin, take(objective(bench), twin, wide(probed(bench))), names)

    return bench.in_float64(moved)


def fixed(bench: Bench) -> frozenset[str]:
    """Parameters that are not trained: constants, and those that the recipe excludes."""
    manifest = bench.package.manifest
    training = manifest.training if manifest else None
    names = [name for name, _ in bench.model.module.named_parameters()]
    excluded = {n for n in names if training and not selected(n, training.trainable)}
    return constants(bench) | excluded


@measurement
def constants(bench: Bench) -> frozenset[str]:
    """Parameters of tables of sines, by class, and those that are loaded without a gradient."""
    module = bench.model.module
    found = {name for name, value in module.named_parameters() if not value.requires_grad}
    for path, part in module.named_modules():
        if "Sinusoidal" in type(part).__name__:
            found |= {n for n, _ in module.named_parameters() if n.startswith(f"{path}.")}
    return frozenset(found)


def padding_rows(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Rows of embeddings that torch by definition gives no gradient (``padding_idx``)."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(part.weight)]: (part.padding_idx,)
        for part in module.modules()
        if isinstance(part, nn.Embedding) and part.padding_idx is not None
    }


def direction(name: str, like: Tensor, still: tuple[int, ...] = ()) -> Tensor:
    """A random unit vector of the shape of a parameter, fixed by its name; 0 in ``still`` rows."""
    generator = torch.Generator().manual_seed(sum(name.encode()) * 7919 + like.numel())
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    drawn[list(still)] = 0.0
    unit: Tensor = drawn / drawn.norm()
    return unit.to(like.device)


@dataclass(frozen=True)
class Line:
    """The loss along a direction of one parameter."""

    parameter: Tensor
    along: Tensor
    loss: Callable[[], float]

    def at(self, step: float) -> float:
        """The loss after a step; the parameter is put back in every bit."""
        kept = self.parameter.detach().clone()
        with torch.no_grad():
            self.parameter.add_(self.along, alpha=step)
            value = self.loss()
            self.parameter.copy_(kept)
        return value


def _derivative(name: str, line: Line, gradients: Gradients) -> Derivative:
    gradient = gradients.of[name]
    product = float((gradient * line.along).sum()) if gradient is not None else 0.0
    size = float(gradient.norm()) if gradient is not None else 0.0
    bound = RELATIVE * size / math.sqrt(line.along.numel()) + FLOOR * gradients.norm
    bound += NOISE * max(1.0, abs(gradients.loss)) / STEP  # more than nothing at an optimum
    measured = (line.at(STEP) - line.at(-STEP)) / (2 * STEP)
    verdict = "agrees"
    if not math.isfinite(product):
        verdict = "differs"
    elif not abs(measured - product) <= bound:
        verdict, measured, bound = _closer(line.at, gradients.loss, product, measured, bound)
    return Derivative(name, product, measured, bound, verdict)


def _closer(
    at: Callable[[float], float], here: float, product: float, coarse: float, bound: float
) -> tuple[str, float, float]:
    """Differences over finer steps: a kink agrees at some of them, a wrong gradient at none."""
    seen: list[float] = [coarse]
    widest = 0.0
    for step in FINER:
        up, down = at(step), at(-step)
        sides = ((up - here) / step, (here - down) / step)
        central = (up - down) / (2 * step)
        allowed = bound + NOISE * max(1.0, abs(here)) / step
        size = max(abs(product), abs(central))
        decides = allowed <= DECIDES * size
        if decides and abs(central - product) <= allowed:
            return "kink", central, allowed
        gap = abs(sides[0] - sides[1])
        if gap > 2 * DECIDES * size and min(sides) - allowed <= product <= max(sides) + allowed:
            return "kink", central, allowed  # a subgradient at the kink itself
        seen.append(central)
        widest = max(widest, allowed)
    spread = max(seen) - min(seen)
    off = abs(seen[1] - product)
    settled = spread <= 0.1 * off + 2 * widest and off > 2 * widest
    return ("differs" if settled else "unclear"), seen[1], bound
