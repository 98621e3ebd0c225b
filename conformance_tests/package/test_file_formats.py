"""Forbidden serialisations by content, name and extension, and files that only look like one."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import pickletools
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_builders import MIT, raw_safetensors
from safetensors.numpy import load, save

from slmconform.package.folder import scan
from slmconform.package.formats import executable
from slmconform.package.pickles import walk


class Evil:
    """Runs a command when it is unpickled; here only ever pickled."""

    def __reduce__(self) -> Any:
        return (os.system, ("true",))


class State:
    """An object with state, for BUILD and NEWOBJ."""

    def __init__(self) -> None:
        self.x = 1


def kind(tmp_path: Path, name: str, content: bytes) -> str:
    (tmp_path / name).write_bytes(content)
    found = executable(scan(tmp_path), name)
    return found.format if found else ""


def zipped(inner: str = "archive/data.pkl") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(inner, b"\x80\x02}.")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    return buffer.getvalue()


def saved_array(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def polyglot() -> bytes:
    """A valid safetensors file whose bytes are also a pickle that runs a command.

    The first byte of the header length is the opcode BINBYTES, which swallows the start of the
    JSON; inside a metadata string a ladder of SHORT_BINBYTES leads on to the tensor data, where
    the rest of the pickle stands.
    """
    code = b"cos\nsystem\n(S'true'\ntR."
    text = b'{"__metadata__":{"a":"'
    length = len(text) + 3 << 8 | ord("B")
    spec = f'{{"dtype":"U8","shape":[{len(code)}],"data_offsets":[0,{len(code)}]}}'
    end = f'"}},"x":{spec}}}'.encode()
    while length - len(text) > 250:
        text += b"C~" + b"a" * 126
    last = 120
    text += b"C" + bytes([length - len(text) - last - 4])
    text += b"a" * text[-1]
    text += b"C" + bytes([last]) + b"a" * (last - len(end)) + end
    assert len(text) == length
    return raw_safetensors(text, code)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "data", "notes.txt", "x.bin"])
def test_a_malicious_pickle_under_any_name(tmp_path: Path, protocol: int, name: str) -> None:
    assert kind(tmp_path, name, pickle.dumps(Evil(), protocol)) == "pickle"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_data_pickle_under_any_name(tmp_path: Path, protocol: int) -> None:
    assert kind(tmp_path, "data", pickle.dumps({"a": [1.5, "x"]}, protocol)) == "pickle"


FORBIDDEN = {
    "model.pt": (zipped(), "zip archive"),
    "weights": (zipped(), "zip archive"),
    "weights.npz": (zipped("a.npy"), "zip archive"),
    "model.safetensors": (LEGACY_TORCH, "pickle"),
    "pytorch_model.bin": (b"anything", "torch pickle"),
    "pytorch_model-00001-of-00002.bin": (b"", "torch pickle"),
    "training_args.bin": (b"", "torch pickle"),
    "x.pth": (b"", "torch pickle"),
    "x.ckpt": (b"hello", "checkpoint pickle"),
    "x.PKL": (b"hello", "pickle"),
    "x.joblib": (b"hello", "joblib pickle"),
    "x.json": (saved_array(np.array([Evil()])), "NumPy array, which may hold a pickle"),
    "x.npy": (saved_array(np.zeros(3)), "NumPy array, which may hold a pickle"),
    "tf_model.h5": (b"\x89HDF\r\n\x1a\n", "HDF5 file, which may hold Python code"),
    "x.keras": (b"", "Keras archive, which may hold Python code"),
    "flax_model.msgpack": (b"\x81\xa1a\xc0", "msgpack file"),
    "rust_model.ot": (b"", "torch archive"),
    "seven.bin": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z archive"),
    "old.tar": (tarred(), "tar archive"),
    "data.json.gz": (gzip.compress(b"{}"), "gzip stream"),
    "damaged.bin": (zipped()[:20], "zip archive"),
    "modeling.pyc": (b"\xa7\r\r\n", "Python bytecode"),
    "zip_behind.safetensors": (
        raw_safetensors({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, b"abcd")
        + zipped(),
        "zip archive",
    ),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden(tmp_path: Path, name: str) -> None:
    content, expected = FORBIDDEN[name]
    assert kind(tmp_path, name, content) == expected


def header_of(length: int) -> bytes:
    """A valid safetensors file with a header of exactly so many bytes."""
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    return raw_safetensors(text + b" " * (length - len(text)), b"\0")


LEGAL = {
    "empty": b"",
    "model.safetensors": save({"x": np.arange(9, dtype=np.float32)}),
    # These header lengths begin with the bytes of a pickle's protocol mark.
    "mark2.safetensors": header_of(0x0280),
    "mark4.safetensors": header_of(0x0480),
    "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0c\n\x03<s>\x15\0\0\0\0\x18\x03",
    "sentencepiece.bpe.model": b"\n\x0e\n\x05<unk>",
    "spiece.bin": b"\n\x0e\n\x05<unk>",
    "openvino_model.bin": np.linspace(-1, 1, 500, dtype=np.float32).tobytes(),
    "lid.176.ftz.bin": b"\xba\x16O/\x0b\0\0\0",
    "model.onnx": b"\x08\x08\x12\x07pytorch\x1a\x062.13.0",
    "model.gguf": b"GGUF\x03\0\0\0\x22\x01\0\0\0\0\0\0",
    "LICENSE": MIT.encode(),
    "NOTICE": b"Copyright 2026\nVersion 2\nIn short:\ncos\nsystem works\nRb.",
    "vocab.txt": b"[PAD]\n[UNK]\nthe\ncos\nsystem\nRun\n.\n",
    "words.txt": b"Cats\ndogs\ncos\nsystem\nblah\n.\n" * 300,
    "letters.txt": "\n".join("NIVFSLcgp()]}.0123abcdefuost").encode(),
    "data.csv": b"Id,text\n1,x\n",
    "x.json": b'{"a": 1}',
    "x.jsonl": b'{"a": 1}\n' * 5,
    "x.py": b"import os\nclass X:\n    pass\n",
    "logo.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "photo.jpg": b"\xff\xd8\xff\xe0",
    "paper.pdf": b"%PDF-1.7\n",
    "README.md": b"(c) 2026\ncos\nsystem\n",
    "cut.dat": pickle.dumps({"a": "b" * 100}, 4)[:30],
    "proto9.dat": b"\x80\x09K\x01.",
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal(tmp_path: Path, name: str) -> None:
    assert kind(tmp_path, name, LEGAL[name]) == ""


def test_a_file_that_is_safetensors_and_a_pickle_at_once(tmp_path: Path) -> None:
    content = polyglot()
    assert list(load(content)) == ["x"]
    assert "GLOBAL" in {opcode.name for opcode, _, _ in pickletools.genops(content)}
    assert kind(tmp_path, "model.safetensors", content) == "pickle"
    harmless = content.replace(b"cos\nsystem", b"cot\nsystem")
    assert kind(tmp_path, "twin.safetensors", harmless) == ""


def test_walk_ends_on_endless_opcodes() -> None:
    start = time.perf_counter()
    assert walk(b"N" * 50_000_000) == "its opcodes are those of a pickle"
    assert walk(b"0" * 50_000_000) == ""
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize("protocol", range(6))
def test_objects_with_state_are_followed_to_their_call(protocol: int) -> None:
    for value in (State(), [State()] * 3, {1: (b"x" * 300, "é" * 300, 10**40, State())}):
        assert "imports" in walk(pickle.dumps(value, protocol))
