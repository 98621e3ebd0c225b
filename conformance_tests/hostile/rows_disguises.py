"""F14 to F16: pickles beside, in place of and inside other files. P: archives."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_row import Row
from package_builders import llama_tensors, raw_safetensors
from sound_package import sound

EXECUTABLE = "SLM-PKG-003"
WEIGHTS = "model.safetensors"
PICKLE = b"cos\nsystem\n(S'true'\ntR."

Build = Callable[[Path], object]


def holding(name: str, content: Callable[[], bytes]) -> Build:
    """A package with one more file, or another content of one."""
    return lambda folder: sound(folder, files={name: content()})


class Harmless:
    """Something that runs `os.getcwd` when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.getcwd, ())


def pickled() -> bytes:
    """A pickle of today."""
    return pickle.dumps(Harmless())


def torch_archive() -> bytes:
    """What `torch.save` writes: a zip archive with a pickle in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
    return stream.getvalue()


def bomb() -> bytes:
    """A zip archive of 64 kB that expands to 64 MB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.npy", bytes(64 * 2**20))
    return stream.getvalue()


def disguised(first: bytes = b"", last: bytes = b"", *, note: str = "", length: int = 0) -> bytes:
    """Weights in good order with two more tensors, whose bytes are the first and last of all.

    ``length`` is that of the header, where it is to be padded.
    """
    tensors = {"aaa": np.frombuffer(first, np.uint8), **llama_tensors()}
    tensors["zzz"] = np.frombuffer(last, np.uint8)
    header: dict[str, Any] = {"__metadata__": {"note": note}}
    blob = b""
    for name, tensor in tensors.items():
        at = [len(blob), len(blob) + tensor.nbytes]
        kind = "U8" if tensor.dtype == np.uint8 else "F32"
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": at}
        blob += tensor.tobytes()
    return raw_safetensors(json.dumps(header).ljust(length), blob)


def polyglot() -> bytes:
    """Weights in good order that an unpickler carries out from the first byte.

    The length of the header begins like the opcode of a string, ``X``, whose own length is the
    rest: 40 bytes. It ends in the note, where ``V`` begins a text that ends with the line; the
    first line ends where the data begin.
    """
    program = b"\n" + PICKLE
    return disguised(program + bytes(-len(program) % 4), note="V" * 40, length=0x58 + 40 * 0x100)


ROWS = [
    Row(
        "F14",
        "a pickle beside the weights",
        holding("pytorch_model.bin", pickled),
        EXECUTABLE,
        "executable-format",
        twin=holding("data.bin", lambda: b"0123456789"),
    ),
    Row(
        "F14-torch",
        "what torch.save writes beside the weights",
        holding("pytorch_model.bin", torch_archive),
        EXECUTABLE,
        "executable-format",
    ),
    Row(
        "F15-safetensors",
        "a pickle in place of the weights",
        holding(WEIGHTS, pickled),
        EXECUTABLE,
        "executable-format",
    ),
    Row(
        "F15-json",
        "a pickle called JSON",
        holding("extra.json", pickled),
        EXECUTABLE,
        "executable-format",
        twin=holding("extra.json", lambda: b"{}"),
    ),
    Row(
        "F15-plain",
        "a pickle without a suffix",
        holding("data", pickled),
        EXECUTABLE,
        "executable-format",
        twin=holding("data", lambda: b"csv, of three columns\na, b, c\n"),
    ),
    Row(
        "F15-old",
        "a pickle of protocol 0, called text",
        holding("words.txt", lambda: PICKLE),
        EXECUTABLE,
        "executable-format",
        twin=holding("words.txt", lambda: b"cos\nsine\n(tangent)\n"),
    ),
    Row(
        "F16-pickle",
        "weights that are a pickle at once",
        holding(WEIGHTS, polyglot),
        EXECUTABLE,
        "executable-format",
        twin=holding(WEIGHTS, lambda: disguised(note="V" * 40, length=0x58 + 40 * 0x100)),
    ),
    Row(
        "F16-zip",
        "weights that are a zip archive at once",
        holding(WEIGHTS, lambda: disguised(last=torch_archive())),
        EXECUTABLE,
        "executable-format",
        twin=holding(WEIGHTS, disguised),
    ),
    Row(
        "P01",
        "a .pt file that expands a thousandfold",
        holding("model.pt", bomb),
        EXECUTABLE,
        "executable-format",
    ),
    Row(
        "P02",
        "a .npz file that expands a thousandfold",
        holding("model.npz", bomb),
        EXECUTABLE,
        "executable-format",
    ),
    Row(
        "P03",
        "a damaged zip archive",
        holding("data.bin", lambda: torch_archive()[:40]),
        EXECUTABLE,
        "executable-format",
    ),
    Row(
        "P04",
        "a 7z archive called .bin",
        holding("data.bin", lambda: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(40)),
        EXECUTABLE,
        "executable-format",
        twin=holding("data.bin", lambda: b"7z is not this"),
    ),
]
