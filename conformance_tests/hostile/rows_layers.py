"""F13: layers that hold nothing of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_row import Row
from sound_package import sound

OWN = "SLM-WGT-009"
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 2}
SHAPES = {
    "self_attn.q_proj.weight": (32, 32),
    "self_attn.k_proj.weight": (32, 32),
    "self_attn.v_proj.weight": (32, 32),
    "self_attn.o_proj.weight": (32, 32),
    "mlp.gate_proj.weight": (48, 32),
    "mlp.up_proj.weight": (48, 32),
    "mlp.down_proj.weight": (32, 48),
}

Tensors = dict[str, np.ndarray]


def layered(change: Callable[[Tensors], object]) -> Callable[[Path], object]:
    """A Llama of two layers with matrices of a thousand values, norms of ones and no biases."""
    rng = np.random.default_rng(0)
    tensors = {"model.norm.weight": np.ones(32, np.float32)}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = rng.normal(size=(16, 32)).astype(np.float32)
    for layer in range(2):
        for name, shape in SHAPES.items():
            value = rng.normal(size=shape).astype(np.float32)
            tensors[f"model.layers.{layer}.{name}"] = value
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = np.ones(32, np.float32)
    change(tensors)
    return lambda folder: sound(folder, config=SIZES, tensors=tensors)


def copied(tensors: Tensors) -> None:
    """The second layer is the first."""
    for name in SHAPES:
        tensors[f"model.layers.1.{name}"] = tensors[f"model.layers.0.{name}"]


def filled(number: float) -> Callable[[Tensors], None]:
    """The second layer is one number."""

    def change(tensors: Tensors) -> None:
        for name, shape in SHAPES.items():
            tensors[f"model.layers.1.{name}"] = np.full(shape, number, np.float32)

    return change


def one_zeroed(tensors: Tensors) -> None:
    """A branch that begins at zero, as some models are initialised."""
    name = "model.layers.1.self_attn.o_proj.weight"
    tensors[name] = np.zeros_like(tensors[name])


ROWS = [
    Row(
        "F13-copied",
        "a layer that is the copy of another",
        layered(copied),
        OWN,
        "copied-layer",
        "warn",
        twin=layered(lambda _: None),
    ),
    Row(
        "F13-zero",
        "a layer of zeros",
        layered(filled(0.0)),
        OWN,
        "constant-layer",
        "warn",
        twin=layered(one_zeroed),
    ),
    Row(
        "F13-constant",
        "a layer of one number",
        layered(filled(0.02)),
        OWN,
        "constant-layer",
        "warn",
    ),
]
