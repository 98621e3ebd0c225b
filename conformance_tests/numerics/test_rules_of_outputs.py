"""Checks of outputs and scores at their bounds: at it they pass, one float beyond they fail."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from rules import INF, NAN, NO_NUMBERS, above, bench_of, finding, judged, patched, wide

from slmconform.checks import det, inv, ref
from slmconform.engine.registry import NoReference, NotApplicable
from slmconform.measure.compare import Difference
from slmconform.measure.reference import Error
from slmconform.model.loaded import CandidateError

EPS = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
FACTORS = {"float32": 2, "bfloat16": 3, "float16": 3}
INVARIANCES = {
    inv.batch_size: ("batch_gap", "batch-dependent"),
    inv.row_order: ("permuted_gap", "order-dependent"),
    inv.prefix: ("prefix_gap", "prefix-differs"),
    inv.cached_decoding: ("cache_gap", "cache-differs"),
    inv.attention_implementation: ("attention_gap", "attention-differs"),
    inv.threads: ("threads_gap", "thread-dependent"),
    inv.causality: ("future_gap", "sees-the-future"),
}


def raising(monkeypatch, name, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(f"slmconform.measure.{name}", fails)


CRASH = CandidateError("forward", ValueError("no such size"))

# --- invariances ------------------------------------------------------------------------------


@pytest.mark.parametrize("check", INVARIANCES)
@pytest.mark.parametrize(("scale", "bound"), [(0.5, 1e-10), (8.0, 8 * 1e-10)])
def test_an_invariance_holds_to_the_semantic_bound(monkeypatch, check, scale, bound):
    name, code = INVARIANCES[check]
    patched(monkeypatch, "invariance.constants_gap", Difference(0.0, scale, ""))
    for gap, wanted in [(0.0, "pass"), (bound, "pass"), (above(bound), code), (INF, code)]:
        patched(monkeypatch, f"invariance.{name}", Difference(gap, scale, "logits[0]"))
        assert judged(check, bench_of()) == wanted


def test_a_cached_step_may_be_off_by_the_rounding_of_constants_and_no_more(monkeypatch):
    patched(monkeypatch, "invariance.constants_gap", Difference(1e-8, 1.0, ""))
    for gap, wanted in [(1e-10, "pass"), (1e-8, "Inconclusive"), (above(1e-8), "cache-differs")]:
        patched(monkeypatch, "invariance.cache_gap", Difference(gap, 1.0, "logits[0]"))
        assert judged(inv.cached_decoding, bench_of()) == wanted


@pytest.mark.parametrize("check", INVARIANCES)
def test_a_model_that_does_not_run_the_other_way_fails(monkeypatch, check):
    raising(monkeypatch, f"invariance.{INVARIANCES[check][0]}", CRASH)
    assert judged(check, bench_of()) == "forward-raises"


def test_what_is_not_declared_is_not_asked(monkeypatch):
    bench = bench_of()
    bench.interface.capabilities.causal = False
    assert judged(inv.prefix, bench) == "NotApplicable"
    bench.interface.capabilities.kv_cache = False
    assert judged(inv.cached_decoding, bench) == "NotApplicable"
    assert judged(inv.cached_decoding, bench_of(kind="torch")) == "NotExamined"
    bench.declared = False
    assert judged(inv.causality, bench) == "NotExamined"
    bench.interface.capabilities.causal = True
    patched(monkeypatch, "invariance.future_gap", Difference(0.0, 1.0, ""))
    assert judged(inv.causality, bench) == "pass"


@pytest.mark.parametrize(
    ("gap", "wanted"), [(0.0, "is-causal"), (5e-324, "pass"), (1.0, "pass"), (INF, "pass")]
)
def test_a_model_that_is_declared_not_causal_shows_an_influence(monkeypatch, gap, wanted):
    bench = bench_of()
    bench.interface.capabilities.causal = False
    patched(monkeypatch, "invariance.future_gap", Difference(gap, 1.0, ""))
    assert judged(inv.causality, bench) == wanted


def mask(*, required):
    return SimpleNamespace(name="attention_mask", role="mask", required=required)


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ([], "forward-raises"),
        ([mask(required=True)], "NotApplicable"),
        ([mask(required=False)], "forward-raises"),
    ],
)
def test_only_a_required_mask_may_not_be_left_out(monkeypatch, inputs, wanted):
    bench = bench_of()
    bench.interface.inputs = inputs
    raising(monkeypatch, "invariance.unmasked_gap", CRASH)
    assert judged(inv.mask_of_ones, bench) == wanted
    for gap, outcome in [(1e-10, "pass"), (above(1e-10), "default-mask")]:
        patched(monkeypatch, "invariance.unmasked_gap", Difference(gap, 1.0, ""))
        assert judged(inv.mask_of_ones, bench) == outcome


@pytest.mark.parametrize("check", [inv.right_padding, inv.left_padding])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
def test_padding_changes_nothing(monkeypatch, check, declared, ignored):
    """Where nothing is declared, a mask that has an effect leaves the question open."""
    bench = bench_of()
    bench.declared = declared
    patched(monkeypatch, "invariance.mask_ignored", ignored)
    for gap in (0.0, 1e-10):
        patched(monkeypatch, "invariance.padding_gap", Difference(gap, 1.0, ""))
        assert judged(check, bench) == "pass"
    wanted = "mask-ignored" if ignored else "padding-leaks" if declared else "Inconclusive"
    for gap in (above(1e-10), INF):
        patched(monkeypatch, "invariance.padding_gap", Difference(gap, 1.0, ""))
        assert judged(check, bench) == wanted
        if wanted != "Inconclusive":
            why = finding(check, bench).why
            assert ("bitwise equal" in why) is ignored
            assert ("positions" in why) is (not ignored and check is inv.left_padding)
    raising(monkeypatch, "invariance.padding_gap", CRASH)
    assert judged(check, bench) == ("forward-raises" if declared else "Inconclusive")


def test_padding_is_asked_by_side(monkeypatch):
    bench = bench_of()
    patched(monkeypatch, "invariance.mask_ignored", False)
    monkeypatch.setattr(
        "slmconform.measure.invariance.padding_gap",
        lambda _, side: Difference(1.0 if side == "left" else 0.0, 1.0, ""),
    )
    assert judged(inv.right_padding, bench) == "pass"
    assert judged(inv.left_padding, bench) == "padding-leaks"
    bench.interface.capabilities.padding = ["right"]
    assert judged(inv.left_padding, bench) == "NotApplicable"


# --- determinism ------------------------------------------------------------------------------


def typical(monkeypatch, outputs):
    """Outputs of the typical probe, and of no other."""
    named = {"typical": outputs}
    monkeypatch.setattr("slmconform.measure.forward.native", lambda _, which: named[which])


def test_a_repetition_is_equal_in_every_bit(monkeypatch):
    typical(monkeypatch, {"y": wide(1.0)})
    for again, wanted in [(1.0, "pass"), (above(1.0), "not-repeatable"), (NAN, "not-repeatable")]:
        patched(monkeypatch, "forward.repeated", {"y": wide(again)})
        assert judged(det.repetition_is_bitwise, bench_of()) == wanted
    assert finding(det.repetition_is_bitwise, bench_of()).where == "y[0]"


def test_another_process_gives_every_output_again(monkeypatch):
    from slmconform.measure.replay import Fingerprint, fingerprint

    outputs = {"a": wide(1.0), "b": wide(2.0)}
    typical(monkeypatch, outputs)
    bench, same = bench_of(), fingerprint(outputs).outputs
    for there, where in [
        (same, ""),
        (same | {"b": same["a"]}, "output b"),
        ({"a": same["a"]}, "output b"),
        ({}, "output a"),
    ]:
        bench.replay = SimpleNamespace(result=lambda found=there: Fingerprint(found))
        if where:
            assert finding(det.fresh_process_gives_the_same, bench).code == "process-differs"
            assert finding(det.fresh_process_gives_the_same, bench).where == where
        else:
            assert judged(det.fresh_process_gives_the_same, bench) == "pass"
    bench.replay = SimpleNamespace(result=lambda: Fingerprint(same, "killed"))
    with pytest.raises(RuntimeError, match="killed"):
        det.fresh_process_gives_the_same(bench)


@pytest.mark.parametrize("kind", ["transformers", "torch"])
def test_a_configuration_is_the_recorded_one(monkeypatch, kind):
    asked = []
    found = {}

    def changed(recorded, used, *, exact):
        asked.append((recorded, used, exact))
        return found

    monkeypatch.setattr("slmconform.measure.configuration.changed", changed)
    patched(monkeypatch, "configuration.effective", {"eps": 2})
    bench = bench_of(kind=kind, configuration={"eps": 1})
    assert judged(det.configuration_is_recorded, bench) == "pass"
    assert asked == [({"eps": 1}, {"eps": 2}, kind == "torch")]
    found = {"eps": (1, 2)}
    wrong = finding(det.configuration_is_recorded, bench)
    assert (wrong.code, wrong.got) == ("configuration-changed", "eps = 2")
    assert (wrong.want, wrong.where) == ("eps = 1, as recorded", "config.json: eps")
    found = {"eps": (1, 2), "theta": (3, 4)}
    assert "(2 keys differ: eps, theta)" in finding(det.configuration_is_recorded, bench).got


# --- recorded outputs -------------------------------------------------------------------------


def test_float64_outputs_are_the_recorded_ones(monkeypatch):
    bench = bench_of(outputs=["a record"])
    bench.evidence_tensors = lambda: {"output.logits": "a tensor"}
    patched(monkeypatch, "reference.shipped", {"logits": "an output"})
    found, given = Difference(2e-10, 2.0, "logits[0]"), []

    def recorded_gap(*arguments):
        given.append(arguments)
        return found

    monkeypatch.setattr("slmconform.measure.reference.recorded_gap", recorded_gap)
    assert judged(ref.float64_outputs, bench) == "pass"
    assert given == [({"logits": "an output"}, ["a record"], {"output.logits": "a tensor"})]
    for gap, wanted in [
        (2e-10, "pass"),
        (above(2e-10), "float64-differs"),
        (INF, "float64-differs"),
    ]:
        found = Difference(gap, 2.0, "logits[0]")
        assert judged(ref.float64_outputs, bench) == wanted


def recorded(dtype, *, max_abs=1e-4, rms=1e-5, output="logits"):
    error = SimpleNamespace(output=output, dtype=dtype, max_abs=max_abs, rms=rms)
    return {"cpu": SimpleNamespace(errors=[error], training=None)}


def close(dtype):
    return ref.float32_outputs if dtype == "float32" else ref.shipped_dtype_outputs


@pytest.mark.parametrize("dtype", EPS)
def test_an_error_is_allowed_k_times_and_half_a_unit(monkeypatch, dtype):
    """k = 2 in float32, 3 in half precision; largest error and root mean square alike."""
    bench = bench_of(dtype=dtype, devices=recorded(dtype))
    patched(monkeypatch, "reference.outputs_in", {})
    most = FACTORS[dtype] * 1e-4 + EPS[dtype] / 2 * 8.0
    rms = FACTORS[dtype] * 1e-5 + EPS[dtype] / 2 * 4.0
    code = f"{dtype}-differs"
    for error, wanted in [
        (Error(most, rms, 8.0, 4.0), "pass"),
        (Error(0.0, 0.0, 8.0, 4.0), "pass"),
        (Error(above(most), rms, 8.0, 4.0), code),
        (Error(most, above(rms), 8.0, 4.0), code),
        *((Error(value, value, 8.0, 4.0), code) for value in NO_NUMBERS),
    ]:
        patched(monkeypatch, "reference.errors", {"logits": error})
        assert judged(close(dtype), bench) == wanted


@pytest.mark.parametrize(("kind", "at"), [("max", 0), ("rms", 1)])
def test_which_error_is_too_large_is_told(monkeypatch, kind, at):
    patched(monkeypatch, "reference.outputs_in", {})
    errors = [0.0, 0.0]
    errors[at] = 3.0
    patched(monkeypatch, "reference.errors", {"logits": Error(*errors, 8.0, 4.0)})
    found = finding(ref.float32_outputs, bench_of(devices=recorded("float32", rms=1e-4)))
    allowed = 2e-4 + 2.0**-24 * (8.0, 4.0)[at]
    assert found.got == f"{kind} error 3 against float64, {3 / allowed:.3g} times the bound"
    assert found.where == "output logits in float32"


def test_the_share_that_was_used_is_told(monkeypatch):
    bench = bench_of(devices=recorded("float32", max_abs=1e-4, rms=0.0))
    patched(monkeypatch, "reference.outputs_in", {})
    patched(monkeypatch, "reference.errors", {"logits": Error(1e-4, 0.0, 1.0, 0.0)})
    assert ref.float32_outputs(bench) == "0.50 of the allowed distance from float64"
    patched(monkeypatch, "reference.errors", {"logits": Error(0.0, 0.0, 1.0, 0.0)})
    assert ref.float32_outputs(bench) == "0.00 of the allowed distance from float64"


def test_an_error_of_nothing_is_nothing(monkeypatch):
    bench = bench_of(devices=recorded("float32", max_abs=0.0, rms=0.0))
    patched(monkeypatch, "reference.outputs_in", {})
    for got, wanted in [(0.0, "pass"), (5e-324, "float32-differs")]:
        patched(monkeypatch, "reference.errors", {"logits": Error(got, 0.0, 0.0, 0.0)})
        assert judged(ref.float32_outputs, bench) == wanted


def test_a_recorded_error_of_a_tenth_of_the_scale_says_nothing(monkeypatch):
    patched(monkeypatch, "reference.outputs_in", {})
    patched(monkeypatch, "reference.errors", {"logits": Error(9.0, 9.0, 4.0, 4.0)})
    for most, wanted in [(0.4, "float32-differs"), (above(0.4), "Inconclusive")]:
        bench = bench_of(devices=recorded("float32", max_abs=most))
        assert judged(ref.float32_outputs, bench) == wanted


def test_a_nan_in_float32_is_a_failure_and_not_a_doubt(monkeypatch):
    """Whole: outputs, their distance from float64, and the rule."""
    patched(monkeypatch, "reference.shipped", {"logits": wide(1.0, 2.0)})
    bench = bench_of(devices=recorded("float32"))
    for got, wanted in [([1.0, 2.0], "pass"), ([1.0, NAN], "float32-differs")]:
        patched(monkeypatch, "reference.outputs_in", {"logits": torch.tensor(got)})
        assert judged(ref.float32_outputs, bench) == wanted


def test_without_a_record_there_is_no_reference(monkeypatch):
    patched(monkeypatch, "reference.outputs_in", {})
    patched(monkeypatch, "reference.errors", {"logits": Error(0.0, 0.0, 1.0, 1.0)})
    for devices in (
        {},
        {"cuda sm_90": None},
        recorded("bfloat16"),
        recorded("float32", output="z"),
    ):
        assert judged(ref.float32_outputs, bench_of(devices=devices)) == "NoReference"
    for dtype in ("float32", "float64"):
        assert judged(ref.shipped_dtype_outputs, bench_of(dtype=dtype)) == "NotApplicable"


@pytest.mark.parametrize(
    ("devices", "words"), [({}, "none"), ({"cuda sm_90": None, "mps": None}, "cuda sm_90, mps")]
)
def test_which_devices_are_recorded_is_told(devices, words):
    with pytest.raises(NoReference, match=rf"nothing is recorded for cpu \(recorded: {words}\)"):
        ref.recorded_device(bench_of(devices=devices))


def test_every_output_is_judged(monkeypatch):
    devices = recorded("float32")
    devices["cpu"].errors += recorded("float32", output="other")["cpu"].errors
    bench = bench_of(devices=devices)
    patched(monkeypatch, "reference.outputs_in", {})
    right, wrong = Error(1e-4, 1e-5, 1.0, 1.0), Error(1e-3, 1e-5, 1.0, 1.0)
    for first, second in ((right, wrong), (wrong, right)):
        patched(monkeypatch, "reference.errors", {"logits": first, "other": second})
        assert judged(ref.float32_outputs, bench) == "float32-differs"


# --- greedy tokens ----------------------------------------------------------------------------


def greedy(monkeypatch, margins, tokens, got, *, scale=2.0):
    """Recorded tokens with their margins, and what the model decodes as far as it is asked."""
    row = SimpleNamespace(prompt=[1], tokens=tokens, margins=margins)
    bench = bench_of(devices=recorded("float32", max_abs=1e-4), greedy=[row])
    patched(monkeypatch, "generation.prompts", [[1]])
    patched(monkeypatch, "reference.shipped", {"logits": wide(-scale, 1.0, -INF)})
    monkeypatch.setattr(
        "slmconform.measure.generation.natively",
        lambda _bench, _row, _prompt, count: SimpleNamespace(tokens=got[:count]),
    )
    return bench


DOUBT = 2 * (2 * 1e-4 + 2.0**-24 * 2.0)


@pytest.mark.parametrize(
    ("margins", "got", "wanted"),
    [
        ([1.0, 1.0, 1.0], [5, 6, 7], "pass"),
        ([1.0, 1.0, 1.0], [5, 6, 8], "greedy-differs"),
        ([1.0, DOUBT, 1.0], [5, 0, 0], "pass"),
        ([1.0, above(DOUBT), 1.0], [5, 0, 0], "greedy-differs"),
        ([1.0, above(DOUBT), 0.0], [5, 6, 0], "pass"),
        ([DOUBT, 1.0, 1.0], [0, 0, 0], "Inconclusive"),
    ],
)
def test_tokens_are_compared_where_the_margin_leaves_no_doubt(monkeypatch, margins, got, wanted):
    """Twice the allowed error; after the first doubt nothing is comparable."""
    bench = greedy(monkeypatch, margins, [5, 6, 7], got)
    assert judged(ref.greedy_tokens, bench) == wanted


def test_where_the_tokens_part_is_told(monkeypatch):
    bench = greedy(monkeypatch, [1.0, 0.5, 1.0], [5, 6, 7], [5, 9, 7])
    found = finding(ref.greedy_tokens, bench)
    assert found.got == "token 9 in float32"
    assert found.want == "token 6 (float64 margin 0.5)"
    assert found.where == "prompt 0, new token 2"


def test_how_many_tokens_were_compared_is_told(monkeypatch):
    bench = greedy(monkeypatch, [1.0, 1.0, 0.0], [5, 6, 7], [5, 6, 0])
    bench.package.evidence.greedy *= 2
    assert ref.greedy_tokens(bench) == "4 of 6 tokens compared, all as recorded"


def test_a_model_that_does_not_generate_is_not_asked(monkeypatch):
    bench = greedy(monkeypatch, [1.0], [5], [5])
    raising(monkeypatch, "generation.prompts", NotApplicable("no text"))
    assert judged(ref.greedy_tokens, bench) == "NotApplicable"


def test_without_greedy_tokens_there_is_no_reference(monkeypatch):
    bench = greedy(monkeypatch, [1.0], [5], [5])
    bench.package.evidence.greedy = []
    assert judged(ref.greedy_tokens, bench) == "NoReference"
    bench = greedy(monkeypatch, [1.0], [5], [5])
    bench.package.evidence.devices = recorded("float32", output="other")
    assert judged(ref.greedy_tokens, bench) == "NoReference"
