"""The measures between outputs, against their definitions written out plainly."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import nn

from slmconform.engine.registry import Nonconformance, NoReference
from slmconform.measure.variant_distance import (
    Distance,
    Worst,
    alternatives,
    cosines_of,
    divergence,
)
from slmconform.measure.variants import Probe, _rows
from slmconform.model.variants import Int8Linear, int8, library
from slmconform.standard.manifest import InterfaceSection, VariantSection


def plain_divergence(base, got):
    """Sum of p log(p / q), written with floats."""
    p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (base, got))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_divergence_is_its_definition():
    base, got = [[0.3, -1.0, 2.0], [5.0, 5.0, 4.0]], [[0.1, 0.0, 1.0], [-5.0, 5.0, 0.0]]
    found = divergence(torch.tensor(base).double(), torch.tensor(got).double())
    want = [plain_divergence(*pair) for pair in zip(base, got, strict=True)]
    assert found.tolist() == pytest.approx(want, rel=1e-6)


def test_divergence_of_impossible_alternatives():
    inf = math.inf
    base = torch.tensor([[0.0, 0.0, -inf], [0.0, 0.0, 0.0]], dtype=torch.float64)
    got = torch.tensor([[0.0, 0.0, -inf], [0.0, 0.0, -inf]], dtype=torch.float64)
    assert divergence(base, got).tolist() == [0.0, inf]


def test_one_logit_counts_as_two_classes():
    base, got = torch.tensor([[2.0], [-1.0]]).double(), torch.tensor([[1.0], [0.5]]).double()
    kl, agreeing, positions = alternatives(base, got, binary=False)
    want = [
        plain_divergence([0.0, b], [0.0, g])
        for (b,), (g,) in ((base[0], got[0]), (base[1], got[1]))
    ]
    assert kl == pytest.approx(sum(want) / 2)
    assert (agreeing, positions) == (1, 2)


def test_many_labels_count_each_for_itself():
    base, got = torch.tensor([[2.0, -1.0]]).double(), torch.tensor([[2.0, 1.0]]).double()
    assert alternatives(base, got, binary=True)[1:] == (1, 2)


def test_a_tie_agrees_either_way():
    base, got = torch.tensor([[1.0, 1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0, 0.5]]).double()
    assert alternatives(base, got, binary=False)[1] == 1


def test_the_worst_counts_of_each_measure():
    one = Distance("logits", "a", cosine=0.9, mean_cosine=0.9, vectors=2)
    other = Distance(
        "states", "b", cosine=0.8, mean_cosine=0.9, vectors=2, kl=0.1, agreeing=3, positions=4
    )
    third = Distance(
        "logits", "b", cosine=1.0, mean_cosine=1.0, vectors=2, kl=0.2, agreeing=4, positions=4
    )
    assert Worst.of([one, other, third]) == Worst(kl=0.2, top1=0.75, cosine=0.8)
    assert Worst.of([one]) == Worst(kl=None, top1=None, cosine=0.9)


FACE = InterfaceSection.model_validate(
    {
        "inputs": [
            {"name": "attention_mask", "dtype": "int64", "axes": ["batch", "sequence"]},
        ],
        "outputs": [
            {"name": "logits", "dtype": "float32", "axes": ["batch", "sequence", 3]},
            {"name": "start_logits", "dtype": "float32", "axes": ["batch", "sequence"]},
            {"name": "states", "dtype": "float32", "axes": ["batch", 3]},
        ],
    }
)


@pytest.mark.parametrize(
    ("output", "shape", "rows"), [(0, (2, 4, 3), 5), (1, (2, 4), 2), (2, (2, 3), 2)]
)
def test_masked_positions_do_not_count(output, shape, rows):
    real = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    variant = VariantSection(name="one", kind="dynamic-int8")
    spec = FACE.outputs[output]
    base = torch.arange(math.prod(shape)).reshape(shape).float()
    got = base.clone()
    if output < 2:
        got[~real] = torch.nan  # a difference that nobody sees
    probe = Probe("", {}, real)
    one, other = _rows(variant, spec, probe, {spec.name: base}, {spec.name: got})
    assert one.shape[0] == rows
    assert torch.equal(one, other)
    assert bool(one.isneginf().any()) is (output == 1)
    assert float(divergence(one, other).max()) == 0.0


@pytest.mark.parametrize(
    ("got", "word"),
    [
        ({}, "no output states"),
        ({"states": torch.zeros(3, 2)}, "float64 (3, 2)"),
        ({"states": torch.full((2, 3), torch.nan)}, "6 values not finite"),
        ({"states": torch.tensor([[0, 1, -torch.inf], [0, 0, 0]])}, "1 values not finite"),
    ],
)
def test_outputs_that_cannot_be_compared(got, word):
    variant = VariantSection(name="one", kind="dynamic-int8")
    with pytest.raises(Nonconformance) as caught:
        _rows(variant, FACE.outputs[2], Probe("", {}), {"states": torch.zeros(2, 3)}, got)
    assert caught.value.code == "variant-outputs"
    assert word in caught.value.got


def test_cosines():
    base = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]).double()
    got = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [6.0, 8.0]]).double()
    assert cosines_of(base, got).tolist() == pytest.approx([0.5**0.5, 1.0, 0.0, 1.0])
    assert cosines_of(base[:, :1], got[:, :1]).numel() == 1  # a column of single values


def test_int8_is_symmetric_with_a_scale_for_each_row():
    values = torch.tensor([[-127.5, 1.4, 63.0], [0.0, 0.0, 0.0]])
    whole, scale = int8(values)
    assert whole.tolist() == [[-128, 1, 63], [0, 0, 0]]
    assert scale[0].item() == 1.0


def test_int8_layer_is_near_its_base_and_the_same_each_time():
    torch.manual_seed(1)
    base, x = nn.Linear(96, 40), torch.randn(3, 5, 96)
    quantised = Int8Linear(base).requires_grad_(False)
    got, want = quantised(x), base(x)
    assert torch.equal(got, quantised(x))
    assert torch.equal(got[1:2], quantised(x[1:2]))  # a token is rounded by itself
    assert 0 < float((got - want).abs().max()) < 0.05
    assert got.dtype is torch.float32


@pytest.mark.parametrize(
    ("name", "extra"), [("onnxruntime", "onnx"), ("gguf", "gguf"), ("accelerate", "gguf")]
)
def test_a_missing_library_is_no_answer(monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NoReference, match=rf"pip install 'slmconform\[{extra}\]'"):
        library(name)
