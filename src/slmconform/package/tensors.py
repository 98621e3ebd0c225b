"""The safetensors header, read and judged without reading the data.

Format: 8 bytes little-endian header length, a JSON object, the data. The limits are stricter than
the reference parser's: unique keys, printable names, bounded rank and sizes, and a header of at
most 16 MiB, because a 66 MB header of empty tensors costs it 854 MiB of memory.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import BinaryIO, NoReturn, TypeGuard

from slmconform.package import strict_json
from slmconform.package.problem import PackageProblem, shown

HEADER_LIMIT = 16 * 2**20  # bytes
ALL_HEADERS_LIMIT = 32 * 2**20  # bytes, of the weights together
RANK_LIMIT = 8
NAME_LIMIT = 1000  # characters
DIMENSION_LIMIT = 2**40

# What the floating-point dtypes that a manifest can declare are called in a safetensors header.
FLOAT_NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
FIX = "save the weights again with safetensors"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MINUS_ZERO = re.compile(rb"-0(?![.\deE])")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its bytes are ``[begin, end)`` of ``file``, offsets from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    file: str

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether its dtype is a floating-point one."""
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True, slots=True)
class Header:
    """A header within the limits; ``oddities`` are legal."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    oddities: tuple[PackageProblem, ...]


def parse(file: BinaryIO, where: str, limit: int = HEADER_LIMIT) -> Header:
    """Read and judge the header, of at most ``limit`` bytes, of an open safetensors file.

    Raises `PackageProblem`; ``where`` names the file in problems and in the entries.
    """
    size = os.fstat(file.fileno()).st_size
    text = _header_bytes(file, size, where, limit)
    value = strict_json.loads(text, where)
    if not isinstance(value, dict):
        _refuse("header-not-object", where, f"the header is {_kind(value)}", "a JSON object")
    odd = Oddities(where)
    if not text.startswith(b"{"):
        odd.note("leading-blank", "a blank before the header", "a header that begins with {")
    metadata = _metadata(value.pop("__metadata__", {}), where, odd)
    start = 8 + len(text)
    tensors = {name: _entry(name, entry, start, where, odd) for name, entry in value.items()}
    _judge_spelling(text, [value, metadata], where)
    if not tensors:
        _refuse("no-tensors", where, "no tensors", "at least one tensor")
    _cover(tensors, start, size, where)
    return Header(tensors, metadata, tuple(odd.found.values()))


class Oddities:
    """What in one header is legal and not as the reference writer has it; each kind once."""

    def __init__(self, where: str) -> None:
        self.where, self.found = where, dict[str, PackageProblem]()

    def note(self, code: str, got: str, want: str) -> None:
        """Keep the first of its kind."""
        if code not in self.found:
            self.found[code] = PackageProblem(code, self.where, got, want, FIX)


def _judge_spelling(text: bytes, value: object, where: str) -> None:
    """Refuse what Python reads as JSON and the reference parser does not."""
    if b"-0" in text and _MINUS_ZERO.search(_STRING.sub(b"", text)):
        _refuse("minus-zero", where, "the number -0", "non-negative integers without a sign")
    if b"\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            got, want = "a lone surrogate", "characters that UTF-8 can write"
            _refuse("lone-surrogate", where, got, want)


def _header_bytes(file: BinaryIO, size: int, where: str, limit: int) -> bytes:
    head = file.read(8)
    if len(head) < 8:
        _refuse("too-short", where, f"{size} bytes", "a header length of 8 bytes and a header")
    length = int.from_bytes(head, "little")
    if length > HEADER_LIMIT and head[:7] == b"version":
        _refuse(
            "git-lfs-pointer",
            where,
            "a Git LFS pointer, not the weights",
            "a safetensors file",
            "fetch the file itself with `git lfs pull`",
        )
    if length == 0 or length > size - 8:
        got = f"a header length of {length} in a file of {size} bytes"
        fix = "the file is damaged or not safetensors: copy or download it again"
        _refuse("header-length", where, got, "a header that lies inside the file", fix)
    if length > limit:
        want = f"at most {HEADER_LIMIT} bytes, and {ALL_HEADERS_LIMIT} in all files of the weights"
        fix = "spread the tensors over several files, or store fewer"
        _refuse("header-too-large", where, f"a header of {length} bytes", want, fix)
    text = b""
    while len(text) < length and (more := file.read(length - len(text))):
        text += more
    return text


def _metadata(value: object, where: str, odd: Oddities) -> dict[str, str]:
    if value is None:
        odd.note("null-metadata", "__metadata__ is null", "an object of strings, or none")
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        _refuse("metadata", where, "__metadata__ holds other than strings", "an object of strings")
    return value


def _entry(name: str, entry: object, start: int, where: str, odd: Oddities) -> TensorEntry:
    if not name or not name.isprintable() or len(name) > NAME_LIMIT or ".." in name.split("/"):
        want = f"1 to {NAME_LIMIT} printable characters without a `..` segment"
        _refuse("tensor-name", where, f"a tensor named {shown(name)}", want)
    place = f"{where}: {name}"[:300]
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        _refuse("entry", place, shown(repr(entry)), "dtype, shape and data_offsets")
    if len(entry) > 3:
        more = sorted(entry.keys() - {"dtype", "shape", "data_offsets"})
        odd.note("extra-key", f"{name} has the key {shown(more[0])}", "no key beside these three")
    dtype, offsets = entry["dtype"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _refuse("unknown-dtype", place, f"dtype {shown(dtype)}", f"one of {', '.join(BITS)}")
    shape = _shape(entry["shape"], place)
    if not (_naturals(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        got = f"data_offsets {shown(repr(offsets))}"
        _refuse("offsets", place, got, "[begin, end] with 0 <= begin <= end")
    begin, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8 or bits // 8 != end - begin:
        want = f"{bits / 8:g} bytes for shape {list(shape)} of {dtype}"
        _refuse("size-mismatch", place, f"{end - begin} bytes", want)
    if begin * 8 % BITS[dtype]:
        got, want = f"{name} at offset {begin} of the data", f"a multiple of {BITS[dtype] // 8}"
        odd.note("misaligned", got, want)
    return TensorEntry(name, dtype, shape, start + begin, start + end, where)


def _shape(shape: object, place: str) -> tuple[int, ...]:
    if not _naturals(shape):
        _refuse("shape", place, f"shape {shown(repr(shape))}", "a list of non-negative integers")
    if len(shape) > RANK_LIMIT:
        _refuse("rank", place, f"{len(shape)} axes", f"at most {RANK_LIMIT}")
    if any(axis > DIMENSION_LIMIT for axis in shape):
        _refuse("shape", place, f"shape {shown(repr(shape))}", "axes of at most 2^40")
    return tuple(shape)


def _naturals(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _cover(tensors: dict[str, TensorEntry], start: int, size: int, where: str) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    at, last = start, "the header"
    for entry in sorted(tensors.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin < at:
            got = f"{entry.name} overlaps {last}"
            _refuse("overlap", where, got, "every byte in one tensor", FIX)
        if entry.begin > at:
            got = f"{entry.begin - at} bytes between {last} and {entry.name} in no tensor"
            _refuse("hole", where, got, "every byte in one tensor", FIX)
        at, last = entry.end, entry.name
    if at > size:
        got = f"{size} bytes, {at - size} fewer than the header describes"
        fix = "the file is cut off: copy or download it again"
        _refuse("truncated", where, got, f"{at} bytes", fix)
    if at < size:
        got = f"{size - at} bytes after the last tensor"
        _refuse("trailing-bytes", where, got, "a file that ends with its last tensor")


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number")


def _refuse(code: str, where: str, got: str, want: str, fix: str = FIX) -> NoReturn:
    raise PackageProblem(code, where, got, want, fix)
