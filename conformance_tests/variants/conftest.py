"""One recorded package with every kind of variant, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import variant_packages as made
from safetensors.torch import load_file


@pytest.fixture(scope="session")
def plain(tmp_path_factory, server) -> Path:
    """The package without variants, recorded; not to be changed."""
    folder = tmp_path_factory.mktemp("variants") / "plain"
    made.base(folder)
    return made.recorded(folder, server)


@pytest.fixture(scope="session")
def with_mask(tmp_path_factory, server) -> Path:
    """The same model with a mask and right padding, recorded; not to be changed."""
    folder = tmp_path_factory.mktemp("masked") / "plain"
    made.base(folder, made.masked(made.MANIFEST, "right"))
    return made.recorded(folder, server)


@pytest.fixture(scope="session")
def with_states(tmp_path_factory, server) -> Path:
    """The same model with a second output that is no score, recorded; not to be changed."""
    folder = tmp_path_factory.mktemp("states") / "plain"
    made.base(folder, made.two_outputs(made.MANIFEST))
    return made.recorded(folder, server)


@pytest.fixture
def package(plain, tmp_path) -> Callable[..., Path]:
    """A copy with the variants that are asked for, their digests in the evidence."""

    def built(*kinds: str) -> Path:
        folder = Path(shutil.copytree(plain, tmp_path / "mixer"))
        tensors = load_file(folder / "model.safetensors")
        if "onnx" in kinds:
            pytest.importorskip("onnx", reason="onnx, which writes the file, is not installed")
            pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
            made.onnx_int8(folder / "onnx/model_int8.onnx", tensors)
            made.declare(folder, "onnx-int8", "onnx", "onnx/model_int8.onnx")
        if "gguf" in kinds:
            pytest.importorskip("gguf", reason="gguf is not installed")
            made.gguf_q8(folder / "model-q8.gguf", tensors)
            made.declare(folder, "q8", "gguf", "model-q8.gguf")
        if "safetensors" in kinds:
            made.save_variant(folder, "variants/half/model.safetensors", made.halved(folder))
            made.declare(folder, "half", "safetensors", "variants/half/model.safetensors")
        if "dynamic-int8" in kinds:
            made.declare(folder, "int8", "dynamic-int8", None)
        made.noted(folder)
        return folder

    return built
