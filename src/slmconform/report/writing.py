"""Writing files whole or not at all, and saying beforehand where that cannot be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


class Unwritable(Exception):
    """A file cannot be written where it was asked for."""


def require_writable(path: Path) -> None:
    """Raise `Unwritable` where ``path`` cannot be written, before any work is done for it."""
    folder = path.parent
    if path.is_dir():
        raise Unwritable(f"{path} is a directory; name a file to write")
    if not folder.is_dir():
        raise Unwritable(f"{path}: there is no directory {folder}; make it first")
    if not os.access(path if _is_stream(path) else folder, os.W_OK):
        raise Unwritable(f"{path} cannot be written: permission denied")


def write_file(path: Path, content: bytes) -> None:
    """Write one file whole: through a link to its target, and into a device or pipe as it is."""
    if _is_stream(path):
        path.write_bytes(content)
    else:
        write_whole({path.resolve(): content})


def _is_stream(path: Path) -> bool:
    """Whether there is something other than a file, such as ``/dev/null``: not to be replaced."""
    return path.exists() and not path.is_file()


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Replace files together: all are on disk before the first takes its place.

    Whatever interrupts leaves the old files as they were, or all but the last replaced; so name
    last the file that vouches for the others.
    """
    ready: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            ready[path] = _temporary(path, content)
        for path, temporary in ready.items():
            temporary.replace(path)
    except BaseException:
        for temporary in ready.values():
            temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
