"""Mistakes in a loss are told apart by its value."""

from __future__ import annotations

import torch

from slmconform.measure.risk import Objective
from slmconform.measure.suspects import name_of, suspects


def test_mistakes_are_told_apart_where_the_padding_is_no_class():
    """Padding of a large vocabulary cannot be a label of a small head."""
    torch.manual_seed(0)
    goal = Objective("cross-entropy", "token-classification")
    outputs = {"logits": torch.randn(2, 4, 3, dtype=torch.float64)}
    labels = {"labels": torch.tensor([[0, 1, -100, 2], [2, -100, -100, 1]])}
    found = suspects(goal, outputs, labels, pad=50256)
    assert name_of(found["padding-counted as class 0"], found) == "padding-counted"
    assert name_of(float(goal.risk(outputs, labels)), found) == "loss-differs"
    values = list(found.values())
    assert len({round(v, 9) for v in values}) == len(values)
