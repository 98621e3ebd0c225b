"""Schedules, optimisers, patterns and accumulation of the reference trainer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from slmconform.measure.batches import Batch
from slmconform.measure.recipe import (
    Trainer,
    factor,
    micro_batches,
    optimizer_for,
    selected,
    trained,
    unused_patterns,
)
from slmconform.measure.risk import Objective
from slmconform.model.loaded import LoadedModel
from slmconform.package.labels import IGNORED
from slmconform.standard.manifest import LoaderSection, Schedule, TrainingSection

ADAMW = {"name": "adamw", "lr": 0.02, "weight_decay": 0.1, "betas": [0.8, 0.95], "eps": 1e-6}
SGD = {"name": "sgd", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
LOADER = LoaderSection(kind="torch", entry="modeling.py:build", dtype="float64")


def section(**keys):
    return TrainingSection(**({"loss": "cross-entropy", "optimizer": ADAMW, "steps": 12} | keys))


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize(
    ("kind", "theirs"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_schedules_fall_as_those_of_transformers(kind, theirs, warmup):
    """After the warm-up; theirs begins it at 0, where nothing would be learnt."""
    steps = 12
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer, warmup, steps)
    want = []
    for _ in range(steps):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    got = [factor(Schedule(kind=kind, warmup=warmup), step, steps) for step in range(steps)]
    assert got[warmup:] == pytest.approx(want[warmup:], abs=1e-15)
    assert got[:warmup] == pytest.approx([(s + 1) / warmup for s in range(warmup)])
    assert all(share > 0 for share in got)
    assert max(got) == 1.0


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_warm_up_rises_as_that_of_torch(kind):
    warmup = 5
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
    for step in range(warmup):
        share = factor(Schedule(kind=kind, warmup=warmup), step, 12)
        assert share == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    if kind == "constant":
        assert factor(Schedule(warmup=warmup), 11, 12) == 1.0


def by_hand(recipe, value, gradients):
    """AdamW (Loshchilov, Hutter 2019) or SGD with momentum, from their definitions."""
    chosen = recipe.optimizer
    first = second = velocity = torch.zeros_like(value)
    for step, gradient in enumerate(gradients, 1):
        if chosen.name == "adamw":
            one, two = chosen.betas
            value = value * (1 - chosen.lr * chosen.weight_decay)
            first = one * first + (1 - one) * gradient
            second = two * second + (1 - two) * gradient**2
            scale = (second / (1 - two**step)).sqrt() + chosen.eps
            value = value - chosen.lr * first / (1 - one**step) / scale
            continue
        slope = gradient + chosen.weight_decay * value
        velocity = slope if step == 1 else chosen.momentum * velocity + slope
        along = slope + chosen.momentum * velocity if chosen.nesterov else velocity
        value = value - chosen.lr * along
    return value


@pytest.mark.parametrize(
    "optimizer",
    [ADAMW, {**ADAMW, "weight_decay": 0.0}, SGD, {**SGD, "nesterov": True}, {**SGD, "momentum": 0}],
    ids=["adamw", "adam", "momentum", "nesterov", "sgd"],
)
def test_optimisers_are_their_definitions(optimizer):
    torch.manual_seed(0)
    recipe = section(optimizer=optimizer)
    start = torch.randn(7, dtype=torch.float64)
    gradients = [torch.randn(7, dtype=torch.float64) for _ in range(6)]
    parameter = nn.Parameter(start.clone())
    made = optimizer_for([parameter], recipe)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        made.step()
    want = by_hand(recipe, start, gradients)
    assert float((parameter.detach() - want).abs().max()) <= 1e-14
    other = by_hand(section(optimizer={**optimizer, "lr": 0.02002}), start, gradients)
    assert float((parameter.detach() - other).abs().max()) > 1e-6


@pytest.mark.parametrize(
    ("patterns", "want"),
    [
        (["*"], "a.weight a.bias b.weight"),
        (["a.*"], "a.weight a.bias"),
        (["*", "!a.*"], "b.weight"),
        (["*", "!a.*", "a.bias"], "a.bias b.weight"),
        (["*.weight"], "a.weight b.weight"),
        (["[ab].bias"], "a.bias"),
        (["!a.*"], ""),
        (["A.*"], ""),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns, want):
    names = ["a.weight", "a.bias", "b.weight"]
    assert " ".join(name for name in names if selected(name, patterns)) == want


def test_patterns_that_fit_nothing_and_parameters_that_are_frozen():
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].bias.requires_grad_(False)
    names = [name for name, _ in module.named_parameters()]
    assert unused_patterns(names, ["*", "!a.*", "c.*", "!d.*"]) == ["c.*", "!d.*"]
    assert list(trained(module, ["*", "!a.bias"])) == ["a.weight", "b.weight"]


class Tagger(nn.Module):
    """Tokens to classes."""

    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(9, 6), nn.Linear(6, 4)

    def forward(self, ids):
        return {"logits": self.head(self.tokens(ids).tanh())}


class MeanOfMeans(Objective):
    """Every micro-batch weighs the same."""

    def counted(self, labels):
        return 1


def batches(count):
    """Six rows each with 1 to 5 counted labels."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for _ in range(count):
        ids = torch.randint(0, 9, (6, 5), generator=generator)
        labels = torch.randint(0, 4, (6, 5), generator=generator)
        for row in range(6):
            labels[row, 1 + row % 5 :] = IGNORED
        made.append(Batch({"ids": ids}, {"labels": labels}))
    return made


def trainer(kind=Objective, split=1, **keys):
    torch.manual_seed(3)
    module = Tagger().double().eval()
    model = LoadedModel(module, "token-classification", LOADER, torch.device("cpu"))
    goal = kind("cross-entropy", "token-classification")
    return Trainer(model, section(**keys), goal, batches(3), split)


@pytest.mark.parametrize(
    "keys",
    [{"accumulation": 2}, {"accumulation": 3}, {"split": 4}, {"accumulation": 2, "split": 3}],
)
def test_accumulation_is_the_whole_batch(keys):
    """Token-weighted over micro-batches of unequal counts, the last of them smaller."""
    whole, parts = trainer(), trainer(**keys)
    exact, got = list(whole.run(0, 12)), list(parts.run(0, 12))
    assert got == pytest.approx(exact, abs=1e-10)
    for name, value in whole.model.module.named_parameters():
        other = dict(parts.model.module.named_parameters())[name]
        assert float((value - other).detach().abs().max()) <= 1e-10
    control = list(trainer(MeanOfMeans, **keys).run(0, 12))
    assert max(abs(a - b) for a, b in zip(control, exact, strict=True)) > 1e-3


def test_micro_batches_hold_every_row_once():
    whole = batches(1)[0]
    for parts in (1, 2, 3, 4, 6, 9):
        made = micro_batches(whole, parts)
        joined = torch.cat([one.inputs["ids"] for one in made])
        assert torch.equal(joined, whole.inputs["ids"])
        assert len(made) <= parts
    pairs = Batch({"ids": torch.zeros(4, 2)}, {"pairs": torch.arange(2)})
    assert micro_batches(pairs, 2) == [pairs]


def test_a_run_is_a_loop_written_by_hand():
    """Clipping, warm-up and AdamW of torch, and batches that come round again."""
    one = trainer(max_grad_norm=0.05, schedule=Schedule(kind="linear", warmup=3))
    losses = list(one.run(0, 12))
    torch.manual_seed(3)
    module, examples = Tagger().double(), batches(3)
    values = list(module.parameters())
    optimizer = torch.optim.AdamW(values, lr=1.0, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6)
    want = []
    for step in range(12):
        batch = examples[step % 3]
        logits = module(batch.inputs["ids"])["logits"]
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.labels["labels"].flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(v.grad.square().sum()) for v in values))
        for value in values:
            value.grad *= min(1.0, 0.05 / (norm + 1e-6))
        optimizer.param_groups[0]["lr"] = 0.02 * ((step + 1) / 3 if step < 3 else (12 - step) / 9)
        optimizer.step()
        want.append(float(loss.detach()))
    assert losses == pytest.approx(want, abs=1e-12)


def test_frozen_parameters_do_not_move():
    one = trainer(trainable=["head.*"])
    before = {n: v.detach().clone() for n, v in one.model.module.named_parameters()}
    list(one.run(0, 12))
    moved = {n for n, v in one.model.module.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"head.weight", "head.bias"}
