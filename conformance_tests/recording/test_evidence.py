"""Evidence stays small for a large vocabulary, and its sketch still sees one logit move."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from slmconform.api import check, record
from slmconform.measure.reference import kept, recorded_gap, signs
from slmconform.recording.init import InitOptions, init
from slmconform.standard.report import Verdict

LICENCE = Path(__file__).parents[2] / "LICENSE"
VOCABULARY = 50_257


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, 12, VOCABULARY, dtype=torch.float64, generator=generator) * 3


def test_evidence_of_a_50k_vocabulary_stays_under_two_megabytes(tmp_path: Path):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=32
    )
    torch.manual_seed(3)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    shutil.copy(LICENCE, tmp_path)
    init(tmp_path, InitOptions(name="wide", license="Apache-2.0"))
    record(tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "conformance").iterdir())
    assert size < 2 * 10**6
    report = check(tmp_path)
    assert report.verdict is Verdict.CONFORMANT, report.failures


def test_a_sketch_sees_a_single_logit_move(logits: torch.Tensor):
    records, tensors = kept({"logits": logits})
    assert records[0].kept == "sketch"
    assert recorded_gap({"logits": logits.clone()}, records, tensors).max_abs == 0.0
    moved = logits.clone()
    moved[2, 7, 31_415] += 1e-6  # not among the largest of its position
    gap = recorded_gap({"logits": moved}, records, tensors)
    assert gap.max_abs > gap.bound
    assert gap.where.startswith("logits.projections[2, 7")


def test_a_declared_negative_infinity_hides_nothing(logits: torch.Tensor):
    logits = logits.clone()
    logits[..., 100:200] = float("-inf")
    records, tensors = kept({"logits": logits})
    assert recorded_gap({"logits": logits.clone()}, records, tensors).max_abs == 0.0
    moved, ruled_out = logits.clone(), logits.clone()
    moved[2, 7, 31_415] += 1e-6
    ruled_out[2, 7, 31_415] = float("-inf")
    for other in (moved, ruled_out):
        gap = recorded_gap({"logits": other}, records, tensors)
        assert gap.max_abs > gap.bound


def test_rounding_noise_stays_below_the_bound(logits: torch.Tensor):
    records, tensors = kept({"logits": logits})
    noisy = logits * (1 + 4e-16 * torch.sign(torch.sin(logits * 1e6)))
    gap = recorded_gap({"logits": noisy}, records, tensors)
    assert 0.0 < gap.max_abs < gap.bound / 100


def test_sign_vectors_are_balanced_and_unlike_each_other():
    vectors = signs(VOCABULARY, 8)
    assert set(vectors.unique().tolist()) == {-1.0, 1.0}
    overlap = (vectors @ vectors.T / VOCABULARY).fill_diagonal_(0.0)
    assert float(overlap.abs().max()) < 5 / VOCABULARY**0.5
    assert vectors[0, :12].tolist() == FIRST_SIGNS


# What every implementation has to arrive at: bit 33 of the finaliser, for the indices 1 to 12.
FIRST_SIGNS = [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
