"""The safetensors header: what the reference parser refuses, and what it lets through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_builders import raw_safetensors
from safetensors.numpy import save

from slmconform.package.problem import PackageProblem
from slmconform.package.tensors import HEADER_LIMIT, Header, parse


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def header(tmp_path: Path, content: bytes) -> Header:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with path.open("rb") as file:
        return parse(file, "x.safetensors")


FOUR = b"\0" * 4
BAD = {
    "empty file": (b"", "too-short"),
    "seven bytes": (b"\1" * 7, "too-short"),
    "length zero": (b"\0" * 8 + b"{}", "header-length"),
    "length beyond the file": (b"\xff\0\0\0\0\0\0\0{}", "header-length"),
    "length 2^63": (b"\0" * 7 + b"\x80{}", "header-length"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs-pointer"),
    "header of 17 MiB": (
        raw_safetensors(b'{"a":' + b" " * HEADER_LIMIT + b"1}"),
        "header-too-large",
    ),
    "not UTF-8": (raw_safetensors(b'{"\xff": 1}'), "not-utf8"),
    "not JSON": (raw_safetensors("{"), "not-json"),
    "deep": (raw_safetensors("[" * 100 + "]" * 100), "too-deep"),
    "a list": (raw_safetensors("[]"), "header-not-object"),
    "no tensors": (raw_safetensors("{}"), "no-tensors"),
    "metadata only": (raw_safetensors({"__metadata__": {"a": "b"}}), "no-tensors"),
    "trailing bytes": (raw_safetensors({"a": entry()}, FOUR + b"x"), "trailing-bytes"),
    "truncated": (raw_safetensors({"a": entry()}, b"\0\0"), "truncated"),
    "hole": (
        raw_safetensors({"a": entry(), "b": entry(offsets=(8, 12))}, FOUR * 3),
        "hole",
    ),
    "hole at the start": (raw_safetensors({"a": entry(offsets=(4, 8))}, FOUR * 2), "hole"),
    "overlap": (
        raw_safetensors(
            {"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(offsets=(4, 8))}, FOUR * 2
        ),
        "overlap",
    ),
    "alias": (raw_safetensors({"a": entry(), "b": entry()}, FOUR), "overlap"),
    "end before begin": (raw_safetensors({"a": entry(offsets=(4, 0))}, FOUR), "offsets"),
    "three offsets": (raw_safetensors({"a": entry(offsets=(0, 2, 4))}, FOUR), "offsets"),
    "float offset": (raw_safetensors({"a": entry(offsets=(0, 4.0))}, FOUR), "offsets"),
    "size mismatch": (raw_safetensors({"a": entry(shape=(2,))}, FOUR), "size-mismatch"),
    "half a byte": (
        raw_safetensors({"a": entry("F4", (1,), (0, 0))}),
        "size-mismatch",
    ),
    "negative shape": (raw_safetensors({"a": entry(shape=(-1,))}, FOUR), "shape"),
    "float shape": (raw_safetensors({"a": entry(shape=(1.0,))}, FOUR), "shape"),
    "bool shape": (raw_safetensors({"a": entry(shape=(True,))}, FOUR), "shape"),
    "shape with 2^63": (raw_safetensors({"a": entry(shape=(0, 2**63), offsets=(0, 0))}), "shape"),
    "shape that overflows": (
        raw_safetensors({"a": entry(shape=(2**32, 2**32), offsets=(0, 0))}),
        "size-mismatch",
    ),
    "rank nine": (raw_safetensors({"a": entry(shape=[1] * 9)}, FOUR), "rank"),
    "unknown dtype": (raw_safetensors({"a": entry("F33")}, FOUR), "unknown-dtype"),
    "dtype a list": (raw_safetensors({"a": {**entry(), "dtype": []}}, FOUR), "unknown-dtype"),
    "missing key": (
        raw_safetensors({"a": {"dtype": "F32", "shape": [1]}}, FOUR),
        "entry",
    ),
    "entry a number": (raw_safetensors({"a": 1}), "entry"),
    "duplicate tensor": (
        raw_safetensors(f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry())}}}', FOUR),
        "duplicate-key",
    ),
    "duplicate metadata": (
        raw_safetensors(
            f'{{"__metadata__": {{"f": "1", "f": "2"}}, "a": {json.dumps(entry())}}}', FOUR
        ),
        "duplicate-key",
    ),
    "metadata a number": (
        raw_safetensors({"__metadata__": {"a": 1}, "b": entry()}, FOUR),
        "metadata",
    ),
    "nameless": (raw_safetensors({"": entry()}, FOUR), "tensor-name"),
    "climbing name": (raw_safetensors({"a/../b": entry()}, FOUR), "tensor-name"),
    "NUL in a name": (raw_safetensors({"a\0": entry()}, FOUR), "tensor-name"),
    "ESC in a name": (raw_safetensors({"\x1b[2J": entry()}, FOUR), "tensor-name"),
    "lone surrogate": (
        raw_safetensors('{"\\ud800": ' + json.dumps(entry()) + "}", FOUR),
        "tensor-name",
    ),
    "endless name": (raw_safetensors({"a" * 2000: entry()}, FOUR), "tensor-name"),
}


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD)
def test_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(PackageProblem) as caught:
        header(tmp_path, content)
    assert caught.value.code == expected
    assert caught.value.where.startswith("x.safetensors")
    assert str(caught.value).isprintable()


def test_a_million_empty_tensors_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((66 * 2**20).to_bytes(8, "little"))
        file.truncate(8 + 66 * 2**20)
    with path.open("rb") as file, pytest.raises(PackageProblem) as caught:
        parse(file, "x")
    assert caught.value.code == "header-too-large"


ODD = {
    "blank first": (raw_safetensors(" " + json.dumps({"a": entry()}), FOUR), "leading-blank"),
    "extra key": (raw_safetensors({"a": entry(note=1)}, FOUR), "extra-key"),
    "null metadata": (raw_safetensors({"__metadata__": None, "a": entry()}, FOUR), "null-metadata"),
    "misaligned": (
        raw_safetensors({"a": entry("U8", (1,), (0, 1)), "b": entry(offsets=(1, 5))}, b"\0" * 5),
        "misaligned",
    ),
}


@pytest.mark.parametrize(("content", "expected"), ODD.values(), ids=ODD)
def test_odd_but_legal(tmp_path: Path, content: bytes, expected: str) -> None:
    assert [one.code for one in header(tmp_path, content).oddities] == [expected]


def test_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = {
        "b.bias": np.zeros((), np.float64),
        "a/kernel weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4), np.int8),
        "flag": np.array([True, False]),
    }
    content = save(tensors, {"format": "np"})
    found = header(tmp_path, content)
    assert found.metadata == {"format": "np"}
    assert not found.oddities
    assert {n: (t.dtype, t.shape) for n, t in found.tensors.items()} == {
        "b.bias": ("F64", ()),
        "a/kernel weight": ("F32", (2, 3)),
        "empty": ("I8", (0, 4)),
        "flag": ("BOOL", (2,)),
    }
    kernel = found.tensors["a/kernel weight"]
    assert content[kernel.begin : kernel.end] == tensors["a/kernel weight"].tobytes()
    assert (kernel.values, kernel.floating, found.tensors["flag"].floating) == (6, True, False)


def test_sub_byte_dtypes(tmp_path: Path) -> None:
    found = header(tmp_path, raw_safetensors({"a": entry("F4", (8,), (0, 4))}, FOUR))
    assert found.tensors["a"].values == 8


def test_the_header_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"x": np.ones(3, np.float32)}))
    with path.open("rb", buffering=0) as file:
        assert parse(file, "m").tensors["x"].shape == (3,)
