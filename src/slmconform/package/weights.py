"""The weights of a package: which files they are, what is in them, and one pass over the bytes.

The pass takes sha256 and looks for non-finite values chunk by chunk while a chunk is in the cache.
It needs the standard library alone: a value is non-finite exactly if the bits of its exponent are
all ones, which two comparisons of whole byte planes decide for a chunk at once.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from slmconform.package.folder import CHUNK, Folder
from slmconform.package.problem import PackageProblem
from slmconform.package.tensors import (
    ALL_HEADERS_LIMIT,
    BITS,
    HEADER_LIMIT,
    Header,
    TensorEntry,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"^model-\d{5}-of-\d{5}\.safetensors$")
THREADS = 2
OPEN_FILES = 32  # of each thread


@dataclass(frozen=True, slots=True)
class Scanned:
    """What one pass over a tensor saw; ``first_bad`` is the flat index of the first bad value.

    Bad is a NaN or an infinity, or a boolean other than 0 and 1. ``constant``: all values are the
    same, bit by bit.
    """

    sha256: str
    bad: int = 0
    first_bad: int = -1
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """One byte of every value: ``offset`` within the value, and which bytes mark a bad one.

    ``marks`` translates a marked byte to 1 and any other to 0; ``few`` lists the marked bytes
    where they are so few that searching for each is faster.
    """

    offset: int
    marks: bytes
    few: bytes

    def silent(self, column: bytearray) -> bool:
        """Whether none of the bytes is marked."""
        if self.few:
            return not any(byte in column for byte in self.few)
        return 1 not in column.translate(self.marks)


def _plane(offset: int, bad: Iterable[int]) -> Plane:
    marked = bytes(bad)
    marks = bytes(byte in marked for byte in range(256))
    return Plane(offset, marks, marked if len(marked) <= 2 else b"")


def _exponent(item: int, bits: int) -> tuple[Plane, ...]:
    """The planes of an IEEE value of ``item`` bytes whose exponent has ``bits`` bits."""
    high = 0x7F if bits >= 7 else (0x7F << (7 - bits)) & 0x7F
    planes = [_plane(item - 1, (b for b in range(256) if b & high == high))]
    if bits > 7:
        low = (0xFF << (15 - bits)) & 0xFF
        planes.append(_plane(item - 2, (b for b in range(256) if b & low == low)))
    return tuple(planes)


# A value is bad if every one of its planes is marked. A complex value counts as two F32.
BAD: dict[str, tuple[Plane, ...]] = {
    "F64": _exponent(8, 11),
    "F32": _exponent(4, 8),
    "C64": _exponent(4, 8),
    "BF16": _exponent(2, 8),
    "F16": _exponent(2, 5),
    "F8_E5M2": _exponent(1, 5),
    "F8_E4M3": (_plane(0, (0x7F, 0xFF)),),
    "F8_E8M0": (_plane(0, (0xFF,)),),
    "F8_E4M3FNUZ": (_plane(0, (0x80,)),),
    "F8_E5M2FNUZ": (_plane(0, (0x80,)),),
    "BOOL": (_plane(0, range(2, 256)),),
}


class Weights:
    """The safetensors weights of a package, single or sharded.

    ``files`` are the weight files; ``problems`` say why a file among them cannot be read;
    ``tensors`` holds every readable tensor by name, ``duplicates`` those that a second file holds
    as well. ``index`` is the parsed index, None where there is none.
    """

    def __init__(self, folder: Folder, index: object = None) -> None:
        self.folder = folder
        self.index = index

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The single file, the numbered shards, and whatever the index names and exists."""
        present = {path for path in self.folder.files() if path == SINGLE or SHARD.match(path)}
        named = {posixpath.normpath(file) for file in self.weight_map.values()}
        return tuple(sorted(present | (named & set(self.folder.files()))))

    @cached_property
    def weight_map(self) -> dict[str, str]:
        """Tensor name -> file as the index says; empty where there is no usable index."""
        table = self.index.get("weight_map") if isinstance(self.index, dict) else None
        if not isinstance(table, dict):
            return {}
        return {name: file for name, file in table.items() if isinstance(file, str)}

    @cached_property
    def headers(self) -> dict[str, Header | PackageProblem]:
        """For every weight file its header, or why it has none."""
        headers: dict[str, Header | PackageProblem] = {}
        left = ALL_HEADERS_LIMIT
        for path in self.files:
            try:
                with self.folder.open(path) as file:
                    try:
                        headers[path] = parse(file, path, min(HEADER_LIMIT, left))
                    finally:
                        left -= file.tell()
            except PackageProblem as problem:
                headers[path] = problem
        return headers

    @cached_property
    def problems(self) -> tuple[PackageProblem, ...]:
        """Why files among the weights cannot be read."""
        return tuple(h for h in self.headers.values() if isinstance(h, PackageProblem))

    @cached_property
    def oddities(self) -> tuple[PackageProblem, ...]:
        """What in the headers is legal and not in canonical form."""
        return tuple(oddity for header in self._readable for oddity in header.oddities)

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """Every tensor of the readable files by name; of two the one in the first file."""
        merged: dict[str, TensorEntry] = {}
        for header in self._readable:
            for name, entry in header.tensors.items():
                merged.setdefault(name, entry)
        return merged

    @cached_property
    def duplicates(self) -> tuple[TensorEntry, ...]:
        """Tensors whose name another file has used before."""
        return tuple(
            entry
            for header in self._readable
            for name, entry in header.tensors.items()
            if entry is not self.tensors[name]
        )

    @property
    def _readable(self) -> list[Header]:
        return [h for h in self.headers.values() if isinstance(h, Header)]

    @property
    def parameters(self) -> int:
        """The number of floating-point values in the files."""
        return sum(entry.values for entry in self.tensors.values() if entry.floating)

    @property
    def bytes(self) -> int:
        """The bytes of all tensors."""
        return sum(entry.end - entry.begin for entry in self.tensors.values())

    def begin(self) -> None:
        """Start to read the files in threads; `scan` waits for them."""
        _ = self._reading

    def scan(self) -> dict[str, Scanned]:
        """Digest and bad values of every tensor, from one pass over the files (memoised).

        Raises `PackageProblem` where a file changes while it is read.
        """
        return self._reading.seen()

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self.folder, self.tensors.values())

    @cached_property
    def digest(self) -> str:
        """sha256 over the sorted rows (name, dtype, shape, sha256) as compact JSON.

        The same for every copy whose tensors are the same, however they lie in files.
        """
        rows = sorted(
            [name, self.tensors[name].dtype, list(self.tensors[name].shape), seen.sha256]
            for name, seen in self.scan().items()
        )
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


class Reading:
    """Tensors being read by threads, the largest first; hashing leaves the interpreter free.

    The threads are daemons: a run that ends early does not wait for files that nobody asks for.
    """

    def __init__(self, folder: Folder, tensors: Iterable[TensorEntry]) -> None:
        self._folder = folder
        self._left = deque(sorted(tensors, key=lambda e: (e.begin - e.end, e.file, e.begin)))
        self._seen: dict[str, Scanned] = {}
        self._error: Exception | None = None
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def seen(self) -> dict[str, Scanned]:
        """Wait for the threads; raises what stopped them."""
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return self._seen

    def _read(self) -> None:
        opened: dict[str, BinaryIO] = {}
        try:
            while self._left:
                entry = self._left.popleft()
                self._seen[entry.name] = scan_tensor(self._file(entry.file, opened), entry)
        except IndexError:  # the other thread took the last one
            return
        except Exception as error:  # for `seen` to raise, whatever it is
            self._error = error
            self._left.clear()
        finally:
            _close(opened)

    def _file(self, path: str, opened: dict[str, BinaryIO]) -> BinaryIO:
        """A file that stays open for its other tensors, as long as there are not too many."""
        if path not in opened:
            if len(opened) == OPEN_FILES:
                _close(opened)
            opened[path] = self._folder.open(path)
        return opened[path]


def _close(opened: dict[str, BinaryIO]) -> None:
    for file in opened.values():
        file.close()
    opened.clear()


def scan_tensor(file: BinaryIO, entry: TensorEntry) -> Scanned:
    """Read one tensor of an open file once, for its sha256, its bad values and its sameness."""
    planes = BAD.get(entry.dtype, ())
    width = max(BITS[entry.dtype] // 8, 1)
    item = 4 if entry.dtype == "C64" else width
    digest = hashlib.sha256()
    bad, first, done = 0, -1, 0
    length = entry.end - entry.begin
    constant, value = length > 0, b""
    buffer = bytearray(min(CHUNK, length))
    file.seek(entry.begin)
    while done < length:
        chunk = buffer if length - done >= len(buffer) else bytearray(length - done)
        _fill(file, chunk, entry)
        digest.update(chunk)
        value = value or bytes(chunk[:width])
        constant = constant and _repeats(chunk, value)
        if planes and (flags := _bad_flags(chunk, planes, item)):
            if first < 0:
                first = done // item + ((flags & -flags).bit_length() - 1) // 8
            bad += flags.bit_count()
        done += len(chunk)
    if entry.dtype == "C64" and first >= 0:
        first //= 2
    return Scanned(digest.hexdigest(), bad, first, constant)


def _repeats(chunk: bytearray, value: bytes) -> bool:
    """Whether the chunk is one value again and again; its last one tells most of the others."""
    return chunk.endswith(value) and chunk == value * (len(chunk) // len(value))


def _fill(file: BinaryIO, chunk: bytearray, entry: TensorEntry) -> None:
    view, got = memoryview(chunk), 0
    while got < len(chunk):
        more = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not more:
            raise PackageProblem(
                "changed-while-read", entry.file, "the file became shorter", "files at rest"
            )
        got += more


def _bad_flags(chunk: bytearray, planes: tuple[Plane, ...], item: int) -> int:
    """An integer whose byte i (little-endian) is 1 where value i of the chunk is bad."""
    flags = -1
    for plane in planes:
        column = chunk[plane.offset :: item]
        if plane.silent(column):
            return 0
        flags &= int.from_bytes(column.translate(plane.marks), "little")
    return flags
