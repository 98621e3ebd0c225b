"""What evidence keeps of float64 outputs, what it notices, and the distance from float64."""

from __future__ import annotations

import math

import pytest
import torch

from slmconform.measure.reference import (
    FACTOR,
    PROJECTIONS,
    TOP,
    WHOLE,
    error,
    kept,
    recorded_gap,
    sign_row,
    signs,
)

INF, NAN = math.inf, math.nan
WIDTH = 2 * TOP + 1  # the first width that can be worth a sketch


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def gap_of(got, want):
    return recorded_gap({"logits": got}, *kept({"logits": want}))


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


ROWS = WHOLE // WIDTH + 1
BIG = drawn(1, ROWS, WIDTH)


# --- whole or a sketch ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((1, WHOLE), "full"),
        ((1, WHOLE + 1), "sketch"),
        ((WHOLE, 2 * TOP), "full"),
        ((ROWS, WIDTH), "sketch"),
    ],
)
def test_a_sketch_is_kept_of_what_is_large_and_wide(shape, how):
    value = drawn(*shape)
    (record,), tensors = kept({"y": value})
    assert (record.name, record.kept, record.shape) == ("y", how, list(shape))
    assert record.scale == float(value.abs().max())
    parts = {key.removeprefix("output.y") for key in tensors}
    if how == "full":
        assert parts == {""}
        assert torch.equal(tensors["output.y"], value)
        assert tensors["output.y"].data_ptr() != value.data_ptr()
        assert record.top == record.projections == 0
    else:
        assert parts == {".top", ".indices", ".logsumexp", ".projections"}
        assert (record.top, record.projections) == (8, 8) == (TOP, PROJECTIONS)
        assert tensors["output.y.top"].shape == (shape[0], 8)
        assert tensors["output.y.projections"].shape == (shape[0], 8)


def test_the_sizes_and_factors_are_those_of_the_standard():
    assert (WHOLE, TOP, PROJECTIONS) == (16_384, 8, 8)
    assert FACTOR == {"float32": 2.0, "bfloat16": 3.0, "float16": 3.0}


@pytest.mark.parametrize("names", [("small", "large"), ("large", "small")])
def test_each_output_is_kept_in_its_own_way(names):
    outputs = {"small": drawn(2, 5), "large": BIG}
    records, tensors = kept({name: outputs[name] for name in names})
    assert [one.name for one in records] == list(names)
    assert torch.equal(tensors["output.small"], outputs["small"])
    assert tensors["output.large.top"].shape == (1, ROWS, 8)
    assert len(tensors) == 5


def test_what_a_sketch_consists_of():
    (record,), tensors = kept({"y": BIG})
    part = {name.removeprefix("output.y."): value for name, value in tensors.items()}
    ordered, order = BIG.sort(dim=-1, descending=True)
    assert torch.equal(part["top"], ordered[..., :8])
    assert torch.equal(part["indices"].long(), order[..., :8])
    assert part["indices"].dtype == torch.int32
    assert torch.allclose(part["logsumexp"], BIG.exp().sum(-1).log(), rtol=1e-14)
    vectors = signs(WIDTH, 8)
    inner = torch.stack([(BIG * vector).sum(-1) for vector in vectors], dim=-1)
    assert torch.allclose(part["projections"], inner / math.sqrt(WIDTH), atol=1e-14)
    assert record.scale == float(BIG.abs().max())


def test_an_infinity_counts_as_nothing_in_a_projection():
    want = BIG.clone()
    want[..., 3] = 0.0
    got = want.clone()
    got[..., 3] = -INF
    one, other = (kept({"y": value})[1]["output.y.projections"] for value in (got, want))
    assert torch.equal(one, other)


@pytest.mark.parametrize("value", [drawn(2, 5), BIG])
def test_the_same_outputs_have_no_gap(value):
    assert gap_of(value, value).max_abs == 0.0
    assert gap_of(value, value).scale == float(value.abs().max())
    assert gap_of(value * (1 + 1e-15), value).share < 1e-3


@pytest.mark.parametrize("at", [0, 7, ROWS - 1])
def test_one_value_changed_is_noticed_in_a_sketch(at):
    """Among the largest, and among those of which only sums are kept."""
    for place in (int(BIG[0, at].argmax()), int(BIG[0, at].argmin())):
        got = BIG.clone()
        got[0, at, place] += 1e-7
        found = gap_of(got, BIG)
        assert found.share > 1
        assert found.where.startswith("logits.")
        assert f"[0, {at}" in found.where


def test_two_values_exchanged_are_noticed():
    got = BIG.clone()
    first, second = BIG[0, 0].sort().indices[:2]
    got[0, 0, [first, second]] = BIG[0, 0, [second, first]]
    assert gap_of(got, BIG).share > 1


def test_a_tie_among_the_largest_is_no_difference():
    """Where two values are within rounding, their order may be another one."""
    want = BIG.clone()
    first = int(want[0, 0].argmax())
    want[0, 0, first - 1] = want[0, 0, first] - 1e-15
    got = want.clone()
    got[0, 0, first - 1] += 2e-15
    assert gap_of(got, want).share < 1


@pytest.mark.parametrize("value", [drawn(2, 5), BIG])
@pytest.mark.parametrize("other", [NAN, INF, -INF])
def test_what_is_no_number_is_noticed(value, other):
    got = value.clone()
    got[0, 0] = other
    assert gap_of(got, value).max_abs == INF
    assert gap_of(value, got).max_abs == INF


@pytest.mark.parametrize("value", [drawn(2, 5), BIG])
def test_a_declared_infinity_hides_nothing(value):
    want = value.clone()
    want[..., 1] = -INF
    assert gap_of(want, want).max_abs == 0.0
    assert gap_of(want, want).scale == float(
        value[..., torch.arange(value.shape[-1]) != 1].abs().max()
    )
    got = want.clone()
    got[..., 2] += 1e-7
    assert gap_of(got, want).share > 1


def test_another_shape_is_noticed():
    found = gap_of(drawn(2, 6), drawn(2, 5))
    assert found.max_abs == INF
    assert found.where == "logits: float64 (2, 6) against float32 (2, 5)"


def test_each_output_has_a_bound_of_its_own():
    want = {"a": drawn(3, 4), "b": 1e6 * drawn(3, 4)}
    for order in (("a", "b"), ("b", "a")):
        recorded = kept({name: want[name] for name in order})
        got = want | {"a": want["a"] + 1e-9}
        found = recorded_gap(got, *recorded)
        assert found.share > 1
        assert found.where.startswith("a[")
        assert recorded_gap(want | {"b": want["b"] + 1e-9}, *recorded).share < 1
    assert recorded_gap({}, [], {}).max_abs == 0.0


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([3, 10**12]),
        torch.tensor([True, False]),
        torch.arange(2 * WHOLE).reshape(2, WHOLE),
    ],
)
def test_whole_numbers_are_kept_and_compared_exactly(value):
    assert gap_of(value, value).max_abs == 0.0
    got = value.clone()
    got.view(-1)[-1] = int(value.view(-1)[-1]) - 1  # of False this is True
    assert gap_of(got, value).share > 1


@pytest.mark.parametrize("value", [wide(-INF, -INF), wide(), wide(NAN)])
def test_an_output_without_a_finite_value_has_no_scale(value):
    (record,), _ = kept({"y": value})
    assert record.scale == 0.0
    assert gap_of(value, value).max_abs == 0.0


# --- the fixed vectors ------------------------------------------------------------------------


def test_signs_are_signs_and_the_same_everywhere():
    found = signs(64, 4)
    assert found.dtype == torch.float64
    assert set(found.flatten().tolist()) == {1.0, -1.0}
    assert "".join("+" if s > 0 else "-" for s in found[0, :16]) == "+-++-+--++++-+--"
    assert "".join("+" if s > 0 else "-" for s in found[3, :16]) == "+-+-+--+++---+-+"


def test_signs_are_balanced_and_unlike():
    found = signs(4096, 8)
    inner = found @ found.T / 4096
    assert float((inner - torch.eye(8)).abs().max()) < 0.06
    assert float(found.mean(-1).abs().max()) < 0.06


def test_a_part_of_a_row_is_that_part():
    whole = sign_row(100, 3, 0, 100)
    assert torch.equal(torch.cat([sign_row(100, 3, 0, 33), sign_row(100, 3, 33, 67)]), whole)
    assert torch.equal(signs(100, 4)[3], whole)


# --- distance from float64 --------------------------------------------------------------------


def test_the_error_is_the_largest_and_the_root_of_the_mean_square():
    found = error(torch.tensor([[1.0, 2.0], [2.0, -5.0]]), wide([1.0, 2.0], [2.0, -9.0]))
    assert (found.max_abs, found.rms) == (4.0, 2.0)
    assert (found.scale, found.rms_scale) == (9.0, math.sqrt((1 + 4 + 4 + 81) / 4))


def test_the_error_is_taken_in_float64():
    found = error(torch.tensor([0.1]), wide(0.1))
    assert found.max_abs == found.rms == abs(float(torch.tensor([0.1]).double()) - 0.1)


def test_the_error_is_over_what_is_finite():
    found = error(torch.tensor([-INF, 1.0]), wide(-INF, 3.0))
    assert (found.max_abs, found.rms, found.scale, found.rms_scale) == (2.0, 2.0, 3.0, 3.0)
    nothing = error(torch.tensor([-INF]), wide(-INF))
    assert (nothing.max_abs, nothing.rms, nothing.scale, nothing.rms_scale) == (0.0,) * 4


@pytest.mark.parametrize(
    "got", [torch.tensor([NAN, 4.0]), torch.tensor([INF, 4.0]), torch.tensor([3.0])]
)
def test_what_cannot_be_compared_is_infinitely_far_from_an_output_of_its_size(got):
    """The size is that of the right output: it decides whether the error can say anything."""
    found = error(got, wide(3.0, 4.0))
    assert (found.max_abs, found.rms) == (INF, INF)
    assert (found.scale, found.rms_scale) == (4.0, math.sqrt(12.5))
