"""JSON lines read strictly: one object a line, bounded lines, rows and bytes, in plain UTF-8."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmconform.package import strict_json
from slmconform.package.problem import PackageProblem

if TYPE_CHECKING:
    from slmconform.package.folder import Folder

FILE_LIMIT = 64 * 2**20  # bytes
LINE_LIMIT = 2**20  # bytes
ROW_LIMIT = 100_000
FIX = "correct the row; spec/1.0/evl.md shows the format of each task"


class Row(dict[str, Any]):
    """One example; ``where`` is the file and the line that it stands in."""

    where: str = ""


@dataclass(frozen=True)
class DataFile:
    """The rows of a file and the sha256 of its bytes."""

    path: str
    sha256: str
    rows: tuple[Row, ...]


def read_lines(folder: Folder, path: str) -> DataFile:
    """Read a file of JSON lines; raises `PackageProblem` with file and line.

    Codes are those of `strict_json.loads` and of `Folder.read`, and "empty-file", "empty-line",
    "long-line", "too-many-rows", "not-an-object", "lone-surrogate".
    """
    data = folder.read(path, FILE_LIMIT)
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise _problem("empty-file", path, "an empty file", "at least one row")
    if len(lines) > ROW_LIMIT:
        raise _problem("too-many-rows", path, f"{len(lines)} rows", f"at most {ROW_LIMIT} rows")
    rows = tuple(_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1))
    return DataFile(path, hashlib.sha256(data).hexdigest(), rows)


def _row(line: bytes, where: str) -> Row:
    if len(line) > LINE_LIMIT:
        got, want = f"a line of {len(line)} bytes", f"at most {LINE_LIMIT} bytes"
        raise _problem("long-line", where, got, want)
    if not line.strip():
        raise _problem("empty-line", where, "a line without an object", "one JSON object a line")
    try:
        value = strict_json.loads(line, where)
    except PackageProblem as problem:
        if problem.code != "not-json":
            raise
        column = problem.where.rpartition(":")[2]
        want = "one JSON object a line (RFC 8259)"
        raise _problem("not-json", where, f"{problem.got}, column {column}", want) from None
    if not isinstance(value, dict):
        got = f"a JSON {_kind(value)}"
        raise _problem("not-an-object", where, got, "one JSON object a line")
    if b"\\ud" in line.lower():
        _judge_surrogates(value, where)
    row = Row(value)
    row.where = where
    return row


def _judge_surrogates(value: dict[str, Any], where: str) -> None:
    """Half of a pair that UTF-16 writes a character with: no text, and no tokenizer takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"a lone surrogate \\u{ord(error.object[error.start]):04x}"
        raise _problem("lone-surrogate", where, got, "characters that UTF-8 can write") from None


def row_refused(code: str, where: str, got: str, want: str) -> PackageProblem:
    """What is wrong with a row that is JSON, but does not fit task, interface or use."""
    return PackageProblem(code, where, got, want, FIX)


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "literal"
    return {"str": "string", "list": "array"}.get(type(value).__name__, "number")


def _problem(code: str, where: str, got: str, want: str) -> PackageProblem:
    fix = "write the file again as JSON lines, one example a line"
    return PackageProblem(code, where, got, want, fix)
