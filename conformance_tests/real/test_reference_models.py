"""The reference models keep the standard whole, on each line of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmconform.api import check, load_manifest
from slmconform.standard.report import Outcome, Verdict

ROOT = Path(__file__).parents[2]
MODELS = sorted(path.parent for path in ROOT.glob("reference_models/*/slm.toml"))
LARGEST = 10**6  # bytes

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_is_conformant_to_the_last_profile(model: Path):
    own_code = load_manifest(model).loader.kind == "torch"
    report = check(model, trust_code=own_code, self_test=True)
    assert report.verdict is Verdict.CONFORMANT, report.failures
    assert (report.profile, report.provisional) == ("evaluated", False)
    open_ = {Outcome.WARN, Outcome.NOT_EXAMINED, Outcome.NO_REFERENCE, Outcome.INCONCLUSIVE}
    assert not open_ & set(report.counts)
    assert {row.found for row in report.self_test} == {True}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_is_small(model: Path):
    assert sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) <= LARGEST


def test_there_is_one_of_each_kind():
    manifests = {model.name: load_manifest(model) for model in MODELS}
    assert {name: one.model.task for name, one in manifests.items()} == {
        "bert-ner": "token-classification",
        "bert-sentiment": "text-classification",
        "llama-assistant": "causal-lm",
        "minilm-retrieval": "sentence-embedding",
        "t5-rewrite": "seq2seq-lm",
        "torch-recommender": "sequence-scoring",
    }
    losses = {one.training.loss for one in manifests.values() if one.training}
    assert losses == {"binary-cross-entropy", "contrastive", "cross-entropy"}
    kinds = {variant.kind for one in manifests.values() for variant in one.variants}
    assert kinds == {"dynamic-int8", "safetensors"}
