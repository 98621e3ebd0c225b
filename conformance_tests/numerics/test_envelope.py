"""Distances of gradients, losses and changes from float64, and what may be recorded of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from slmconform.engine.registry import Inconclusive
from slmconform.measure import envelope, trajectory
from slmconform.measure.batches import Batch
from slmconform.measure.envelope import (
    AT_OUTPUTS,
    CHAOS,
    DRIFT,
    FACTOR,
    FLOOR,
    LEAST,
    UNITS,
    Envelope,
    change_distances,
    deviations,
    distances,
    most_gradient,
    nudged,
    require_calm,
    require_close,
    require_precise,
    reverse,
    tensors_of,
)
from slmconform.measure.gradient import Gradients
from slmconform.measure.trajectory import (
    CHUNK,
    Run,
    gap,
    projections,
    summaries,
    summary_gap,
    whole_norm,
)

INF, NAN = math.inf, math.nan


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- one distance -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "scale", "found"),
    [
        (3.0, 1.0, 1.0, 2.0),
        (1.0, 3.0, 4.0, 0.5),
        (NAN, 1.0, 1.0, INF),
        (1.0, NAN, 1.0, INF),
        (INF, INF, 1.0, INF),
        (INF, 1.0, 1.0, INF),
        (1.0, 1.0, NAN, INF),
        (1.0, 1.0, 1.0, 0.0),
    ],
)
def test_the_distance_of_two_numbers(one, other, scale, found):
    assert gap(one, other, scale) == found
    if scale == 1.0:
        assert gap(one, other) == found


def test_losses_deviate_by_a_share_of_the_larger_of_one_and_the_loss():
    found = deviations([0.5, 2.5, -6.0, NAN, 1.0], [0.25, 2.0, -4.0, 1.0, INF])
    assert found == [0.25, 0.25, 0.5, INF, INF]
    with pytest.raises(ValueError, match="zip"):
        deviations([1.0], [1.0, 2.0])


# --- gradients and changes --------------------------------------------------------------------


def test_a_gradient_s_distance_is_a_share_of_the_norm_of_all():
    want = Gradients(0.0, {"a": wide(3.0, 0.0), "b": wide(0.0, 4.0)})
    got = Gradients(0.0, {"a": wide(3.0, 1.0), "b": wide(3.0, 0.0)})
    assert want.norm == 5.0
    assert distances(got, want) == {"a": 0.2, "b": 1.0}


def test_the_distance_is_taken_in_float64():
    want = Gradients(0.0, {"a": wide(1.0)})
    assert distances(Gradients(0.0, {"a": torch.tensor([1.1])}), want)["a"] == pytest.approx(
        float(torch.tensor(1.1).double()) - 1.0, rel=1e-15
    )


@pytest.mark.parametrize(
    ("got", "want", "found"),
    [
        (None, None, 0.0),
        (None, wide(0.0), INF),
        (wide(0.0), None, INF),
        (wide(NAN), wide(1.0), INF),
        (wide(INF), wide(1.0), INF),
        (wide(INF), wide(INF), INF),
        (wide(0.5), wide(0.0), 0.5),  # where all are 0, the distance is over one
    ],
)
def test_a_gradient_that_is_lacking_or_no_number_is_infinitely_far(got, want, found):
    assert distances(Gradients(0.0, {"a": got}), Gradients(0.0, {"a": want})) == {"a": found}


def test_a_gradient_that_is_not_there_is_infinitely_far():
    assert distances(Gradients(0.0, {}), Gradients(0.0, {"a": wide(1.0)})) == {"a": INF}


def test_a_change_s_distance_is_a_share_of_the_whole_change():
    want = Run([], {"a": wide(3.0), "b": wide(4.0)})
    assert want.norm == 5.0
    assert change_distances(Run([], {"a": wide(1.0), "b": wide(NAN)}), want) == {"a": 0.4, "b": INF}
    narrow = {"a": torch.tensor([3.0, 2.0**100]), "b": torch.tensor([4.0])}
    assert Run([], narrow).norm == 2.0**100  # whose square float32 does not hold
    still = Run([], {"a": wide(0.0)})
    assert still.norm == 0.0
    assert change_distances(Run([], {"a": torch.tensor([0.5])}), still) == {"a": 0.5}


# --- summaries --------------------------------------------------------------------------------


def test_what_is_kept_of_a_gradient_is_compared():
    values = {"a": wide(3.0, 4.0), "b": wide(-2.0)}
    kept = summaries(values)
    assert [(row.name, row.norm) for row in kept] == [("a", 5.0), ("b", 2.0)]
    assert summary_gap(values, kept) == ("", 0.0)
    assert whole_norm(kept) == math.sqrt(29.0)
    assert whole_norm([]) == 1.0


@pytest.mark.parametrize(
    ("got", "off"),
    [
        (wide(3.0, 4.5), pytest.approx(math.hypot(3, 4.5) - 5, rel=1e-9)),
        (wide(4.0, 3.0), None),
        (wide(-3.0, -4.0), None),  # of the same norm: the projections tell
        (wide(NAN, 4.0), INF),
        (wide(INF, 4.0), INF),
    ],
)
def test_the_largest_gap_in_a_norm_or_a_projection(got, off):
    values = {"a": wide(3.0, 4.0), "b": wide(1.0)}
    where, found = summary_gap(values | {"a": got}, summaries(values))
    assert where == "a"
    pairs = zip(projections(got), projections(values["a"]), strict=True)
    sums = max(abs(one - other) for one, other in pairs)
    norms = abs(float(got.norm()) - 5.0)
    assert found == (INF if math.isnan(sums) else max(norms, sums))
    if off == INF:
        assert found == INF


def test_a_projection_that_is_lacking_is_no_agreement():
    short = SimpleNamespace(name="a", norm=1.0, projections=projections(wide(1.0))[:1])
    with pytest.raises(ValueError, match="zip"):
        summary_gap({"a": wide(1.0)}, [short])


def test_the_parameter_that_is_furthest_off_is_named():
    values = {"a": wide(1.0), "b": wide(1.0), "c": wide(1.0)}
    got = values | {"b": wide(1.5), "c": wide(1.25)}
    assert summary_gap(got, summaries(values)) == ("b", 0.5)


@pytest.mark.parametrize(("got", "where"), [({}, "a"), ({"a": wide(1.0), "x": wide(1.0)}, "x")])
def test_names_that_differ_are_infinitely_far(got, where):
    assert summary_gap(got, summaries({"a": wide(1.0)})) == (where, INF)


def test_projections_are_inner_products_over_the_root_of_the_size():
    value = torch.arange(1.0, 10.0).reshape(3, 3)
    for one, which in zip(projections(value), range(2), strict=True):
        signs = trajectory.sign_row(9, which, 0, 9)
        assert one == pytest.approx(float(signs @ value.flatten().double()) / 3, rel=1e-15)
    assert projections(value[0]) != projections(value[1])


def test_projections_in_parts_are_those_of_the_whole(monkeypatch):
    value = torch.arange(23, dtype=torch.float32)
    whole = projections(value)
    monkeypatch.setattr(trajectory, "CHUNK", 5)
    assert projections(value) == pytest.approx(whole, rel=1e-14)
    assert CHUNK == 2**20


@pytest.mark.parametrize(
    ("got", "want", "found"),
    [
        ([1.0, 2.0], [1.0, 2.0], ""),
        ([1.0, NAN], [1.0, NAN], ""),
        ([1.0, NAN], [1.0, 2.0], "step 12: loss nan against 2.0"),
        ([1.0, 2.0], [1.0, NAN], "step 12: loss 2.0 against nan"),
        ([1.0, 2.0], [math.nextafter(1.0, 2), 3.0], "step 11: loss 1.0 against 1.0000000000000002"),
    ],
)
def test_the_first_loss_in_another_bit(got, want, found):
    assert trajectory._first_difference(got, want, 10) == found
    for lacking in (got[:1], [*got, 1.0]):
        with pytest.raises(ValueError, match="zip"):
            trajectory._first_difference(lacking, got, 10)


# --- what may be recorded ---------------------------------------------------------------------

CALM = Envelope([1e-7] * 12, {"a": 1e-3, "b": 0.05}, [])
LOSSES = [2.0] * 12


@pytest.mark.parametrize(
    ("losses", "comparable"),
    [
        ([1e-7, 1e-5, 1e-4], 3),
        ([1e-7, math.nextafter(1e-4, 1), 1.0], 1),
        ([INF], 0),
        ([], 0),
    ],
)
def test_steps_are_comparable_until_rounding_has_grown(losses, comparable):
    assert Envelope(losses, {}, []).comparable == comparable


def test_ten_comparable_steps_are_enough():
    require_calm(CALM, LOSSES)
    require_calm(Envelope([1e-7] * 10 + [1.0] * 2, {}, []), LOSSES)
    with pytest.raises(Inconclusive, match=r"a deviation of 1\.0e\+00 in the loss by step 10"):
        require_calm(Envelope([1e-7] * 9 + [1.0] * 3, {}, []), LOSSES)


@pytest.mark.parametrize("step", [0, 4, 11])
@pytest.mark.parametrize("loss", [INF, -INF, NAN])
def test_a_loss_that_is_no_number_is_told_as_such(step, loss):
    losses = list(LOSSES)
    losses[step] = loss
    grown = [1e-7 if at < step else INF for at in range(12)]
    with pytest.raises(Inconclusive, match=f"loss of step {step + 1} is {loss} in float64"):
        require_calm(Envelope(grown, {}, []), losses)


def test_a_gradient_may_be_off_by_what_rounding_explains(monkeypatch):
    loss = 1.0
    monkeypatch.setattr(envelope, "float64_gradients", lambda _: Gradients(loss, {}))
    monkeypatch.setattr(envelope, "most_gradient", lambda _: 1e-5)
    bench = SimpleNamespace(loader=SimpleNamespace(dtype="float32"))
    require_precise(bench, {"a": 1e-6, "b": 1e-5})
    for off in (math.nextafter(1e-5, 1), INF):
        with pytest.raises(Inconclusive, match="gradient of b in float32"):
            require_precise(bench, {"a": 1e-6, "b": off, "c": 0.0})
    loss = NAN
    with pytest.raises(Inconclusive, match="loss of step 1 is nan"):
        require_precise(bench, {"a": 0.0})


@pytest.mark.parametrize(
    ("dtype", "eps"),
    [("float64", 2.0**-23), ("float32", 2.0**-23), ("float16", 2.0**-10), ("bfloat16", 2.0**-7)],
)
@pytest.mark.parametrize(
    ("native", "lost"),
    [((3.0, 4.0), 0.0), ((3.5, 4.0), 0.1), ((6.0, 8.0), 1.0), ((3.0, NAN), INF), ((INF, 4.0), INF)],
)
def test_rounding_explains_200_units_and_what_the_outputs_have_lost(
    monkeypatch, dtype, eps, native, lost
):
    """Four times the relative error of the gradient at the outputs, which all others inherit."""
    at = {"oracle": (3.0, 4.0), "model": native}

    def at_outputs(_bench, model, batch):
        assert batch.inputs["x"].dtype == {"oracle": torch.float64, "model": torch.float32}[model]
        return {name: wide(value, 0.0) for name, value in zip("ab", at[model], strict=True)}

    monkeypatch.setattr(envelope, "_at_outputs", at_outputs)
    monkeypatch.setattr(envelope, "first_batch", lambda _: Batch({"x": torch.zeros(1)}, {}))
    bench = Counting(loader=SimpleNamespace(dtype=dtype), model="model")
    assert most_gradient(bench) == pytest.approx(200 * eps + 4 * lost, rel=1e-14)
    assert bench.passes == 1
    at = {"oracle": (0.0, 0.0), "model": (0.5, 0.0)}
    assert most_gradient(bench) == pytest.approx(200 * eps + 4 * 0.5, rel=1e-14)


class Counting(SimpleNamespace):
    """A bench that counts passes and remembers nothing."""

    passes = 0

    def remember(self, _key, make):
        return make()

    def count(self, passes=1):
        self.passes += passes

    def in_float64(self, use):
        return use("oracle")


def test_the_gradient_at_the_outputs_is_that_of_the_loss(monkeypatch):
    outputs = {"logits": wide(1.0, 2.0), "ids": torch.tensor([7]), "unused": wide(5.0)}
    goal = SimpleNamespace(risk=lambda out, labels: (out["logits"] * labels["y"]).sum())
    monkeypatch.setattr(envelope, "objective", lambda _: goal)
    leaf = torch.ones(2, dtype=torch.float64, requires_grad=True)
    model = SimpleNamespace(
        forward=lambda _: outputs | {"logits": outputs["logits"] * leaf},
        device=torch.device("cpu"),
    )
    batch = Batch({"x": torch.zeros(1)}, {"y": wide(3.0, -1.0)})
    found = envelope._at_outputs(None, model, batch)
    assert sorted(found) == ["logits"]
    assert found["logits"].tolist() == [3.0, -1.0]
    goal.risk = lambda *_: torch.tensor(1.0)
    assert envelope._at_outputs(None, model, batch) == {}


def test_the_limits_are_those_of_the_standard():
    assert (CHAOS, LEAST, FACTOR, FLOOR) == (1e-4, 10, 4.0, 4e-7)
    assert (UNITS, AT_OUTPUTS, DRIFT) == (200, 4.0, 0.05)


def test_a_change_may_drift_by_a_twentieth():
    require_close(CALM)
    for off in (math.nextafter(0.05, 1), INF):
        with pytest.raises(Inconclusive, match="change of b is"):
            require_close(Envelope([], {"a": 1e-3, "b": off, "c": 0.0}, []))


# --- legitimate variation ---------------------------------------------------------------------


def test_weights_are_nudged_by_one_unit_both_ways():
    module = torch.nn.Linear(8, 8)
    module.register_parameter("narrow", torch.nn.Parameter(torch.full((8,), 3.0).bfloat16()))
    module.register_parameter("whole", torch.nn.Parameter(torch.arange(4), requires_grad=False))
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    model, state = SimpleNamespace(module=module), torch.get_rng_state()
    nudged(model)
    assert torch.equal(torch.get_rng_state(), state)
    after = {name: value.detach().clone() for name, value in module.named_parameters()}
    assert torch.equal(after["whole"], before["whole"])
    for name in ("weight", "bias", "narrow"):
        ratio = after[name].double() / before[name].double() - 1
        eps = torch.finfo(after[name].dtype).eps
        assert float(ratio.abs().max()) <= 2 * eps
        assert float(ratio.max()) > 0.4 * eps
        assert float(ratio.min()) < -0.4 * eps
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(before[name])
    nudged(model)
    assert all(torch.equal(value, after[name]) for name, value in module.named_parameters())


def test_rows_are_reversed_and_pairs_stay_pairs():
    rows = Batch({"x": torch.arange(4)}, {"y": torch.arange(4) + 10})
    assert reverse(rows).inputs["x"].tolist() == [3, 2, 1, 0]
    assert reverse(rows).labels["y"].tolist() == [13, 12, 11, 10]
    pairs = Batch({"x": torch.tensor([0, 1, 2, 100, 101, 102])}, {"pairs": torch.arange(3)})
    assert reverse(pairs).inputs["x"].tolist() == [2, 1, 0, 102, 101, 100]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], torch.uint8),
        ([0, 256], torch.int16),
        ([-1, 127], torch.int8),
        ([-128, 0], torch.int8),
        ([-129, 0], torch.int16),
        ([-100, 128], torch.int16),
        ([0, 2**15 - 1], torch.int16),
        ([0, 2**15], torch.int32),
        ([0, 2**31 - 1], torch.int32),
        ([0, 2**31], torch.int64),
        ([-(2**31) - 1, 0], torch.int64),
        ([0.5, 1.0], torch.float32),
    ],
)
def test_batches_are_kept_as_narrow_as_they_go_and_no_narrower(values, dtype):
    made = [
        Batch({"x": torch.tensor(values)}, {"y": torch.tensor([1, 2])}),
        Batch({"x": torch.tensor(values).flip(0)}, {"y": torch.tensor([3, 4])}),
    ]
    assert tensors_of(made[:1])["batch.x"].tolist() == [values]
    kept = tensors_of(made)
    assert sorted(kept) == ["batch.x", "labels.y"]
    assert kept["batch.x"].dtype == dtype
    assert kept["batch.x"].tolist() == [values, values[::-1]]
    assert kept["labels.y"].tolist() == [[1, 2], [3, 4]]
    assert kept["batch.x"].is_contiguous()
