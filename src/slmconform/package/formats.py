"""What a file really is: serialisations that run code, or expand without bound, when read.

Content, name and extension have to agree, because a file can be a valid safetensors file and an
executable pickle at once. Nothing is unpickled, unpacked or decompressed.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from slmconform.package.problem import PackageProblem

if TYPE_CHECKING:
    from slmconform.package.folder import Folder
    from slmconform.package.pickles import Patience

HEAD = 512  # bytes; the magic of a tar archive ends at 262
TAIL = 22 + 2**16  # bytes; the record that ends a zip archive, with the longest comment

EXTENSIONS = {
    ".pt": "torch pickle",
    ".pth": "torch pickle",
    ".ckpt": "checkpoint pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "joblib pickle",
    ".npy": "NumPy array, which may hold a pickle",
    ".npz": "NumPy archive",
    ".h5": "HDF5 file, which may hold Python code",
    ".hdf5": "HDF5 file, which may hold Python code",
    ".keras": "Keras archive, which may hold Python code",
    ".msgpack": "msgpack file",
    ".ot": "torch archive",
}
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "zip archive"),
    (0, b"PK\x05\x06", "zip archive"),
    (0, b"\x93NUMPY", "NumPy array, which may hold a pickle"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file, which may hold Python code"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"Rar!\x1a\x07", "rar archive"),
    (0, b"\x1f\x8b\x08", "gzip stream"),
    (4, b"1AY&SY", "bzip2 stream"),
    (0, b"\xfd7zXZ\x00", "xz stream"),
    (0, b"\x28\xb5\x2f\xfd", "zstandard stream"),
    (0, b"\x04\x22\x4d\x18", "lz4 stream"),
    (257, b"ustar", "tar archive"),
)
# Loaders unpickle files of these names whatever is in them.
PICKLE_NAMES = re.compile(
    r"^(pytorch_model|training_args|optimizer|scheduler|rng_state|adapter_model)\b.*\.bin$"
)
# Whoever opens these looks for a zip archive at their end, or they claim to be nothing of the kind.
PLAIN = (".safetensors", ".json", ".bin", ".gguf", ".txt", ".model", ".py", "")


@dataclass(frozen=True, slots=True)
class Executable:
    """A file in a forbidden serialisation; ``evidence`` says how that is known."""

    path: str
    format: str
    evidence: str


def executable(folder: Folder, path: str, patience: Patience | None = None) -> Executable | None:
    """What makes this file forbidden, or None; raises `PackageProblem` if it cannot be told.

    ``patience`` is what the files looked at together are given.
    """
    name = path.rpartition("/")[2].lower()
    suffix = "." + name.rpartition(".")[2] if "." in name else ""
    with folder.open(path) as file:
        head = file.read(HEAD)
        for offset, magic, kind in MAGIC:
            if head.startswith(magic, offset):
                return Executable(path, kind, f"its first bytes are {head[:6]!r}")
        if suffix in EXTENSIONS:
            return Executable(path, EXTENSIONS[suffix], f"its name ends in {suffix}")
        if PICKLE_NAMES.match(name):
            return Executable(path, "torch pickle", "loaders unpickle files of this name")
        if suffix == ".pyc":
            return Executable(path, "Python bytecode", "its name ends in .pyc")
        if head and (found := _pickle(file, patience)):
            return Executable(path, "pickle", found)
        if suffix in PLAIN and _ends_as_zip(file):
            return Executable(path, "zip archive", "a zip directory stands at its end")
    if patience and not patience.left:
        raise PackageProblem(
            "pickles-in-part",
            path,
            "this file and those before it begin with too many opcodes of pickles to follow",
            "files that are nothing like pickles",
            "remove the files that begin like pickles",
        )
    return None


def _ends_as_zip(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(size - TAIL, 0))
    tail = file.read(TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return False
    return at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def _pickle(file: BinaryIO, patience: Patience | None) -> str:
    """How the file is a pickle that can be run from its first byte; empty if it is not one."""
    from slmconform.package.pickles import walk

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return walk(data, patience)
