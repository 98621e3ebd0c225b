"""The script that prunes reference models."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import variant_packages as made
from safetensors.torch import load_file

SCRIPT = Path(__file__).parents[2] / "reference_models" / "prune.py"


@pytest.fixture(scope="module")
def prune():
    if not SCRIPT.is_file():
        pytest.skip("the reference models are not beside the tests")
    spec = importlib.util.spec_from_file_location("prune", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_smallest_values_go(prune):
    weight = torch.tensor([[0.1, -3.0, 2.0, -0.2], [0.3, 0.0, 1.0, 4.0]])
    assert prune.share(weight, 0.5).tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert prune.pattern(weight, 2, 4).tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert prune.pattern(weight, 1, 2).tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_embeddings_and_vectors_stay(prune):
    torch.manual_seed(0)
    tensors = {
        "embeddings.word.weight": torch.randn(8, 8),
        "inner.weight": torch.randn(8, 8),
        "inner.bias": torch.randn(8),
        "places": torch.arange(8),
    }
    got = prune.pruned(tensors, 0.25, None)
    assert {name: int((t == 0).sum()) for name, t in got.items()} == {
        "embeddings.word.weight": 0,
        "inner.weight": 16,
        "inner.bias": 0,
        "places": 1,
    }
    assert {t.dtype for n, t in got.items() if n != "places"} == {torch.float16}
    assert got["places"].dtype is torch.int64


def test_a_pruned_package_passes(prune, package):
    folder = package()
    command = [sys.executable, str(SCRIPT), str(folder), "--share", "0.05"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "values are zero" in said
    made.declare(folder, "pruned", "safetensors", prune.VARIANT, "max_kl = 0.01")
    made.noted(folder)
    assert made.outcomes(folder)[0] == {}
    first = (folder / prune.VARIANT).read_bytes()
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / prune.VARIANT).read_bytes() == first
    assert load_file(folder / prune.VARIANT)["inner.weight"].eq(0).sum() == int(0.05 * 32 * 32)
