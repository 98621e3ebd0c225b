"""Checks of variants and of claimed scores at their bounds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rules import NAN, NO_NUMBERS, above, below, bench_of, finding, judged, patched

from slmconform.checks import evl, var
from slmconform.engine.registry import Inconclusive, NotApplicable
from slmconform.measure.variant_distance import Distance
from slmconform.standard.manifest import EvaluationSection, VariantSection

# --- variants ---------------------------------------------------------------------------------


def varied(monkeypatch, *found):
    """One variant with a bound on its cosine for each of what is measured of it."""
    bench = bench_of()
    bench.package.manifest.variants = [
        VariantSection(name=f"v{at}", kind="dynamic-int8", min_cosine=0.9)
        for at, _ in enumerate(found)
    ]

    def distances(_bench, name):
        one = found[int(name[1:])]
        if isinstance(one, Exception):
            raise one
        return [Distance("hidden", "the inputs", one, one, 4)]

    monkeypatch.setattr("slmconform.measure.variants.distances", distances)
    return bench


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([0.9, 1.0], "pass"),
        ([0.95, below(0.9)], "cosine-below"),
        ([below(0.9), 0.95], "cosine-below"),
        ([Inconclusive("no"), 0.95], "Inconclusive"),
        ([Inconclusive("no"), 0.5], "cosine-below"),
        ([NotApplicable("no"), Inconclusive("no")], "NotApplicable"),
        ([], "NotApplicable"),
    ],
)
def test_every_variant_is_judged_before_any_is_left_open(monkeypatch, found, wanted):
    assert judged(var.variants_stay_within_bounds, varied(monkeypatch, *found)) == wanted


def test_what_is_within_bounds_is_told_also_beside_what_is_open(monkeypatch):
    bench = varied(monkeypatch, 0.95, 1.0)
    told = "v0: cosine 0.950000; v1: cosine 1.000000"
    assert var.variants_stay_within_bounds(bench) == told
    bench = varied(monkeypatch, Inconclusive("no layer"), 1.0, Inconclusive("no kernel"))
    with pytest.raises(Inconclusive) as caught:
        var.variants_stay_within_bounds(bench)
    assert caught.value.reason == "no layer; no kernel; v1: cosine 1.000000"


# --- scores -----------------------------------------------------------------------------------


def scored(monkeypatch, *, value=0.5, tolerance=0.25, metric="accuracy", reason="", **found):
    """A claim of ``value`` and the score that comes out."""
    bench = bench_of()
    plain = {"value": 0.5, "low": 0.25, "high": 0.75, "baseline": 0.25, "rows": 8}
    bench.package.manifest.evaluation = [
        EvaluationSection(
            metric=metric, data="d.jsonl", value=value, tolerance=tolerance, reason=reason
        )
    ]
    patched(monkeypatch, "evaluation.scored", SimpleNamespace(**plain | found))
    return bench


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_is_within_its_tolerance(monkeypatch, sign):
    """Decimal numbers have a rounding of their own: 0.8 - 0.7 is more than 0.1."""
    for off, wanted in [
        (0.25, "pass"),
        (0.25 + 0.9e-12, "pass"),
        (0.25 + 1.1e-12, "score-differs"),
    ]:
        bench = scored(monkeypatch, value=0.0, tolerance=0.25)
        patched(
            monkeypatch,
            "evaluation.scored",
            SimpleNamespace(value=sign * off, low=0.0, high=0.0, rows=8),
        )
        assert judged(evl.scores_come_out_again, bench) == wanted
    bench = scored(monkeypatch, value=0.8 if sign > 0 else 0.7, tolerance=0.1)
    patched(
        monkeypatch,
        "evaluation.scored",
        SimpleNamespace(value=0.7 if sign > 0 else 0.8, low=0.0, high=0.0, rows=8),
    )
    assert judged(evl.scores_come_out_again, bench) == "pass"


def test_the_rounding_of_decimal_numbers_is_met_exactly(monkeypatch):
    bench = scored(monkeypatch, value=0.0, tolerance=0.0)
    for off, wanted in [(1e-12, "pass"), (above(1e-12), "score-differs")]:
        found = SimpleNamespace(value=off, low=0.0, high=0.0, rows=8)
        patched(monkeypatch, "evaluation.scored", found)
        assert judged(evl.scores_come_out_again, bench) == wanted
    widest, rows = 2.0**-40 + 1e-12, 2**40
    for tolerance, wanted in [(widest, "pass"), (above(widest), "tolerance-too-wide")]:
        bench = scored(monkeypatch, tolerance=tolerance, low=0.5, high=0.5, rows=rows)
        assert judged(evl.tolerances_are_no_wider_than_the_noise, bench) == wanted


@pytest.mark.parametrize("order", [1, -1])
def test_every_claim_is_judged_and_told(monkeypatch, order):
    """One without a trivial answer hides no other."""
    bench = scored(monkeypatch)
    bench.package.manifest.evaluation = [
        EvaluationSection(metric=metric, data="d.jsonl", value=0.5, tolerance=0.25, k=k)
        for metric, k in (("ndcg", 3), ("accuracy", None))
    ][::order]
    trivial = {"ndcg": None, "accuracy": 0.25}
    monkeypatch.setattr(
        "slmconform.measure.evaluation.scored",
        lambda _, section: SimpleNamespace(
            value=0.5, low=0.25, high=0.75, rows=8, baseline=trivial[section.metric]
        ),
    )
    told = ["ndcg@3 0.5 [0.25, 0.75]", "accuracy 0.5 [0.25, 0.75]"][::order]
    assert evl.scores_come_out_again(bench) == ", ".join(told)
    assert evl.scores_beat_the_trivial_answer(bench) == "accuracy 0.5 against 0.25"
    told = ["ndcg@3 0.25 of 0.25", "accuracy 0.25 of 0.25"][::order]
    assert evl.tolerances_are_no_wider_than_the_noise(bench) == ", ".join(told)
    trivial["accuracy"] = 0.75
    assert judged(evl.scores_beat_the_trivial_answer, bench) == "no-better-than-trivial"


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_score_that_is_no_number_differs(monkeypatch, value):
    bench = bench_of()
    bench.package.manifest.evaluation = [
        EvaluationSection(metric="accuracy", data="d.jsonl", value=0.5, tolerance=0.1)
    ]
    patched(
        monkeypatch,
        "evaluation.scored",
        SimpleNamespace(value=value, low=0.0, high=0.0, rows=8, baseline=None),
    )
    assert judged(evl.scores_come_out_again, bench) == "score-differs"


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "wanted"),
    [
        ("accuracy", 0.5, 0.25, "pass"),
        ("accuracy", 0.5, below(0.5), "pass"),
        ("accuracy", 0.5, 0.5, "no-better-than-trivial"),
        ("accuracy", 0.25, 0.5, "no-better-than-trivial"),
        ("accuracy", 0.5, None, "pass"),
        ("accuracy", 0.5, NAN, "no-better-than-trivial"),
        ("perplexity", 5.0, 9.0, "pass"),
        ("perplexity", 9.0, 9.0, "no-better-than-trivial"),
        ("perplexity", 12.0, 9.0, "no-better-than-trivial"),
    ],
)
def test_a_score_beats_the_trivial_answer(monkeypatch, metric, value, baseline, wanted):
    """More is better, but for perplexity."""
    bench = scored(monkeypatch, metric=metric, value=value, baseline=baseline)
    assert judged(evl.scores_beat_the_trivial_answer, bench) == wanted


def test_what_the_trivial_answer_is(monkeypatch):
    named = {
        "accuracy": "the most frequent class",
        "macro-f1": "the most frequent class",
        "micro-f1": "the most frequent class",
        "matthews": "the most frequent class",
        "seqeval-f1": "the most frequent tag",
        "spearman": "any order by chance",
        "exact-match": "one constant answer",
        "perplexity": "the frequency of each token",
        "ndcg": "one order for all, by popularity",
        "recall": "one order for all, by popularity",
    }
    for metric, words in named.items():
        bench = scored(monkeypatch, metric=metric, value=2.0, baseline=2.0)
        assert words in finding(evl.scores_beat_the_trivial_answer, bench).want


@pytest.mark.parametrize(
    ("tolerance", "low", "high", "reason", "wanted"),
    [
        (0.25, 0.25, 0.75, "", "pass"),
        (0.25 + 0.9e-12, 0.25, 0.75, "", "pass"),
        (0.25 + 1.1e-12, 0.25, 0.75, "", "tolerance-too-wide"),
        (0.3, 0.25, 0.75, "few rows", "pass"),
        (0.3, 0.25, 0.75, "  ", "tolerance-too-wide"),
        (0.125, 1.0, 1.0, "", "pass"),  # without any spread: one of the eight rows
        (0.126, 1.0, 1.0, "", "tolerance-too-wide"),
        (0.1, NAN, NAN, "", "tolerance-too-wide"),
    ],
)
def test_a_tolerance_is_at_most_half_the_interval(
    monkeypatch, tolerance, low, high, reason, wanted
):
    bench = scored(monkeypatch, tolerance=tolerance, low=low, high=high, reason=reason)
    assert judged(evl.tolerances_are_no_wider_than_the_noise, bench) == wanted


def test_without_a_claim_nothing_is_examined():
    for check in (
        evl.scores_come_out_again,
        evl.scores_beat_the_trivial_answer,
        evl.tolerances_are_no_wider_than_the_noise,
    ):
        assert judged(check, bench_of()) == "NotExamined"
