"""The training part of the evidence, measured in the candidate's own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from slmconform.engine.registry import Inconclusive, Nonconformance
from slmconform.measure.batches import batches
from slmconform.measure.bench import Bench
from slmconform.measure.envelope import (
    affordable,
    envelope,
    gradient_errors,
    require_calm,
    require_close,
    require_precise,
    tensors_of,
)
from slmconform.measure.gradient import float64_gradients
from slmconform.measure.trajectory import device_run, float64_run, recipe_of, summaries
from slmconform.standard.evidence import DeviceTrainingRecord, TrainingRecord

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """What is kept of the reference training, on any machine and on this class of device."""

    record: TrainingRecord
    device: DeviceTrainingRecord
    tensors: dict[str, Tensor]


def measured(bench: Bench, budget: float | None, emit: Emit) -> Trained | None:
    """Train by the recipe in every legitimate way; None where the manifest has no recipe.

    ``budget`` in seconds bounds the steps. Raises `Inconclusive` for a chaotic recipe, a loss that
    is no number, labels that no loss takes, and precision that is lost already.
    """
    if bench.package.require_manifest().training is None:
        return None
    try:
        return _measured(bench, budget, emit)
    except Nonconformance as error:  # a later batch than the one that was checked
        raise Inconclusive(f"{error.where}: {error}; {error.fix}") from None


def _measured(bench: Bench, budget: float | None, emit: Emit) -> Trained:
    emit({"phase": "gradients"})
    steps = affordable(bench, budget)
    errors, _ = gradient_errors(bench)
    require_precise(bench, errors)
    emit({"phase": f"training, {steps} steps"})
    noise = envelope(bench, steps)
    require_calm(noise, float64_run(bench, steps).losses)
    if noise.comparable < steps:
        steps = noise.comparable
        emit({"phase": f"training, {steps} steps"})
        noise = envelope(bench, steps)
    require_close(noise)
    gradients = float64_gradients(bench)
    exact = float64_run(bench, steps)
    used = batches(bench)[:steps]
    recipe = recipe_of(bench)
    record = TrainingRecord(
        recipe=recipe.model_dump(mode="json"),
        data_sha256=bench.package.folder.sha256(recipe.data) if recipe.data else None,
        inputs=sorted(used[0].inputs),
        labels=sorted(used[0].labels),
        steps=steps,
        losses=exact.losses,
        gradients=summaries({n: g for n, g in gradients.of.items() if g is not None}),
        changes=summaries(exact.changes),
    )
    device = DeviceTrainingRecord(
        dtype=bench.loader.dtype,
        losses=device_run(bench, steps).losses,
        envelope=noise.losses,
        gradients={name: errors[name] for name in errors if gradients.of[name] is not None},
        changes=noise.changes,
        configurations=noise.ways,
    )
    return Trained(record, device, tensors_of(used))
