"""The model of a configuration is counted as it is built, and nothing is allocated or drawn."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from package_builders import make_package

from slmconform.measure import proportion
from slmconform.measure.proportion import held
from slmconform.model.loaded import CandidateError
from slmconform.model.outline import Outline, outline
from slmconform.model.transformers_loader import load
from slmconform.package.read import Package
from slmconform.standard.manifest import LoaderSection

PARAMETERS = 1256


def built(folder: Path, cls: str = "LlamaForCausalLM", parameters: int = 10**9) -> Outline:
    loader = LoaderSection(**{"kind": "transformers", "class": cls, "dtype": "float32"})
    return outline(folder, loader, parameters=parameters, buffers=10**9)


def test_every_value_counts_once(tmp_path):
    assert built(make_package(tmp_path)).parameters == PARAMETERS


def test_the_limit_is_the_last_that_fits(tmp_path):
    folder = make_package(tmp_path)
    assert built(folder, parameters=PARAMETERS).fits
    assert not built(folder, parameters=PARAMETERS - 1).fits


def test_building_ends_at_the_limit(tmp_path):
    """Four thousand layers take seconds: the first is too much already."""
    folder = make_package(tmp_path, config={"num_hidden_layers": 4000})
    seen = built(folder, parameters=200)
    assert 200 < seen.parameters <= PARAMETERS


def test_no_memory_is_taken_and_the_hooks_are_gone(tmp_path):
    wide = make_package(tmp_path / "wide", config={"intermediate_size": 2**34})
    assert built(wide, parameters=10**15).parameters > 10**11
    before = torch.nn.Linear(3, 4)
    assert before.weight.device.type == "cpu"


@pytest.mark.parametrize("stem", ["Llama", "XLNet"])
def test_no_random_number_is_drawn(tmp_path, stem):
    """XLNet allocates some parameters by hand, wherever tensors are told to be made."""
    sizes = {
        "d_model": 8,
        "n_layer": 1,
        "n_head": 2,
        "d_inner": 12,
        "model_type": "xlnet",
        "max_position_embeddings": None,
    }
    make_package(tmp_path, config=sizes if stem == "XLNet" else {})
    cls = "XLNetLMHeadModel" if stem == "XLNet" else "LlamaForCausalLM"
    state = torch.get_rng_state()
    assert built(tmp_path, cls).parameters > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_loaded_afterwards_is_initialised_as_ever(tmp_path):
    folder = make_package(tmp_path)
    built(folder)
    loader = LoaderSection(
        **{"kind": "transformers", "class": "LlamaForCausalLM", "dtype": "float32"}
    )
    model = load(folder, loader, "causal-lm", torch.device("cpu"))
    assert model.loading.missing == ()
    assert all(p.device.type == "cpu" for p in model.module.parameters())


@pytest.mark.parametrize(
    ("cls", "config"),
    [("NoSuchModel", {}), ("LlamaForCausalLM", {"hidden_act": "no-such-function"})],
)
def test_what_the_library_raises_is_the_candidate_s(tmp_path, cls, config):
    with pytest.raises(CandidateError) as caught:
        built(make_package(tmp_path, config=config), cls)
    assert caught.value.phase == "outline"


@pytest.mark.parametrize(
    ("quantised", "values"), [({}, 40), ({"quantization_config": {"bits": 2}}, 8 + 32 * 16)]
)
def test_packed_integers_hold_several_values(tmp_path, quantised, values):
    tensors = {
        "scales": np.ones(8, dtype=np.float16),
        "packed": np.ones((4, 8), dtype=np.int32),
    }
    make_package(tmp_path, config=quantised, tensors=tensors)
    assert json.loads((tmp_path / "config.json").read_text()).keys() >= quantised.keys()
    assert held(Package(tmp_path)) == values


@pytest.mark.parametrize(
    ("values", "parameters", "buffers"),
    [
        (2**18, 2**22, 2**30),
        (2**20, 2**22, 2**30),
        (2**20 + 1, 2**22 + 4, 2**30),
        (2**28, 2**30, 2**30),
        (2**28 + 1, 2**30 + 4, 2**30 + 4),
    ],
)
def test_a_configuration_may_describe_four_times_what_the_weights_hold(
    monkeypatch, values, parameters, buffers
):
    """And what any machine has room for, whatever they hold."""
    given = []
    monkeypatch.setattr(proportion, "held", lambda _: values)
    monkeypatch.setattr(
        proportion, "outline", lambda *where, **limits: given.append((where, limits))
    )
    bench = SimpleNamespace(
        package=SimpleNamespace(root="root"), loader="loader", remember=lambda _, make: make()
    )
    proportion.described(bench)
    assert given == [(("root", "loader"), {"parameters": parameters, "buffers": buffers})]
