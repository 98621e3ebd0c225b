"""Lock files: every artefact that they name has a digest, or is named by what cannot change.

One reader a format; each yields the packages whose artefacts have none. Commits and folders are
no artefacts: the first cannot change, and the second is not fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from slmconform.package import strict_json, strict_toml
from slmconform.package.folder import Folder
from slmconform.package.problem import PackageProblem, shown

LIMIT = 2 * 2**20  # bytes of all lock files together
HASH = re.compile(r"(^|\s)--hash[=\s]\s*\w+:[0-9a-fA-F]+")
PINNED = re.compile(r"[\w.-]+\s*(\[[^\]]*\])?\s*(@.*|===?[^*,;]+(;.*)?)")
DIGEST = re.compile(r"\w+:[0-9a-fA-F]{32,}")
PLACES = ("git", "vcs", "editable", "virtual", "directory", "path", "hg", "svn", "bzr")

Table = dict[str, Any]


class Malformed(Exception):
    """A lock file has another structure than its tool writes."""


def problems(folder: Folder) -> tuple[list[PackageProblem], int]:
    """What is wrong with the lock files of a package, and how many there are."""
    paths = [path for path in folder.files() if _reader(path)]
    if sum(folder.entries[path].size for path in paths) > LIMIT:
        return [_too_large(paths)], len(paths)
    found, locks = [], 0
    for path in paths:
        try:
            unhashed = _unhashed(folder.read(path, LIMIT), path)
        except PackageProblem as problem:
            found.append(problem)
            unhashed = []
        locks += unhashed is not None
        if unhashed:
            found.append(_without_hashes(path, unhashed))
    return found, locks


def _reader(path: str) -> Callable[[bytes, str], list[str] | None] | None:
    name = path.rpartition("/")[2]
    return next((read for pattern, read in READERS.items() if re.fullmatch(pattern, name)), None)


def _unhashed(data: bytes, path: str) -> list[str] | None:
    """Packages without a digest; None where the file turns out to be no lock."""
    read = _reader(path)
    assert read is not None, path
    try:
        return read(data, path)
    except (Malformed, AttributeError, TypeError, KeyError) as error:
        raise PackageProblem(
            "malformed-lock",
            path,
            shown(str(error)) if isinstance(error, Malformed) else "tables of another structure",
            "the structure that its tool writes",
            "write the lock file again with its tool, or leave it out",
        ) from None


def _requirements(data: bytes, path: str) -> list[str] | None:
    """pip: a file is a lock if it pins all that it names, or hashes any of it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte {error.start} is not UTF-8"
        raise PackageProblem("not-utf8", path, got, "UTF-8", "save the file as UTF-8") from None
    entries = []
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        # Options name other files, indexes and folders; a commit needs no digest.
        if entry and not entry.startswith("-") and "git+" not in entry:
            entries.append((HASH.sub("", entry).strip(), bool(HASH.search(entry))))
    pinned = [PINNED.fullmatch(requirement) for requirement, _ in entries]
    if not entries or not (all(pinned) or any(hashed for _, hashed in entries)):
        return None
    return [requirement for requirement, hashed in entries if not hashed]


def _pylock(data: bytes, path: str) -> list[str]:
    """PEP 751."""
    unhashed = []
    for one in _list(strict_toml.loads(data, path), "packages"):
        if any(key in one for key in PLACES):
            continue
        kinds = [one[key] for key in ("sdist", "archive") if key in one]
        artefacts = [*kinds, *_list(one, "wheels")]
        if not artefacts or not all(_list_or_table(a.get("hashes")) for a in artefacts):
            unhashed.append(_name(one))
    return unhashed


def _uv(data: bytes, path: str) -> list[str]:
    unhashed = []
    for one in _list(strict_toml.loads(data, path), "package"):
        source = one["source"]
        if any(key in source for key in PLACES if key != "path"):
            continue
        artefacts = [*([one["sdist"]] if "sdist" in one else []), *_list(one, "wheels")]
        if not artefacts or not all(_digest(a.get("hash")) for a in artefacts):
            unhashed.append(_name(one))
    return unhashed


def _files(data: bytes, path: str) -> list[str]:
    """Poetry and PDM: files of each package, in older versions in a table of their own."""
    table = strict_toml.loads(data, path)
    elsewhere = _table(_table(table, "metadata"), "files")
    unhashed = []
    for one in _list(table, "package"):
        source = one.get("source", {})
        if any(key in one for key in PLACES) or source.get("type") in (*PLACES, "file"):
            continue
        name = _name(one)
        older = elsewhere.get(name, elsewhere.get(f"{name} {one.get('version')}", []))
        artefacts = one.get("files") or older
        if not artefacts or not all(_digest(a.get("hash")) for a in artefacts):
            unhashed.append(name)
    return unhashed


def _pipfile(data: bytes, path: str) -> list[str]:
    table = strict_json.loads(data, path)
    if not isinstance(table, dict):
        raise Malformed(f"a JSON {type(table).__name__}")
    groups = [group for key, group in table.items() if key != "_meta"]
    return [
        name
        for group in groups
        for name, one in group.items()
        if not any(key in one for key in PLACES)
        and not (one.get("hashes") and all(map(_digest, one["hashes"])))
    ]


# By name, the first that matches.
READERS: dict[str, Callable[[bytes, str], list[str] | None]] = {
    r"(.*[-_.])?requirements([-_.].*)?\.txt": _requirements,
    r"pylock(\.[^.]+)?\.toml": _pylock,
    r"uv\.lock": _uv,
    r"(poetry|pdm)\.lock": _files,
    r"Pipfile\.lock": _pipfile,
}


def _list(table: Table, key: str) -> list[Table]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Malformed(f"{key} is no list of tables")
    return value


def _table(table: Table, key: str) -> Table:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise Malformed(f"{key} is no table")
    return value


def _list_or_table(value: object) -> bool:
    """Whether the table of a PEP 751 artefact gives a digest."""
    return isinstance(value, dict) and any(isinstance(one, str) and one for one in value.values())


def _digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _name(package: Table) -> str:
    name = package["name"]
    if not isinstance(name, str):
        raise Malformed("a package whose name is no text")
    return name


def _without_hashes(path: str, names: list[str]) -> PackageProblem:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return PackageProblem(
        "lock-without-hashes",
        path,
        f"no hash for {', '.join(map(shown, names[:3]))}{more}",
        "a sha256 for every artefact",
        "write it with hashes: `pip-compile --generate-hashes`, `uv export`, `pip lock`",
        why="an index can serve other files under the same version",
    )


def _too_large(paths: list[str]) -> PackageProblem:
    return PackageProblem(
        "too-large",
        paths[0],
        f"{len(paths)} lock files of more than {LIMIT} bytes together",
        f"at most {LIMIT} bytes",
        "keep in the package the lock of what the model needs",
    )
