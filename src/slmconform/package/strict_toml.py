"""TOML read strictly: UTF-8 and keys of bounded length, problems worded for a person."""

from __future__ import annotations

import re
import tomllib
from typing import Any, NoReturn

from slmconform.package.problem import PackageProblem

PARTS_LIMIT = 64  # of a dotted key, which takes the library time by the square of their number

_PLACE = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
# What a file is made of, in one pass: no piece is looked at twice, whatever is left open in it.
_STRING = r"""(?:"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?)"""
_PART = rf"(?:[\w-]++|{_STRING})"
_PIECE = re.compile(
    r""""{3}(?:[^"\\]|\\.|""?(?!"))*+"{0,5}|"""
    r"""'{3}(?:[^']|''?(?!'))*+'{0,5}|"""
    rf"#[^\n]*+|(?P<key>{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+)|[^\w\"'#-]++",
    re.DOTALL,
)


def loads(data: bytes, where: str) -> dict[str, Any]:
    """The table that the bytes spell; ``where`` names the file in problems.

    Raises `PackageProblem`: "not-utf8" or "not-toml".
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageProblem(
            "not-utf8",
            f"{where}:{_line(data[: error.start].decode('utf-8'))}",
            f"byte {error.start} is not UTF-8",
            "TOML in UTF-8",
            "save the file as UTF-8",
        ) from None
    for piece in _PIECE.finditer(text):
        if (key := piece["key"]) and key.count(".") >= PARTS_LIMIT and _parts(key) > PARTS_LIMIT:
            place = f"{where}:{_line(text[: piece.start()])}"
            _refuse(place, f"a key of more than {PARTS_LIMIT} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        _refuse(where, "values nested too deep")
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        match = _PLACE.match(str(error))
        message, line, column = match.groups() if match else (str(error), None, None)
        if match and not line:
            line, column = text.count("\n") + 1, 1
        raise PackageProblem(
            "not-toml",
            f"{where}:{line}:{column}" if line else where,
            f"not TOML: {message}",
            "valid TOML (toml.io, version 1.0)",
            "correct the line; strings need quotes",
        ) from None


def _parts(key: str) -> int:
    return len(re.findall(_PART, key))


def _line(before: str) -> int:
    return before.count("\n") + 1


def _refuse(where: str, got: str) -> NoReturn:
    want = "tables and short lists under short keys"
    raise PackageProblem("not-toml", where, got, want, "write it as tables")
