"""Whether a gradient is the derivative: losses of one line whose derivative is known."""

from __future__ import annotations

import math

import pytest
import torch

from slmconform.measure.derivative import (
    AGAIN,
    BESIDE,
    DECIDES,
    FINER,
    NOISE,
    STEP,
    TOGETHER,
    Slope,
    _alone,
    _at,
    _bound,
    _closer,
    _together,
    direction,
)
from slmconform.measure.gradient import Gradients

INF, NAN = math.inf, math.nan
BOUND = 1e-8


def slope(value=0.0, *, product, bound=BOUND, name="p"):
    parameter = torch.tensor([value], dtype=torch.float64)
    return Slope(name, parameter, torch.ones_like(parameter), product, bound)


def judged(loss, product, *, value=0.0, bound=BOUND):
    """One parameter of one value, at ``value``, and a loss that is a function of it."""
    one = slope(value, product=product, bound=bound)
    return _alone(one, lambda: loss(float(one.parameter)), loss(value))


def test_the_settings_are_those_of_the_standard():
    assert (STEP, FINER) == (1e-4, (1e-5, 1e-6, 1e-7))
    assert (DECIDES, BESIDE, TOGETHER, NOISE) == (1e-3, 1e-3, 16, 16 * 2.0**-52)


# --- one derivative ---------------------------------------------------------------------------

SMOOTH = {
    "line": (lambda x: 3.0 * x + 1.0, 3.0),
    "square": (lambda x: (x + 0.5) ** 2, 1.0),
    "sine": (math.sin, 1.0),
    "falling": (lambda x: math.exp(-x), -1.0),
    "flat": (lambda x: 0.7, 0.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_derivative_agrees_and_another_does_not(name):
    loss, exact = SMOOTH[name]
    found = judged(loss, exact)
    assert (found.verdict, found.name, found.product, found.bound) == ("agrees", "p", exact, BOUND)
    assert found.measured == pytest.approx(exact, abs=1e-8)
    for wrong in (exact + 0.01, exact - 0.01, exact * 1.001 + 1e-4, -exact - 1e-3):
        found = judged(loss, wrong)
        assert found.verdict == "differs"
        assert found.measured == pytest.approx(exact, abs=1e-8)
        assert (found.product, found.bound) == (wrong, BOUND)


@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_bound_a_derivative_agrees_and_beyond_it_does_not(sign):
    loss = SMOOTH["line"][0]
    product = 3.0 + sign * 1e-4
    measured = judged(loss, product, bound=1.0).measured
    off = abs(measured - product)
    assert judged(loss, product, bound=off).verdict == "agrees"
    assert judged(loss, product, bound=math.nextafter(off, 0)).verdict != "agrees"


@pytest.mark.parametrize("product", [NAN, INF, -INF])
def test_a_gradient_that_is_no_number_differs(product):
    assert judged(lambda x: 3.0 * x, product).verdict == "differs"
    assert judged(lambda x: 3.0 * x, product, bound=INF).verdict == "differs"


@pytest.mark.parametrize("value", [NAN, INF])
def test_of_a_loss_that_is_no_number_nothing_is_said(value):
    assert judged(lambda x: value, 1.0).verdict == "unclear"
    assert judged(lambda x: value if x > 0 else 0.0, 1.0).verdict == "unclear"


def test_a_parameter_is_put_back_in_every_bit():
    one, other = slope(0.1, product=1.0), slope(-0.0, product=1.0)
    seen = []

    def loss():
        seen.append((float(one.parameter), float(other.parameter)))
        return 7.0

    assert _at([one, other], 0.25, loss) == 7.0
    assert seen == [(0.35, 0.25)]
    assert float(one.parameter) == 0.1
    assert math.copysign(1.0, float(other.parameter)) == -1.0
    leaf = Slope("p", torch.ones(1, requires_grad=True), torch.ones(1), 1.0, BOUND)
    assert _at([leaf], 0.5, lambda: float(leaf.parameter.detach())) == 1.5
    assert leaf.parameter.requires_grad


# --- kinks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [3e-5, 3e-6, 3e-7, -3e-5])
def test_a_kink_within_the_step_is_passed_by_a_finer_one(beside):
    """Of |x - beside| at 0; the differences over the whole step lie between the two sides."""
    exact = -1.0 if beside > 0 else 1.0
    found = judged(lambda x: abs(x - beside), exact)
    assert found.verdict == "kink"
    assert found.bound > BOUND
    if abs(beside) > FINER[0]:
        assert found.measured == pytest.approx(exact, abs=1e-9)
    for wrong in (1.01 * exact, -1.5 * exact):
        assert judged(lambda x: abs(x - beside), wrong).verdict not in ("agrees", "kink")


@pytest.mark.parametrize("product", [-1.0, -0.3, 0.0, 0.6, 1.0])
def test_a_subgradient_at_the_kink_itself_agrees(product):
    assert judged(abs, product).verdict in ("agrees", "kink")
    assert judged(lambda x: abs(x) + 5.0 * x, product + 5.0).verdict in ("agrees", "kink")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("product", [0.0, -0.7, -1.0])
def test_a_kink_to_one_side_has_any_slope_in_between(sign, product):
    """Of a ReLU at 0, turned either way up, and of one that bends down."""
    falling = lambda x: sign * max(-x, 0.0)  # noqa: E731
    assert judged(falling, sign * product).verdict in ("agrees", "kink")
    assert judged(falling, sign * 0.2).verdict == "bent"
    assert judged(falling, sign * -1.2).verdict == "bent"


@pytest.mark.parametrize(("apart", "verdict"), [(1.5e-3, "differs"), (2.5e-3, "kink")])
def test_two_sides_are_apart_by_two_thousandths(apart, verdict):
    """Less is no kink: a wrong gradient would lie between the two sides."""
    found = judged(lambda x: x + apart / 2 * abs(x), 1.0 + 0.4 * apart)
    assert found.verdict == verdict


@pytest.mark.parametrize("product", [-1.2, 1.2, 3.0])
def test_beyond_both_sides_of_a_kink_there_is_no_derivative(product):
    found = judged(abs, product)
    assert found.verdict == "bent"
    assert found.measured == pytest.approx(0.0, abs=1e-8)


def test_a_wrong_gradient_of_a_smooth_loss_is_no_kink():
    """The two sides of a curve differ by the step times its bend, which is no kink."""
    for bend in (1.0, 10.0):
        assert judged(lambda x, b=bend: x + b * x * x, 1.002).verdict == "differs"


def test_a_loss_that_jumps_settles_on_nothing():
    assert judged(lambda x: 1.0 if x > 3e-5 else 0.0, 3.0).verdict == "unclear"


@pytest.mark.parametrize(("product", "verdict"), [(0.0, "differs"), (1.0, "agrees")])
def test_a_detached_gradient_of_zero_differs(product, verdict):
    assert judged(lambda x: x, product).verdict == verdict


def test_a_verdict_beside_decides_the_doubtful():
    assert AGAIN == {
        "agrees": "kink",
        "kink": "kink",
        "differs": "differs",
        "bent": "unclear",
        "unclear": "unclear",
    }


# --- finer steps, one by one ------------------------------------------------------------------


def closer(at, product, *, here=0.0, coarse=9.0, bound=0.0):
    return _closer(at, here, product, coarse, bound)


def test_a_finer_step_allows_the_rounding_of_its_losses():
    for step in FINER:
        noise = NOISE / step
        verdict, measured, allowed = closer(
            lambda s, fine=step: s if abs(s) <= fine * 1.5 else 5.0 * s, 1.0, bound=1e-9
        )
        assert verdict == "kink"
        assert measured == pytest.approx(1.0)
        assert allowed == pytest.approx(1e-9 + noise, rel=1e-12)
    _, _, allowed = closer(lambda s: 1000.0 + s, 1.0, here=1000.0)
    assert allowed == pytest.approx(NOISE * 1000.0 / FINER[0])


def test_a_negative_loss_has_as_much_rounding():
    _, _, allowed = closer(lambda s: s - 1000.0, 1.0, here=-1000.0)
    assert allowed == pytest.approx(NOISE * 1000.0 / FINER[0])


def test_at_the_limits_a_step_decides_and_agrees():
    """Its bound may be a thousandth of the product, and the gap as large as the bound."""
    noise = NOISE / FINER[0]
    assert 1e-3 - noise + noise == 1e-3
    assert closer(lambda s: s, 1.0, bound=1e-3 - noise) == ("kink", 1.0, 1e-3)
    verdict, *_ = closer(lambda s: s, 1.0, bound=math.nextafter(1e-3, 1) - noise)
    assert verdict != "kink"
    small = 2.0**-20
    assert small - noise + noise == small
    assert closer(lambda s: s, 1.0 - small, bound=small - noise)[2] == small
    assert closer(lambda s: s, 1.0 + small, bound=small - noise)[2] == small


WIDEST = NOISE / FINER[2]


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(1.4 * WIDEST, "unclear"), (2.2 * WIDEST, "differs"), (9.0 * WIDEST, "differs")],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_gap_within_twice_the_rounding_is_no_difference(slope, verdict, sign):
    assert closer(lambda s: sign * slope * s, 0.0, coarse=sign * slope)[0] == verdict


@pytest.mark.parametrize(
    ("coarse", "found", "product", "verdict"),
    [
        (1.0, (1.0, 1.0, 1.0), 2.0, "differs"),
        (1.08, (1.0, 1.0, 1.0), 2.0, "differs"),
        (0.92, (1.0, 1.0, 1.0), 2.0, "differs"),
        (1.15, (1.0, 1.0, 1.0), 2.0, "unclear"),
        (1.0, (1.0, 1.0, 1.15), 2.0, "unclear"),
        (1.15, (1.0, 1.0, 1.0), 3.0, "differs"),
        (1.1 + 1.5 * WIDEST, (1.0, 1.0, 1.0), 2.0, "differs"),
        (1.1 + 2.5 * WIDEST, (1.0, 1.0, 1.0), 2.0, "unclear"),
        (1.001, (1.0, 1.0, 1.0), 1.002, "unclear"),
        (1.0, (1.0, 1.04, 1.0), 1.42, "differs"),
        (1.0, (1.0, 0.96, 1.0), 1.38, "unclear"),
    ],
)
def test_differences_settle_where_they_vary_by_a_tenth_of_the_gap(coarse, found, product, verdict):
    """The gap to what the first of the finer steps finds, which is what is told."""
    by_step = dict(zip(FINER, found, strict=True))
    got, measured, bound = closer(lambda s: by_step[abs(s)] * s, product, coarse=coarse)
    assert (got, bound) == (verdict, 0.0)
    assert measured == pytest.approx(found[0], rel=1e-12)


def test_a_derivative_too_small_to_be_decided_still_differs():
    assert closer(lambda s: 3e-7 * s, 0.0, coarse=3e-7)[0] == "differs"


def test_a_step_whose_rounding_hides_the_derivative_does_not_decide():
    """A wrong gradient that is within the noise of the finest step alone is no kink."""
    size = NOISE / FINER[2] / DECIDES
    for product, decided in ((size * 1.01, True), (size * 0.99, False)):
        verdict, *_ = closer(
            lambda s, p=product: p * s if abs(s) < 1.5 * FINER[2] else 3.0 * p * s, product
        )
        assert (verdict == "kink") is decided


# --- several parameters at once ---------------------------------------------------------------


def several(*products, bounds=None):
    """Parameters of a loss that is the sum of 1, 2, 3, ... times each, and of its square."""
    given = bounds or [BOUND] * len(products)
    slopes = [
        slope(product=product, bound=bound, name=f"p{at}")
        for at, (product, bound) in enumerate(zip(products, given, strict=True), 1)
    ]
    seen = []

    def loss():
        at = [float(one.parameter) for one in slopes]
        seen.append(at)
        return sum(k * x + x * x for k, x in enumerate(at, 1))

    return _together(slopes, loss, 0.0), seen


def test_right_gradients_are_told_by_one_difference():
    found, seen = several(1.0, 2.0, 3.0, 4.0, bounds=[1e-7, 1e-8, 1e-6, 1e-7])
    assert [one.verdict for one in found] == ["agrees"] * 4
    assert [one.product for one in found] == [1.0, 2.0, 3.0, 4.0]
    assert {one.bound for one in found} == {1e-8}  # of the tightest, since which is off is unknown
    gaps = {one.measured - one.product for one in found}
    assert max(map(abs, gaps)) < 1e-9
    assert seen == [[pytest.approx(s * 5e-5, rel=1e-12)] * 4 for s in (1, -1)]


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_wrong_gradient_among_right_ones_is_found(wrong):
    products = [1.0, 2.0, 3.0]
    products[wrong] += 1e-3
    found, seen = several(*products)
    assert [one.verdict for one in found] == ["agrees"] * wrong + ["differs"] + ["agrees"] * (
        2 - wrong
    )
    assert found[wrong].measured == pytest.approx(wrong + 1.0, abs=1e-8)
    assert [one.name for one in found] == ["p1", "p2", "p3"]
    assert len(seen) > 2


def test_within_the_widest_bound_is_not_enough_for_all():
    """One that is off by less than its own bound, but by more than that of another."""
    found, seen = several(1.0, 2.0 + 1e-6, bounds=[BOUND, 1e-5])
    assert [one.verdict for one in found] == ["agrees", "agrees"]
    assert [one.bound for one in found] == [BOUND, 1e-5]
    assert len(seen) == 6
    found, _ = several(1.0 + 1e-6, 2.0, bounds=[BOUND, 1e-5])
    assert [one.verdict for one in found] == ["differs", "agrees"]


def test_the_tightest_bound_is_met_exactly():
    (first, second), _ = several(1.0, 2.0 + 1e-4, bounds=[1.0, 1.0])
    off = abs(first.measured - first.product)
    found, seen = several(1.0, 2.0 + 1e-4, bounds=[1.0, off])
    assert [one.bound for one in found] == [off, off]
    assert len(seen) == 2
    found, seen = several(1.0, 2.0 + 1e-4, bounds=[1.0, off * (1 - 1e-6)])
    assert len(seen) > 2
    assert second.measured - second.product == pytest.approx(-1e-4, rel=1e-6)


def test_one_alone_is_judged_alone():
    found, seen = several(1.0)
    assert ([one.verdict for one in found], len(seen)) == (["agrees"], 2)
    assert seen == [[1e-4], [-1e-4]]


@pytest.mark.parametrize("product", [NAN, INF])
def test_no_number_hides_among_others(product):
    found, _ = several(1.0, product, 3.0)
    assert [one.verdict for one in found] == ["agrees", "differs", "agrees"]


# --- the bound and the direction --------------------------------------------------------------


def test_the_bound_is_that_of_the_standard():
    """1e-6 |g| / sqrt(n), 1e-9 of the global norm, and the rounding of two losses."""
    of = {"a": torch.tensor([3.0, 4.0]).double(), "b": torch.tensor([12.0]).double(), "c": None}
    rounding = 16 * 2.0**-52 / 1e-4
    small, large = Gradients(0.25, of), Gradients(-8.0, of)
    assert _bound(small, "a", 4) == pytest.approx(1e-6 * 5 / 2 + 1e-9 * 13 + rounding, rel=1e-12)
    assert _bound(large, "a", 4) == pytest.approx(
        1e-6 * 5 / 2 + 1e-9 * 13 + 8 * rounding, rel=1e-12
    )
    assert _bound(small, "c", 9) == pytest.approx(1e-9 * 13 + rounding, rel=1e-12)
    nothing = Gradients(0.0, {"a": torch.zeros(2).double()})
    assert _bound(nothing, "a", 2) == pytest.approx(rounding, rel=1e-12)
    assert math.isnan(_bound(Gradients(0.0, {"a": torch.tensor([NAN])}), "a", 1))


def test_a_direction_is_random_of_length_one_and_fixed_by_its_name():
    like, state = torch.zeros(5, 3), torch.get_rng_state()
    one = direction("layer.weight", like)
    assert torch.equal(torch.get_rng_state(), state)
    assert (one.shape, one.dtype) == (like.shape, torch.float64)
    assert float(one.norm()) == pytest.approx(1.0, rel=1e-15)
    assert torch.equal(one, direction("layer.weight", like))
    assert abs(float((one * direction("layer.weighu", like)).sum())) < 0.9
    larger = direction("layer.weight", torch.zeros(6, 3))
    assert not torch.allclose(larger[:5] / larger[0, 0], one / one[0, 0])
    assert float(one.abs().min()) > 0.0
    assert float(one.min()) < 0.0 < float(one.max())


def test_rows_without_a_gradient_stand_still():
    one = direction("embedding", torch.zeros(5, 3), (0, 2))
    assert [bool(row.any()) for row in one] == [False, True, False, True, True]
    assert float(one.norm()) == pytest.approx(1.0, rel=1e-15)
