"""The small packages that are mutated: every kind of file that the static stage reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tokenizer_builders as tokens
from package_builders import MANIFEST, llama_tensors, make_package, write_evidence, write_shards
from safetensors.numpy import save

from slmconform.package.read import Package
from slmconform.package.variants import files_of_variants, read
from slmconform.standard.files import EVIDENCE

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "conformance_tests" / "compatibility" / "recorded" / "transformers-5.23.0"
REFERENCE = ROOT / "reference_models"
CARD = "---\nlicense: mit\nlanguage:\n- en\ntags: [tiny, llama]\n---\n# A tiny model\n"
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
VARIANT = '\n[[variants]]\nname = "{name}"\nkind = "{kind}"\npath = "{path}"\n'
BOUNDS = "max_kl = 0.1\ntop1_agreement = 0.9\nmin_cosine = 0.9\n"
TRAINING = """
[training]
loss = "cross-entropy"
steps = 20
batch_size = 4
data = "conformance/rows.jsonl"
trainable = ["*", "!lm_head.*"]

[training.optimizer]
name = "adamw"
lr = 1e-3

[[evaluation]]
metric = "exact-match"
data = "conformance/rows.jsonl"
value = 0.5
tolerance = 0.1
"""


def packages(folder: Path) -> dict[str, Path]:
    """Write every package below a folder; all but ``bare`` and ``unrecorded`` have evidence."""
    made = {
        "single": make_package(folder / "single", files={"README.md": CARD}),
        "sharded": make_package(folder / "sharded", shards=3),
        "fast": _with_tokenizer(folder / "fast"),
        "pieces": _with_pieces(folder / "pieces"),
        "variants": _with_variants(folder / "variants"),
        "data": _with_data(folder / "data"),
    }
    for one in made.values():
        record(one)
    made |= {
        "unrecorded": make_package(folder / "unrecorded", files=_modules()),
        "bare": make_package(folder / "bare", manifest=None, files={"README.md": CARD}),
    }
    for source in (RECORDED / "llama", RECORDED / "bert", REFERENCE / "torch-recommender"):
        made[source.name] = copied(source, folder / source.name)
    return made


def record(folder: Path) -> None:
    """Write evidence of a package with its variants and scores, as a recording would."""
    package = Package(folder)
    manifest = package.require_manifest()
    variants = [
        {
            "name": one.name,
            "kind": one.kind,
            "sha256": read(package, one).digest(package.folder) if one.path else None,
            "base_size": 1,
            "libraries": {},
        }
        for one in manifest.variants
    ]
    scores = {"value": 0.5, "low": 0.4, "high": 0.6, "libraries": {}, "rows": 2}
    evaluations = [
        {"metric": one.metric, "data": one.data, "sha256": package.folder.sha256(one.data)} | scores
        for one in manifest.evaluation
    ]
    evidence = write_evidence(folder, variants=variants, evaluations=evaluations)
    kept = files_of_variants(package)
    evidence["files"] = [row for row in evidence["files"] if row["path"] not in kept]
    (folder / EVIDENCE).write_text(json.dumps(evidence))


def copied(source: Path, target: Path) -> Path:
    """A package of the repository."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__")))


def _with_tokenizer(folder: Path) -> Path:
    processor = tokens.template(("<s>", 1), ("</s>", 2))
    named = tokens.roles(bos="<s>", eos="</s>", unk="<unk>", pad="<pad>")
    tables: dict[str, Any] = {
        "tokenizer.json": tokens.fast(processor=processor),
        "tokenizer_config.json": named | {"tokenizer_class": "PreTrainedTokenizerFast"},
        "special_tokens_map.json": named,
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": [2]},
        "chat_template.jinja": TEMPLATE,
        "README.md": CARD,
    }
    return tokens.with_tokenizer(folder, tables)


def _with_pieces(folder: Path) -> Path:
    decoder = {"2": {"content": "</s>", "special": True}}
    tables: dict[str, Any] = {
        "tokenizer.model": tokens.sentencepiece_model(tokens.TOKENS[:15]),
        "tokenizer_config.json": {"eos_token": "</s>", "added_tokens_decoder": decoder},
        "added_tokens.json": {"l": 15},
    }
    return tokens.with_tokenizer(folder, tables, shards=2)


def _with_variants(folder: Path) -> Path:
    """One variant of each kind that has files, all smaller than the base."""
    listed = (
        ("half", "safetensors", "half.safetensors"),
        ("shards", "safetensors", "shards"),
        ("whole", "onnx", "onnx/model.onnx"),
        ("blocks", "gguf", "blocks.gguf"),
    )
    manifest = MANIFEST + "".join(
        VARIANT.format(name=name, kind=kind, path=path) + BOUNDS for name, kind, path in listed
    )
    half = {name: tensor.astype(np.float16) for name, tensor in llama_tensors().items()}
    files = {"half.safetensors": save(half, {"format": "pt"})}
    make_package(folder, manifest=manifest, files=files)
    (folder / "shards").mkdir()
    write_shards(folder / "shards", half, 2)
    (folder / "onnx").mkdir()
    _write_onnx(folder / "onnx" / "model.onnx")
    _write_gguf(folder / "blocks.gguf")
    return folder


def _write_onnx(path: Path) -> None:
    """A graph of one product, its matrix in a file beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [matrix],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    outside = {"save_as_external_data": True, "location": "model.data", "size_threshold": 0}
    onnx.save(model, str(path), **outside)


def _write_gguf(path: Path) -> None:
    """Metadata of several types, a matrix in blocks and a vector."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "</s>"])
    kind = gguf.GGMLQuantizationType.Q8_0
    matrix = np.ones((4, 32), np.float32)
    writer.add_tensor("token_embd.weight", gguf.quantize(matrix, kind), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _with_data(folder: Path) -> Path:
    rows = [
        {"prompt": "a b", "answer": "c"},
        {"messages": [{"role": "user", "content": "\u00e4 \U0001f600"}], "answer": "d"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files = {"conformance/rows.jsonl": lines}
    return make_package(folder, manifest=MANIFEST + TRAINING, files=files)


def _modules() -> dict[str, str | bytes]:
    listed = [{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]
    return {"modules.json": json.dumps(listed), "vocab.txt": "\n".join(tokens.TOKENS)}
