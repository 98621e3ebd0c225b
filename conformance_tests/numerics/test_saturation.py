"""By how much outputs are multiplied until they saturate a sigmoid."""

from __future__ import annotations

import math

import pytest
import torch

from slmconform.engine.registry import Inconclusive
from slmconform.measure.saturation import LARGE, _enlarging


def test_the_largest_magnitude_becomes_a_hundred():
    assert LARGE == 100.0
    first, second = torch.tensor([0.5, -4.0]), torch.tensor([[1.0], [2.0]])
    assert _enlarging([first, second]) == _enlarging([second, first]) == 25.0
    assert _enlarging([torch.tensor([-math.inf, math.nan, 8.0])]) == 12.5


@pytest.mark.parametrize("values", [[0.0, -0.0], [-math.inf], []])
def test_of_nothing_nothing_large_can_be_made(values):
    with pytest.raises(Inconclusive, match="every output is 0"):
        _enlarging([torch.tensor(values)])
