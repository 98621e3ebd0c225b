"""Weights: files, one pass over the bytes, and a digest that does not depend on the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from package_builders import llama_tensors, make_package, raw_safetensors, write_shards
from safetensors.numpy import save

from slmconform.package import weights as module
from slmconform.package.folder import scan
from slmconform.package.read import Package
from slmconform.package.tensors import BITS
from slmconform.package.weights import Weights


def weights_of(folder: Path, content: bytes) -> Weights:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    return Weights(scan(folder))


def single(folder: Path, dtype: str, data: bytes) -> module.Scanned:
    count = len(data) * 8 // BITS[dtype]
    entry = {"dtype": dtype, "shape": [count], "data_offsets": [0, len(data)]}
    return weights_of(folder, raw_safetensors({"x": entry}, data)).scan()["x"]


NAN_BYTES = {
    "F64": [0x7FF0000000000000, 0xFFF0000000000001, 0x7FF8000000000000],
    "F32": [0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001],
    "BF16": [0x7F80, 0xFF80, 0x7FC0],
    "F16": [0x7C00, 0xFC00, 0x7E00, 0xFFFF],
    "F8_E5M2": [0x7C, 0xFC, 0x7D, 0xFF],
    "F8_E4M3": [0x7F, 0xFF],
    "F8_E8M0": [0xFF],
    "F8_E4M3FNUZ": [0x80],
    "F8_E5M2FNUZ": [0x80],
    "BOOL": [2, 7, 255],
}
GREATEST = {
    "F64": 0x7FEFFFFFFFFFFFFF,
    "F32": 0xFF7FFFFF,
    "BF16": 0x7F7F,
    "F16": 0xFBFF,
    "F8_E5M2": 0x7B,
    "F8_E4M3": 0xFE,
    "F8_E8M0": 0xFE,
    "F8_E4M3FNUZ": 0x7F,
    "F8_E5M2FNUZ": 0xFF,
    "BOOL": 1,
}


@pytest.mark.parametrize(
    ("dtype", "pattern"), [(d, p) for d, patterns in NAN_BYTES.items() for p in patterns]
)
def test_bad_values_are_found_and_counted(tmp_path: Path, dtype: str, pattern: int) -> None:
    size = BITS[dtype] // 8
    good = GREATEST[dtype].to_bytes(size, "little")
    bad = pattern.to_bytes(size, "little")
    seen = single(tmp_path, dtype, good * 5 + bad + good * 3 + bad)
    assert (seen.bad, seen.first_bad) == (2, 5)


@pytest.mark.parametrize("dtype", GREATEST)
def test_the_greatest_values_are_good(tmp_path: Path, dtype: str) -> None:
    seen = single(tmp_path, dtype, GREATEST[dtype].to_bytes(BITS[dtype] // 8, "little") * 9)
    assert (seen.bad, seen.first_bad) == (0, -1)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_sixteen_bit_pattern(tmp_path: Path, dtype: str) -> None:
    patterns = np.arange(2**16, dtype="<u2")
    if dtype == "F16":
        bad = ~np.isfinite(patterns.view("<f2"))
    else:
        bad = ~np.isfinite((patterns.astype("<u4") << 16).view("<f4"))
    seen = single(tmp_path, dtype, patterns.tobytes())
    assert (seen.bad, seen.first_bad) == (int(bad.sum()), int(np.argmax(bad)))


@pytest.mark.parametrize("dtype", ["I64", "U8", "I8", "F4", "F6_E2M3"])
def test_integers_and_dtypes_without_nan_are_never_bad(tmp_path: Path, dtype: str) -> None:
    assert single(tmp_path, dtype, b"\xff" * 24).bad == 0


def test_random_bits_agree_with_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 300_000, dtype=np.uint32)
    values = bits.view(np.float32)
    seen = single(tmp_path, "F32", bits.tobytes())
    bad = ~np.isfinite(values)
    assert seen.bad == int(bad.sum()) > 0
    assert seen.first_bad == int(np.argmax(bad))
    assert seen.sha256 == hashlib.sha256(bits.tobytes()).hexdigest()


def test_bad_value_behind_many_chunks(tmp_path: Path) -> None:
    values = np.zeros(3 * module.CHUNK // 4 + 5, np.float32)
    values[-2] = np.inf
    values[module.CHUNK // 4] = np.nan
    seen = single(tmp_path, "F32", values.tobytes())
    assert (seen.bad, seen.first_bad) == (2, module.CHUNK // 4)


def test_complex_values_count_as_their_parts(tmp_path: Path) -> None:
    values = np.zeros(4, np.complex64)
    values[2] = complex(0, np.inf)
    seen = single(tmp_path, "C64", values.tobytes())
    assert (seen.bad, seen.first_bad) == (1, 2)


def test_empty_and_scalar_tensors(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((0, 3), np.float32), "b": np.array(np.nan, np.float32)}
    seen = weights_of(tmp_path, save(tensors)).scan()
    assert seen["a"].sha256 == hashlib.sha256(b"").hexdigest()
    assert (seen["b"].bad, seen["b"].first_bad) == (1, 0)


def test_digest_is_the_documented_one(tmp_path: Path) -> None:
    tensors = {"b": np.ones(2, np.float32), "a": np.arange(6, dtype=np.int64).reshape(2, 3)}
    rows = [
        ["a", "I64", [2, 3], hashlib.sha256(tensors["a"].tobytes()).hexdigest()],
        ["b", "F32", [2], hashlib.sha256(tensors["b"].tobytes()).hexdigest()],
    ]
    want = hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
    assert weights_of(tmp_path, save(tensors)).digest == want


def test_digest_is_the_same_however_the_tensors_lie(tmp_path: Path) -> None:
    tensors = llama_tensors()
    want = weights_of(tmp_path / "one", save(tensors, {"format": "pt"})).digest
    backwards = {}
    offset, blob = 0, b""
    for name in reversed(tensors):
        data = tensors[name].tobytes()
        backwards[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset, blob = offset + len(data), blob + data
    assert weights_of(tmp_path / "order", raw_safetensors(backwards, blob)).digest == want
    assert weights_of(tmp_path / "meta", save(tensors, {"edited": "yes"})).digest == want
    for shards in (2, 5):
        folder = tmp_path / f"shards{shards}"
        make_package(folder, tensors=tensors, shards=shards)
        package = Package(folder)
        assert len(package.weights.files) == shards
        assert package.weights.digest == want


@pytest.mark.parametrize("change", ["ulp", "name", "shape", "dtype"])
def test_digest_sees_every_change(tmp_path: Path, change: str) -> None:
    tensors = llama_tensors()
    want = weights_of(tmp_path / "a", save(tensors)).digest
    name = "model.norm.weight"
    value = tensors.pop(name)
    if change == "ulp":
        value[3] = np.nextafter(value[3], np.float32(9))
    if change == "shape":
        value = value.reshape(2, 4)
    if change == "dtype":
        value = value.view(np.int32)
    tensors["x" if change == "name" else name] = value
    assert weights_of(tmp_path / "b", save(tensors)).digest != want


def test_files_of_other_names_are_not_weights(tmp_path: Path) -> None:
    make_package(tmp_path, files={"adapter.safetensors": b"x", "2_Dense/model.safetensors": b"x"})
    assert Package(tmp_path).weights.files == ("model.safetensors",)


def test_shards_that_the_index_names_in_its_own_way(tmp_path: Path) -> None:
    make_package(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "part.safetensors")
    names = dict.fromkeys(llama_tensors(), "./part.safetensors")
    index = {"metadata": {}, "weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert Package(tmp_path).weights.files == ("part.safetensors",)


def test_parameters_are_the_floating_values(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((2, 3), np.float16), "ids": np.zeros(100, np.int64)}
    assert weights_of(tmp_path, save(tensors)).parameters == 6


def test_unreadable_files_are_problems_not_errors(tmp_path: Path) -> None:
    index = write_shards(tmp_path, llama_tensors(), 2)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"junk")
    weights = Weights(scan(tmp_path), index)
    assert [p.code for p in weights.problems] == ["too-short"]
    assert 0 < len(weights.tensors) < len(llama_tensors())
