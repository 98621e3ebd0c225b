"""Variants gone wrong, each told by exactly one requirement, beside the twin that is right."""

from __future__ import annotations

import json
import sys

import pytest
import torch
import variant_packages as made
from safetensors.torch import load_file, save_file

from slmconform.engine.plan import load_checks
from slmconform.engine.registry import NoReference
from slmconform.measure.opening import opened
from slmconform.measure.variants import records
from slmconform.package.read import Package
from slmconform.package.variants import files_of_variants
from slmconform.standard.report import Outcome

KINDS = ("dynamic-int8", "safetensors", "onnx", "gguf")
ONNX, GGUF, HALF = "onnx/model_int8.onnx", "model-q8.gguf", "variants/half/model.safetensors"


def assert_fails(folder, requirement, code, *words):
    """Exactly one requirement fails, with this code, and the finding holds the words."""
    bad, results = made.outcomes(folder)
    assert bad == {requirement: code}, [r for r in results.values() if r.id in bad]
    said = results[requirement].finding
    for word in words:
        assert any(word in line for line in (said.got, said.want, said.where, said.why)), said
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_twin_each_kind_is_near_its_base(package, kind):
    bad, results = made.outcomes(package(kind))
    assert bad == {}
    assert results["SLM-VAR-001"].outcome is Outcome.PASS
    assert results["SLM-VAR-002"].outcome is Outcome.PASS
    assert "top choice " in results["SLM-VAR-002"].detail
    dynamic = kind == "dynamic-int8"
    size = results["SLM-VAR-003"].outcome
    assert size is (Outcome.NOT_APPLICABLE if dynamic else Outcome.PASS)


def test_no_variants_leave_the_denominator(package):
    bad, results = made.outcomes(package())
    assert bad == {}
    assert {results[f"SLM-VAR-00{n}"].outcome for n in (1, 2, 3)} == {Outcome.NOT_APPLICABLE}


# --- what the files are ---


def test_gguf_cut_off(package):
    folder = package("gguf")
    content = (folder / GGUF).read_bytes()
    (folder / GGUF).write_bytes(content[: len(content) * 2 // 3])
    assert_fails(folder, "SLM-PKG-006", "gguf-truncated", "fewer than the header describes")


def test_onnx_cut_off(package):
    folder = package("onnx")
    content = (folder / ONNX).read_bytes()
    (folder / ONNX).write_bytes(content[: len(content) // 2])
    assert_fails(folder, "SLM-PKG-006", "onnx-structure", ONNX)


def test_gguf_under_the_name_of_onnx(package):
    folder = package("gguf")
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace('kind = "gguf"', 'kind = "onnx"'), "utf-8")
    assert_fails(folder, "SLM-VAR-001", "onnx-structure", GGUF)


def test_a_path_that_climbs_out(package):
    folder = package("safetensors")
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace(HALF, f"../{HALF}"), "utf-8")
    assert_fails(folder, "SLM-PKG-001", "path-outside", "variants[0].path")


# --- how far they are ---


def test_onnx_int8_with_a_wrong_scale(package):
    folder = package("onnx")
    tensors = load_file(folder / "model.safetensors")
    made.onnx_int8(folder / ONNX, tensors, scale=1.5)
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "kl-exceeded", "onnx-int8: max_kl", "mean KL")


def test_onnx_of_another_model(package):
    folder = package("onnx")
    made.onnx_int8(folder / ONNX, made.weights(8))
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "kl-exceeded", "recorded inputs")


def test_gguf_of_another_model(package):
    folder = package("gguf")
    made.gguf_q8(folder / GGUF, made.weights(8))
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "kl-exceeded", "q8: max_kl")


@pytest.mark.parametrize(
    ("bounds", "code", "word"),
    [
        ("top1_agreement = 0.9", "top1-below", "the same top choice at"),
        ("min_cosine = 0.99", "cosine-below", "least cosine"),
    ],
)
def test_other_bounds_of_another_model(package, bounds, code, word):
    folder = package()
    other = {name: tensor.half() for name, tensor in made.weights(8).items()}
    made.save_variant(folder, HALF, other)
    made.declare(folder, "half", "safetensors", HALF, bounds)
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", code, word)


def test_a_gguf_tensor_left_out(package):
    folder = package("gguf")
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.weight"]
    made.gguf_q8(folder / GGUF, tensors)
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "variant-incomplete", "1 missing: head.weight")


def test_values_that_are_not_finite(package):
    folder = package("safetensors")
    tensors = made.halved(folder)
    tensors["head.bias"][1] = torch.nan
    made.save_variant(folder, HALF, tensors)
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "variant-outputs", "values not finite")


def test_onnx_with_an_input_that_nobody_declared(package):
    folder = package("onnx")
    import onnx

    model = onnx.load(str(folder / ONNX))
    model.graph.input[0].name = "tokens"
    next(n for n in model.graph.node if n.op_type == "Gather").input[1] = "tokens"
    onnx.save(model, str(folder / ONNX))
    made.noted(folder)
    assert_fails(folder, "SLM-VAR-002", "variant-broken", "'tokens'")


# --- directories, and what cannot be asked ---


def test_twin_a_directory_of_shards(package):
    folder = package("safetensors")
    made.noted(folder)
    where = folder / "variants/half"
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace(HALF, "variants/half/"), "utf-8")
    made.noted(folder)
    assert made.outcomes(folder)[0] == {}
    (where / "model.safetensors").unlink()
    assert_fails(folder, "SLM-VAR-001", "variant-empty", "variants/half")


def test_not_recorded_is_no_pass(package):
    folder = package("safetensors")
    path = folder / "conformance/evidence.json"
    evidence = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**evidence, "variants": []}), "utf-8")
    bad, results = made.outcomes(folder)
    assert bad == {}
    assert results["SLM-VAR-001"].outcome is Outcome.NO_REFERENCE
    assert "not recorded: half" in results["SLM-VAR-001"].detail


def test_what_is_recorded_of_variants(package, tmp_path):
    folder = package("safetensors", "dynamic-int8")
    (tmp_path / "scratch").mkdir()
    where = {"package": str(folder), "device": "cpu", "scratch": str(tmp_path / "scratch")}
    with opened(where) as (bench, _):
        half, int8 = records(bench)
        assert records(bench) == [half, int8]
        assert bench.forwards == 3  # the base and each variant, once
    assert half.size == (folder / HALF).stat().st_size < half.base_size
    assert (int8.sha256, int8.size) == (None, None)
    assert 0 < half.kl < int8.kl < 0.02
    assert half.top1 == 1.0
    assert half.cosine > int8.cosine > 0.99
    assert set(half.libraries) == {"torch", "safetensors"}


def test_files_of_variants_stand_beside_those_of_the_package(package):
    folder = package("safetensors", "gguf")
    assert files_of_variants(Package(folder)) == {HALF, GGUF}
    (folder / "more.gguf").write_bytes((folder / GGUF).read_bytes())
    bad, results = made.outcomes(folder)
    assert bad == {"SLM-PKG-004": "file-added"}
    assert "more.gguf" in results["SLM-PKG-004"].finding.got


def test_without_its_library_a_variant_is_no_pass(package, tmp_path, monkeypatch):
    folder = package("safetensors")
    (folder / "m.onnx").write_bytes(made.raw_onnx())
    made.declare(folder, "onnx-int8", "onnx", "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "scratch").mkdir()
    where = {"package": str(folder), "device": "cpu", "scratch": str(tmp_path / "scratch")}
    with opened(where) as (bench, _):
        with pytest.raises(NoReference) as caught:
            load_checks()["SLM-VAR-002"].function(bench)
        assert records(bench)[1].kl is None
    assert "pip install 'slmconform[onnx]'" in caught.value.reason
    assert "half: KL" in caught.value.reason


def test_the_base_is_judged_before_its_variants(package):
    folder = package("safetensors")
    tensors = load_file(folder / "model.safetensors")
    tensors["head.bias"][0] += 1.0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    bad, results = made.outcomes(folder)
    assert bad == {"SLM-WGT-006": "weights-changed"}
    assert results["SLM-VAR-002"].outcome is Outcome.BLOCKED
