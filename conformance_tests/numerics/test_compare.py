"""When two sets of outputs agree: in a bit, and within the bound of float64."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slmconform.engine.registry import Nonconformance
from slmconform.measure.compare import (
    Difference,
    bits,
    bitwise,
    describe,
    difference,
    digest,
    largest,
    mixed,
    place,
    require,
    worst,
)

INF, NAN = math.inf, math.nan
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


def of(got, want):
    return difference({"logits": got}, {"logits": want})


def passes(found):
    try:
        require(found, code="off")
    except Nonconformance:
        return False
    return True


# --- the bound --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "bound"),
    [(0.0, 1e-10), (0.25, 1e-10), (1.0, 1e-10), (1.5, 1.5e-10), (3e4, 3e-6)],
)
def test_the_bound_is_a_share_of_the_larger_of_one_and_the_output(scale, bound):
    at = 1e-10 * max(1.0, scale)
    assert at == pytest.approx(bound, rel=1e-15)
    assert passes(Difference(at, scale, "y"))
    assert not passes(Difference(math.nextafter(at, 1), scale, "y"))
    assert Difference(at / 4, scale, "y").share == pytest.approx(0.25)


@pytest.mark.parametrize("gap", [INF, NAN])
def test_no_number_is_within_a_bound(gap):
    assert not passes(Difference(gap, 1.0, "y"))


def test_a_finding_tells_where_and_how_far():
    with pytest.raises(Nonconformance) as caught:
        require(Difference(2e-3, 4.0, "logits[1]"), code="off", why="because", fix="mend")
    found = caught.value
    assert (found.code, found.why, found.fix) == ("off", "because", "mend")
    assert found.got == "max |difference| 0.002 at logits[1]"
    assert found.want == "<= 4.0e-10 in float64"
    assert require(Difference(2e-11, 4.0, ""), code="off") == str(Difference(2e-11, 4.0, ""))
    with pytest.raises(Nonconformance) as caught:
        require(Difference(1.0, 1.0, ""), code="off")
    assert (caught.value.why, caught.value.fix) == ("", "")


# --- the difference of two outputs ------------------------------------------------------------


@few
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_the_difference_is_the_largest_and_has_a_sign_no_more(pairs):
    got, want = (wide(*side) for side in zip(*pairs, strict=True))
    found = of(got, want)
    assert found.max_abs == max(abs(a - b) for a, b in pairs)
    assert found.scale == max(abs(b) for _, b in pairs)
    assert of(want, got).max_abs == found.max_abs
    at = int(found.where.removeprefix("logits[").removesuffix("]"))
    assert abs(pairs[at][0] - pairs[at][1]) == found.max_abs


def test_the_place_of_the_difference_is_told():
    want = torch.zeros(2, 3, 4, dtype=torch.float64)
    got = want.clone()
    got[1, 2, 0] = -5.0
    assert of(got, want) == Difference(5.0, 0.0, "logits[1, 2, 0]")
    assert of(want, got) == Difference(5.0, 5.0, "logits[1, 2, 0]")
    assert of(want, want).max_abs == 0.0


@pytest.mark.parametrize(
    ("shape", "flat", "text"),
    [((), 0, "y[]"), ((5,), 3, "y[3]"), ((2, 3), 5, "y[1, 2]"), ((2, 3, 4), 13, "y[1, 0, 1]")],
)
def test_a_flat_index_is_told_by_axis(shape, flat, text):
    assert place("y", flat, torch.Size(shape)) == text


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (NAN, 1.0),
        (1.0, NAN),
        (INF, 1.0),
        (1.0, INF),
        (-INF, INF),
        (INF, -INF),
        (NAN, INF),
        (INF, NAN),
    ],
)
def test_what_is_no_number_on_one_side_differs(got, want):
    found = of(wide(0.0, got), wide(0.0, want))
    assert found.max_abs == INF
    assert found.where == "logits[1]"
    assert not passes(found)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_same_non_number_at_the_same_place_is_equal(value):
    found = of(wide(value, 2.0, 1.0), wide(value, 2.0, 1.5))
    assert found == Difference(0.5, 2.0, "logits[2]")
    assert passes(of(wide(value, 2.0), wide(value, 2.0)))


def test_another_shape_differs():
    found = of(torch.zeros(2, 3).double(), torch.zeros(3, 2).double())
    assert found.max_abs == INF
    assert found.where == "logits: float64 (2, 3) against float64 (3, 2)"
    assert of(wide(1.0), wide(1.0)[None]).max_abs == INF
    assert of(wide(), wide()) == Difference(0.0, 0.0, "logits")


def test_dtypes_are_compared_by_value():
    assert of(torch.tensor([1.5]), wide(1.5)) == Difference(0.0, 1.5, "logits[0]")
    assert of(torch.tensor([0.1]), wide(0.1)).max_abs == pytest.approx(1.5e-9, rel=0.01)
    assert of(torch.tensor([1]), wide(1.25)) == Difference(0.25, 1.25, "logits[0]")
    assert of(wide(1.25), torch.tensor([1])) == Difference(0.25, 1.0, "logits[0]")


def test_a_graph_is_no_hindrance():
    leaf = wide(1.0).requires_grad_()
    assert of(leaf, leaf * 1.0).max_abs == 0.0


@pytest.mark.parametrize(
    ("got", "want"),
    [(10**12 + 1, 10**12), (2**53 + 1, 2**53), (-(2**62), -(2**62) - 1), (0, 1), (True, False)],
)
def test_integers_are_equal_or_not(got, want):
    """Neither a large scale nor the 53 bits of float64 excuse a wrong one."""
    assert not passes(of(torch.tensor([7, got]), torch.tensor([7, want])))
    assert of(torch.tensor([7, got]), torch.tensor([7, want])).where == "logits[1]"
    assert passes(of(torch.tensor([want]), torch.tensor([want])))


def test_the_size_of_a_wrong_integer_is_told():
    assert of(torch.tensor([3, 9]), torch.tensor([3, 4])) == Difference(5.0, 0.0, "logits[1]")
    for one, other in [(4, 5), (2**53, 2**53 + 1)]:
        found = of(torch.tensor([3, one]), torch.tensor([3, other]))
        assert found == Difference(1.0, 0.0, "logits[1]")


# --- several outputs --------------------------------------------------------------------------


@pytest.mark.parametrize("large", [wide(3e4), torch.tensor([30_000])])
@pytest.mark.parametrize("order", [1, -1])
def test_a_large_output_excuses_no_other(large, order):
    want = {"logits": wide(1.0), "other": large}
    got = want | {"logits": wide(1.0 + 1e-9)}
    names = ["logits", "other"][::order]
    found = difference({n: got[n] for n in names}, {n: want[n] for n in names})
    assert found.where == "logits[0]"
    assert not passes(found)


def test_the_worst_takes_most_of_its_own_bound():
    small, large = Difference(1e-9, 1.0, "small"), Difference(1e-8, 1e4, "large")
    assert worst([small, large]) == worst([large, small]) == small
    assert worst([large, Difference(INF, 0.0, "nan"), small]).where == "nan"
    assert worst([]) == difference({}, {}) == Difference(0.0, 0.0, "")


def test_only_what_is_wanted_is_compared():
    assert difference({"a": wide(1.0), "more": wide(9.0)}, {"a": wide(1.0)}).max_abs == 0.0
    with pytest.raises(KeyError):
        difference({}, {"a": wide(1.0)})


@pytest.mark.parametrize(
    ("values", "most"),
    [((1.0, -3.0), 3.0), ((NAN, -INF, 0.5), 0.5), ((-INF,), 0.0), ((), 0.0)],
)
def test_the_largest_is_finite(values, most):
    assert largest(wide(*values)) == most
    assert largest(wide(*values).reshape(1, -1)) == most


def test_the_largest_of_whole_numbers():
    assert largest(torch.tensor([-128], dtype=torch.int8)) == 128.0
    assert largest(torch.tensor([False, True])) == 1.0


# --- in every bit -----------------------------------------------------------------------------


@few
@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.data())
def test_a_bit_is_a_difference(values, data):
    one = torch.tensor(values, dtype=torch.float32)
    other = one.clone()
    assert bitwise({"y": other}, {"y": one}) == ""
    at, bit = data.draw(st.integers(0, len(values) - 1)), data.draw(st.integers(0, 30))
    other.view(torch.int32)[at] ^= 1 << bit
    assert bitwise({"y": other}, {"y": one}).startswith(f"y[{at}]: ")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2]
)
def test_nan_is_nan_and_minus_zero_is_not_zero(dtype):
    zero, minus, nan = (torch.tensor([v, 1.0]).to(dtype) for v in (0.0, -0.0, NAN))
    assert bitwise({"y": nan}, {"y": nan.clone()}) == ""
    assert bitwise({"y": minus}, {"y": zero}).startswith("y[0]: -0.0 against 0.0 (1 of 2 ")
    assert bits(zero).dtype.is_floating_point is False
    assert bits(zero).shape == zero.shape


def test_the_first_difference_is_told():
    one, other = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)
    other[0, 2], other[1, 1] = 7, 8
    assert bitwise({"y": one}, {"y": other}) == "y[0, 2]: 0 against 7 (2 of 6 values differ)"


def test_a_shape_a_dtype_or_a_lack_is_a_difference():
    want = {"y": torch.zeros(2)}
    assert bitwise({}, want) == "y is missing"
    assert bitwise({"y": torch.zeros(1, 2)}, want) == "y: float32 (1, 2) against float32 (2,)"
    assert bitwise({"y": torch.zeros(2).int()}, want) == "y: int32 (2,) against float32 (2,)"
    assert describe(torch.zeros(2, dtype=torch.bool)) == "bool (2,)"
    assert bitwise({"y": torch.zeros(2)}, {"y": torch.zeros(2), "z": torch.zeros(1)}) != ""


def test_every_output_is_compared():
    one = {"a": wide(1.0), "b": wide(1.0)}
    assert bitwise(one, one) == ""
    assert bitwise(one | {"b": wide(2.0)}, one).startswith("b[0]: 2.0 against 1.0")
    assert bitwise(one | {"a": wide(2.0)}, one).startswith("a[0]: 2.0 against 1.0")


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.arange(6).reshape(2, 3),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.arange(6.0, requires_grad=True),
    ],
)
def test_a_digest_is_that_of_the_bytes(value):
    plain = value.detach().contiguous()
    raw = bytes(plain.reshape(-1).view(torch.uint8).numpy()) if plain.dim() else b"\xc0\x3f"
    assert digest(value) == hashlib.sha256(raw).hexdigest()


def test_a_digest_reads_in_the_order_of_the_indices():
    value = torch.arange(6).reshape(2, 3)
    for one in (value, value.double(), torch.complex(value.double(), -value.double())):
        assert digest(one.T) == digest(one.T.contiguous()) != digest(one)
    conjugate = torch.complex(wide(1.0), wide(2.0)).conj()
    assert digest(conjugate) == digest(wide(1.0, -2.0)) == digest(conjugate.resolve_conj())


@few
@given(st.integers(-(2**63), 2**63 - 1))
def test_the_hash_is_the_finaliser_of_splitmix64(value):
    """As Steele, Lea and Flood give it, in integers without end."""
    z = value * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    assert int(mixed(torch.tensor([value]))[0]) % 2**64 == z
