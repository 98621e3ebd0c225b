"""Layers that hold nothing, or what another layer holds, told by digests that are known anyway.

Layers are tensors whose names differ in one number only: `h.0.attn.weight`, `h.1.attn.weight`. Of
several numbers in a name the first that varies is that of the layer, so that the experts of one
layer are parts of it. Judged are matrices of many floating-point values alone: norms and biases
are the same in every layer of a fresh model, and so are tables of positions, masks and decays,
which is why one equal matrix says nothing and all of a layer's have to be equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from slmconform.package.problem import PackageProblem, shown
from slmconform.package.tensors import TensorEntry
from slmconform.package.weights import Scanned

VALUES = 1024  # the least that a judged matrix holds
MATRICES = 2  # the least that a judged layer has
SHARE = 0.9  # of the matrices of the larger of two layers: what counts as nearly all
WANT = "weights of its own in every layer"
FIX = "train the layers, or leave out those that add nothing"


class Place(NamedTuple):
    """A name as the stack it belongs to, the number of the layer, and the rest."""

    stack: str
    number: int
    rest: str


@dataclass
class Layer:
    """The matrices of a layer by the rest of their names: dtype, shape and digest."""

    name: str
    file: str
    matrices: dict[str, tuple[str, tuple[int, ...], str]] = field(default_factory=dict)
    constant: int = 0

    def copies(self, other: Layer) -> bool:
        """Whether nearly all of the matrices of both are the same."""
        same = len(self.matrices.items() & other.matrices.items())
        return same >= max(MATRICES, SHARE * max(len(self.matrices), len(other.matrices)))


def layer_problems(
    tensors: Mapping[str, TensorEntry], scanned: Mapping[str, Scanned]
) -> Iterator[PackageProblem]:
    """Every layer of which all matrices are constant, or the copies of another layer's."""
    for stack in layers(tensors, scanned):
        seen: dict[tuple[str, tuple[str, tuple[int, ...], str]], Layer] = {}
        for layer in stack:
            if layer.constant == len(layer.matrices) >= MATRICES:
                got = f"each of the {layer.constant} matrices of {shown(layer.name)} is one value"
                yield PackageProblem("constant-layer", layer.file, got, WANT, FIX)
                continue
            # A copy shares most of its matrices: whoever shares one is asked about the others.
            near = {id(one): one for key in layer.matrices.items() if (one := seen.get(key))}
            original = next((one for one in near.values() if layer.copies(one)), None)
            if original:
                got = f"the matrices of {shown(layer.name)} are those of {shown(original.name)}"
                yield PackageProblem("copied-layer", layer.file, got, WANT, FIX)
                continue
            for key in layer.matrices.items():
                seen.setdefault(key, layer)


def layers(tensors: Mapping[str, TensorEntry], scanned: Mapping[str, Scanned]) -> list[list[Layer]]:
    """The layers of each stack in the order of their numbers."""
    judged = {name: entry for name, entry in tensors.items() if _is_matrix(entry)}
    common = Counter((p.stack, p.rest) for name in judged for p in places(name))
    stacks: dict[str, dict[int, Layer]] = {}
    for name, entry in judged.items():
        varying = (p for p in places(name) if common[p.stack, p.rest] > 1)
        if place := next(varying, None):
            numbered = f"{place.stack}{place.number}"
            stack = stacks.setdefault(place.stack, {})
            layer = stack.setdefault(place.number, Layer(numbered, entry.file))
            seen = scanned[name]
            layer.matrices[place.rest] = (entry.dtype, entry.shape, seen.sha256)
            layer.constant += seen.constant
    return [[stack[number] for number in sorted(stack)] for stack in stacks.values()]


def places(name: str) -> Iterator[Place]:
    """Each number that a name holds between its dots, taken as that of a layer."""
    parts = name.split(".")
    for at, part in enumerate(parts):
        if part.isascii() and part.isdigit() and len(part) < 10:
            before = "".join(f"{one}." for one in parts[:at])
            yield Place(before, int(part), ".".join(parts[at + 1 :]))


def _is_matrix(entry: TensorEntry) -> bool:
    return entry.floating and entry.values >= VALUES and sum(size > 1 for size in entry.shape) >= 2
