"""GGUF and ONNX files of a package, whether or not a variant declares them.

A GGUF file is known by its ending or by its first bytes, and both have to agree; ONNX has no first
bytes of its own. What judges them is imported where there are some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.package.problem import PackageProblem, shown

if TYPE_CHECKING:
    from slmconform.package.folder import Folder

GGUF, ONNX = ".gguf", ".onnx"


def exports(folder: Folder) -> list[str]:
    """The paths of the GGUF and ONNX files; raises `PackageProblem` for what cannot be read."""
    return [
        path
        for path in folder.files()
        if path.lower().endswith((GGUF, ONNX)) or _has_magic(folder, path)
    ]


def _has_magic(folder: Folder, path: str) -> bool:
    """Whether a file begins as GGUF: the word alone may begin a text, a version has zeros."""
    head = folder.head(path, 8)
    return head.startswith(b"GGUF") and 0 in head[4:]


def judge(folder: Folder, path: str) -> None:
    """Raises `PackageProblem` where the header of a file from `exports` is not well-formed."""
    name = path.lower()
    if not name.endswith((GGUF, ONNX)) or (name.endswith(ONNX) and _has_magic(folder, path)):
        raise PackageProblem(
            "gguf-disguised",
            path,
            f"a GGUF file called {shown(path.rpartition('/')[2])}",
            f"a name that ends in {GGUF}",
            "rename the file, or remove it",
            why="whoever goes by the name takes it for something else",
        )
    with folder.open(path) as file:
        if name.endswith(GGUF):
            from slmconform.package import gguf_header

            gguf_header.parse(file, path)
        else:
            from slmconform.package import onnx_model

            onnx_model.parse(file, path)
