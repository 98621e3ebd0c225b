"""F01 to F12: paths, links, shards, shapes and values.

The cache of a hub client (F03) stands in `rows_hub_cache`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_row import Row
from package_builders import llama_tensors, write_evidence
from safetensors.numpy import save
from sound_package import sound

INSIDE = "SLM-PKG-001"
REGULAR = "SLM-PKG-002"
FORMED = "SLM-WGT-001"
INDEXED = "SLM-WGT-002"
FINITE = "SLM-WGT-003"
DTYPES = "SLM-WGT-004"
RECORDED = "SLM-WGT-005"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
RUNNABLE = {"profile": "runnable"}

Build = Callable[[Path], object]


def sharded(folder: Path) -> Path:
    """A sound package of two shards."""
    return sound(folder, shards=2)


def recorded(folder: Path) -> Path:
    """A sound package with evidence."""
    write_evidence(sound(folder))
    return folder


def indexed(change: Callable[[dict[str, Any]], object]) -> Build:
    """Two shards whose index is changed."""

    def build(folder: Path) -> None:
        path = sharded(folder) / INDEX
        index = json.loads(path.read_text())
        change(index)
        path.write_text(json.dumps(index))

    return build


def moved(target: str) -> Build:
    """A shard that lies outside the package, and an index that leads to it."""

    def build(folder: Path) -> None:
        sharded(folder)
        there = folder.parent / "stolen.safetensors"
        (folder / SHARD).rename(there)
        index = json.loads((folder / INDEX).read_text())
        named = target.format(there)
        index["weight_map"] = {
            name: named if file == SHARD else file for name, file in index["weight_map"].items()
        }
        (folder / INDEX).write_text(json.dumps(index))

    return build


def replaced(name: str, put: Callable[[Path], object]) -> Build:
    """A sound package in which something else stands in place of a file."""

    def build(folder: Path) -> None:
        sound(folder)
        (folder / name).unlink(missing_ok=True)
        put(folder / name)

    return build


def link(target: str) -> Callable[[Path], None]:
    """Make a symbolic link."""
    return lambda path: path.symlink_to(target)


def outside(path: Path) -> None:
    """Weights that lie beside the package, linked into it."""
    there = path.parent.parent / "outside.safetensors"
    there.write_bytes(save(llama_tensors()))
    path.symlink_to(there)


def circle(path: Path) -> None:
    """A link to a link to the first."""
    path.symlink_to("other.safetensors")
    (path.parent / "other.safetensors").symlink_to(path.name)


def doubling(path: Path) -> None:
    """Forty links, each of which goes through the one before it twice."""
    (path.parent / "l0").symlink_to(".")
    for at in range(1, 40):
        (path.parent / f"l{at}").symlink_to(f"l{at - 1}/l{at - 1}")
    path.symlink_to("l39/LICENSE/x")


def unix_socket(path: Path) -> None:
    """A socket, bound by a short name because the system allows no long one."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def weights(change: Callable[[dict[str, np.ndarray]], object], start: Build = sound) -> Build:
    """A package whose tensors are changed after everything else was written."""

    def build(folder: Path) -> None:
        start(folder)
        tensors = llama_tensors()
        change(tensors)
        (folder / WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))

    return build


def value(number: float) -> Build:
    """A package with one weight of this value."""
    return weights(lambda tensors: tensors[HEAD].__setitem__((2, 5), number))


ROWS = [
    Row(
        "F01",
        "a shard by a path that climbs out",
        moved("../stolen.safetensors"),
        INSIDE,
        "path-outside",
        twin=sharded,
    ),
    Row("F02", "a shard by an absolute path", moved("{}"), INSIDE, "path-outside", twin=sharded),
    Row(
        "F03",
        "a link that leaves the package",
        replaced(WEIGHTS, outside),
        INSIDE,
        "link-outside",
        twin=replaced("NOTICE", link("LICENSE")),
    ),
    Row(
        "F03-folder",
        "a link to a folder outside",
        replaced("more", link("../..")),
        INSIDE,
        "link-outside",
        twin=replaced("again", link(".")),
    ),
    Row(
        "F04-cycle",
        "links in a circle in place of the weights",
        replaced(WEIGHTS, circle),
        REGULAR,
        "broken-link",
    ),
    Row(
        "F04-doubling",
        "links that double the way forty times",
        replaced("x", doubling),
        REGULAR,
        "broken-link",
        twin=replaced("again", link(".")),
    ),
    Row(
        "F04-fifo",
        "a FIFO in place of the weights",
        replaced(WEIGHTS, os.mkfifo),
        REGULAR,
        "special-file",
    ),
    Row(
        "F04-fifo-index",
        "a FIFO in place of the index",
        replaced(INDEX, os.mkfifo),
        REGULAR,
        "special-file",
    ),
    *(
        Row(
            f"F04-fifo-{name}",
            f"a FIFO in place of {name}",
            replaced(name, os.mkfifo),
            REGULAR,
            "special-file",
        )
        for name in (
            "slm.toml",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "LICENSE",
            "model.gguf",
            "pytorch_model.bin",
            "conformance",
        )
    ),
    Row(
        "F04-socket",
        "a socket in place of the weights",
        replaced(WEIGHTS, unix_socket),
        REGULAR,
        "special-file",
    ),
    Row(
        "F04-device",
        "a device in place of the weights",
        replaced(WEIGHTS, link("/dev/zero")),
        INSIDE,
        "link-outside",
    ),
    Row(
        "F04-directory",
        "a directory in place of the weights",
        replaced(WEIGHTS, Path.mkdir),
        FORMED,
        "no-weights",
        twin=replaced("more", Path.mkdir),
    ),
    Row(
        "F05",
        "a shard is missing",
        lambda folder: (sharded(folder) / SHARD).unlink(),
        INDEXED,
        "shard-missing",
        twin=sharded,
    ),
    Row(
        "F06",
        "the index names a tensor that is in no shard",
        indexed(lambda index: index["weight_map"].update(ghost=SHARD)),
        INDEXED,
        "tensor-absent",
        twin=sharded,
    ),
    Row(
        "F07",
        "the index leaves a tensor out",
        indexed(lambda index: index["weight_map"].pop(NORM)),
        INDEXED,
        "tensor-unlisted",
        twin=sharded,
    ),
    Row(
        "F08-recorded",
        "a tensor is missing that was there at the recording",
        weights(lambda tensors: tensors.pop(HEAD), recorded),
        RECORDED,
        "tensor-gone",
        twin=recorded,
    ),
    Row(
        "F08-loaded",
        "a tensor is missing that the model has",
        weights(lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
        "SLM-IFC-002",
        "missing-tensors",
        options=RUNNABLE,
        twin=sound,
    ),
    Row(
        "F09",
        "the index lies about the total size",
        indexed(lambda index: index["metadata"].update(total_size=1)),
        INDEXED,
        "total-size",
        twin=indexed(lambda index: index["metadata"].pop("total_size")),
    ),
    Row(
        "F10-configuration",
        "a tensor of another shape than the configuration says",
        weights(lambda tensors: tensors.update({EMBEDDING: np.ones((16, 4), np.float32)})),
        "SLM-CFG-004",
        "config-weights",
        twin=sound,
    ),
    Row(
        "F10-recorded",
        "a tensor of another shape than at the recording",
        weights(lambda tensors: tensors.update({NORM: np.ones(4, np.float32)}), recorded),
        RECORDED,
        "tensor-changed",
        twin=recorded,
    ),
    Row(
        "F10-loaded",
        "a tensor of another shape than the model has",
        weights(
            lambda tensors: tensors.update(
                {"model.layers.0.mlp.up_proj.weight": np.ones((8, 12), np.float32)}
            )
        ),
        "SLM-IFC-002",
        "mismatched-tensors",
        options=RUNNABLE,
        twin=sound,
    ),
    Row(
        "F11",
        "a float64 tensor that nobody declares",
        weights(lambda tensors: tensors.update({NORM: tensors[NORM].astype(np.float64)})),
        DTYPES,
        "undeclared-dtype",
        twin=weights(lambda tensors: tensors.update(ids=np.arange(4, dtype=np.int64))),
    ),
    Row("F12-nan", "a NaN in the weights", value(float("nan")), FINITE, "not-finite"),
    Row("F12-infinity", "an infinity in the weights", value(float("inf")), FINITE, "not-finite"),
    Row(
        "F12-largest",
        "minus infinity in the weights",
        value(float("-inf")),
        FINITE,
        "not-finite",
        twin=value(float(np.finfo(np.float32).max)),
    ),
]
