"""An ONNX file, told by its structure: ONNX has no magic, it is a bare protobuf message.

The message is walked field by field (onnx/onnx.proto, ``ModelProto``) without any library: its
parts have to fill the file exactly, and there has to be a graph with an operator set. Tensors
kept in other files are found, because a runtime would follow them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from slmconform.package.problem import PackageProblem, shown

NESTING = 16  # graphs in the attributes of nodes
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# Field numbers of onnx.proto: what may hold a graph or a tensor, and what it is.
IR_VERSION, GRAPH, OPSET, FUNCTION = 1, 7, 8, 25
_GRAPH_PARTS = {1: "node", 5: "tensor", 15: "sparse"}
_NODE_ATTRIBUTE = 5
_FUNCTION_NODE = 7
_ATTRIBUTE_PARTS = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE_PARTS = {1: "tensor", 2: "tensor"}
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its number, wire type, and where its bytes (or its value) are."""

    number: int
    wire: int
    begin: int
    end: int


class _Message:
    """Reads fields of a mapped file; refuses what is no protobuf."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self.data, self.where = data, where

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message in ``[begin, end)``, which they have to fill."""
        at = begin
        while at < end:
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
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.problem("a number that does not end", at)

    def problem(self, got: str, at: int) -> PackageProblem:
        """The problem of a file that is no ONNX model."""
        return PackageProblem(
            "onnx-structure",
            self.where,
            f"{got}, at byte {at} of {len(self.data)}",
            "an ONNX model",
            "the file is cut off or not ONNX: copy or export it again",
        )


def parse(file: BinaryIO, where: str) -> tuple[str, ...]:
    """Judge an open ONNX file and return the locations of its external data.

    Raises `PackageProblem`.
    """
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise PackageProblem("onnx-structure", where, "an empty file", "an ONNX model")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        message = _Message(data, where)
        found: dict[int, Field] = {}
        locations: list[str] = []
        for one in message.fields(0, size):
            found.setdefault(one.number, one)
            if one.number == GRAPH:
                locations += _graph(message, one, NESTING)
            elif one.number == FUNCTION:
                locations += _nodes(message, one, _FUNCTION_NODE, NESTING)
        missing = [
            name
            for number, wire, name in (
                (IR_VERSION, VARINT, "IR version"),
                (GRAPH, LENGTH, "graph"),
                (OPSET, LENGTH, "operator set"),
            )
            if number not in found or found[number].wire != wire
        ]
        if missing:
            raise message.problem(f"no {', no '.join(missing)}", size)
    return tuple(dict.fromkeys(locations))


def _graph(message: _Message, graph: Field, nesting: int) -> Iterator[str]:
    if not nesting:
        raise message.problem(f"graphs nested more than {NESTING} deep", graph.begin)
    yield from _parts(message, graph, _GRAPH_PARTS, nesting)


def _nodes(message: _Message, holder: Field, number: int, nesting: int) -> Iterator[str]:
    for one in message.fields(holder.begin, holder.end):
        if one.number == number and one.wire == LENGTH:
            yield from _parts(message, one, {_NODE_ATTRIBUTE: "attribute"}, nesting)


def _parts(message: _Message, holder: Field, kinds: dict[int, str], nesting: int) -> Iterator[str]:
    """External locations in the parts of a message that can hold a tensor."""
    for one in message.fields(holder.begin, holder.end):
        kind = kinds.get(one.number) if one.wire == LENGTH else None
        if kind == "node":
            yield from _parts(message, one, {_NODE_ATTRIBUTE: "attribute"}, nesting)
        elif kind == "attribute":
            yield from _parts(message, one, _ATTRIBUTE_PARTS, nesting)
        elif kind == "graph":
            yield from _graph(message, one, nesting - 1)
        elif kind == "sparse":
            yield from _parts(message, one, _SPARSE_PARTS, nesting)
        elif kind == "tensor":
            yield from _external(message, one)


def _external(message: _Message, tensor: Field) -> Iterator[str]:
    for one in message.fields(tensor.begin, tensor.end):
        if one.number == _TENSOR_EXTERNAL and one.wire == LENGTH:
            entry = {
                part.number: message.data[part.begin : part.end]
                for part in message.fields(one.begin, one.end)
                if part.wire == LENGTH
            }
            if entry.get(_ENTRY_KEY) == b"location":
                yield _text(message, entry.get(_ENTRY_VALUE, b""), one.begin)


def _text(message: _Message, raw: bytes, at: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        got = f"an external location that is not UTF-8: {shown(repr(raw))}"
        raise message.problem(got, at) from None
