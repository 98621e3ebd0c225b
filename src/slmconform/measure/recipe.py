"""The reference trainer: the manifest's recipe, step by step, from the shipped weights.

The module stays in evaluation mode: dropout would draw other numbers in float64 than in float32,
and in each version of a library. What is trained is therefore the model as it answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from slmconform.engine.registry import Inconclusive
from slmconform.measure.batches import Batch
from slmconform.measure.risk import Objective, no_labels
from slmconform.model.float64 import NoFloat64Kernel
from slmconform.model.loaded import CandidateError, LoadedModel
from slmconform.standard.manifest import AdamW, Schedule, TrainingSection

FUSED = ("cpu", "cuda")  # devices whose fused optimisers take every dtype


def selected(name: str, patterns: list[str]) -> bool:
    """Whether the recipe trains a parameter: the last pattern that fits decides."""
    chosen = False
    for pattern in patterns:
        if fnmatchcase(name, pattern.removeprefix("!")):
            chosen = not pattern.startswith("!")
    return chosen


def unused_patterns(names: list[str], patterns: list[str]) -> list[str]:
    """Patterns that fit no name."""
    return [p for p in patterns if not any(fnmatchcase(n, p.removeprefix("!")) for n in names)]


def trained(module: nn.Module, patterns: list[str]) -> dict[str, nn.Parameter]:
    """The parameters that the recipe trains, by name."""
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and selected(name, patterns)
    }


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """The share of the learning rate at a step, counted from 0."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.kind == "constant":
        return 1.0
    done = (step - schedule.warmup) / max(1, steps - schedule.warmup)
    return 1 - done if schedule.kind == "linear" else (1 + math.cos(math.pi * done)) / 2


def optimizer_for(parameters: list[nn.Parameter], recipe: TrainingSection) -> torch.optim.Optimizer:
    """The optimiser of the recipe; the fused kernel, where there is one, is 7 times as fast."""
    chosen = recipe.optimizer
    fused = all(parameter.device.type in FUSED for parameter in parameters)
    common: dict[str, Any] = {
        "lr": chosen.lr,
        "weight_decay": chosen.weight_decay,
        "fused": fused,
        "foreach": False,
    }
    if isinstance(chosen, AdamW):
        first, second = chosen.betas
        return torch.optim.AdamW(parameters, betas=(first, second), eps=chosen.eps, **common)
    return torch.optim.SGD(parameters, momentum=chosen.momentum, nesterov=chosen.nesterov, **common)


@dataclass
class Trainer:
    """A model being trained by a recipe; ``split`` cuts each micro-batch into more of them.

    Batches beyond the last are those from the first on again.
    """

    model: LoadedModel
    recipe: TrainingSection
    objective: Objective
    batches: list[Batch]
    split: int = 1

    def __post_init__(self) -> None:
        self.parameters = trained(self.model.module, self.recipe.trainable)
        if not self.parameters:
            raise Inconclusive("training.trainable selects no parameter: there is nothing to train")
        self.optimizer = optimizer_for(list(self.parameters.values()), self.recipe)

    def run(self, start: int, stop: int) -> Iterator[float]:
        """Train the steps from ``start`` to before ``stop``; the loss before each of them."""
        for step in range(start, stop):
            yield self._step(step)

    def _step(self, step: int) -> float:
        examples = self.batches[step % len(self.batches)]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(examples)
        if self.recipe.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(
                list(self.parameters.values()), self.recipe.max_grad_norm, foreach=False
            )
        share = factor(self.recipe.schedule, step, self.recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.lr * share
        self.optimizer.step()
        return loss

    def _backward(self, examples: Batch) -> float:
        """Accumulate the gradients of all micro-batches; each weighs its counted labels."""
        parts = micro_batches(examples, self.recipe.accumulation * self.split)
        counts = [self.objective.counted(part.labels) for part in parts]
        if not sum(counts):
            raise no_labels()
        value = 0.0
        for part, count in zip(parts, counts, strict=True):
            if not count:  # a mean over nothing; its share is nothing
                continue
            outputs = self.model.forward(part.inputs, gradients=True)
            loss = self.objective.risk(outputs, part.labels_on(self.model.device))
            loss = loss * (count / sum(counts))
            value += float(loss.detach())
            try:
                loss.backward()  # type: ignore[no-untyped-call]
            except (RuntimeError, NoFloat64Kernel) as error:
                raise CandidateError("backward", error) from error
        return value


def micro_batches(examples: Batch, parts: int) -> list[Batch]:
    """A batch in so many parts of nearly equal rows; text pairs stay whole."""
    if parts == 1 or "pairs" in examples.labels:
        return [examples]
    size = math.ceil(examples.size / parts)
    rows = list(range(examples.size))
    return [examples.take(rows[at : at + size]) for at in range(0, examples.size, size)]


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters, by name."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}
