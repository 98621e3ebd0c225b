"""The loss that a model computes itself, held against the empirical risk of its outputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slmconform.engine.registry import NotApplicable
from slmconform.measure.batches import Batch, Labels, loss_kind, probed
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.risk import Custom, Objective, called
from slmconform.model.float64 import NoFloat64Kernel
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.model.torch_loader import entry_function


@dataclass(frozen=True)
class OwnLoss:
    """A loss as the model gives it, the outputs it came with, and its gradient there.

    ``gradients`` are None where the loss was not computed from the returned outputs.
    """

    value: Tensor
    outputs: Outputs
    gradients: dict[str, Tensor | None]


@measurement
def objective(bench: Bench) -> Objective:
    """What the recipe minimises, or what the task means where there is no recipe."""
    manifest = bench.package.manifest
    training = manifest.training if manifest else None
    causal = bench.interface.capabilities.causal
    if training is None:
        return Objective(loss_kind(bench), bench.task, causal)
    return Objective(training.loss, bench.task, causal, training.scale, _entry(bench))


def _entry(bench: Bench) -> Custom | None:
    """The package's own loss function, where the recipe names one."""
    training = bench.package.require_manifest().training
    if training is None or training.entry is None:
        return None
    try:
        return entry_function(bench.package.root, training.entry)
    except Exception as error:
        raise CandidateError("load", error) from error


def compute(bench: Bench, model: LoadedModel, batch: Batch, **extra: object) -> OwnLoss:
    """The model's own loss of a batch with its gradient with respect to the outputs."""
    goal = objective(bench)
    custom = goal.custom
    if goal.kind == "custom":
        raise NotApplicable("the loss is the package's own: nothing says what it should be")
    labels = batch.labels_on(model.device)
    if custom is not None:
        outputs = model.forward(batch.inputs, gradients=True)
        value = called(custom, outputs, labels)
    else:
        accepted = labels_for(model, goal, labels)
        given = {**batch.inputs, **accepted, **model.plain, **extra}
        returned = model.call(given, gradients=True)
        value, outputs = _loss_of(returned), model.outputs(returned, batch.inputs)
    names = list(goal.targets(outputs, labels))
    plain = {name: tensor.detach() for name, tensor in outputs.items()}
    return OwnLoss(value.detach(), plain, gradients_at(value, outputs, names))


def gradients_at(value: Tensor, outputs: Outputs, names: list[str]) -> dict[str, Tensor | None]:
    """The gradient of a loss at the outputs; None where these are not in its graph."""
    try:
        found = torch.autograd.grad(value, [outputs[n] for n in names], allow_unused=True)
    except NoFloat64Kernel as error:
        raise CandidateError("backward", error) from error
    except RuntimeError:
        return dict.fromkeys(names)
    return dict(zip(names, found, strict=True))


def labels_for(model: LoadedModel, goal: Objective, labels: Labels) -> dict[str, Any]:
    """Labels under the names that the model takes; not applicable where it takes none."""
    if goal.kind == "contrastive" or not (labels.keys() <= model.accepts or _takes_any(model)):
        raise NotApplicable("the model computes no loss itself")
    return dict(labels)


def _takes_any(model: LoadedModel) -> bool:
    """Whether own code may find its labels among keyword arguments that it does not name."""
    of_library = type(model.module).__module__.startswith("transformers.")
    return not of_library and _has_keywords(model)


def _has_keywords(model: LoadedModel) -> bool:
    parameters = inspect.signature(model.module.forward).parameters.values()
    return any(one.kind is one.VAR_KEYWORD for one in parameters)


def _loss_of(returned: object) -> Tensor:
    loss = returned.get("loss") if isinstance(returned, Mapping) else None
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise NotApplicable("the model takes labels and returns no scalar called loss")
    return loss.reshape(())


@measurement
def in_float64(bench: Bench) -> OwnLoss:
    """The own loss of the probed batch in float64."""
    return _float64(bench, probed(bench))


def _float64(bench: Bench, batch: Batch, **extra: object) -> OwnLoss:
    return bench.in_float64(lambda oracle: compute(bench, oracle, batch.wide(), **extra))


@measurement
def natively(bench: Bench) -> OwnLoss:
    """The own loss of the probed batch in the model's own dtype."""
    bench.count()
    return compute(bench, bench.model, probed(bench))


@dataclass(frozen=True)
class Accumulated:
    """The loss of a batch whole, from weighted parts, and as the plain mean of the parts.

    ``told`` is the sum of the parts where each was told the number of labels of the whole
    (``num_items_in_batch``), None where the model does not use it.
    """

    whole: float
    weighted: float
    mean_of_means: float
    told: float | None


@measurement
def accumulated(bench: Bench) -> Accumulated:
    """The own loss over micro-batches of unequal numbers of labels, in float64."""
    batch, goal = probed(bench), objective(bench)
    rows = [row for row in range(batch.units) if goal.counted(batch.take([row]).labels)]
    if len(rows) < 2:
        raise NotApplicable("fewer than two rows have labels that count: nothing to accumulate")
    whole = in_float64(bench)
    parts = [batch.take(rows[:1]), batch.take(rows[1:])]
    losses = [_float64(bench, part) for part in parts]
    counts = [goal.counted(part.labels) for part in parts]
    total = goal.counted(batch.labels)
    values = [float(loss.value) for loss in losses]
    weighted = sum(v * n for v, n in zip(values, counts, strict=True)) / total
    told = _told(bench, parts, values, total)
    return Accumulated(float(whole.value), weighted, sum(values) / len(values), told)


def _told(bench: Bench, parts: list[Batch], plain: list[float], total: int) -> float | None:
    """The sum of the parts' losses where they are told of the whole and heed it."""
    takes = _has_keywords(bench.model) or "num_items_in_batch" in bench.model.accepts
    if bench.loader.kind != "transformers" or not takes:
        return None
    if objective(bench).custom is not None:
        return None
    # Start and end of an answer are a mean over the questions each: a question counts once here.
    items = total // 2 if bench.task == "question-answering" else total
    try:
        told = [
            float(_float64(bench, part, num_items_in_batch=torch.tensor(items)).value)
            for part in parts
        ]
    except CandidateError:
        return None
    return None if told == plain else sum(told)
