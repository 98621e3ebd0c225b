"""G: GGUF headers that make a reader hang, overflow or disagree, and ONNX files that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from hostile_row import Row
from sound_package import sound

FORMED = "SLM-PKG-006"
F32, Q8 = 0, 8
UINT8, UINT32, STRING, ARRAY, UINT64 = 0, 4, 8, 9, 10
BLOCK = 34  # bytes of 32 values in Q8

Build = Callable[[Path], object]
TensorRow = tuple[bytes, Sequence[int], int, int]


def text(value: bytes) -> bytes:
    """A string with its length."""
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    """An entry of the metadata."""
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    """The value of an array."""
    return struct.pack("<IQ", kind, count) + values


MATRIX: TensorRow = (b"w", (32,), Q8, 0)


def gguf(
    *keys: bytes,
    rows: Sequence[TensorRow] = (MATRIX,),
    counts: tuple[int, int] | None = None,
    version: int = 3,
    alignment: int = 32,
    data: int = BLOCK,
) -> bytes:
    """A GGUF file; ``counts`` are those that it claims of tensors and keys."""
    tensors, entries = counts or (len(rows), len(keys))
    parts = [b"GGUF", struct.pack("<IQQ", version, tensors, entries), *keys]
    for name, shape, kind, offset in rows:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        parts.append(text(name) + dimensions + struct.pack("<IQ", kind, offset))
    head = b"".join(parts)
    return head + bytes(-len(head) % alignment) + bytes(data)


def file(content: bytes, name: str = "model-q8.gguf") -> Build:
    """A package with one more file, that no variant declares."""
    return lambda folder: sound(folder, files={name: content})


def aligned(value: int) -> bytes:
    """The key of the alignment."""
    return key(b"general.alignment", UINT32, struct.pack("<I", value))


def nested(depth: int) -> bytes:
    """Arrays in arrays."""
    return key(b"k", ARRAY, array(ARRAY, 1) * depth + array(UINT8, 1, b"\0"))


def packed(count: int) -> bytes:
    """As many strings, keys and tensors as the limits allow, and one key that stands twice."""
    words = key(b"words", ARRAY, array(STRING, count, text(b"") * count))
    keys = [key(b"k%06d" % at, UINT8, b"\0") for at in range(99_000)]
    rows: list[TensorRow] = [(b"w%06d" % at, (0,) * 8, F32, 0) for at in range(100_000)]
    return gguf(words, *keys, keys[0], rows=rows)


def varint(value: int) -> bytes:
    """A number as protobuf has it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def part(number: int, value: bytes | int) -> bytes:
    """A field of protobuf."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(graph: bytes) -> bytes:
    """An ONNX model of this graph."""
    return part(1, 8) + part(7, graph) + part(8, part(2, 17))


def graphs(depth: int) -> bytes:
    """Graphs in the attributes of nodes."""
    inner = b""
    for _ in range(depth):
        inner = part(1, part(5, part(6, inner)))
    return inner


GOOD = file(gguf())
SOUND_ONNX = file(onnx(graphs(2)), "onnx/model.onnx")


def row(what: str, says: str, content: bytes, code: str, twin: bytes | None = None) -> Row:
    """A GGUF file that is not well-formed, and one that is."""
    return Row(f"G-{what}", says, file(content), FORMED, code, twin=file(twin) if twin else GOOD)


ROWS = [
    row(
        "array-2^63",
        "an array of 2^63 numbers",
        gguf(key(b"k", ARRAY, array(UINT64, 2**63))),
        "gguf-truncated",
        gguf(key(b"k", ARRAY, array(UINT64, 2, bytes(16)))),
    ),
    row(
        "array-wraps",
        "an array whose bytes are 0 modulo 2^64",
        gguf(key(b"k", ARRAY, array(UINT64, 2**61))),
        "gguf-truncated",
    ),
    row(
        "array-2^63-empty",
        "an array of 2^63 strings",
        gguf(key(b"k", ARRAY, array(STRING, 2**63))),
        "gguf-count",
        gguf(key(b"k", ARRAY, array(STRING, 2, text(b"a") + text(b"")))),
    ),
    row(
        "49-bytes",
        "the 49 bytes that make a reader hang",
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key(b"k", ARRAY, array(UINT8, 2**63)),
        "gguf-empty",
    ),
    row(
        "string-2^63",
        "a string of 2^63 bytes",
        gguf(key(b"k", STRING, struct.pack("<Q", 2**63))),
        "gguf-truncated",
    ),
    row("tensors-2^63", "2^63 tensors", gguf(counts=(2**63, 0)), "gguf-count"),
    row(
        "tensors-2^32",
        "more tensors than the file has bytes",
        gguf(counts=(2**32, 0)),
        "gguf-count",
    ),
    row("keys-2^63", "2^63 keys", gguf(counts=(1, 2**63)), "gguf-count"),
    row(
        "keys-many",
        "100,000 keys in a file that has one",
        gguf(key(b"k", UINT8, b"\0"), counts=(1, 100_000)),
        "gguf-name",
        gguf(key(b"k", UINT8, b"\0")),
    ),
    row("nested", "an array in an array", gguf(nested(1)), "gguf-metadata"),
    row("nested-5000", "arrays nested 5000 deep", gguf(nested(5000)), "gguf-metadata"),
    row(
        "overflow-2^64",
        "two dimensions whose product is 2^64",
        gguf(rows=[(b"w", (2**32, 2**32), F32, 0)]),
        "gguf-truncated",
    ),
    row(
        "overflow-2^63", "a dimension of 2^63", gguf(rows=[(b"w", (2**63,), F32, 0)]), "gguf-shape"
    ),
    row(
        "overflow-empty",
        "a dimension of 2^63 beside one of 0",
        gguf(rows=[MATRIX, (b"x", (2**63, 0), F32, 0)]),
        "gguf-shape",
        gguf(rows=[MATRIX, (b"x", (32, 0), F32, 0)]),
    ),
    row(
        "rank-2^32",
        "2^32 - 1 dimensions",
        gguf().replace(struct.pack("<IQ", 1, 32), struct.pack("<IQ", 2**32 - 1, 32)),
        "gguf-shape",
    ),
    row(
        "offset-2^63",
        "a tensor at an offset of 2^63",
        gguf(rows=[(b"w", (32,), Q8, 2**63)]),
        "gguf-truncated",
    ),
    row(
        "key-twice",
        "a key that stands twice",
        gguf(key(b"k", UINT8, b"\0"), key(b"k", UINT8, b"\1")),
        "gguf-key-twice",
        gguf(key(b"k", UINT8, b"\0"), key(b"l", UINT8, b"\1")),
    ),
    row(
        "tensor-twice",
        "a tensor that stands twice",
        gguf(rows=[MATRIX, (b"w", (32,), Q8, 64)], data=64 + BLOCK),
        "gguf-name-twice",
        gguf(rows=[MATRIX, (b"x", (32,), Q8, 64)], data=64 + BLOCK),
    ),
    row(
        "alignment-0",
        "an alignment of 0",
        gguf(aligned(0)),
        "gguf-alignment",
        gguf(aligned(64), alignment=64),
    ),
    row("alignment-3", "an alignment of 3", gguf(aligned(3)), "gguf-alignment"),
    row("alignment-2^31", "an alignment beyond the file", gguf(aligned(2**31)), "gguf-truncated"),
    row(
        "overlap",
        "tensors over one another",
        gguf(rows=[MATRIX, (b"x", (32,), Q8, 32)], data=32 + BLOCK),
        "gguf-overlap",
    ),
    row("type", "a type that nobody knows", gguf(rows=[(b"w", (32,), 4000, 0)]), "gguf-type"),
    row(
        "metadata-type",
        "metadata of a type that nobody knows",
        gguf(key(b"k", 99, b"")),
        "gguf-metadata",
    ),
    row(
        "name-long",
        "a name of 2^63 bytes",
        gguf().replace(text(b"w"), struct.pack("<Q", 2**63) + b"w"),
        "gguf-name",
    ),
    row("version", "a version of the future", gguf(version=2**31), "gguf-version", gguf(version=2)),
    row("truncated", "data that are cut off", gguf(data=BLOCK - 1), "gguf-truncated"),
    row("short", "the magic alone", b"GGUF", "gguf-magic"),
    row("other", "something else under the name", b"{}".ljust(100), "gguf-magic"),
    row("full", "all that the limits allow, and one key twice", packed(800_000), "gguf-key-twice"),
    Row(
        "G-disguised",
        "a GGUF file called .bin",
        file(gguf(), "model.bin"),
        FORMED,
        "gguf-disguised",
        twin=file(b"GGUF is a format.\n", "notes.txt"),
    ),
    Row(
        "G-onnx",
        "a GGUF file called .onnx",
        file(gguf(), "model.onnx"),
        FORMED,
        "gguf-disguised",
        twin=SOUND_ONNX,
    ),
    Row(
        "G-onnx-cut",
        "an ONNX file that is cut off",
        file(onnx(graphs(2))[:-1], "onnx/model.onnx"),
        FORMED,
        "onnx-structure",
        twin=SOUND_ONNX,
    ),
    Row(
        "G-onnx-nested",
        "graphs in graphs in graphs",
        file(onnx(graphs(500)), "m.onnx"),
        FORMED,
        "onnx-structure",
        twin=SOUND_ONNX,
    ),
    Row(
        "G-onnx-fields",
        "an ONNX file of endless fields",
        file(onnx(b"\x30\x00" * 3_000_000), "m.onnx"),
        FORMED,
        "onnx-structure",
        twin=SOUND_ONNX,
    ),
]
