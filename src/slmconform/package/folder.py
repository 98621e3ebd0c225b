"""A directory read without leaving it: entries, bounded reads, digests.

No symbolic link is followed out of the directory, but for those of a hub client's cache where the
caller asks for it, and only regular files are ever opened, so a FIFO or a device cannot make a
reader wait.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from slmconform.package import strict_json
from slmconform.package.hub_cache import blobs_of
from slmconform.package.problem import PackageProblem, shown
from slmconform.standard.files import MANIFEST, WAIVERS

Kind = Literal["file", "directory", "special", "stray-link", "broken-link"]

# Kept by version control, or written by an interpreter or by a run of the tests; no loader of a
# model reads them.
LEFT_OUT_FOLDERS = frozenset({".git", ".hg", ".svn", ".jj", "__pycache__", ".pytest_cache"})
LEFT_OUT_FILES = frozenset({".gitattributes", ".gitignore", ".gitmodules", ".hgignore"})
EVIDENCE_FOLDER = "conformance/"
MAX_ENTRIES = 10_000
COPY = "copy the files in place of the links, for instance with `cp -rL`"
FOLLOW_CACHE = "add --hub-cache, which follows links into the blobs of this cache and nowhere else"
CHUNK = 2**19  # bytes; stays in the cache between reading and hashing


class UnreadablePackage(Exception):
    """The path is not a directory with something in it: nothing can be checked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the package; ``size`` in bytes, 0 for whatever is not a file.

    ``stray-link`` leads out of the package, ``broken-link`` leads nowhere or in a circle.
    """

    path: str
    kind: Kind
    size: int


@dataclass(frozen=True)
class Folder:
    """A scanned directory: ``entries`` by POSIX path relative to ``root``.

    ``blobs`` is the store of a hub client's cache whose files links may lead to, if any.
    """

    root: Path
    entries: dict[str, Entry]
    problems: tuple[PackageProblem, ...]
    blobs: Path | None = None

    @cached_property
    def _files(self) -> list[str]:
        return sorted(path for path, entry in self.entries.items() if entry.kind == "file")

    def files(self) -> list[str]:
        """The regular files, sorted by path."""
        return list(self._files)

    def recorded(self) -> list[str]:
        """The files whose bytes evidence lists: all but manifest, evidence, weights and prose.

        Waivers are their adopter's, where the root of a repository is the package.
        """
        return [
            path
            for path in self._files
            if path not in (MANIFEST, WAIVERS)
            and not path.startswith(EVIDENCE_FOLDER)
            and not path.lower().endswith((".md", ".safetensors"))
            and path.rpartition("/")[2] not in LEFT_OUT_FILES
        ]

    def path_problem(self, path: str, where: str) -> PackageProblem | None:
        """Why a path that ``where`` names may not be followed, by its text or by its links."""
        found = self._followed(path, where)
        return found if isinstance(found, PackageProblem) else None

    def _followed(self, path: str, where: str) -> Path | PackageProblem:
        """Where a path leads through all its links, or why it may not be followed."""
        if path not in self.entries and (problem := path_problem(path, where)):
            return problem
        real = Path(os.path.realpath(self.root / path))
        if _inside(real, self.root, self.blobs):
            return real
        return PackageProblem(
            "path-outside",
            where,
            f"{shown(path)} leads out of the package through a symbolic link",
            "a file inside the package",
            "copy the file into the package",
        )

    def locate(self, path: str, named_by: str = "") -> Path:
        """The real path of a regular file inside the package.

        Raises `PackageProblem`: "path-outside", "missing-file" or "not-a-file".
        """
        where = named_by or path
        real = self._followed(path, where)
        if isinstance(real, PackageProblem):
            raise real
        try:
            mode = os.stat(real).st_mode  # noqa: PTH116 - one call, no second look-up
        except (OSError, ValueError):
            raise PackageProblem(
                "missing-file",
                where,
                f"there is no file {shown(path)}",
                "a file of the package",
                "add the file, or correct the name",
            ) from None
        if not stat.S_ISREG(mode):
            raise _not_a_file(path, where, mode)
        return real

    def open(self, path: str, named_by: str = "") -> BinaryIO:
        """Open a regular file of the package for reading; raises `PackageProblem`."""
        real = self.locate(path, named_by)
        try:
            file = open(real, "rb", buffering=0, opener=_opened_at_once)  # noqa: SIM115
        except OSError as error:
            raise PackageProblem(
                "unreadable-file",
                named_by or path,
                f"cannot be opened: {error.strerror}",
                "a readable file",
                "check the permissions of the file",
            ) from None
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):  # put there since it was looked at
            file.close()
            raise _not_a_file(path, named_by or path, mode)
        return file

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a regular file of at most ``limit`` bytes; raises `PackageProblem`."""
        with self.open(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise PackageProblem(
                    "too-large",
                    path,
                    f"{size} bytes",
                    f"at most {limit} bytes",
                    "move data that the model does not need out of the package",
                )
            data = bytearray()
            while len(data) <= limit and (more := file.read(limit + 1 - len(data))):
                data += more
        return bytes(data)

    @cached_property
    def _parsed(self) -> dict[str, object]:
        return {}

    def json(self, path: str) -> object:
        """A JSON file, read strictly and once; raises `PackageProblem`. Not to be changed."""
        if path not in self._parsed:
            try:
                data = self.read(path, strict_json.size_limit(path))
                self._parsed[path] = strict_json.loads(data, path)
            except PackageProblem as problem:
                self._parsed[path] = problem
        value = self._parsed[path]
        if isinstance(value, PackageProblem):
            raise value
        return value

    def head(self, path: str, length: int) -> bytes:
        """The first ``length`` bytes of a regular file, or fewer where it is shorter."""
        with self.open(path) as file:
            return file.read(length)

    def sha256(self, path: str) -> str:
        """The sha256 of a regular file, in hexadecimal."""
        digest = hashlib.sha256()
        with self.open(path) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def scan(root: Path | str, blobs: Path | None = None) -> Folder:
    """List a package; raises `UnreadablePackage` where there is nothing to list.

    ``blobs`` is the one folder outside whose files links may lead to.
    """
    given = Path(root)
    try:
        real = given.resolve(strict=True)
    except (OSError, RuntimeError):
        raise UnreadablePackage(f"{given}: no such directory") from None
    if not real.is_dir():
        raise UnreadablePackage(
            f"{given}: a file, not a directory; a package is the directory that holds the model"
        )
    entries: dict[str, Entry] = {}
    problems: list[PackageProblem] = []
    pending = [""]
    while pending and len(entries) <= MAX_ENTRIES:
        prefix = pending.pop()
        try:
            found = _listing(real, blobs, prefix)
        except OSError as error:
            if not prefix:
                raise UnreadablePackage(f"{given}: {error.strerror}") from None
            problems.append(_unreadable(prefix, error))
            continue
        for entry, is_link in found:
            entries[entry.path] = entry
            if entry.kind == "directory" and not is_link:
                pending.append(entry.path + "/")
    if not entries:
        raise UnreadablePackage(f"{given}: an empty directory")
    if len(entries) > MAX_ENTRIES:
        problems.append(_too_many())
    problems += [p for e in entries.values() if (p := _entry_problem(real, e))]
    return Folder(real, entries, tuple(problems), blobs)


def _listing(root: Path, blobs: Path | None, prefix: str) -> list[tuple[Entry, bool]]:
    """The entries of one directory, sorted, each with whether it is a symbolic link."""
    with os.scandir(root / prefix) as listing:
        named = (e for e in listing if e.name not in LEFT_OUT_FOLDERS)
        kept = sorted(islice(named, MAX_ENTRIES + 1), key=_name)
        return [(_entry(root, blobs, prefix + one.name, one), one.is_symlink()) for one in kept]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def path_problem(path: str, where: str) -> PackageProblem | None:
    """Why a path that a file names cannot be followed, judged by its text alone."""
    want = "a relative path with forward slashes and without `..`"
    got = ""
    if not path:
        got = "an empty path"
    elif "\\" in path:
        got = f"{shown(path)} holds a backslash"
    elif not path.isprintable():
        got = f"{shown(path)} holds an unprintable character"
    elif path.startswith("/") or path[1:2] == ":":
        got = f"{shown(path)} is absolute"
    elif ".." in path.split("/"):
        got = f"{shown(path)} climbs out with `..`"
    if not got:
        return None
    fix = "name a file inside the package, relative to its top"
    return PackageProblem("path-outside", where, got, want, fix)


def _inside(real: Path, root: Path, blobs: Path | None) -> bool:
    """Whether a path without links lies in the package or is one of the blobs."""
    return real.is_relative_to(root) or (blobs is not None and real.parent == blobs)


def _entry(root: Path, blobs: Path | None, path: str, found: os.DirEntry[str]) -> Entry:
    try:
        if found.is_symlink():
            real = Path(os.path.realpath(root / path, strict=True))
            if not _inside(real, root, blobs):
                return Entry(path, "stray-link", 0)
            status = real.stat()
        else:
            status = found.stat(follow_symlinks=False)
    except OSError:
        outside = not _inside(Path(os.path.realpath(root / path)), root, blobs)
        return Entry(path, "stray-link" if outside else "broken-link", 0)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "directory", 0)
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", status.st_size)
    return Entry(path, "special", 0)


def _entry_problem(root: Path, entry: Entry) -> PackageProblem | None:
    if entry.kind == "stray-link":
        target = shown(os.readlink(root / entry.path))  # noqa: PTH115 - text, not a path
        blobs = blobs_of(root)
        cached = blobs and Path(os.path.realpath(root / entry.path)).parent == blobs
        return PackageProblem(
            "link-outside",
            entry.path,
            f"a symbolic link that leaves the package, to {target}",
            "a link to a place inside the package, or the file itself",
            FOLLOW_CACHE if cached else COPY,
        )
    if entry.kind == "broken-link":
        return PackageProblem(
            "broken-link",
            entry.path,
            "a symbolic link that leads nowhere or in a circle",
            "a link to a file or a directory of the package",
            "remove the link",
        )
    if entry.kind == "special":
        mode = (root / entry.path).lstat().st_mode
        return PackageProblem(
            "special-file",
            entry.path,
            _kind_name(mode),
            "a regular file, a directory, or a link to one of these",
            "remove it from the package",
        )
    return None


def _opened_at_once(path: str, flags: int) -> int:
    """A descriptor without waiting for whoever writes into a FIFO."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _not_a_file(path: str, where: str, mode: int) -> PackageProblem:
    return PackageProblem(
        "not-a-file",
        where,
        f"{shown(path)} is {_kind_name(mode)}",
        "a regular file",
        "put a regular file there",
    )


def _kind_name(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return name
    return "a special file"


def _unreadable(prefix: str, error: OSError) -> PackageProblem:
    return PackageProblem(
        "unreadable-directory",
        prefix,
        f"cannot be listed: {error.strerror}",
        "a readable directory",
        "check the permissions of the directory",
    )


def _too_many() -> PackageProblem:
    return PackageProblem(
        "too-many-entries",
        ".",
        f"more than {MAX_ENTRIES} entries",
        f"at most {MAX_ENTRIES} entries",
        "keep data sets out of the package",
    )
