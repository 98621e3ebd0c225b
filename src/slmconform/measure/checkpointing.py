"""Gradients with activation checkpointing (Chen et al. 2016) against those without."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from slmconform.engine.registry import Inconclusive, NotApplicable
from slmconform.measure.batches import probed
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.forward import seeded
from slmconform.measure.gradient import Gradients, take
from slmconform.measure.own_loss import objective
from slmconform.model.float64 import float64_twin
from slmconform.model.loaded import LoadedModel

DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")


@contextmanager
def no_dropout() -> Iterator[None]:
    """Dropout passes its input on, so that training mode computes what evaluation mode does.

    The functions themselves are replaced: a mode would not reach what the backward pass
    computes again.
    """
    functions: Any = nn.functional
    attention = functions.scaled_dot_product_attention

    def plain_attention(*args: Any, **kwargs: Any) -> Any:
        return attention(*args, **{**kwargs, "dropout_p": 0.0})

    def identity(input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002
        return input

    with ExitStack() as stack:
        for name in DROPOUTS:
            stack.enter_context(patch.object(functions, name, identity))
        stack.enter_context(
            patch.object(functions, "scaled_dot_product_attention", plain_attention)
        )
        yield


@dataclass(frozen=True)
class Checkpointed:
    """The largest difference of a gradient over the global norm, whose, and the calls made."""

    worst: float
    name: str
    calls: int


@measurement
def checkpointed(bench: Bench) -> Checkpointed:
    """Float64 gradients in training mode without dropout, with checkpointing and without."""
    if bench.loader.kind != "transformers":
        raise NotApplicable("own code has no common switch for checkpointing")
    if not getattr(bench.model.module, "supports_gradient_checkpointing", False):
        raise NotApplicable("the architecture offers no gradient checkpointing")
    twin = bench.oracle.with_module(float64_twin(bench.model.module))
    twin.module.train()
    plain = _gradients(bench, twin)
    calls = _enable(twin.module)
    again = _gradients(bench, twin)
    if not calls:
        raise NotApplicable("the architecture accepts checkpointing and never uses it")
    worst, name = _largest(again, plain)
    if worst > 0.0:
        noise, _ = _largest(_gradients(bench, _off(twin)), plain)
        if noise > 0.0:
            raise Inconclusive("training mode draws random numbers of its own: no two runs agree")
    return Checkpointed(worst, name, len(calls))


def _gradients(bench: Bench, twin: LoadedModel) -> Gradients:
    """The gradients, from the same seed each time: some layers are left out at random."""
    goal, examples = objective(bench), probed(bench).wide()

    def run(_: LoadedModel) -> Gradients:
        with no_dropout(), seeded(bench, 61):
            return take(goal, twin, examples)

    return bench.in_float64(run)


def _enable(module: Any) -> list[int]:
    """Switch checkpointing on; the list returned grows with every call of it."""
    calls: list[int] = []
    _switch(module, "enable")({"use_reentrant": False})

    def counted(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return inner(*args, **kwargs)

        return call

    for part in module.modules():
        inner = getattr(part, "_gradient_checkpointing_func", None)
        if inner is not None:
            part._gradient_checkpointing_func = counted(inner)
    return calls


def _off(twin: LoadedModel) -> LoadedModel:
    _switch(twin.module, "disable")()
    return twin


def _switch(module: Any, how: str) -> Any:
    """The switch under its new name, or under the one of older versions."""
    names = (f"activation_checkpointing_{how}", f"gradient_checkpointing_{how}")
    return getattr(module, next(name for name in names if hasattr(module, name)))


def _largest(got: Gradients, want: Gradients) -> tuple[float, str]:
    worst, where = 0.0, ""
    for name, exact in want.of.items():
        other = got.of[name]
        if exact is None or other is None:
            gap = 0.0 if exact is other else math.inf
        else:
            gap = float((other - exact).norm()) / (want.norm or 1.0)
        gap = math.inf if math.isnan(gap) else gap
        if gap > worst:
            worst, where = gap, name
    return worst, where
