"""An ONNX file, told by its structure: ONNX has no magic, it is a bare protobuf message.

The message is walked field by field (onnx/onnx.proto, ``ModelProto``) without any library: its
parts have to fill the file exactly, and there has to be a graph with an operator set. Tensors
kept in other files are found, because a runtime would follow them. Values are passed over by their
length, and only so many fields are looked at, so a forged file costs seconds whatever its size.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from slmconform.package.problem import PackageProblem, shown

NESTING = 16  # graphs in the attributes of nodes
FIELD_LIMIT = 1_000_000  # looked at, some of them thrice; those of MiniLM are 7,000
EXTERNAL_LIMIT = 10_000  # files beside the model
TEXT_LIMIT = 4096  # bytes, of a name or a path
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# Field numbers of onnx.proto: what may hold a graph or a tensor, and what it is.
IR_VERSION, GRAPH, OPSET = 1, 7, 8
_MODEL_PARTS = {7: "graph", 20: "training", 25: "function"}
_TRAINING_PARTS = {1: "graph", 2: "graph"}
_FUNCTION_PARTS = {7: "node", 11: "attribute"}
_GRAPH_PARTS = {1: "node", 5: "tensor", 15: "sparse"}
_NODE_PARTS = {5: "attribute"}
_ATTRIBUTE_PARTS = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE_PARTS = {1: "tensor", 2: "tensor"}
_PARTS = {
    "training": _TRAINING_PARTS,
    "function": _FUNCTION_PARTS,
    "node": _NODE_PARTS,
    "attribute": _ATTRIBUTE_PARTS,
    "sparse": _SPARSE_PARTS,
}
_GRAPH_INPUT, _INPUT_NAME = 11, 1
_GRAPH_TENSOR, _TENSOR_NAME = 5, 8
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """What an ONNX file takes, and where it keeps its data.

    ``inputs``: those of the graph that have to be given. ``external``: for each file beside it,
    as the model names it, how many bytes it has to hold at least.
    """

    inputs: frozenset[str] = frozenset()
    external: dict[str, int] = field(default_factory=dict)


class Field(NamedTuple):
    """One field of a message: its number, wire type, and where its bytes (or its value) are."""

    number: int
    wire: int
    begin: int
    end: int


class _Message:
    """Reads fields of a mapped file; refuses what is no protobuf."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self.data, self.where, self.left = data, where, FIELD_LIMIT

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message in ``[begin, end)``, which they have to fill."""
        at = begin
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise self.problem(f"more than {FIELD_LIMIT} fields", at)
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                start = at
                _, at = self._varint(at, end)
            elif wire == LENGTH:
                length, start = self._varint(at, end)
                at = start + length
            elif wire in (FIXED64, FIXED32):
                start, at = at, at + (8 if wire == FIXED64 else 4)
            else:
                raise self.problem(f"a field of wire type {wire}", at)
            if number == 0:
                raise self.problem("a field without a number", at)
            if at > end:
                raise self.problem(f"a field that ends {at - end} bytes past its message", end)
            yield Field(number, wire, start, at)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        if at < end and self.data[at] < 0x80:  # nearly all are of one byte
            return self.data[at], at + 1
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.problem("a number that does not end", at)

    def text(self, one: Field) -> str:
        """The short string in a field."""
        raw = self.data[one.begin : min(one.end, one.begin + TEXT_LIMIT + 1)]
        if len(raw) > TEXT_LIMIT:
            raise self.problem(f"a name of more than {TEXT_LIMIT} bytes", one.begin)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            got = f"a name that is not UTF-8: {shown(repr(raw))}"
            raise self.problem(got, one.begin) from None

    def texts(self, holder: Field, part: int, name: int) -> Iterator[str]:
        """The field ``name`` of every message ``part`` in a message."""
        for one in self.fields(holder.begin, holder.end):
            if one.number == part and one.wire == LENGTH:
                for inner in self.fields(one.begin, one.end):
                    if inner.number == name and inner.wire == LENGTH:
                        yield self.text(inner)

    def problem(self, got: str, at: int) -> PackageProblem:
        """The problem of a file that is no ONNX model."""
        return PackageProblem(
            "onnx-structure",
            self.where,
            f"{got}, at byte {at} of {len(self.data)}",
            "an ONNX model",
            "the file is cut off or not ONNX: copy or export it again",
        )


def parse(file: BinaryIO, where: str) -> OnnxModel:
    """Judge an open ONNX file; raises `PackageProblem`."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise PackageProblem("onnx-structure", where, "an empty file", "an ONNX model")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        message = _Message(data, where)
        wires: dict[int, int] = {}
        for one in message.fields(0, size):
            wires.setdefault(one.number, one.wire)
        missing = [
            what
            for number, wire, what in (
                (IR_VERSION, VARINT, "IR version"),
                (GRAPH, LENGTH, "graph"),
                (OPSET, LENGTH, "operator set"),
            )
            if wires.get(number) != wire
        ]
        if missing:
            raise message.problem(f"no {', no '.join(missing)}", size)
        external: dict[str, int] = {}
        for location, end in _parts(message, message.fields(0, size), _MODEL_PARTS, NESTING):
            external[location] = max(end, external.get(location, 0))
            if len(external) > EXTERNAL_LIMIT:
                raise message.problem(f"data in more than {EXTERNAL_LIMIT} files", size)
        return OnnxModel(_inputs(message, size), external)


def _inputs(message: _Message, size: int) -> frozenset[str]:
    """The inputs of the graph, without those that an initializer gives a value."""
    named: set[str] = set()
    given: set[str] = set()
    for one in message.fields(0, size):
        if one.number == GRAPH and one.wire == LENGTH:
            named.update(message.texts(one, _GRAPH_INPUT, _INPUT_NAME))
            given.update(message.texts(one, _GRAPH_TENSOR, _TENSOR_NAME))
    return frozenset(named - given)


def _parts(
    message: _Message, fields: Iterator[Field], kinds: dict[int, str], nesting: int
) -> Iterator[tuple[str, int]]:
    """External locations, and the bytes needed there, in the parts that can hold a tensor."""
    for one in fields:
        kind = kinds.get(one.number) if one.wire == LENGTH else None
        inner = message.fields(one.begin, one.end)
        if kind == "graph":
            if not nesting:
                raise message.problem(f"graphs nested more than {NESTING} deep", one.begin)
            yield from _parts(message, inner, _GRAPH_PARTS, nesting - 1)
        elif kind == "tensor":
            yield from _external(message, inner)
        elif kind:
            yield from _parts(message, inner, _PARTS[kind], nesting)


def _external(message: _Message, tensor: Iterator[Field]) -> Iterator[tuple[str, int]]:
    """Every location of a tensor that is kept elsewhere, with the end of its data there."""
    locations: list[str] = []
    numbers = {"offset": 0, "length": 0}
    for one in tensor:
        if one.number != _TENSOR_EXTERNAL or one.wire != LENGTH:
            continue
        entry = {
            part.number: message.text(part)
            for part in message.fields(one.begin, one.end)
            if part.wire == LENGTH
        }
        key, value = entry.get(_ENTRY_KEY, ""), entry.get(_ENTRY_VALUE, "")
        if key == "location":
            locations.append(value)
        elif key in numbers:
            if not (value.isascii() and value.isdigit() and len(value) < 20):
                raise message.problem(f"an external {key} of {shown(value)}", one.begin)
            numbers[key] = int(value)
    for location in locations:
        yield location, sum(numbers.values())
