"""Variants that do as their base on whole rows, and otherwise where rows are padded or masked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import variant_packages as made
from safetensors.torch import load_file

from slmconform.measure.opening import opened
from slmconform.measure.variants import distances, probes_of, records
from slmconform.standard.report import Outcome

ONNX, HALF = "model_int8.onnx", "half.safetensors"


@pytest.fixture
def masked(with_mask, tmp_path):
    """A copy with an ONNX variant that takes its mask as told."""
    pytest.importorskip("onnx", reason="onnx, which writes the file, is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def built(mask: str) -> Path:
        folder = Path(shutil.copytree(with_mask, tmp_path / "mixer"))
        made.onnx_int8(folder / ONNX, load_file(folder / "model.safetensors"), mask=mask)
        made.declare(folder, "onnx-int8", "onnx", ONNX, "max_kl = 0.001")
        made.noted(folder)
        return folder

    return built


@pytest.fixture
def bench(tmp_path):
    """A bench of a folder."""

    def of(folder: Path):
        (tmp_path / "scratch").mkdir()
        return opened(
            {"package": str(folder), "device": "cpu", "scratch": str(tmp_path / "scratch")}
        )

    return of


def without_padding(folder: Path) -> None:
    """Take back that rows may be padded."""
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace('padding = ["right"]', "padding = []"), "utf-8")


def test_onnx_without_the_mask(masked):
    bad, results = made.outcomes(masked(""))
    assert bad == {"SLM-VAR-002": "variant-mask"}
    assert "does not take the input attention_mask" in results["SLM-VAR-002"].finding.got


def test_twin_without_the_mask_where_nothing_is_padded(masked):
    folder = masked("")
    without_padding(folder)
    bad, results = made.outcomes(folder)
    assert bad == {}
    assert results["SLM-VAR-002"].outcome is Outcome.PASS


def test_onnx_that_ignores_its_mask(masked):
    bad, results = made.outcomes(masked("taken"))
    assert bad == {"SLM-VAR-002": "kl-exceeded"}
    assert "recorded inputs, padded on the right" in results["SLM-VAR-002"].finding.why


def test_twin_onnx_that_heeds_its_mask(masked, bench):
    folder = masked("heeded")
    assert made.outcomes(folder)[0] == {}
    with bench(folder) as (one, _):
        whole, padded = distances(one, "onnx-int8")
        (record,) = records(one)
        assert one.forwards == 4  # the base and the variant, each on both probes
    assert (whole.positions, padded.positions) == (4 * 12, 11 + 9 + 6 + 4)
    assert record.kl == max(whole.kl, padded.kl)
    assert record.top1 == min(whole.top1, padded.top1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_inputs(with_mask, tmp_path, bench, side):
    folder = Path(shutil.copytree(with_mask, tmp_path / "mixer"))
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace('["right"]', f'["{side}"]'), "utf-8")
    with bench(folder) as (one, _):
        whole, padded = probes_of(one)
    assert padded.on == f"the recorded inputs, padded on the {side}"
    mask, ids = padded.inputs["attention_mask"], padded.inputs["input_ids"]
    assert torch.equal(mask.bool(), padded.real)
    assert mask.sum(-1).tolist() == [11, 9, 6, 4]
    assert not ids[~padded.real].any()
    for row, length in enumerate([11, 9, 6, 4]):
        want = whole.inputs["input_ids"][row, :length]
        assert ids[row][padded.real[row]].tolist() == want.tolist()
    assert int(mask[3, 0]) == (side == "right")


def test_one_length_alone_cannot_be_padded(with_mask, tmp_path, bench):
    folder = Path(shutil.copytree(with_mask, tmp_path / "mixer"))
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(
        text.replace("min = 1, max = 16", "min = 12, max = 12"), "utf-8"
    )
    with bench(folder) as (one, _):
        assert len(probes_of(one)) == 1


# --- scores and vectors together ---


@pytest.fixture
def both(with_states, tmp_path):
    """A copy with a variant of these tensors and these bounds."""

    def built(change, bounds: str) -> Path:
        folder = Path(shutil.copytree(with_states, tmp_path / "mixer"))
        tensors = made.halved(folder)
        change(tensors)
        made.save_variant(folder, HALF, tensors)
        made.declare(folder, "half", "safetensors", HALF, bounds)
        made.noted(folder)
        return folder

    return built


def same(tensors):
    """The weights as they are."""


def head_negated(tensors):
    """Wrong scores of the right states."""
    tensors["head.weight"].neg_()


def states_turned(tensors):
    """Half of the states gone, the scores hardly moved by it."""
    tensors["inner.weight"][: made.HIDDEN // 2] = 0.0
    tensors["inner.bias"][: made.HIDDEN // 2] = 0.0


COSINE = "min_cosine = 0.999"


@pytest.mark.parametrize(
    ("change", "bounds", "code", "word"),
    [
        (head_negated, COSINE, "cosine-below", "logits: least cosine -"),
        (head_negated, f"top1_agreement = 0.9\n{COSINE}", "top1-below", "logits: the same"),
        (head_negated, f"max_kl = 0.1\n{COSINE}", "kl-exceeded", "logits: mean KL"),
        (states_turned, f"max_kl = 9.0\n{COSINE}", "cosine-below", "least cosine"),
        (states_turned, "max_kl = 9.0\nmin_cosine = -1.0", None, "cosine"),
        (same, COSINE, None, "cosine 1.000000"),
        (same, f"max_kl = 0.001\ntop1_agreement = 0.9\n{COSINE}", None, "cosine 1.000000"),
    ],
)
def test_every_output_is_held_to_the_bounds(both, change, bounds, code, word):
    bad, results = made.outcomes(both(change, bounds))
    assert bad == ({"SLM-VAR-002": code} if code else {})
    said = results["SLM-VAR-002"]
    assert word in (said.finding.got if code else said.detail)


@pytest.mark.parametrize("bounds", ["max_kl = 0.1", "top1_agreement = 0.9"])
def test_an_output_without_a_bound(both, bounds):
    bad, results = made.outcomes(both(same, bounds))
    assert bad == {"SLM-MAN-004": "variant-unbounded"}
    said = results["SLM-MAN-004"].finding
    assert "the output hidden of half" in said.got
    assert said.fix == "declare min_cosine as well"
