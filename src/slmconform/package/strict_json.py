"""JSON read strictly: UTF-8, unique keys, finite numbers, bounded size, depth and digits.

The limits are checked on the bytes before anything is built from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NoReturn

from slmconform.package.problem import PackageProblem, shown

SIZE_LIMIT = 4 * 2**20  # bytes
LARGE_SIZE_LIMIT = 64 * 2**20  # bytes, for the files that grow with the vocabulary
INDEX_SIZE_LIMIT = 16 * 2**20  # bytes, for those that grow with the number of tensors
# Values, counted by commas and brackets: each costs many times the two bytes that it may take.
VALUE_LIMIT = 2**20
LARGE_VALUE_LIMIT = 2**22  # where the vocabulary stands
DEPTH_LIMIT = 64
DIGIT_LIMIT = 40  # transformers writes "no longest text" as int(1e30), which has 31 digits

_LARGE = re.compile(r"(tokenizer|tekken|vocab|added_tokens|merges)[^/]*\.json$")
_INDEX = re.compile(r"\.index\.json$")
# Every digit as 0: long integers and large exponents are then found by plain search.
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_INTEGER = b"0" * (DIGIT_LIMIT + 1)
_LARGE_EXPONENT = b"0e000"
_STRUCTURE = b'"[]{},'
_NOT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_STEP = bytes.maketrans(b"{}", b"[]")
_DEPTH_OF = {ord("["): 1, ord("]"): -1}


def size_limit(path: str) -> int:
    """How many bytes a JSON file of this name may have."""
    name = path.rpartition("/")[2]
    if _LARGE.search(name):
        return LARGE_SIZE_LIMIT
    return INDEX_SIZE_LIMIT if _INDEX.search(name) else SIZE_LIMIT


def loads(data: bytes, where: str) -> object:
    """The value that the bytes spell; ``where`` names the file in problems.

    Raises `PackageProblem`: "byte-order-mark", "not-utf8", "too-many-values", "too-deep",
    "too-many-digits", "duplicate-key", "not-finite" or "not-json".
    """
    text = _decoded(data, where)
    structure = _structure(data)
    brackets = structure.translate(None, b",")
    values, limit = len(structure) - len(brackets) // 2, _value_limit(where)
    if values > limit:
        _refuse("too-many-values", where, f"about {values} values", f"at most {limit}")
    depth = max(accumulate(map(_DEPTH_OF.__getitem__, brackets)), default=0)
    if depth > DEPTH_LIMIT:
        _refuse("too-deep", where, f"nested {depth} deep", f"at most {DEPTH_LIMIT} levels")
    digits = data.translate(_DIGITS, b"+")
    long = _LONG_INTEGER in digits  # it may be the whole part of a float beyond all bounds
    try:
        return json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, where),
            parse_constant=lambda name: _not_finite(name, where),
            parse_int=_integer_parser(where) if long else int,
            parse_float=_float_parser(where) if long or _LARGE_EXPONENT in digits else float,
        )
    except json.JSONDecodeError as error:
        raise PackageProblem(
            "not-json",
            f"{where}:{error.lineno}:{error.colno}",
            f"not JSON: {error.msg}" if data.strip() else "an empty file",
            "one JSON value (RFC 8259)",
            "save the file again as JSON, without comments or trailing commas",
        ) from None


def _decoded(data: bytes, where: str) -> str:
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        _refuse("byte-order-mark", where, "starts with a byte order mark", "plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {error.start} is not UTF-8: {data[error.start : error.start + 4]!r}"
        _refuse("not-utf8", where, got, "UTF-8")


def _value_limit(where: str) -> int:
    return LARGE_VALUE_LIMIT if _LARGE.search(where.rpartition("/")[2]) else VALUE_LIMIT


def _structure(data: bytes) -> bytes:
    """The brackets and commas outside strings, all brackets as square ones."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    return b"".join(plain.translate(_STEP, _NOT_STRUCTURE).split(b'"')[::2])


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        key = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        _refuse(
            "duplicate-key",
            where,
            f"the key {shown(key)} stands twice in one object",
            "every key once",
            "keep the value that is meant and remove the other",
        )
    return value


def _integer_parser(where: str) -> Callable[[str], int]:
    def parse(digits: str) -> int:
        count = len(digits.lstrip("-"))
        if count > DIGIT_LIMIT:
            _refuse(
                "too-many-digits",
                where,
                f"an integer of {count} digits",
                f"at most {DIGIT_LIMIT} digits",
            )
        return int(digits)

    return parse


def _float_parser(where: str) -> Callable[[str], float]:
    def parse(digits: str) -> float:
        value = float(digits)
        if abs(value) == float("inf"):
            _not_finite(digits, where)
        return value

    return parse


def _not_finite(name: str, where: str) -> NoReturn:
    _refuse(
        "not-finite",
        where,
        f"the number {shown(name)}",
        "finite numbers: JSON has no NaN and no Infinity",
        "write a finite number, or null",
    )


def _refuse(code: str, where: str, got: str, want: str, fix: str = "") -> NoReturn:
    raise PackageProblem(code, where, got, want, fix or "save the file again as plain JSON")
