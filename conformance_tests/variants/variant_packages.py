"""A recorded package with variants, the files of these written by hand or by their libraries."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tiny_mixer
import torch
from package_builders import MIT
from safetensors.torch import load_file, save_file

from slmconform.api import check
from slmconform.package.read import Package
from slmconform.package.variants import read
from slmconform.recording.record import RecordOptions, record
from slmconform.standard.report import Outcome

TOKENS, HIDDEN, OUTPUTS = 64, 32, 5
AREAS = ("PKG", "MAN", "WGT", "CFG", "IFC-001", "IFC-002", "REF-001", "VAR")
MANIFEST = f"""\
spec = "1.0"
profile = "reproducible"

[model]
name = "mixer"
version = "1.0.0"
task = "token-classification"
license = "MIT"

[loader]
kind = "torch"
entry = "modeling.py:build"

[dependencies]
python = ">=3.11"
requires = ["torch>=2.10"]

[[interface.inputs]]
name = "input_ids"
dtype = "int64"
axes = ["batch", "sequence"]
range = [0, {TOKENS - 1}]

[[interface.outputs]]
name = "logits"
dtype = "float32"
axes = ["batch", "sequence", {OUTPUTS}]

[interface.axes]
sequence = {{ min = 1, max = 16 }}
"""
BOUNDS = "max_kl = 0.02\ntop1_agreement = 0.9\nmin_cosine = 0.99"


MASK = """\
[[interface.inputs]]
name = "attention_mask"
dtype = "int64"
axes = ["batch", "sequence"]
range = [0, 1]

[[interface.outputs]]
"""
HIDDEN_STATES = f"""
[[interface.outputs]]
name = "hidden"
dtype = "float32"
axes = ["batch", "sequence", {HIDDEN}]

[interface.axes]
"""


def masked(manifest: str, *padding: str) -> str:
    """The manifest of the same model with a mask and padding."""
    sides = ", ".join(f'"{side}"' for side in padding)
    manifest = manifest.replace("[[interface.outputs]]\n", MASK, 1)
    return f"{manifest}\n[interface.capabilities]\npadding = [{sides}]\n"


def two_outputs(manifest: str) -> str:
    """The manifest of the same model with scores and the states that they are made of."""
    manifest = manifest.replace('"token-classification"', '"tensor"')
    return manifest.replace("\n[interface.axes]\n", HIDDEN_STATES)


def base(folder: Path, manifest: str = MANIFEST) -> None:
    """The package without variants and without evidence."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(tiny_mixer.__file__), folder / "modeling.py")
    config = {"tokens": TOKENS, "hidden": HIDDEN, "outputs": OUTPUTS}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "slm.toml").write_text(manifest, "utf-8")
    (folder / "LICENSE").write_text(MIT, "utf-8")
    save_file(weights(7), folder / "model.safetensors", {"format": "pt"})


def weights(seed: int) -> dict[str, torch.Tensor]:
    """Weights of a mixer; another seed is another model."""
    torch.manual_seed(seed)
    shapes = {
        "embed.weight": (TOKENS, HIDDEN),
        "inner.weight": (HIDDEN, HIDDEN),
        "inner.bias": (HIDDEN,),
        "head.weight": (OUTPUTS, HIDDEN),
        "head.bias": (OUTPUTS,),
    }
    return {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def declare(folder: Path, name: str, kind: str, path: str | None, bounds: str = BOUNDS) -> None:
    """Add a variant to the manifest."""
    lines = ["", "[[variants]]", f'name = "{name}"', f'kind = "{kind}"']
    lines += [f'path = "{path}"'] if path else []
    with (folder / "slm.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join((*lines, bounds, "")))


def recorded(folder: Path, server: Any) -> Path:
    """Record what stands there."""
    record(folder, RecordOptions(trust_code=True), server=server)
    return folder


def noted(folder: Path) -> None:
    """Bring the digests of the variants in the evidence up to date, and nothing else."""
    package = Package(folder)
    path = folder / "conformance" / "evidence.json"
    evidence = json.loads(path.read_text("utf-8"))
    evidence["variants"] = [
        {
            "name": variant.name,
            "kind": variant.kind,
            "sha256": read(package, variant).digest(package.folder) if variant.path else None,
            "base_size": 1,
            "libraries": {},
        }
        for variant in package.require_manifest().variants
    ]
    path.write_text(json.dumps(evidence), "utf-8")


def outcomes(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Failures by id with their codes, and every result by id."""
    report = check(folder, only=AREAS, trust_code=True)
    results = {r.id: r for r in report.results}
    bad = (Outcome.FAIL, Outcome.ERROR, Outcome.WARN)
    return {r.id: r.finding.code for r in report.results if r.outcome in bad}, results


def save_variant(folder: Path, path: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write a safetensors variant."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / path, {"format": "pt"})


def halved(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the base in float16."""
    return {n: t.half() for n, t in load_file(folder / "model.safetensors").items()}


# --- ONNX, by its library ---


def onnx_int8(
    path: Path, tensors: dict[str, torch.Tensor], scale: float = 1.0, mask: str = ""
) -> None:
    """The mixer with int8 weights; ``scale`` multiplies the scale of the inner layer.

    ``mask``: the file takes an attention mask, and heeds it ("heeded") or not ("taken").
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    initial, nodes = [], []
    for name, tensor in tensors.items():
        value = tensor.numpy().T if name in ("inner.weight", "head.weight") else tensor.numpy()
        if value.ndim == 1:
            initial.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            continue
        step = np.float32(np.abs(value).max() / 127)
        whole = np.round(value / step).astype(np.int8)
        factor = scale if name == "inner.weight" else 1.0
        initial.append(numpy_helper.from_array(np.ascontiguousarray(whole), f"{name}.int8"))
        initial.append(numpy_helper.from_array(np.float32(step * factor), f"{name}.scale"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name])
        )
    nodes += [
        helper.make_node("Gather", ["embed.weight", "input_ids"], ["x"]),
        *_onnx_mean(heeded=mask == "heeded"),
        helper.make_node("Add", ["x", "mean"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "inner.weight"], ["a"]),
        helper.make_node("Add", ["a", "inner.bias"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "head.weight"], ["d"]),
        helper.make_node("Add", ["d", "head.bias"], ["logits"]),
    ]
    names = ["input_ids", "attention_mask"] if mask else ["input_ids"]
    taken = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in names
    ]
    initial.append(numpy_helper.from_array(np.array([1]), "places"))
    initial.append(numpy_helper.from_array(np.array([2]), "last"))
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", OUTPUTS])
    graph = helper.make_graph(nodes, "mixer", taken, [out], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _onnx_mean(*, heeded: bool) -> list[Any]:
    """Nodes that make ``mean`` of ``x`` over all places, or over those that the mask keeps."""
    from onnx import TensorProto, helper

    if not heeded:
        return [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1)]
    return [
        helper.make_node("Cast", ["attention_mask"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "last"], ["real"]),
        helper.make_node("Mul", ["x", "real"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "places"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["real", "places"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]


# --- GGUF, by its library ---


def gguf_q8(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Matrices as Q8_0, vectors as float32, under the names of the module."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "mixer")
    for name, tensor in tensors.items():
        if tensor.dim() == 1:
            writer.add_tensor(name, tensor.numpy())
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quantize(tensor.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- both formats byte by byte, for what no library would write ---


def raw_gguf(
    rows: list[tuple[bytes, tuple[int, ...], int, int]],
    *,
    version: int = 3,
    metadata: bytes = b"",
    keys: int = 0,
    data: int = 0,
) -> bytes:
    """A GGUF file of tensor rows (name, shape as stored, type, offset) and ``data`` zeros."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(rows), keys) + metadata
    for name, shape, kind, offset in rows:
        head += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32) + bytes(data)


def text(value: bytes) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value


def varint(value: int) -> bytes:
    """A protobuf number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def part(number: int, value: bytes | int) -> bytes:
    """A protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def raw_onnx(*graph: bytes) -> bytes:
    """An ONNX model of these parts of a graph."""
    return part(1, 8) + part(7, b"".join(graph)) + part(8, part(2, 17))


def external(location: bytes, **numbers: bytes) -> bytes:
    """An initializer whose data stand in another file, at the offset and of the length given."""
    rows = {b"location": location, **{key.encode(): value for key, value in numbers.items()}}
    entries = b"".join(part(13, part(1, key) + part(2, value)) for key, value in rows.items())
    return part(5, part(8, b"w") + entries + part(14, 1))
