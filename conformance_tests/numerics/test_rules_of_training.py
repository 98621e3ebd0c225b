"""Checks of losses, gradients and training at their bounds: at it they pass, beyond they fail."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from rules import INF, NAN, NO_NUMBERS, above, bench_of, finding, judged, row, wide

from slmconform.checks import grd, los, trn
from slmconform.measure.batches import Batch
from slmconform.measure.checkpointing import Checkpointed
from slmconform.measure.derivative import Derivative
from slmconform.measure.gradient import Gradients
from slmconform.measure.own_loss import Accumulated, OwnLoss
from slmconform.measure.trajectory import Again, Run

ROUNDING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float64: 2.0**-52}


@pytest.fixture
def put(monkeypatch):
    """Put a measurement in the place of one of the package."""

    def patch(name, value):
        monkeypatch.setattr(f"slmconform.measure.{name}", lambda *_, **__: value)

    return patch


def goal(*, risk=0.0, kind="cross-entropy", closed=None, other=None):
    """A loss whose value and closed form are given; ``other`` is that of moved labels."""

    def gradient(_outputs, labels):
        return closed if torch.equal(labels["labels"], LABELS) else other

    return SimpleNamespace(
        kind=kind,
        risk=lambda *_: torch.tensor(risk, dtype=torch.float64),
        targets=lambda *_: {"logits": LABELS},
        counted=lambda _: 3,
        closed_gradient=gradient,
    )


LABELS = torch.tensor([0, 1, 2])
BATCH = Batch({"input_ids": torch.zeros(3, 1, dtype=torch.int64)}, {"labels": LABELS})


def own(value, outputs=None, gradients=None):
    return OwnLoss(
        torch.tensor(value, dtype=torch.float64), outputs or {"logits": wide(0.5)}, gradients or {}
    )


# --- the own loss -----------------------------------------------------------------------------


def risked(put, *, risk=0.0, exact=None, native=None, outputs=None):
    """A risk, and the own loss in float64 and in the model's own dtype; both right if not given."""
    put("own_loss.in_float64", own(risk if exact is None else exact))
    put("own_loss.natively", own(risk if native is None else native, outputs))
    put("own_loss.objective", goal(risk=risk))
    put("batches.probed", BATCH)
    put("suspects.suspects", {"not-shifted": 7.0})
    return bench_of()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_own_loss_is_the_risk_to_the_semantic_bound(put, sign):
    for off, wanted in [(1e-10, "pass"), (above(1e-10), "loss-differs")]:
        assert judged(los.empirical_risk, risked(put, exact=sign * off)) == wanted
    for off, wanted in [(3.99e-10, "pass"), (4.01e-10, "loss-differs")]:
        bench = risked(put, risk=sign * 4.0, exact=sign * (4.0 + off))
        assert judged(los.empirical_risk, bench) == wanted


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_an_own_loss_that_is_no_number_differs(put, value):
    """Not: by no more than a bound that is as infinite as itself."""
    assert judged(los.empirical_risk, risked(put, exact=value)) == "loss-differs"
    assert judged(los.empirical_risk, risked(put, native=value)) == "loss-imprecise"


def test_a_known_mistake_is_named(put):
    found = finding(los.empirical_risk, risked(put, exact=7.0))
    assert found.code == "not-shifted"
    assert found.want.startswith("0 within 1.0e-10: the mean cross-entropy of 3 counted labels")


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(
    ("risk", "output", "size"), [(0.5, 0.5, 1), (4.0, 2.0, 4), (-4.0, 2.0, 4), (0.5, -8.0, 8)]
)
def test_in_its_own_dtype_the_loss_has_eight_units(put, dtype, risk, output, size):
    """Of the largest of one, the loss and the outputs; what is infinite is no size."""
    allowed = 8 * ROUNDING[dtype] * size
    outputs = {"logits": torch.tensor([output, -INF], dtype=dtype), "other": wide(1e9)}
    for share, wanted in [(0.875, "pass"), (1.125, "loss-imprecise")]:
        for sign in (1, -1):
            bench = risked(put, risk=risk, native=risk + sign * share * allowed, outputs=outputs)
            assert judged(los.empirical_risk, bench) == wanted
    if risk == 0.5:
        bench = risked(put, risk=risk, native=risk + allowed, outputs=outputs)
        assert judged(los.empirical_risk, bench) == "pass"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_outputs_the_larger_and_the_coarser_count(put, order):
    """As of the start and the end of an answer, which the loss is over both."""
    names = ["start", "end"][::order]
    outputs = dict(zip(names, (torch.tensor([16.0]), torch.tensor([1.0]).bfloat16()), strict=True))
    allowed = 8 * 2.0**-7 * 16
    for share, wanted in [(0.875, "pass"), (1.125, "loss-imprecise")]:
        bench = risked(put, risk=0.5, native=0.5 + share * allowed, outputs=outputs)
        both = goal(risk=0.5)
        both.targets = lambda *_: dict.fromkeys(["start", "end"])
        put("own_loss.objective", both)
        assert judged(los.empirical_risk, bench) == wanted


def test_the_risk_is_taken_in_float64(put):
    seen = []
    bench, asked = risked(put, outputs={"logits": torch.tensor([0.5])}), goal()
    asked.risk = lambda *given: seen.extend(given) or torch.tensor(0.0)
    put("own_loss.objective", asked)
    put("batches.probed", Batch(BATCH.inputs, {"labels": torch.tensor([0.5])}))
    assert judged(los.empirical_risk, bench) == "pass"
    assert {value.dtype for given in seen for value in given.values()} == {torch.float64}


# --- its gradient -----------------------------------------------------------------------------

CLOSED = wide([0.25, -0.25], [0.0, 0.0], [0.5, -0.5])


def gradients(put, got, *, closed=CLOSED, other=None, task="token-classification", kind=None):
    """The gradient of the own loss beside its closed form; the middle row does not count."""
    moved = closed + 1.0 if other is None else other
    put("own_loss.in_float64", own(1.0, gradients={"logits": got}))
    kept = {"closed": {"logits": closed}, "other": {"logits": moved}}
    put("own_loss.objective", goal(kind=kind or "cross-entropy", **kept))
    put("batches.probed", BATCH)
    return bench_of(task=task)


def changed(place, value):
    got = CLOSED.clone()
    got[place] = value
    return got


@pytest.mark.parametrize(
    ("place", "value", "form", "ignored"),
    [
        ((0, 0), 0.25, "pass", "pass"),
        ((2, 1), -0.5 - 0.99e-12, "pass", "pass"),
        ((2, 1), -0.5 + 1.01e-12, "loss-gradient", "pass"),
        ((0, 0), 0.25 + 1.01e-12, "loss-gradient", "pass"),
        ((0, 0), NAN, "loss-gradient", "pass"),
        ((0, 0), INF, "loss-gradient", "pass"),
        ((1, 0), 5e-324, "pass", "ignored-label-counts"),
        ((1, 1), -1.0, "pass", "ignored-label-counts"),
        ((1, 1), NAN, "pass", "ignored-label-counts"),
    ],
)
def test_the_gradient_is_the_closed_form_where_it_counts_and_zero_elsewhere(
    put, place, value, form, ignored
):
    bench = gradients(put, changed(place, value))
    assert judged(los.closed_form, bench) == form
    assert judged(los.ignored_positions, bench) == ignored


def test_the_bound_on_the_gradient_is_met_exactly(put):
    """Beside a closed form that is as small: there the difference is exact."""
    closed = wide([2e-12, 0.0])
    for got, wanted in [(1e-12, "pass"), (1e-12 - 1e-27, "loss-gradient")]:
        assert judged(los.closed_form, gradients(put, wide([got, 0.0]), closed=closed)) == wanted


def test_where_all_outputs_count_none_is_ignored(put):
    closed = CLOSED[[0, 2]]
    assert judged(los.ignored_positions, gradients(put, closed, closed=closed)) == "pass"


def test_where_it_counts_is_told(put):
    assert "at 2 outputs" in los.closed_form(gradients(put, CLOSED))
    three = CLOSED.reshape(1, 3, 2)
    assert "at 2 outputs" in los.closed_form(gradients(put, three, closed=three))
    ends = wide(0.5, 0.0, -0.5)
    assert "at 2 outputs" in los.closed_form(gradients(put, ends, closed=ends))
    off = wide(0.5, 1.0, -0.5)
    bench = gradients(put, off, closed=ends)
    assert judged(los.closed_form, bench) == "pass"
    assert judged(los.ignored_positions, bench) == "ignored-label-counts"


@pytest.mark.parametrize(
    ("gap", "wanted"), [(0.0, "Inconclusive"), (1e-6, "Inconclusive"), (1.01e-6, "pass")]
)
def test_wrong_labels_have_to_give_another_gradient(put, gap, wanted):
    """The control: a comparison that any labels pass proves nothing."""
    closed = wide([0.0, 0.0], [1.0, 0.0])
    bench = gradients(put, closed, closed=closed, other=closed + wide([gap, 0.0], [0.0, 0.0]))
    assert judged(los.closed_form, bench) == wanted


def test_a_loss_from_elsewhere_cannot_be_judged(put):
    bench = gradients(put, None)
    assert judged(los.closed_form, bench) == "Inconclusive"
    put("saturation.saturated", own(1.0, gradients={"logits": None}))
    assert judged(los.saturation, bench) == "Inconclusive"


@pytest.mark.parametrize(
    ("task", "kind", "wanted"),
    [
        ("causal-lm", "cross-entropy", "pass"),
        ("masked-lm", "cross-entropy", "pass"),
        ("masked-lm", "mean-squared-error", "NotApplicable"),
        ("text-classification", "cross-entropy", "NotApplicable"),
        ("question-answering", "cross-entropy", "NotApplicable"),
        ("multiple-choice", "cross-entropy", "NotApplicable"),
        ("sequence-scoring", "cross-entropy", "NotApplicable"),
    ],
)
def test_positions_are_ignored_where_the_task_knows_any(put, task, kind, wanted):
    assert judged(los.ignored_positions, gradients(put, CLOSED, task=task, kind=kind)) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saturated_loss_has_four_units(put, dtype):
    closed = wide([1.0, 0.0])
    bench = bench_of()
    put("own_loss.objective", goal(closed={"logits": closed}))
    put("batches.probed", BATCH)
    outputs = {"logits": wide([100.0, -100.0])}
    for units, wanted in [(0, "pass"), (4, "pass"), (5, "loss-saturates")]:
        got = torch.tensor([[1.0, units * ROUNDING[dtype]]], dtype=dtype)
        put("saturation.saturated", own(1.0, outputs, {"logits": got}))
        assert judged(los.saturation, bench) == wanted
    for value in (0.0, NAN, INF):
        got = torch.tensor([[value, 0.0]], dtype=dtype)
        put("saturation.saturated", own(1.0, outputs, {"logits": got}))
        found = finding(los.saturation, bench)
        assert found.code == "loss-saturates"
        assert found.got == f"gradient {value:.6g} at output 100"
        assert found.want.startswith("1 within ")
    put("own_loss.objective", goal(kind="mean-squared-error"))
    assert judged(los.saturation, bench) == "NotApplicable"


# --- sums and records of losses ---------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_parts_sum_to_the_whole(put, sign):
    def of(*values):
        put("own_loss.accumulated", Accumulated(*values))
        return judged(los.accumulation, bench_of())

    for off, ok in [(0.0, True), (1e-10, True), (above(1e-10), False), (INF, False), (NAN, False)]:
        assert of(0.0, sign * off, 1.0, None) == ("pass" if ok else "accumulation-differs")
        assert of(0.0, 0.0, 1.0, sign * off) == ("pass" if ok else "num-items-in-batch")
    whole = sign * 4.0
    assert of(whole, whole + 3.99e-10, 1.0, None) == "pass"
    assert of(whole, whole + 4.01e-10, 1.0, None) == "accumulation-differs"
    assert of(0.0, 0.0, sign * 1e-6, None) == "Inconclusive"
    assert of(0.0, 0.0, sign * 1.01e-6, None) == "pass"
    assert of(whole, whole, whole + 3.99e-6, None) == "Inconclusive"
    assert of(whole, whole, whole + 4.01e-6, None) == "pass"


def test_how_far_the_sum_is_off_is_told(put):
    for sign in (1, -1):
        put("own_loss.accumulated", Accumulated(4.0, 4.0 + sign * 2e-10, 4.5, None))
        assert los.accumulation(bench_of()) == (
            "off by 2.0e-10; the plain mean of means by 5.0e-01"
        )


def test_the_place_of_the_sum_is_told(put):
    put("own_loss.accumulated", Accumulated(0.0, 1.0, 0.5, 1.0))
    assert "weighted by their labels" in finding(los.accumulation, bench_of()).where
    put("own_loss.accumulated", Accumulated(0.0, 0.0, 0.5, 1.0))
    assert "given num_items_in_batch" in finding(los.accumulation, bench_of()).where


def trained(**changed):
    plain = {"losses": [0.0, 0.0], "gradients": [], "changes": [], "steps": 2, "recipe": {}}
    return SimpleNamespace(**plain | changed)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_first_loss_is_the_recorded_one(put, sign):
    def of(want, got):
        put("gradient.float64_gradients", Gradients(got, {}))
        return judged(los.recorded_loss, bench_of(training=trained(losses=[want, 9.0])))

    assert of(0.0, sign * 1e-10) == "pass"
    assert of(0.0, sign * above(1e-10)) == "loss-changed"
    assert of(sign * 4.0, sign * 4.0 + 3.99e-10) == "pass"
    assert of(sign * 4.0, sign * 4.0 + 4.01e-10) == "loss-changed"
    for value in NO_NUMBERS:
        assert of(0.0, value) == "loss-changed"
    assert judged(los.recorded_loss, bench_of()) == "NoReference"


# --- gradients --------------------------------------------------------------------------------


def derivative(verdict, product=1.0, measured=1.0, name="w"):
    return Derivative(name, product, measured, 0.5, verdict)


@pytest.mark.parametrize("check", [grd.derivative_of_each, grd.derivative_of_tied])
@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        (["agrees", "kink"], "pass"),
        (["agrees", "unclear"], "Inconclusive"),
        (["agrees", "unclear", "differs"], "wrong"),
        ([], "NotApplicable"),
    ],
)
def test_one_wrong_derivative_is_one_too_many(put, check, verdicts, wanted):
    put("gradient.probed_gradients", Gradients(1.0, {"w": wide(1.0)}))
    put("gradient.tied", {"w"})
    put("derivative.derivatives", [derivative(verdict) for verdict in verdicts])
    wrong = "gradient-differs" if check is grd.derivative_of_each else "tied-use-missing"
    assert judged(check, bench_of()) == (wrong if wanted == "wrong" else wanted)
    put("derivative.derivatives", [derivative("differs", product=0.0)])
    assert judged(check, bench_of()) == "detached"


def test_how_near_derivatives_are_is_told(put):
    put("gradient.probed_gradients", Gradients(1.0, {"w": wide(1.0)}))
    found = [derivative("agrees", 1.0, 1.125), derivative("agrees", 1.0, 0.75)]
    put("derivative.derivatives", found)
    assert grd.derivative_of_each(bench_of()) == (
        "2 tensors agree, at most 0.50 of the bound, steps of 0.0001"
    )
    put("derivative.derivatives", [*found, derivative("kink", 1.0, 9.0)])
    assert grd.derivative_of_each(bench_of()) == (
        "3 tensors agree, at most 0.50 of the bound; 1 across a kink, by finer steps"
    )
    put("derivative.derivatives", [derivative("kink", 1.0, 9.0)])
    assert grd.derivative_of_each(bench_of()) == (
        "1 tensors agree, at most 0.00 of the bound; 1 across a kink, by finer steps"
    )


def test_tied_and_untied_parameters_are_asked_apart(put, monkeypatch):
    put("gradient.probed_gradients", Gradients(1.0, {"w": wide(1.0)}))
    put("gradient.tied", {"w"})
    wrong = {"tied": [], "untied": []}
    monkeypatch.setattr("slmconform.measure.derivative.derivatives", lambda _, which: wrong[which])
    wrong["untied"] = [derivative("differs"), derivative("differs", name="v")]
    assert finding(grd.derivative_of_each, bench_of()).where == "w (and 1 more: v ...)"
    assert judged(grd.derivative_of_tied, bench_of()) == "NotApplicable"
    wrong |= {"untied": [], "tied": [derivative("differs")]}
    assert finding(grd.derivative_of_tied, bench_of()).where == "w"
    assert judged(grd.derivative_of_each, bench_of()) == "NotApplicable"


def test_a_gradient_of_nothing_teaches_nothing(put):
    put("derivative.derivatives", [derivative("agrees")])
    put("gradient.tied", frozenset())
    assert judged(grd.derivative_of_tied, bench_of()) == "NotApplicable"
    for value, wanted in [(0.0, "no-gradient"), (1e-150, "pass"), (NAN, "pass")]:
        put("gradient.probed_gradients", Gradients(1.0, {"w": wide(value)}))
        assert judged(grd.derivative_of_each, bench_of()) == wanted


@pytest.mark.parametrize(
    ("worst", "wanted"),
    [(1e-10, "pass"), (above(1e-10), "differs"), (INF, "differs"), (NAN, "differs")],
)
def test_checkpointing_gives_the_same_gradients(put, worst, wanted):
    put("checkpointing.checkpointed", Checkpointed(worst, "w", 2))
    outcome = judged(grd.checkpointing, bench_of())
    assert outcome == (f"checkpointing-{wanted}" if wanted == "differs" else wanted)


ZERO = {"a": wide(0.0), "b": wide(0.0)}


@pytest.mark.parametrize(("norms", "whole"), [((3.0, 4.0), 5.0), ((0.0, 0.0), 1.0)])
@pytest.mark.parametrize("which", ["gradients", "changes"])
def test_norms_and_projections_are_the_recorded_ones(put, which, norms, whole):
    """1e-9 of the global norm of the recorded gradients, 1e-8 of that of the recorded changes."""
    bound = (1e-9 if which == "gradients" else 1e-8) * whole
    code = "gradient-changed" if which == "gradients" else "trained-weights-differ"
    check = grd.recorded_gradients if which == "gradients" else trn.float64_weights

    def of(**rows):
        kept = {which: [row("a", *rows.get("a", (norms[0],))), row("b", norms[1])]}
        return judged(check, bench_of(training=trained(**kept)))

    exact = {"a": wide(norms[0]), "b": wide(norms[1])}
    for values, wanted in [
        (exact, "pass"),
        (exact | {"a": wide(norms[0] + 1e-3)}, code),
        (exact | {"a": wide(INF)}, code),
        (exact | {"b": wide(NAN)}, code),
        ({"a": exact["a"]}, code),
    ]:
        put("gradient.float64_gradients", Gradients(0.0, values | {"idle": None}))
        put("trajectory.float64_run", Run([], values))
        put("trajectory.projections", [0.0, 0.0])
        assert of() == wanted
    put("gradient.float64_gradients", Gradients(0.0, exact))
    put("trajectory.float64_run", Run([], exact))
    for off, wanted in [(bound, "pass"), (above(bound), code)]:
        assert of(a=(norms[0], 0.0, off)) == wanted
        assert of(a=(norms[0], -off, 0.0)) == wanted


def test_what_is_frozen_does_not_move(put):
    put("trajectory.float64_run", Run([], {}, ("emb",)))
    assert judged(trn.float64_weights, bench_of(training=trained())) == "frozen-moved"


def device(*, dtype="float32", **found):
    training = SimpleNamespace(
        dtype=dtype, **{"gradients": {}, "changes": {}, "envelope": []} | found
    )
    return {"cpu": SimpleNamespace(errors=[], training=training)}


@pytest.mark.parametrize(
    ("dtype", "factor", "eps"),
    [("float32", 2, 2.0**-23), ("bfloat16", 3, 2.0**-7), ("float16", 3, 2.0**-10)],
)
@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_gradients_are_as_near_to_float64_as_recorded(put, dtype, factor, eps, noise):
    """k times the recorded distance, which no record makes larger than rounding explains."""
    most = 0.25
    put("envelope.most_gradient", most)
    put("envelope.native_gradients", None)
    exact = {"w": wide(3.0, 0.0), "v": wide(0.0, 4.0), "u": None}
    put("gradient.float64_gradients", Gradients(0.0, exact))
    devices = device(dtype=dtype, gradients={"w": noise, "u": 0.0})
    bench = bench_of(dtype=dtype, training=trained(), devices=devices)
    allowed = {
        "w": factor * min(noise, most) + eps * (0.6 + eps),
        "v": eps * (0.8 + eps),
        "u": eps * eps,
    }
    put("envelope.distances", allowed)
    assert judged(grd.gradients_in_shipped_dtype, bench) == "pass"
    assert grd.gradients_in_shipped_dtype(bench) == "1.00 of the allowed distance from float64"
    put("envelope.distances", {name: bound / 2 for name, bound in allowed.items()})
    assert grd.gradients_in_shipped_dtype(bench) == "0.50 of the allowed distance from float64"
    for name, bound in allowed.items():
        for value in (above(bound), *NO_NUMBERS):
            put("envelope.distances", allowed | {name: value})
            assert judged(grd.gradients_in_shipped_dtype, bench) == f"{dtype}-gradient-differs"


def test_without_a_record_of_training_there_is_no_reference(put):
    put("gradient.float64_gradients", Gradients(0.0, {}))
    nothing = {"cpu": SimpleNamespace(errors=[], training=None)}
    for found, wanted in [
        ({}, "NoReference"),
        ({"devices": device()}, "NoReference"),
        ({"training": trained()}, "NoReference"),
        ({"training": trained(), "devices": nothing}, "NoReference"),
        ({"training": trained(), "devices": device(dtype="bfloat16")}, "NotExamined"),
    ]:
        assert judged(grd.gradients_in_shipped_dtype, bench_of(**found)) == wanted
    wide_bench = bench_of(dtype="float64", training=trained(), devices=device(dtype="float64"))
    assert judged(grd.gradients_in_shipped_dtype, wide_bench) == "NotApplicable"


# --- training ---------------------------------------------------------------------------------


@pytest.fixture
def recipe(monkeypatch):
    """The declared recipe, as it is compared with the recorded one."""
    declared = {}
    made = SimpleNamespace(model_dump=lambda mode: {"json": dict(declared)}[mode])
    monkeypatch.setattr("slmconform.measure.trajectory.recipe_of", lambda _: made)
    return declared


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.usefixtures("recipe")
def test_every_loss_is_the_recorded_one(put, step):
    def of(want, got):
        wanted, found = [0.5, 0.5], [0.5, 0.5]
        wanted[step], found[step] = want, got
        put("trajectory.float64_run", Run(found, {}))
        return judged(trn.float64_losses, bench_of(training=trained(losses=wanted)))

    assert of(0.0, 1e-9) == "pass"
    assert of(0.0, above(1e-9)) == "training-differs"
    assert of(-4.0, -4.0 - 3.99e-9) == "pass"
    assert of(-4.0, -4.0 + 4.01e-9) == "training-differs"
    for value in NO_NUMBERS:
        assert of(0.0, value) == "training-differs"


def test_the_recipe_is_the_recorded_one(put, recipe):
    put("trajectory.float64_run", Run([0.0, 0.0], {}))
    recipe |= {"steps": 2, "seed": 1}
    for recorded, wanted in [
        ({"steps": 2, "seed": 1}, "pass"),
        ({"steps": 2, "seed": 2}, "recipe-changed"),
        ({"steps": 2}, "recipe-changed"),
        ({"steps": 2, "seed": 1, "more": 3}, "recipe-changed"),
    ]:
        assert judged(trn.float64_losses, bench_of(training=trained(recipe=recorded))) == wanted
    found = finding(trn.float64_losses, bench_of(training=trained(recipe={"steps": 3, "seed": 1})))
    assert (found.got, found.want) == ("steps = 2", "steps = 3, as recorded")
    many = dict.fromkeys("qwertyuiopasdfghjkl", 1)  # the first in the alphabet is told
    assert finding(trn.float64_losses, bench_of(training=trained(recipe=many))).got == "a = None"


@pytest.mark.parametrize(
    ("noise", "allowed"),
    [(0.0, 4e-7), (1e-6, 4e-6 + 4e-7), (1e-4, 4e-4 + 4e-7), (1.0, 4e-4 + 4e-7)],
)
def test_a_loss_stays_within_four_times_the_envelope(put, noise, allowed):
    """And within what a recording may accept, whatever the evidence says."""
    devices = device(envelope=[0.0, noise])
    bench = bench_of(training=trained(), devices=devices)
    put("trajectory.float64_run", Run([0.0, 0.0], {}))
    for off, wanted in [
        (allowed * (1 - 1e-12), "pass"),
        (-allowed * (1 - 1e-12), "pass"),
        (allowed * (1 + 1e-12), "training-loses-precision"),
        (INF, "training-loses-precision"),
        (NAN, "training-loses-precision"),
    ]:
        put("trajectory.device_run", Run([0.0, off], {}))
        assert judged(trn.device_losses, bench) == wanted
    put("trajectory.device_run", Run([4e-7, 0.0], {}))
    assert trn.device_losses(bench) == "2 steps, at most 1.00 of the allowed deviation"
    put("trajectory.device_run", Run([2e-7, 0.0], {}))
    assert trn.device_losses(bench) == "2 steps, at most 0.50 of the allowed deviation"
    short = bench_of(training=trained(), devices=device(envelope=[0.0]))
    with pytest.raises(ValueError, match="zip"):
        trn.device_losses(short)
    put("trajectory.device_run", Run([above(4e-7), 0.0], {}))
    assert judged(trn.device_losses, bench) == "training-loses-precision"


@pytest.mark.parametrize(
    ("recorded", "allowed"),
    [({}, 4e-7), ({"w": 1e-3}, 4e-3 + 4e-7), ({"w": 0.05}, 0.2), ({"w": 1.0}, 0.2)],
)
def test_a_change_stays_within_four_times_the_recorded_distance(put, recorded, allowed):
    bench = bench_of(training=trained(), devices=device(changes=recorded))
    put("trajectory.float64_run", Run([], {}))
    put("trajectory.device_run", Run([], {}))
    code = "trained-weights-lose-precision"
    for off, wanted in [
        (allowed * (1 - 1e-12), "pass"),
        (allowed * (1 + 1e-12), code),
        (INF, code),
        (NAN, code),
    ]:
        put("envelope.change_distances", {"v": 0.0, "w": off})
        assert judged(trn.device_weights, bench) == wanted
    put("envelope.change_distances", {"v": 4e-7, "w": 0.0})
    assert trn.device_weights(bench) == "2 changes, at most 1.00 of the allowed distance"
    put("envelope.change_distances", {"v": 2e-7, "w": 0.0})
    assert trn.device_weights(bench) == "2 changes, at most 0.50 of the allowed distance"


@pytest.mark.parametrize(
    ("check", "name", "code"),
    [
        (trn.trained_again, "rerun", "rerun-differs"),
        (trn.resumed_training, "resumed", "resume-differs"),
    ],
)
def test_a_difference_in_any_bit_is_one(put, check, name, code):
    bench = bench_of(training=trained())
    put("trajectory.rerun", Again("", 1))
    for difference, wanted in [("", "pass"), ("step 2: loss 1.0 against 2.0", code)]:
        put(f"trajectory.{name}", Again(difference, 1))
        assert judged(check, bench) == wanted
    assert finding(check, bench).got == "step 2: loss 1.0 against 2.0"
