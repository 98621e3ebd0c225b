"""Trainers that are not the recipe's, and others that are it in another way.

Each is a patch of the running process.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from slmconform.measure import opening, trajectory
from slmconform.measure import recipe as training
from slmconform.measure.risk import Objective


def settings(**changed):
    """An optimiser with other settings than the recipe's."""

    def patched(monkeypatch):
        right = training.optimizer_for

        def wrong(parameters, chosen):
            made = right(parameters, chosen)
            for group in made.param_groups:
                group.update(changed)
            return made

        monkeypatch.setattr(training, "optimizer_for", wrong)

    return patched


def rate(change):
    """A learning rate changed by a function of the step and the steps."""

    def patched(monkeypatch):
        right = training.factor

        def wrong(schedule, step, steps):
            return right(schedule, step, steps) * change(step, steps)

        monkeypatch.setattr(training, "factor", wrong)

    return patched


def gradients(change):
    """Every gradient replaced after the backward pass, given its parameter's name."""

    def patched(monkeypatch):
        right = training.Trainer._backward

        def wrong(self, examples):
            loss = right(self, examples)
            for name, parameter in self.parameters.items():
                parameter.grad.copy_(change(name, parameter.grad))
            return loss

        monkeypatch.setattr(training.Trainer, "_backward", wrong)

    return patched


def weights(change):
    """Every weight replaced after a step, given the step and the weight before."""

    def patched(monkeypatch):
        right = training.Trainer._step

        def wrong(self, step):
            before = {n: p.detach().clone() for n, p in self.parameters.items()}
            loss = right(self, step)
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(change(step, self.recipe.steps, before[name], parameter))
            return loss

        monkeypatch.setattr(training.Trainer, "_step", wrong)

    return patched


def no_clipping(monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args, **options: None)


def swapped(monkeypatch):
    right = training.Trainer.__post_init__

    def wrong(self):
        right(self)
        one, two, three, *others = self.batches
        self.batches = [one, three, two, *others]

    monkeypatch.setattr(training.Trainer, "__post_init__", wrong)


class MeanOfMeans(Objective):
    """Every micro-batch weighs the same."""

    def counted(self, labels):
        return 1


def mean_of_means(monkeypatch):
    right = training.Trainer.__post_init__

    def wrong(self):
        right(self)
        self.objective = MeanOfMeans(**vars(self.objective))

    monkeypatch.setattr(training.Trainer, "__post_init__", wrong)


def rounded(_, gradient):
    """To the eight bits of bfloat16, in whatever dtype; numpy is not forced to float64."""
    bits = np.asarray(gradient.double().numpy(), np.float32).view(np.uint32)
    return torch.from_numpy(((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32))


def only_in_float32(change):
    """What a kernel does that has no double precision: `ForcedFloat64` undoes the casts."""

    def when(*args):
        value = args[-1]
        return change(value) if value.dtype == torch.float32 else value

    return when


def last_in_bfloat16(step, steps, before, after):
    change = after - before
    return before + change.bfloat16().to(change) if step == steps - 1 else after


def kernel(**choice):
    """The same optimiser by another of torch's kernels."""
    plain = {"foreach": False, "fused": False} | choice
    return settings(**plain)


def arranged(monkeypatch, **changed):
    """Every trainer made with other arguments."""
    right = trajectory.trainer

    def other(bench, model, *, forced=False, **_):
        return right(bench, model, forced=forced, **changed)

    monkeypatch.setattr(trajectory, "trainer", other)


def two_threads(monkeypatch):
    flags = functools.partial(opening.reference_flags, threads=2)
    monkeypatch.setattr(opening, "reference_flags", flags)
