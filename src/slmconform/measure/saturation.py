"""The own loss of outputs that are large enough to saturate a sigmoid or a softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slmconform.engine.registry import Inconclusive
from slmconform.measure.batches import Batch, probed
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import largest
from slmconform.measure.own_loss import (
    OwnLoss,
    compute,
    gradients_at,
    labels_for,
    natively,
    objective,
)
from slmconform.measure.risk import Custom, called
from slmconform.model.loaded import Outputs

LARGE = 100.0  # logits of this size saturate a sigmoid or softmax in float32 by far


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operations of a run; `seen` is told the number and the results of each.

    Detaching is not counted: torch leaves it out where nothing else holds the tensor.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps each call in torch.compiler.disable, which imports all of dynamo.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.detach.default:
            self.seen(self._count, _floats(out))
            self._count += 1
        return out

    def seen(self, number: int, results: list[Tensor]) -> None:
        """What to do with an operation."""
        raise NotImplementedError


class _Scaled(_Operations):  # type: ignore[no-untyped-call]
    """Multiply what some operations of a run compute, before anything else reads it."""

    def __init__(self, operations: set[int], factor: float) -> None:
        super().__init__()
        self._operations, self._factor = operations, factor

    def seen(self, number: int, results: list[Tensor]) -> None:
        """Multiply the results in place."""
        if number in self._operations:
            for tensor in results:
                tensor.mul_(self._factor)


class _Traced(_Operations):  # type: ignore[no-untyped-call]
    """Remember which operation made which storage; all results are kept, so none is reused."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, int] = {}
        self._kept: list[Tensor] = []

    def seen(self, number: int, results: list[Tensor]) -> None:
        """Note the storages that are new."""
        for tensor in results:
            self._kept.append(tensor)
            self.made.setdefault(tensor.untyped_storage().data_ptr(), number)


def _floats(out: object) -> list[Tensor]:
    values = out if isinstance(out, (tuple, list)) else (out,)
    return [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]


@measurement
def saturated(bench: Bench) -> OwnLoss:
    """The own loss in the model's own dtype where the outputs are scaled up to `LARGE`.

    The operations that compute the outputs are found by their storage in one run and their
    results multiplied in the next: whatever code computes the loss then reads large outputs.
    """
    goal, batch = objective(bench), probed(bench)
    plain = natively(bench)
    names = list(goal.targets(plain.outputs, batch.labels))
    if goal.custom is not None:
        return _called_on_large(bench, goal.custom, plain, names)
    with _Traced() as trace:
        seen = _run_labelled(bench, batch)
    bench.count(2)
    places = {trace.made.get(seen[n].untyped_storage().data_ptr()) for n in names}
    found = {place for place in places if place is not None}
    if len(found) != len(places):
        raise Inconclusive("no operation is seen to compute the outputs: they cannot be made large")
    with _Scaled(found, _enlarging([seen[n].detach() for n in names])):
        return compute(bench, bench.model, batch)


def _enlarging(outputs: list[Tensor]) -> float:
    """The factor that makes the largest finite magnitude of some outputs `LARGE`."""
    most = max(largest(value) for value in outputs)
    if not most:
        raise Inconclusive("every output is 0: they cannot be made large")
    return LARGE / most


def _run_labelled(bench: Bench, batch: Batch) -> Outputs:
    model = bench.model
    given = {**batch.inputs, **labels_for(model, objective(bench), batch.labels), **model.plain}
    return model.outputs(model.call(given, gradients=True), batch.inputs)


def _called_on_large(bench: Bench, custom: Custom, plain: OwnLoss, names: list[str]) -> OwnLoss:
    """The package's own loss function on outputs that are scaled up."""
    outputs = dict(plain.outputs)
    for name in names:
        large = outputs[name] * _enlarging([outputs[name]])
        outputs[name] = large.detach().requires_grad_()
    labels = probed(bench).labels_on(bench.options.device)
    value = called(custom, outputs, labels)
    kept = {n: v.detach() for n, v in outputs.items()}
    return OwnLoss(value.detach(), kept, gradients_at(value, outputs, names))
