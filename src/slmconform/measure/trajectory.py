"""The reference training: in float64, on the device, again, resumed, and when recording."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from slmconform.engine.registry import NotExamined
from slmconform.measure.batches import Batch, batches
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import digest
from slmconform.measure.own_loss import objective
from slmconform.measure.recipe import Trainer, snapshot
from slmconform.measure.reference import model_in, sign_row
from slmconform.model.float64 import float64_twin
from slmconform.model.loaded import CandidateError, LoadedModel
from slmconform.standard.evidence import SummaryRecord
from slmconform.standard.manifest import TrainingSection

PROJECTIONS = 2
CHUNK = 2**20
PASSES = 3  # a step costs about as much as three forward passes


@dataclass(frozen=True)
class Run:
    """Losses before each step, and the change of every parameter that was trained."""

    losses: list[float]
    changes: dict[str, Tensor]
    frozen_moved: tuple[str, ...] = ()

    @cached_property
    def norm(self) -> float:
        """The norm of the whole change."""
        return math.sqrt(sum(float(c.double().square().sum()) for c in self.changes.values()))


def recipe_of(bench: Bench) -> TrainingSection:
    """The declared recipe; not examined where the manifest has none."""
    training = bench.package.require_manifest().training
    if training is None:
        raise NotExamined("slm.toml has no [training] table: declare the reference recipe")
    return training


def steps_of(bench: Bench) -> int:
    """The steps to train: those recorded, else those of the recipe."""
    evidence = bench.package.evidence
    if evidence is not None and evidence.training is not None:
        return evidence.training.steps
    return recipe_of(bench).steps


def trainer(
    bench: Bench,
    model: LoadedModel,
    *,
    forced: bool = False,
    split: int = 1,
    arrange: Callable[[Batch], Batch] = lambda examples: examples,
) -> Trainer:
    """A trainer over a model's own module, which it changes."""
    made = [arrange(examples) for examples in batches(bench)]
    if forced:
        made = [examples.wide() for examples in made]
    return Trainer(model, recipe_of(bench), objective(bench), made, split)


@measurement
def float64_run(bench: Bench, steps: int) -> Run:
    """The reference training in forced float64."""
    model = bench.oracle.with_module(float64_twin(bench.model.module))
    one = trainer(bench, model, forced=True)
    return bench.in_float64(lambda _: finished(bench, one, steps))


def fresh(bench: Bench) -> LoadedModel:
    """A copy of the model in float32 (float64 if it is shipped so), to be trained."""
    base = model_in(bench, trained_dtype(bench))
    return base.with_module(copy.deepcopy(base.module))


def trained_dtype(bench: Bench) -> str:
    """The dtype of training on the device: half precisions are trained in float32."""
    return "float64" if bench.loader.dtype == "float64" else "float32"


@measurement
def device_run(bench: Bench, steps: int) -> Run:
    """The reference training on the device; its states are kept for what is compared bitwise."""
    return _run_and_note(bench, steps)[0]


@measurement
def _run_and_note(bench: Bench, steps: int) -> tuple[Run, dict[int, str]]:
    """The run on the device, and digests of all weights half-way and at the end."""
    one = trainer(bench, fresh(bench))
    start, half = snapshot(one.model.module), steps // 2
    losses = list(one.run(0, half))
    states = {half: state(one.model)}
    losses += one.run(half, steps)
    states[steps] = state(one.model)
    bench.count(PASSES * steps)
    return _compared(one, losses, start), states


def state(model: LoadedModel) -> str:
    """One digest of all parameters and persistent buffers."""
    lines = [f"{name} {digest(value)}" for name, value in sorted(model.tensors().items())]
    return digest(torch.frombuffer(bytearray("\n".join(lines).encode()), dtype=torch.uint8))


def finished(bench: Bench, one: Trainer, steps: int) -> Run:
    """Train from the first step to the last."""
    start = snapshot(one.model.module)
    losses = list(one.run(0, steps))
    bench.count(PASSES * steps)
    return _compared(one, losses, start)


def _compared(one: Trainer, losses: list[float], start: dict[str, Tensor]) -> Run:
    changes, moved = {}, []
    for name, value in one.model.module.named_parameters():
        if name in one.parameters:
            changes[name] = value.detach() - start[name]
        elif not torch.equal(value, start[name]):
            moved.append(name)
    return Run(losses, changes, tuple(moved))


@dataclass(frozen=True)
class Again:
    """The first place where a repeated run differs, "" where none does; and up to which step."""

    difference: str
    steps: int


@measurement
def rerun(bench: Bench, steps: int) -> Again:
    """The first half once more, from the shipped weights; saved for `resumed`."""
    run, states = _run_and_note(bench, steps)
    half = steps // 2
    one = trainer(bench, fresh(bench))
    losses = list(one.run(0, half))
    bench.count(PASSES * half)
    found = _first_difference(losses, run.losses[:half], 0)
    if not found and state(one.model) != states[half]:
        found = f"the weights after step {half} differ, the losses do not"
    if not found:
        _save(bench, one)
    return Again(found, half)


def _save(bench: Bench, one: Trainer) -> None:
    folder = _half_way(bench)
    folder.mkdir()
    try:
        one.model.save(folder)
    except Exception as error:
        raise CandidateError("save", error) from error
    torch.save(one.optimizer.state_dict(), folder / "optimizer.pt")


def _half_way(bench: Bench) -> Path:
    return bench.options.scratch / "half-way"


@measurement
def resumed(bench: Bench, steps: int) -> Again:
    """The second half from what the first half saved: weights by the library, and optimiser."""
    run, states = _run_and_note(bench, steps)
    half = rerun(bench, steps).steps
    model = bench.load(_half_way(bench), trained_dtype(bench))
    one = trainer(bench, model)
    kept = torch.load(_half_way(bench) / "optimizer.pt", weights_only=True)
    one.optimizer.load_state_dict(kept)
    losses = list(one.run(half, steps))
    bench.count(PASSES * (steps - half))
    found = _first_difference(losses, run.losses[half:], half)
    if not found and state(one.model) != states[steps]:
        found = f"the weights after step {steps} differ, the losses do not"
    return Again(found, steps)


def _first_difference(got: list[float], want: list[float], start: int) -> str:
    for step, (one, other) in enumerate(zip(got, want, strict=True), start + 1):
        if one != other and not (math.isnan(one) and math.isnan(other)):
            return f"step {step}: loss {one!r} against {other!r}"
    return ""


def projections(value: Tensor) -> list[float]:
    """Inner products with the fixed vectors of +-1, over sqrt(n); accumulated in float64."""
    flat = value.flatten().cpu()
    found = []
    for which in range(PROJECTIONS):
        total = 0.0
        for at in range(0, flat.numel(), CHUNK):
            part = flat[at : at + CHUNK].double()
            total += float(sign_row(flat.numel(), which, at, part.numel()) @ part)
        found.append(total / flat.numel() ** 0.5)
    return found


def summary_gap(got: dict[str, Tensor], recorded: Sequence[SummaryRecord]) -> tuple[str, float]:
    """The largest gap in a norm or a projection, and whose; infinite where names differ."""
    names = {row.name for row in recorded}
    if names != got.keys():
        return sorted(names ^ got.keys())[0], math.inf
    worst, where = 0.0, ""
    for row in recorded:
        value = got[row.name]
        pairs = [(float(value.norm()), row.norm)]
        pairs += list(zip(projections(value), row.projections, strict=True))
        off = max(gap(one, other) for one, other in pairs)
        if off > worst:
            worst, where = off, row.name
    return where, worst


def whole_norm(recorded: Sequence[SummaryRecord]) -> float:
    """The norm of all recorded tensors together, which a bound is a share of; 1 where it is 0."""
    return math.hypot(*(row.norm for row in recorded)) or 1.0


def gap(one: float, other: float, scale: float = 1.0) -> float:
    """The distance of two numbers over a scale; infinite where that is none, for NaN has no size.

    A maximum over distances then never forgets one.
    """
    found = abs(one - other) / scale
    return math.inf if math.isnan(found) else found


def summaries(values: dict[str, Tensor]) -> list[SummaryRecord]:
    """What evidence keeps of gradients or changes."""
    return [
        SummaryRecord(name=name, norm=float(value.norm()), projections=projections(value))
        for name, value in values.items()
    ]
