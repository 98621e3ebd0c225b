"""C, F10: what shows when the model that a configuration describes is built beside its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_row import Row
from package_builders import llama_tensors
from sound_package import sound

SIZE = "SLM-CFG-006"
RUNNABLE = {"profile": "runnable", "device": "cpu"}

Build = Callable[[Path], object]


def config(cls: str = "LlamaForCausalLM", **changes: Any) -> Build:
    """A package of another class and configuration, its weights left as they are."""
    replace = {'class = "LlamaForCausalLM"': f'class = "{cls}"'}
    changes = {"architectures": [cls]} | changes
    return lambda folder: sound(folder, config=changes, replace=replace)


def tied(folder: Path) -> Path:
    """A package whose output embedding is its input embedding, and stands in no file."""
    tensors = llama_tensors()
    del tensors["lm_head.weight"]
    return sound(folder, config={"tie_word_embeddings": True}, tensors=tensors)


def shaped(name: str, *shape: int) -> Build:
    """A package in which one tensor has another shape than the configuration says."""
    tensors = llama_tensors() | {name: np.ones(shape, dtype=np.float32)}
    return lambda folder: sound(folder, tensors=tensors)


def size(name: str, says: str, build: Build, twin: Build | None = None) -> Row:
    """A row of a model that is far larger than its weights."""
    return Row(name, says, build, SIZE, "out-of-proportion", twin=twin, options=RUNNABLE)


def loads(name: str, code: str, says: str, build: Build) -> Row:
    """A row of a model that does not load completely."""
    return Row(name, says, build, "SLM-IFC-002", code, options=RUNNABLE)


GPT_NEO = {
    "model_type": "gpt_neo",
    "num_layers": 2,
    "num_heads": 2,
    "attention_types": [[["global"], 2]],
}
WIDE = "model.layers.1.mlp.up_proj.weight"

ROWS = [
    size("C09-wide", "an intermediate size of 2^20", config(intermediate_size=2**20), sound),
    size(
        "C09-defaults",
        "no size at all: the library's own describe 6.7e9 parameters",
        config(
            **dict.fromkeys(
                ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
            ),
            num_attention_heads=None,
            num_key_value_heads=None,
        ),
        tied,
    ),
    size(
        "C09-mixture",
        "a million experts",
        config(
            "MixtralForCausalLM",
            model_type="mixtral",
            num_local_experts=2**20,
            num_experts_per_tok=2,
        ),
    ),
    size(
        "C09-buffers",
        "attention masks for 2^17 positions, 17 GB a layer",
        config("GPTNeoForCausalLM", **GPT_NEO, max_position_embeddings=2**17),
    ),
    loads(
        "C15-key-value-heads",
        "mismatched-tensors",
        "two key-value heads for tensors of one",
        config(num_key_value_heads=2),
    ),
    loads(
        "C15-intermediate",
        "mismatched-tensors",
        "an intermediate size of 16 for tensors of 12",
        config(intermediate_size=16),
    ),
    loads("F10-shape", "mismatched-tensors", "one tensor of another shape", shaped(WIDE, 12, 9)),
    loads("F10-rank", "mismatched-tensors", "one tensor of another rank", shaped(WIDE, 96)),
]
