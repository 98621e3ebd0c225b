"""Gradients of the empirical risk by parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from slmconform.engine.registry import Nonconformance
from slmconform.measure.batches import Batch, first_batch, probed
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.own_loss import objective
from slmconform.measure.recipe import selected
from slmconform.measure.risk import Objective
from slmconform.model.float64 import NoFloat64Kernel
from slmconform.model.loaded import CandidateError, LoadedModel


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
    outputs = model.forward(examples.inputs, gradients=True)
    loss = goal.risk(outputs, examples.labels_on(model.device))
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


def _float64(bench: Bench, examples: Batch) -> Gradients:
    goal, given = objective(bench), examples.wide()
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


@measurement
def tied(bench: Bench) -> frozenset[str]:
    """Names under which a parameter with several names is known."""
    return frozenset(name for group in bench.model.ties() for name in group)


def fixed(bench: Bench) -> frozenset[str]:
    """Parameters that are not trained: constants, and those that the recipe excludes."""
    manifest = bench.package.manifest
    training = manifest.training if manifest else None
    names = [name for name, _ in bench.model.module.named_parameters()]
    excluded = {n for n in names if training and not selected(n, training.trainable)}
    return constants(bench) | excluded


@measurement
def constants(bench: Bench) -> frozenset[str]:
    """Transformers' tables of sines, and parameters that are loaded without a gradient."""
    module = bench.model.module
    tables = {
        id(part.weight)
        for part in module.modules()
        if isinstance(part, nn.Embedding) and _is_table(type(part))
    }
    return frozenset(
        name
        for name, value in module.named_parameters()
        if not value.requires_grad or id(value) in tables
    )


def _is_table(kind: type) -> bool:
    return "Sinusoidal" in kind.__name__ and kind.__module__.startswith("transformers.models.")


def padding_rows(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Rows of embeddings that torch by definition gives no gradient (``padding_idx``).

    An embedding class of an architecture's own (I-BERT's, that of a quantised table) hands the
    same attribute to the same function.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, tuple[int, ...]] = {}
    for part in module.modules():
        table, row = getattr(part, "weight", None), getattr(part, "padding_idx", None)
        if isinstance(table, nn.Parameter) and table.dim() == 2 and isinstance(row, int):
            found[names[id(table)]] = (row,)
    return found
