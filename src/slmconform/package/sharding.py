"""Whether the index of sharded weights and its shards tell the same."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from slmconform.package.problem import PackageProblem, shown
from slmconform.package.weights import INDEX, SINGLE, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slmconform.package.folder import Folder

FIX = "save the weights again, so that index and shards are written together"


def index_problems(weights: Weights, folder: Folder) -> list[PackageProblem]:
    """Every way in which the index and the shards differ."""
    if INDEX in folder.entries:
        return list(_against_index(weights, folder))
    if weights.files == (SINGLE,):
        return []
    names = ", ".join(weights.files[:3])
    return [_problem("index-missing", INDEX, f"no index for {names}", "an index of the shards")]


def _against_index(weights: Weights, folder: Folder) -> Iterator[PackageProblem]:
    table = weights.index.get("weight_map") if isinstance(weights.index, dict) else None
    if not isinstance(table, dict) or len(table) != len(weights.weight_map) or not table:
        yield _problem("index-shape", INDEX, "no usable weight_map", "tensor name -> file name")
        return
    for file in sorted({posixpath.normpath(f) for f in weights.weight_map.values()}):
        if file not in weights.files:
            got = f"the shard {shown(file)} is missing"
            fix = "add the shard; a download may have stopped early"
            yield _problem("shard-missing", INDEX, got, "every shard of the index", fix)
    yield from _tensor_problems(weights, set(folder.files()))
    yield from _size_problem(weights)


def _tensor_problems(weights: Weights, present: set[str]) -> Iterator[PackageProblem]:
    for entry in weights.duplicates:
        first = weights.tensors[entry.name].file
        got = f"{entry.name} stands in {first} and in {entry.file}"
        yield _problem("tensor-twice", entry.file, got, "every tensor in one shard")
    for name, entry in weights.tensors.items():
        named = weights.weight_map.get(name)
        if named is None:
            got = f"{name} is not in the index"
            yield _problem("tensor-unlisted", entry.file, got, "every tensor in the index")
        elif posixpath.normpath(named) != entry.file and posixpath.normpath(named) in present:
            got = f"{name} is in {entry.file}, the index says {shown(named)}"
            yield _problem("tensor-elsewhere", INDEX, got, "the shard that holds the tensor")
    for name, file in weights.weight_map.items():
        if name not in weights.tensors and posixpath.normpath(file) in present:
            got = f"{shown(name)} is in no shard"
            yield _problem("tensor-absent", INDEX, got, "only tensors that the shards hold")


def _size_problem(weights: Weights) -> Iterator[PackageProblem]:
    metadata = weights.index.get("metadata") if isinstance(weights.index, dict) else None
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    missing = {posixpath.normpath(f) for f in weights.weight_map.values()} - set(weights.files)
    if stated is None or missing or stated == weights.bytes:
        return
    where, want = f"{INDEX}: metadata.total_size", f"{weights.bytes}, the bytes of the tensors"
    yield _problem("total-size", where, shown(stated), want)


def _problem(code: str, where: str, got: str, want: str, fix: str = FIX) -> PackageProblem:
    return PackageProblem(code, where, got, want, fix)
