"""Reference models whose files went wrong: told before anything of them is run."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import torch
from changes import (
    config,
    evidence,
    gone,
    manifest,
    table,
    tensor,
    tensors,
    text,
    unrecorded,
    written,
)
from defect_record import NearMiss, defect
from packages import WEIGHTS
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00002.safetensors"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
CARD = "---\nlicense: apache-2.0\n---\n# A model\n\nBetter words.\n"


def sharded(folder: Path) -> None:
    """Spread the weights over two files with an index, as the library does."""
    every = load_file(folder / WEIGHTS)
    names = sorted(every)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: every[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.nbytes for t in every.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index), "utf-8")
    (folder / WEIGHTS).unlink()


def moved_out(folder: Path) -> None:
    """The first shard lies beside the package."""
    shutil.move(folder / FIRST, folder.parent / FIRST)


def cut(folder: Path) -> None:
    """The end of the weights is missing."""
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-100])


def one_ulp(folder: Path) -> None:
    """One weight is the next larger number."""

    def up(value: torch.Tensor) -> torch.Tensor:
        value[3, 5] = torch.nextafter(value[3, 5], torch.tensor(torch.inf))
        return value

    tensor(QUERY, up)(folder)


def put(at: tuple[int, ...], value: float):
    """One value in place of another."""

    def change(values: torch.Tensor) -> torch.Tensor:
        values[at] = value
        return values

    return change


def first_layer_twice(every: dict[str, torch.Tensor]) -> None:
    """The second layer is the first one."""
    for name in [n for n in every if ".layers.0." in n]:
        every[name.replace(".layers.0.", ".layers.1.")] = every[name].clone()


DEFECTS = [
    defect(
        "shard-outside",
        "The index leads to a shard beside the package.",
        "bert-ner",
        "SLM-PKG-001 path-outside",
        sharded,
        moved_out,
        text(INDEX, FIRST, f"../{FIRST}"),
        words=(f"../{FIRST}", INDEX),
        twin="wgt-legal-weights-in-shards",
    ),
    defect(
        "pickle-beside",
        "Training arguments lie beside the weights as a pickle.",
        "bert-ner",
        "SLM-PKG-003 executable-format",
        written("training_args.bin", pickle.dumps({"lr": 1e-3})),
        words=("training_args.bin", "pickle"),
    ),
    defect(
        "configuration-edited",
        "A key of no bearing changed after the recording.",
        "t5-rewrite",
        "SLM-PKG-004 file-changed",
        config(note="edited"),
        sealed=False,
        twin="pkg-legal-card-rewritten",
    ),
    defect(
        "file-added",
        "A file came to the package after the recording.",
        "bert-sentiment",
        "SLM-PKG-004 file-added",
        written("notes.txt", "later"),
        sealed=False,
        twin="pkg-legal-card-rewritten",
    ),
    defect(
        "code-undeclared",
        "A script lies in the package that no key declares.",
        "bert-sentiment",
        "SLM-PKG-005 undeclared-code",
        manifest('["make.py", "headlines.py"]', '["make.py"]'),
    ),
    defect(
        "code-added",
        "A module came to the package that no key declares.",
        "torch-recommender",
        "SLM-PKG-005 undeclared-code",
        written("helpers.py", "import torch\n"),
    ),
    defect(
        "unknown-key",
        "The manifest has a key that the schema does not know.",
        "minilm-retrieval",
        "SLM-MAN-001 unknown-key",
        manifest("[model]", "[model]\nauthor = 'me'"),
    ),
    defect(
        "profile-misspelt",
        "The manifest declares a profile that there is not.",
        "bert-ner",
        "SLM-MAN-001 wrong-value",
        manifest('"evaluated"', '"evaluation"'),
    ),
    defect(
        "version-of-nobody",
        "The manifest declares a version that was never published.",
        "llama-assistant",
        "SLM-MAN-002 spec-version-unknown",
        manifest('spec = "1.0"', 'spec = "0.9"'),
    ),
    defect(
        "script-missing",
        "A declared script is not in the package.",
        "llama-assistant",
        "SLM-MAN-003 missing-file",
        gone("make.py"),
    ),
    defect(
        "data-missing",
        "The data of a score are not in the package.",
        "bert-sentiment",
        "SLM-MAN-003 missing-file",
        gone("conformance/evaluation.jsonl"),
    ),
    defect(
        "pooling-forgotten",
        "An embedding of sentences is declared, and no pooling.",
        "minilm-retrieval",
        "SLM-MAN-004 pooling-missing",
        manifest('pooling = "mean"\nnormalize = true\n', ""),
    ),
    defect(
        "evidence-of-another-version",
        "The evidence names another version of the model.",
        "t5-rewrite",
        "SLM-MAN-005 evidence-model",
        evidence(lambda e: e["model"].update(version="0.9.0")),
    ),
    defect(
        "evidence-of-another-output",
        "An output is declared that nobody recorded.",
        "torch-recommender",
        "SLM-MAN-005 evidence-interface",
        manifest(
            "[interface.axes",
            '[[interface.outputs]]\nname = "states"\ndtype = "float32"\n'
            'axes = ["batch", 32]\n\n[interface.axes',
        ),
    ),
    defect(
        "weights-cut-off",
        "The file of the weights is cut off.",
        "bert-sentiment",
        "SLM-WGT-001 truncated",
        cut,
    ),
    defect(
        "total-size-lies",
        "The index states another total size.",
        "bert-ner",
        "SLM-WGT-002 total-size",
        sharded,
        table(INDEX, lambda i: i["metadata"].update(total_size=1)),
        twin="wgt-legal-weights-in-shards",
    ),
    defect(
        "tensor-of-no-file",
        "The index names a tensor that no shard holds.",
        "bert-ner",
        "SLM-WGT-002 tensor-absent",
        sharded,
        table(INDEX, lambda i: i["weight_map"].update({"bert.extra": FIRST})),
        twin="wgt-legal-weights-in-shards",
    ),
    defect(
        "nan-in-the-head",
        "One weight of the head is not a number.",
        "bert-ner",
        "SLM-WGT-003 not-finite",
        tensor("classifier.weight", put((2, 7), torch.nan)),
        words=("classifier.weight[2, 7]", "1 of 432 values not finite"),
    ),
    defect(
        "infinite-norm",
        "One weight of a norm is infinite.",
        "t5-rewrite",
        "SLM-WGT-003 not-finite",
        tensor("encoder.final_layer_norm.weight", put((0,), torch.inf)),
    ),
    defect(
        "norm-in-double-precision",
        "One tensor is stored in float64.",
        "llama-assistant",
        "SLM-WGT-004 undeclared-dtype",
        tensor("model.norm.weight", torch.Tensor.double),
        unrecorded,
    ),
    defect(
        "head-removed",
        "The head is missing from the weights.",
        "bert-ner",
        "SLM-WGT-005 tensor-gone",
        tensors(lambda t: t.pop("classifier.weight")),
        words=("classifier.weight missing",),
    ),
    defect(
        "tie-broken-with-a-head",
        "A head of its own is added, and the tie taken back.",
        "llama-assistant",
        "SLM-WGT-005 tensor-added",
        config(tie_word_embeddings=False),
        tensors(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 0.5})),
        words=("lm_head.weight added",),
    ),
    defect(
        "shipped-in-half-precision",
        "The weights were saved again in float16.",
        "torch-recommender",
        "SLM-WGT-004 undeclared-dtype",
        tensors(lambda t: t.update({n: v.half() for n, v in t.items()})),
    ),
    defect(
        "one-ulp",
        "One weight moved by one unit in the last place.",
        "bert-ner",
        "SLM-WGT-006 weights-changed",
        one_ulp,
        words=("1 of 39 tensors", QUERY),
        twin="wgt-legal-other-order-and-metadata",
    ),
    defect(
        "bias-scaled",
        "One bias was scaled by 1.001.",
        "torch-recommender",
        "SLM-WGT-006 weights-changed",
        tensor("item_bias", lambda t: t * 1.001),
    ),
    defect(
        "parameters-overstated",
        "The manifest states one parameter more than there is.",
        "minilm-retrieval",
        "SLM-WGT-007 parameter-count",
        manifest("= 83424", "= 83425"),
    ),
    defect(
        "layer-twice",
        "The second layer is the first one again.",
        "llama-assistant",
        "SLM-WGT-009 copied-layer",
        tensors(first_layer_twice),
        unrecorded,
    ),
    defect(
        "nan-in-the-configuration",
        "The configuration holds NaN.",
        "bert-sentiment",
        "SLM-CFG-001 not-finite",
        text("config.json", "1e-12", "NaN"),
    ),
    defect(
        "key-twice",
        "A key stands twice in the configuration.",
        "t5-rewrite",
        "SLM-CFG-001 duplicate-key",
        text("config.json", '"d_kv": 12', '"d_kv": 12, "d_kv": 16'),
    ),
    defect(
        "heads-do-not-divide",
        "Five heads for a hidden size of 48.",
        "minilm-retrieval",
        "SLM-CFG-002 heads-divide",
        config(num_attention_heads=5),
    ),
    defect(
        "negative-layers",
        "The configuration has minus two layers.",
        "bert-ner",
        "SLM-CFG-002 dimension",
        config(num_hidden_layers=-2),
    ),
    defect(
        "asks-for-code",
        "The configuration asks for code of a repository.",
        "llama-assistant",
        "SLM-CFG-003 remote-code",
        config(auto_map={"AutoModel": "someone/else--modeling.Model"}),
    ),
    defect(
        "vocabulary-of-another-model",
        "The vocabulary size is not that of the embedding.",
        "bert-ner",
        "SLM-CFG-004 config-weights",
        config(vocab_size=721),
    ),
    defect(
        "layers-of-another-model",
        "The configuration has a layer more than the weights.",
        "t5-rewrite",
        "SLM-CFG-004 config-weights",
        config(num_layers=3),
    ),
    defect(
        "another-architecture",
        "The configuration lists another class than the manifest.",
        "bert-sentiment",
        "SLM-CFG-005 architecture",
        config(architectures=["BertModel"]),
    ),
]

NEAR_MISSES = [
    NearMiss(
        "wgt-legal-weights-in-shards",
        "The weights lie in two shards.",
        "bert-ner",
        (sharded,),
        profile="reproducible",
    ),
    NearMiss(
        "wgt-legal-other-order-and-metadata",
        "The tensors stand in another order, with other metadata.",
        "bert-ner",
        (
            lambda folder: save_file(
                dict(sorted(load_file(folder / WEIGHTS).items(), reverse=True)),
                folder / WEIGHTS,
                {"format": "pt", "note": "saved again"},
            ),
        ),
        profile="reproducible",
    ),
    NearMiss(
        "pkg-legal-card-rewritten",
        "The model card has other words.",
        "bert-ner",
        (written("README.md", CARD),),
        sealed=False,
    ),
]
