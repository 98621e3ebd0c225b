"""Small packages with a training recipe, and what the checks say of them in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import packages
import tiny_learner
import torch
from package_builders import MIT
from safetensors.torch import save_file

from slmconform.isolation.client import ForkServer
from slmconform.recording.init import InitOptions, init
from slmconform.recording.record import RecordOptions, record

TASKS = {
    "tagger": ("token-classification", '"batch", "sequence", 5', "cross-entropy"),
    "writer": ("causal-lm", '"batch", "sequence", 40', "cross-entropy"),
    "classifier": ("text-classification", '"batch", 3', "binary-cross-entropy"),
}
WIDTH = {"tagger": 5, "writer": 40, "classifier": 3}
ADAMW = '{ name = "adamw", lr = 1e-3 }'
NESTEROV = '{ name = "sgd", lr = 1e-3, momentum = 0.9, nesterov = true, weight_decay = 0.01 }'


def recipe(loss: str = "cross-entropy", *, optimizer: str = ADAMW, **keys: str) -> str:
    """A [training] table; further keys in TOML as they stand."""
    table = {"loss": f'"{loss}"', "optimizer": optimizer, "steps": "10", "batch_size": "6"} | keys
    lines = "\n".join(f"{key} = {value}" for key, value in table.items())
    return f"\n[training]\n{lines}\n"


def learner(folder: Path, kind: str, *, training: str = "", dtype: str = "float32") -> Path:
    """A package of own code that computes its own loss; not recorded."""
    folder.mkdir(parents=True)
    shutil.copy(Path(tiny_learner.__file__), folder / "modeling.py")
    config = {"kind": kind, "vocab_size": 40, "length": 16, "hidden": 16, "heads": 4, "eps": 1e-5}
    config["outputs"] = WIDTH[kind]
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    torch.manual_seed(5)
    tensors = {}
    for name, like in tiny_learner.build(config).named_parameters():
        tensors[name] = torch.randn(like.shape) * (0.5 if like.dim() > 1 else 0.1)
        if name.endswith("norm.weight"):
            tensors[name] += 1.0
    tensors["layers.0.out.bias"].zero_()
    save_file({n: t.to(getattr(torch, dtype)) for n, t in tensors.items()}, folder / WEIGHTS)
    task, axes, loss = TASKS[kind]
    text = packages.MANIFEST.format(
        task=task, outputs=0, causal=str(kind == "writer").lower(), dtype=dtype
    )
    text = text.replace('"batch", "sequence", 0', axes).replace("max = 32", "max = 16")
    text = text.replace('profile = "reproducible"', 'profile = "trainable"')
    (folder / "slm.toml").write_text(text + (training or recipe(loss, **RECIPES[kind])), "utf-8")
    (folder / "LICENSE").write_text(MIT, "utf-8")
    packages.words(folder)
    return folder


WEIGHTS = packages.WEIGHTS
RECIPES: Mapping[str, Mapping[str, str]] = {
    "tagger": {},
    "writer": {"max_grad_norm": "0.5", "accumulation": "2"},
    "classifier": {"schedule": '{ kind = "linear", warmup = 3 }'},
}
LIBRARY = {"llama": packages.llama, "bert": packages.bert}


def library(folder: Path, name: str, server: ForkServer, training: str) -> Path:
    """A package of a transformers model; not recorded."""
    folder.mkdir(parents=True)
    LIBRARY[name](folder)
    return declared(folder, name, server, training)


def declared(folder: Path, name: str, server: ForkServer, training: str) -> Path:
    """Write licence, manifest and recipe of a saved model."""
    (folder / "LICENSE").write_text(MIT, "utf-8")
    init(folder, InitOptions(name=name, license="MIT"), server=server)
    manifest = folder / "slm.toml"
    text = manifest.read_text("utf-8")
    for profile in ("packaged", "runnable", "reproducible"):
        text = text.replace(f'profile = "{profile}"', 'profile = "trainable"')
    manifest.write_text(text + training, "utf-8")
    return folder


def recorded(name: str, folder: Path, server: ForkServer) -> Path:
    """Build and record one of the packages that tests share."""
    if name in TASKS:
        learner(folder, name)
    else:
        library(folder, name, server, recipe())
    return rerecorded(folder, server)


def rerecorded(folder: Path, server: ForkServer, **options: Any) -> Path:
    """Record a package, over what was recorded before."""
    record(folder, RecordOptions(trust_code=True, **options), server=server)
    return folder


def vectors(folder: Path, server: ForkServer) -> Path:
    """Own code for sentence embeddings, pooled and trained by contrast; not recorded."""
    learner(folder, "tagger", training=recipe("contrastive", scale="5.0"))
    packages.edit(folder, "modeling.py", '{"logits": logits}', '{"last_hidden_state": logits}')
    second = '[[interface.outputs]]\nname = "sentence_embedding"\ndtype = "float32"\n'
    second += 'axes = ["batch", 5]\n\n[interface.axes]'
    for old, new in (
        ('"logits"', '"last_hidden_state"'),
        ('"token-classification"', '"sentence-embedding"'),
        ('dtype = "float32"\n\n[dep', 'dtype = "float32"\npooling = "mean"\n\n[dep'),
        ("[interface.axes]", second),
    ):
        packages.edit(folder, "slm.toml", old, new)
    return folder


def question_answering(folder: Path, server: ForkServer) -> Path:
    """BERT for question answering, of one layer; not recorded."""
    from transformers import BertConfig, BertForQuestionAnswering

    shape = packages.SHAPE | {"num_hidden_layers": 1}
    torch.manual_seed(4)
    model = BertForQuestionAnswering(BertConfig(vocab_size=60, **shape)).eval()
    model.save_pretrained(folder)
    return declared(folder, "answers", server, recipe())
