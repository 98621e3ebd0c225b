"""The scratch folder of a job: made for it, and removed whatever the job made of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A new folder, removed at the end as far as the system lets go of it."""
    path = tempfile.mkdtemp(prefix="slmconform-")
    try:
        yield path
    finally:
        # Without Landlock the job could have put something else in its place.
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                _empty(path)
                os.rmdir(path)  # noqa: PTH106


def _empty(path: str) -> None:
    """Remove what is in a folder, however deep, without recursion or long paths.

    Folders are moved to the top and emptied there. Nothing runs in them any more; links are not
    followed.
    """
    os.chmod(path, 0o700)  # noqa: PTH101
    top = os.open(path, os.O_RDONLY)
    unused = os.urandom(16).hex()
    free = (f"{unused}-{number}" for number in itertools.count())
    try:
        while names := os.listdir(top):  # noqa: PTH208
            for name in names:
                _remove(name, top, free)
    finally:
        os.close(top)


def _remove(name: str, top: int, free: Iterator[str]) -> None:
    """Remove an entry; folders in it get the next free names at the top."""
    try:
        os.unlink(name, dir_fd=top)
    except (IsADirectoryError, PermissionError):
        os.chmod(name, 0o700, dir_fd=top)
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for inner in os.listdir(folder):  # noqa: PTH208
                try:
                    os.unlink(inner, dir_fd=folder)
                except (IsADirectoryError, PermissionError):
                    os.chmod(inner, 0o700, dir_fd=folder)
                    os.rename(inner, next(free), src_dir_fd=folder, dst_dir_fd=top)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=top)
