"""The GGUF header, read and judged without reading the data.

Format (ggml, docs/gguf.md): the magic ``GGUF``, a version, two counts, metadata by key, a row for
each tensor, then the aligned data; all little-endian. Every count and offset is held against the
size of the file before anything is made of it.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, NoReturn

from slmconform.harmless import SHOWN
from slmconform.package.problem import PackageProblem, shown

VERSIONS = (2, 3)
ROW_LIMIT = 100_000  # tensors, and as many keys
COUNT_LIMIT = 1_000_000  # tensors, keys, and strings of arrays, together
NAME_LIMIT = 65_535  # bytes, of a key or a tensor name
RANK_LIMIT = 8
ALIGNMENT = 32  # bytes, where the metadata gives no other
DIMENSION_LIMIT = 2**40

_UINT32, _STRING, _ARRAY = 4, 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes by type
# Bytes of a block by the number of its ggml type, grouped by its values (ggml-common.h).
_BLOCK_BYTES: dict[int, dict[int, int]] = {
    1: {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2},
    32: {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 40, 20: 18, 39: 17},
    256: {
        **dict(zip(range(10, 20), (84, 110, 144, 176, 210, 292, 66, 74, 98, 50), strict=True)),
        21: 110,
        22: 82,
        23: 136,
        29: 56,
        34: 54,
        35: 66,
    },
}
BLOCKS = {
    kind: (size, values) for values, row in _BLOCK_BYTES.items() for kind, size in row.items()
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: ``shape`` slowest axis first, and its bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass
class _Cursor:
    """A place in the mapped file that cannot leave it."""

    data: mmap.mmap
    where: str
    at: int = 0
    alignment: int = field(default=ALIGNMENT)
    counted: int = 0

    def skip(self, count: int) -> int:
        """Move on and return where the skipped bytes begin."""
        begin = self.at
        if count > len(self.data) - begin:
            got = f"the header runs past the end of the file at byte {len(self.data)}"
            refuse("gguf-truncated", self.where, got, "a whole header", CUT_OFF)
        self.at += count
        return begin

    def number(self, layout: struct.Struct) -> int:
        """An unsigned integer."""
        begin = self.skip(layout.size)
        return int(layout.unpack_from(self.data, begin)[0])

    def skip_strings(self, count: int) -> None:
        """Move past strings; a vocabulary has hundreds of thousands of them."""
        at, last, read = self.at, len(self.data) - _U64.size, _U64.unpack_from
        while count and at <= last:
            at += _U64.size + read(self.data, at)[0]
            count -= 1
        self.skip(at - self.at + count * _U64.size)  # refuses those that are left

    def count(self, what: str, limit: int) -> int:
        """A count of keys, tensors or strings, of which a file has a bounded number."""
        value = self.number(_U64)
        self.counted += value
        if value > limit or self.counted > COUNT_LIMIT:
            want = f"at most {limit}, and {COUNT_LIMIT} tensors, keys and strings in all"
            refuse("gguf-count", self.where, f"{value} {what}", want)
        return value

    def name(self) -> str:
        """A key or a tensor name."""
        length = self.number(_U64)
        if not 0 < length <= NAME_LIMIT:
            got, want = f"a name of {length} bytes", f"1 to {NAME_LIMIT} bytes"
            refuse("gguf-name", self.where, got, want)
        begin = self.skip(length)
        try:
            return self.data[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError:
            refuse("gguf-name", self.where, "a name that is not UTF-8", "UTF-8")


CUT_OFF = "the file is cut off: copy or convert it again"
CONVERT = "convert the model again"
KNOWN = "a type of the format"


def parse(file: BinaryIO, where: str) -> list[GgufTensor]:
    """Read and judge the header of an open GGUF file; raises `PackageProblem`."""
    size = os.fstat(file.fileno()).st_size
    if size < 24:
        refuse("gguf-magic", where, f"{size} bytes", "a GGUF file")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            refuse("gguf-magic", where, f"first bytes {data[:4]!r}", "the magic GGUF")
        return _tensors(_Cursor(data, where, 4), size)


def _tensors(cursor: _Cursor, size: int) -> list[GgufTensor]:
    where = cursor.where
    version = cursor.number(_U32)
    if version not in VERSIONS:
        want = f"version {' or '.join(map(str, VERSIONS))}, little-endian"
        refuse("gguf-version", where, f"version {version}", want)
    tensors, keys = cursor.count("tensors", ROW_LIMIT), cursor.count("keys", ROW_LIMIT)
    if not tensors:
        refuse("gguf-empty", where, "no tensors", "at least one tensor")
    if len({_metadata(cursor) for _ in range(keys)}) < keys:
        refuse("gguf-key-twice", where, "a key that occurs twice", "every key once")
    rows = [_row(cursor) for _ in range(tensors)]
    names = {row.name for row in rows}
    if len(names) < len(rows):
        refuse("gguf-name-twice", where, "a tensor name that occurs twice", "every name once")
    start = -(-cursor.at // cursor.alignment) * cursor.alignment
    end = start + max(row.offset + row.size for row in rows)
    if end > size:
        got = f"{size} bytes, {end - size} fewer than the header describes"
        refuse("gguf-truncated", where, got, f"{end} bytes", CUT_OFF)
    _apart(rows, where)
    return rows


def _apart(rows: list[GgufTensor], where: str) -> None:
    """No byte belongs to two tensors."""
    filled = sorted((row for row in rows if row.size), key=lambda row: row.offset)
    for before, row in pairwise(filled):
        if row.offset < before.offset + before.size:
            got = f"{shown(row.name)} overlaps {shown(before.name)}"
            refuse("gguf-overlap", where, got, "every byte in one tensor")


def _metadata(cursor: _Cursor) -> str:
    """Move past an entry of the metadata; its key."""
    key, kind = cursor.name(), cursor.number(_U32)
    if key == "general.alignment":
        if kind != _UINT32:
            refuse("gguf-alignment", cursor.where, f"an alignment of type {kind}", "a uint32")
        value = cursor.number(_U32)
        if value == 0 or value & (value - 1):
            refuse("gguf-alignment", cursor.where, f"alignment {value}", "a power of two")
        cursor.alignment = value
    else:
        _skip_value(cursor, kind)
    return key


def _skip_value(cursor: _Cursor, kind: int) -> None:
    """Move past a value; an array holds numbers or strings, never arrays (as llama.cpp reads)."""
    if kind in _SCALARS:
        cursor.skip(_SCALARS[kind])
    elif kind == _STRING:
        cursor.skip(cursor.number(_U64))
    elif kind == _ARRAY:
        inner = cursor.number(_U32)
        if inner in _SCALARS:
            cursor.skip(_SCALARS[inner] * cursor.number(_U64))
        elif inner == _STRING:
            cursor.skip_strings(cursor.count("strings", COUNT_LIMIT))
        else:
            refuse("gguf-metadata", cursor.where, f"an array of type {inner}", KNOWN)
    else:
        refuse("gguf-metadata", cursor.where, f"metadata of type {kind}", KNOWN)


def _row(cursor: _Cursor) -> GgufTensor:
    name = cursor.name()
    place = f"{cursor.where}: {name[:SHOWN]}"
    rank = cursor.number(_U32)
    if rank > RANK_LIMIT:
        refuse("gguf-shape", place, f"{rank} axes", f"at most {RANK_LIMIT}")
    begin = cursor.skip(_U64.size * rank)
    shape = struct.unpack_from(f"<{rank}Q", cursor.data, begin)[::-1]
    if shape and max(shape) > DIMENSION_LIMIT:
        refuse("gguf-shape", place, f"an axis of {max(shape)}", "axes of at most 2^40")
    kind, offset = cursor.number(_U32), cursor.number(_U64)
    if kind not in BLOCKS:
        refuse("gguf-type", place, f"ggml type {kind}", "a type that can be read back")
    block, values = BLOCKS[kind]
    row = shape[-1] if shape else 1
    if row % values:
        got = f"rows of {row} values in blocks of {values}"
        refuse("gguf-shape", place, got, "whole blocks")
    if offset % cursor.alignment:
        refuse("gguf-offset", place, f"offset {offset}", f"a multiple of {cursor.alignment}")
    return GgufTensor(name, shape, offset, math.prod(shape) // values * block)


def refuse(code: str, where: str, got: str, want: str, fix: str = CONVERT) -> NoReturn:
    """Raise the problem of a file that is not what its variant declares."""
    raise PackageProblem(code, where, got, want, fix)
