"""S: headers that the reference parser of safetensors refuses, and that it takes and we do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_row import Row
from package_builders import llama_tensors, raw_safetensors
from sound_package import sound

FORMED = "SLM-WGT-001"
FINITE = "SLM-WGT-003"
CANONICAL = "SLM-WGT-008"
WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"  # the last in the data

Build = Callable[[Path], object]
Header = dict[str, Any]


def taken_apart(**more: np.ndarray) -> tuple[Header, bytes]:
    """Header and data of the sound weights, and of more tensors after them."""
    header: Header = {}
    data = b""
    for name, tensor in {**llama_tensors(), **more}.items():
        at = [len(data), len(data) + tensor.nbytes]
        kind = {"f": "F32", "u": "U8", "b": "BOOL"}[tensor.dtype.kind]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": at}
        data += tensor.tobytes()
    return header, data


def content(file: bytes) -> Build:
    """A package with this file of weights."""
    return lambda folder: sound(folder, files={WEIGHTS: file})


def changed(change: Callable[[Header], object], **more: np.ndarray) -> Build:
    """A package with a changed header before sound data."""
    header, data = taken_apart(**more)
    change(header)
    return content(raw_safetensors(header, data))


def spelled(change: Callable[[str], str | bytes]) -> Build:
    """A package whose header is changed as a text."""
    header, data = taken_apart()
    text = json.dumps(header)
    changed_text = change(text)
    assert changed_text not in (text, text.encode())
    return content(raw_safetensors(changed_text, data))


def entry(**keys: Any) -> Callable[[Header], None]:
    """Change the entry of one tensor."""
    return lambda header: header[NORM].update(keys)


def added(name: str, **keys: Any) -> Callable[[Header], None]:
    """Add an entry without data."""
    whole = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} | keys
    return lambda header: header.update({name: whole})


def moved(begin: int, end: int) -> Callable[[Header], None]:
    """Move the bounds of the last tensor by so many bytes, its shape with them."""

    def change(header: Header) -> None:
        first, last = header[HEAD]["data_offsets"]
        header[HEAD]["data_offsets"] = [first + begin, last + end]
        header[HEAD]["shape"] = [(last + end - first - begin) // 4]

    return change


def cut(keep: Callable[[bytes], bytes]) -> Build:
    """A package whose file of weights is cut or lengthened."""
    return content(keep(raw_safetensors(*taken_apart())))


def length(number: int) -> Build:
    """A package whose weights claim a header of this length."""
    return cut(lambda file: number.to_bytes(8, "little") + file[8:])


def huge(folder: Path) -> None:
    """A header of 66 MB with a million empty tensors."""
    rows = (
        b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % at for at in range(1_000_000)
    )
    text = b"{" + b",".join(rows) + b"}"
    sound(folder, files={WEIGHTS: raw_safetensors(text.ljust(66_000_000))})


def thousands(folder: Path) -> None:
    """Three shards whose headers are each just within the limit."""
    sound(folder)
    (folder / WEIGHTS).unlink()
    for shard in range(1, 4):
        rows = {
            f"{shard}.{at:05}." + "n" * 900: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
            for at in range(16_000)
        }
        path = folder / f"model-{shard:05}-of-00003.safetensors"
        path.write_bytes(raw_safetensors(rows))


def misaligned(folder: Path) -> None:
    """One byte before all floats."""
    header, data = taken_apart()
    for row in header.values():
        row["data_offsets"] = [at + 1 for at in row["data_offsets"]]
    header["byte"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    sound(folder, files={WEIGHTS: raw_safetensors(header, b"x" + data)})


def values(name: str, array: np.ndarray) -> Build:
    """A package with one more tensor."""
    return changed(lambda _: None, **{name: array})


def nested(depth: int) -> Callable[[Header], None]:
    """A value inside many lists."""
    inner: Any = 0
    for _ in range(depth):
        inner = [inner]
    return entry(note=inner)


def doubled(name: str) -> Callable[[str], str]:
    """The entry of a tensor twice, the second time with another shape."""
    again = '"shape": [2, 4], "dtype": "F32", "data_offsets"'
    row = f'"{name}": {{"dtype": "F32", "shape": [8], "data_offsets"'
    return lambda text: text.replace(row, f'"{name}": {{{again}: [64, 96]}}, {row}')


def named(name: str) -> Build:
    """A package with a tensor of this name."""
    return changed(added(name))


GOOD = content(raw_safetensors(*taken_apart()))
PAYLOAD = np.frombuffer(b"\x01\x00\x80\x7f" * 4, np.float32)  # NaN, by its payload alone
BOOLEANS = np.array([True, False, True, True])


def refused(
    what: str, says: str, build: Build, code: str, twin: Build | None = None, kills: str = FORMED
) -> Row:
    """A row that fails."""
    return Row(f"S-{what}", says, build, kills, code, twin=twin)


ROWS = [
    # What the reference parser refuses, too.
    refused("empty", "an empty file", content(b""), "too-short"),
    refused("seven-bytes", "seven bytes", content(bytes(7)), "too-short"),
    refused("length-zero", "a header of no bytes", length(0), "header-length"),
    refused("length-beyond", "a header longer than the file", length(2**20), "header-length"),
    refused("length-2^63", "a header of 2^63 bytes", length(2**63), "header-length"),
    refused("length-2^64", "a header of 2^64 - 1 bytes", length(2**64 - 1), "header-length"),
    refused(
        "not-utf8",
        "a header that is not UTF-8",
        spelled(lambda text: text.encode().replace(b"norm", b"n\xffrm")),
        "not-utf8",
        spelled(lambda text: text.replace("norm", "nörm")),
    ),
    refused(
        "not-json",
        "a header that is not JSON",
        spelled(lambda text: text[:-1]),
        "not-json",
        spelled(lambda text: text + "   "),
    ),
    refused(
        "list", "a header that is a list", spelled(lambda text: f"[{text}]"), "header-not-object"
    ),
    refused(
        "trailing", "bytes after the last tensor", cut(lambda file: file + b"\0"), "trailing-bytes"
    ),
    refused("truncated", "data that are cut off", cut(lambda file: file[:-1]), "truncated"),
    refused("hole", "bytes that belong to no tensor", changed(moved(4, 0)), "hole"),
    refused("overlap", "a tensor that begins in another", changed(moved(-4, 0)), "overlap"),
    refused(
        "alias",
        "two names for the same bytes",
        changed(lambda header: header.update(again=header[HEAD])),
        "overlap",
    ),
    refused(
        "end-before-start",
        "a tensor that ends before it begins",
        changed(entry(data_offsets=[96, 64])),
        "offsets",
    ),
    refused(
        "negative-offset", "a negative offset", changed(entry(data_offsets=[-32, 0])), "offsets"
    ),
    refused(
        "offset-2^64",
        "offsets beyond 2^64",
        changed(entry(data_offsets=[2**64, 2**64 + 32])),
        "hole",
    ),
    refused(
        "size-mismatch",
        "fewer bytes than the shape says",
        changed(entry(shape=[9])),
        "size-mismatch",
        changed(entry(shape=[8])),
    ),
    refused(
        "overflow",
        "a shape whose product is 2^64",
        changed(entry(shape=[2**32, 2**32])),
        "size-mismatch",
    ),
    refused("negative-shape", "a negative axis", changed(entry(shape=[-8])), "shape"),
    refused("float-shape", "an axis that is a float", changed(entry(shape=[8.0])), "shape"),
    refused("boolean-shape", "an axis that is a boolean", changed(entry(shape=[8, True])), "shape"),
    refused("unknown-dtype", "an unknown dtype", changed(entry(dtype="F33")), "unknown-dtype"),
    refused("dtype-number", "a dtype that is a number", changed(entry(dtype=32)), "unknown-dtype"),
    refused("deep", "a header of a hundred levels", changed(nested(100)), "too-deep"),
    refused(
        "deep-100000",
        "a header of a hundred thousand levels",
        spelled(lambda text: text[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        "too-deep",
    ),
    refused(
        "no-entry",
        "an entry that is null",
        changed(lambda header: header.update({NORM: None})),
        "entry",
    ),
    refused(
        "missing-key",
        "an entry without a shape",
        changed(lambda header: header[NORM].pop("shape")),
        "entry",
    ),
    refused(
        "metadata-number",
        "metadata that are no strings",
        changed(lambda header: header.update(__metadata__={"a": 1})),
        "metadata",
        changed(lambda header: header.update(__metadata__={"a": "1"})),
    ),
    # What the reference parser takes.
    refused("duplicate-key", "a tensor that stands twice", spelled(doubled(NORM)), "duplicate-key"),
    refused(
        "duplicate-metadata",
        "a key of the metadata that stands twice",
        spelled(lambda text: '{"__metadata__": {"a": "1", "a": "2"}, ' + text[1:]),
        "duplicate-key",
        spelled(lambda text: '{"__metadata__": {"a": "1", "b": "1"}, ' + text[1:]),
    ),
    refused("no-tensors", "no tensor at all", content(raw_safetensors({})), "no-tensors"),
    refused(
        "metadata-alone",
        "metadata alone",
        content(raw_safetensors({"__metadata__": {"a": "b"}})),
        "no-tensors",
    ),
    refused(
        "axis-2^63",
        "no values, but an axis of 2^63",
        changed(added("x", shape=[0, 2**63])),
        "shape",
        changed(added("x", shape=[0, 2**40])),
    ),
    refused("name-empty", "a tensor without a name", named(""), "tensor-name", named("x")),
    refused("name-climbing", "a tensor called ../x", named("../x"), "tensor-name", named("..x/y")),
    refused("name-nul", "a tensor whose name holds NUL", named("x\0y"), "tensor-name"),
    refused("name-escape", "a tensor whose name holds ESC", named("x\x1b[2Jy"), "tensor-name"),
    refused(
        "name-reversed",
        "a tensor whose name turns the line",
        named("x\u202ey"),
        "tensor-name",
        named("é"),
    ),
    refused(
        "name-surrogate",
        "a tensor whose name holds half a character",
        named("x\ud800"),
        "tensor-name",
    ),
    refused(
        "name-long",
        "a tensor with a name of 10,000 characters",
        named("x" * 10_000),
        "tensor-name",
        named("x" * 1000),
    ),
    refused(
        "rank-9",
        "a tensor of nine axes",
        changed(entry(shape=[8, *[1] * 8])),
        "rank",
        changed(entry(shape=[8, *[1] * 7])),
    ),
    refused(
        "nan-payload",
        "a NaN, by its payload",
        values("x", PAYLOAD),
        "not-finite",
        values("x", np.full(4, np.finfo(np.float32).tiny / 4, np.float32)),
        FINITE,
    ),
    refused(
        "boolean-7",
        "a boolean that is stored as 7",
        values("x", np.frombuffer(b"\x01\x07", np.bool_)),
        "bad-boolean",
        values("x", BOOLEANS),
        FINITE,
    ),
    refused("66-MB", "a header of 66 MB", huge, "header-too-large"),
    refused(
        "many-headers", "headers of 16 MB in each of many shards", thousands, "header-too-large"
    ),
    refused(
        "many-values",
        "a header with more values than limits allow",
        spelled(lambda text: text[:-1] + ', "x": [' + "0," * 2**20 + "0]}"),
        "too-many-values",
    ),
    # What is legal and nobody writes.
    Row(
        "S-leading-blank",
        "a blank before the header",
        spelled(lambda text: " " + text),
        CANONICAL,
        "leading-blank",
        "warn",
        spelled(lambda text: text + " "),
    ),
    Row(
        "S-extra-key",
        "a key that nobody knows in an entry",
        changed(entry(note="x")),
        CANONICAL,
        "extra-key",
        "warn",
    ),
    Row(
        "S-null-metadata",
        "metadata that are null",
        changed(lambda header: header.update(__metadata__=None)),
        CANONICAL,
        "null-metadata",
        "warn",
        changed(lambda header: header.update(__metadata__={})),
    ),
    Row(
        "S-misaligned",
        "floats across the bounds of words",
        misaligned,
        CANONICAL,
        "misaligned",
        "warn",
        GOOD,
    ),
]
