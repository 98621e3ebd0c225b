"""Tiny packages written without torch, and the one call that runs a check over them."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from slmconform.engine.registry import CHECKS, Nonconformance, Stage
from slmconform.package.read import Package
from slmconform.standard.files import EVIDENCE, EVIDENCE_TENSORS

MIT = """MIT License

Copyright (c) 2026 The authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

MANIFEST = """\
spec = "1.0"
profile = "runnable"

[model]
name = "tiny-llama"
version = "1.0.0"
task = "causal-lm"
license = "MIT"

[loader]
kind = "transformers"
class = "LlamaForCausalLM"
dtype = "float32"

[dependencies]
python = ">=3.11"
requires = ["torch>=2.10", "transformers>=4.57,<6"]

[[interface.inputs]]
name = "input_ids"
dtype = "int64"
axes = ["batch", "sequence"]
range = [0, 15]
role = "tokens"

[[interface.inputs]]
name = "attention_mask"
dtype = "int64"
axes = ["batch", "sequence"]
role = "mask"
required = false

[[interface.outputs]]
name = "logits"
dtype = "float32"
axes = ["batch", "sequence", 16]

[interface.axes]
sequence = { min = 1, max = 32 }

[interface.capabilities]
causal = true
kv_cache = true
padding = ["right", "left"]
"""


def llama_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of the tiny Llama that `CONFIG` describes, in float32."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (16, 8), "model.norm.weight": (8,)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (8, 8),
            f"{at}.self_attn.k_proj.weight": (4, 8),
            f"{at}.self_attn.v_proj.weight": (4, 8),
            f"{at}.self_attn.o_proj.weight": (8, 8),
            f"{at}.mlp.gate_proj.weight": (12, 8),
            f"{at}.mlp.up_proj.weight": (12, 8),
            f"{at}.mlp.down_proj.weight": (8, 12),
            f"{at}.input_layernorm.weight": (8,),
            f"{at}.post_attention_layernorm.weight": (8,),
        }
    shapes["lm_head.weight"] = (16, 8)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def make_package(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    manifest: str | None = MANIFEST,
    replace: dict[str, str] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    shards: int = 0,
    files: dict[str, str | bytes] | None = None,
) -> Path:
    """Write a valid package and return its folder.

    ``config`` changes keys of config.json (None removes one); ``replace`` changes texts of the
    manifest (``manifest=None`` leaves it out); ``shards`` spreads the tensors over that many
    files; ``files`` are written last, over what is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merged = {k: v for k, v in (CONFIG | (config or {})).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(merged, indent=2))
    (folder / "LICENSE").write_text(MIT)
    if manifest is not None:
        for old, new in (replace or {}).items():
            assert old in manifest, old
            manifest = manifest.replace(old, new)
        (folder / "slm.toml").write_text(manifest)
    weights = llama_tensors() if tensors is None else tensors
    if shards:
        write_shards(folder, weights, shards)
    else:
        (folder / "model.safetensors").write_bytes(save(weights, {"format": "pt"}))
    for path, content in (files or {}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_shards(folder: Path, tensors: dict[str, np.ndarray], shards: int) -> dict[str, Any]:
    """Spread tensors over numbered files, write the index, and return it."""
    names = list(tensors)
    index: dict[str, Any] = {
        "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
        "weight_map": {},
    }
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        (folder / file).write_bytes(save(part, {"format": "pt"}))
        index["weight_map"] |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def raw_safetensors(header: str | bytes | dict[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with any header, valid or not."""
    text = json.dumps(header) if isinstance(header, dict) else header
    encoded = text.encode() if isinstance(text, str) else text
    return len(encoded).to_bytes(8, "little") + encoded + data


def judge(requirement: str, folder: Path) -> str:
    """Run one check alone: the sentence of a pass; raises what the check raises."""
    _load(requirement.split("-")[1])
    return CHECKS[requirement].function(Package(folder))


def outcomes(folder: Path, *areas: str) -> dict[str, str]:
    """Every static check of the areas that fails or warns -> its code, honouring prerequisites.

    Blocked checks and those that answer with a reason instead of a verdict are left out.
    """
    from slmconform.engine.plan import order
    from slmconform.engine.run import run_checks
    from slmconform.standard.catalogue import catalogue
    from slmconform.standard.report import Outcome

    areas = areas or ("PKG", "MAN", "WGT", "CFG")
    for area in areas:
        _load(area)
    package = Package(folder)
    ids = [
        one.id
        for one in CHECKS.values()
        if one.stage is Stage.STATIC and one.id.split("-")[1] in areas
    ]
    results = list(run_checks(order(ids, CHECKS), package, package, catalogue(), {}))
    bad = (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)
    return {r.id: r.finding.code for r in results if r.outcome in bad and r.finding}


def _load(area: str) -> None:
    importlib.import_module(f"slmconform.checks.{area.lower()}")


def write_evidence(folder: Path, **changes: Any) -> dict[str, Any]:
    """Record the package as it lies, without running it; ``changes`` replace top-level keys."""
    package = Package(folder)
    manifest = package.require_manifest()
    (folder / "conformance").mkdir(exist_ok=True)
    tensors = save(
        {
            f"input.{spec.name}": np.ones([2] * len(spec.axes), dtype=np.int64)
            for spec in manifest.interface.inputs
        }
    )
    (folder / EVIDENCE_TENSORS).write_bytes(tensors)
    seen = package.weights.scan()
    evidence: dict[str, Any] = {
        "spec": "1.0",
        "tool": "slmconform 0",
        "model": manifest.model.model_dump(include={"name", "version", "task"}),
        "files": [
            {
                "path": path,
                "size": package.folder.entries[path].size,
                "sha256": package.folder.sha256(path),
            }
            for path in package.folder.recorded()
        ],
        "tensors": [
            {"name": e.name, "dtype": e.dtype, "shape": e.shape, "sha256": seen[e.name].sha256}
            for e in package.weights.tensors.values()
        ],
        "weights_digest": package.weights.digest,
        "evidence_tensors": hashlib.sha256(tensors).hexdigest(),
        "configuration": {},
        "ties": [],
        "inputs": [spec.name for spec in manifest.interface.inputs],
        "outputs": [
            {"name": spec.name, "kept": "full", "shape": [2, 2, 16], "scale": 1.0}
            for spec in manifest.interface.outputs
        ],
        "devices": {},
    }
    evidence |= changes
    (folder / EVIDENCE).write_text(json.dumps(evidence))
    return evidence


__all__ = [
    "CONFIG",
    "MANIFEST",
    "MIT",
    "Nonconformance",
    "judge",
    "llama_tensors",
    "make_package",
    "outcomes",
    "raw_safetensors",
    "write_evidence",
    "write_shards",
]
