"""Divergence, agreement and cosine between a variant and its base, and the declared bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from slmconform.measure.variant_distance import (
    Distance,
    Worst,
    alternatives,
    broken,
    cosines_of,
    divergence,
)
from slmconform.standard.manifest import VariantSection

INF, NAN = math.inf, math.nan
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
scores = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=4)


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


def kl(base, got):
    """By the definition, with scipy's softmax."""
    p, q = log_softmax(base, axis=-1), log_softmax(got, axis=-1)
    return float(sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))


# --- divergence and agreement -----------------------------------------------------------------


@few
@given(scores, st.data())
def test_divergence_is_that_of_kullback_and_leibler(rows, data):
    other = [[data.draw(st.floats(-50, 50)) for _ in row] for row in rows]
    found = divergence(wide(*rows), wide(*other))
    assert found.shape == (len(rows),)
    for one, base, got in zip(found.tolist(), rows, other, strict=True):
        assert one >= 0.0
        assert one == pytest.approx(kl(base, got), abs=1e-12)


def test_divergence_has_a_direction():
    base, got = wide([0.0, 0.0]), wide([math.log(9.0), 0.0])
    forth = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert float(divergence(base, got)) == pytest.approx(forth, abs=1e-12)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(divergence(got, base)) == pytest.approx(back, abs=1e-12)


def test_rounding_does_not_make_it_negative():
    generator = torch.Generator().manual_seed(0)
    base = 3 * torch.randn(200, 50, generator=generator, dtype=torch.float64)
    found = divergence(base, base + 1e-9 * torch.randn(200, 50, generator=generator))
    assert float(found.min()) == 0.0
    assert float(found.max()) < 1e-14


def test_what_the_base_rules_out_has_no_weight():
    assert float(divergence(wide([0.0, 0.0, -INF]), wide([0.0, 0.0, -INF]))) == 0.0
    lost = divergence(wide([0.0, 0.0, -INF]), wide([0.0, 0.0, 0.0]))
    assert float(lost) == pytest.approx(math.log(1.5), abs=1e-12)
    assert float(divergence(wide([0.0, 0.0]), wide([0.0, -INF]))) == INF


def test_no_number_is_no_small_divergence():
    assert math.isnan(float(divergence(wide([0.0, 0.0]), wide([NAN, 0.0]))))


def test_divergence_of_alternatives_is_the_mean_over_positions():
    base, got = wide([2.0, 0.0, 1.0], [0.0, 0.0, 0.0]), wide([1.0, 0.0, 2.0], [0.0, 0.0, 0.0])
    mean, agreeing, of = alternatives(base, got, binary=False)
    assert mean == pytest.approx(kl([2, 0, 1], [1, 0, 2]) / 2, abs=1e-12)
    assert (agreeing, of) == (1, 2)


def test_a_tie_of_the_base_agrees_with_either():
    base = wide([1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    got = wide([9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0])
    assert alternatives(base, got, binary=False)[1:] == (2, 3)


@pytest.mark.parametrize("binary", [True, False])
def test_one_score_is_a_yes_or_a_no(binary):
    """Three positions of one score each; of a tie, as at 0, both answers agree."""
    base, got = wide([2.0], [-1.0], [0.0]), wide([1.0], [1.0], [-3.0])
    mean, agreeing, of = alternatives(base, got, binary=binary)
    exact = sum(kl([0, a], [0, b]) for a, b in [(2, 1), (-1, 1), (0, -3)]) / 3
    assert mean == pytest.approx(exact, abs=1e-12)
    assert (agreeing, of) == (2, 3)


def test_of_several_labels_each_is_a_yes_or_a_no():
    base, got = wide([2.0, -1.0, -INF]), wide([-2.0, -1.0, 5.0])
    mean, agreeing, of = alternatives(base, got, binary=True)
    assert mean == pytest.approx(kl([0, 2], [0, -2]) / 2, abs=1e-12)
    assert (agreeing, of) == (1, 2)  # what does not count is left out
    _, agreeing, of = alternatives(base, got, binary=False)
    assert (agreeing, of) == (0, 1)


# --- cosine -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "cosine"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1.0),
        ([3.0, 4.0], [-6.0, -8.0], -1.0),
        ([1.0, 0.0], [0.0, 2.0], 0.0),
        ([3.0, 4.0], [4.0, 3.0], 0.96),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [0.0, 2.0], 0.0),
        ([0.0, 2.0], [0.0, 0.0], 0.0),
        ([1.0, -INF], [1.0, -INF], 1.0),
        ([1.0, -INF], [-1.0, -INF], -1.0),
        ([1e-150, 0.0], [1e-150, 0.0], 1.0),
        ([1e-158, 0.0], [1e-158, 0.0], 1.0),
    ],
)
def test_the_cosine_of_two_vectors(one, other, cosine):
    found = cosines_of(wide(one, [1.0, 1.0]), wide(other, [1.0, 1.0]))
    assert found.shape == (2,)
    assert float(found[0]) == pytest.approx(cosine, abs=1e-7)
    assert float(found[1]) == pytest.approx(1.0, abs=1e-15)


def test_a_cosine_is_never_beyond_one():
    rows = torch.tensor([[0.1, 0.2, 0.3], [1e10, 1.0, 3.3]], dtype=torch.float64)
    found = cosines_of(rows, rows)
    assert float(found.max()) <= 1.0
    assert float(cosines_of(rows, -rows).min()) >= -1.0
    drawn = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(cosines_of(drawn, drawn).max()) <= 1.0
    assert float(cosines_of(drawn, -drawn).min()) >= -1.0


def test_of_one_value_a_position_the_column_is_the_vector():
    found = cosines_of(wide([3.0], [4.0]), wide([4.0], [3.0]))
    assert found.tolist() == pytest.approx([0.96])
    assert cosines_of(wide([3.0]), wide([-4.0])).tolist() == [-1.0]


# --- the worst and the bounds -----------------------------------------------------------------


def distance(**changed):
    plain = {
        "output": "logits",
        "on": "the recorded inputs",
        "cosine": 0.99,
        "mean_cosine": 0.995,
        "vectors": 8,
        "kl": 0.01,
        "agreeing": 9,
        "positions": 10,
    }
    return Distance(**plain | changed)


def test_the_share_of_agreeing_positions():
    assert distance().top1 == 0.9
    assert Distance("hidden", "", 1.0, 1.0, 4).top1 is None
    vectors = Distance("hidden", "", 1.0, 1.0, 4)
    assert (vectors.kl, vectors.agreeing, vectors.positions) == (None, 0, 0)


def test_the_worst_of_each_measure():
    far = distance(cosine=0.5, kl=0.001, agreeing=10)
    vectors = Distance("hidden", "", 0.7, 0.8, 4)
    for found in ([distance(), far, vectors], [vectors, far, distance()]):
        assert Worst.of(found) == Worst(0.01, 0.9, 0.5)
    assert Worst.of([vectors]) == Worst(None, None, 0.7)


def variant(**bounds):
    return VariantSection(name="small", kind="onnx", path="variants/small.onnx", **bounds)


@pytest.mark.parametrize(
    ("key", "bound", "field", "beyond", "code"),
    [
        ("max_kl", 0.01, "kl", math.nextafter(0.01, 1), "kl-exceeded"),
        ("min_cosine", 0.99, "cosine", math.nextafter(0.99, 0), "cosine-below"),
    ],
)
def test_at_a_bound_is_within_and_beyond_is_not(key, bound, field, beyond, code):
    one = variant(**{key: bound})
    assert list(broken(one, [distance(**{field: bound})])) == []
    for value in (beyond, NAN, INF if key == "max_kl" else -INF):
        (found,) = broken(one, [distance(**{field: value})])
        assert found.code == code
        assert found.want == f"{'<=' if key == 'max_kl' else '>='} {bound:g}"
        assert found.where == f"slm.toml: variants: small: {key}"
        assert found.got.startswith("logits: ")
        assert "variants/small.onnx on the recorded inputs" in found.why


def test_top_choices_at_the_bound():
    one = variant(top1_agreement=0.9)
    assert list(broken(one, [distance(agreeing=9)])) == []
    (found,) = broken(one, [distance(agreeing=8)])
    assert (found.code, found.want) == ("top1-below", ">= 0.9")
    assert found.got == "logits: the same top choice at 8 of 10 positions"


def test_what_is_not_declared_or_not_there_has_no_bound():
    assert list(broken(variant(), [distance(kl=9.0, cosine=-1.0, agreeing=0)])) == []
    bounds = variant(max_kl=0.0, top1_agreement=1.0, min_cosine=0.5)
    assert list(broken(bounds, [Distance("hidden", "", 0.9, 0.9, 4)])) == []


def test_every_bound_on_every_distance_is_looked_at():
    bounds = variant(max_kl=0.001, top1_agreement=1.0, min_cosine=0.995)
    near = distance(kl=0.0, agreeing=10, cosine=1.0)
    codes = [found.code for found in broken(bounds, [near, distance(), near, distance()])]
    assert codes == ["kl-exceeded", "top1-below", "cosine-below"] * 2


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"kl": 0.5}, "kl-exceeded"),
        ({"agreeing": 8}, "top1-below"),
        ({"cosine": 0.9}, "cosine-below"),
    ],
)
def test_within_one_bound_is_not_within_another(changed, code):
    bounds = variant(max_kl=0.01, top1_agreement=0.9, min_cosine=0.99)
    assert [found.code for found in broken(bounds, [distance(**changed)])] == [code]


def test_the_figures_are_told():
    bounds = variant(max_kl=0.001, top1_agreement=1.0, min_cosine=0.995)
    got = [found.got for found in broken(bounds, [distance()])]
    assert got == [
        "logits: mean KL 0.01 nats over 10 positions",
        "logits: the same top choice at 9 of 10 positions",
        "logits: least cosine 0.990000 of 8 vectors (mean 0.995000)",
    ]
