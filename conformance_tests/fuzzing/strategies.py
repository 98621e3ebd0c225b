"""What property tests draw from: JSON documents, safetensors, licences, requirements."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates too
TEXT = st.text(ANY_CHARACTER, max_size=12)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)
INTEGERS = st.one_of(
    st.integers(-3, 40),
    st.integers(-(2**64), 2**65),
    st.sampled_from([10**30, 10**39, 10**40, -(10**45)]),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXT)


def trees(scalars: st.SearchStrategy[Any] = SCALARS, leaves: int = 12) -> st.SearchStrategy[Any]:
    """JSON values over some scalars."""
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)
        ),
        max_leaves=leaves,
    )


TREES = trees()


def tables(known: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of the known keys under known or any values, and with other keys."""
    keys = st.sampled_from(sorted(known))
    changed = st.dictionaries(keys, TREES, max_size=3)
    added = st.dictionaries(TEXT, TREES, max_size=2)
    removed = st.sets(keys, max_size=2)
    return st.builds(
        lambda new, more, gone: {k: v for k, v in (known | new | more).items() if k not in gone},
        changed,
        added,
        removed,
    )


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[Any] = TREES) -> bytes:
    """A JSON document in one of the ways in which it can be written."""
    text = json.dumps(
        draw(values),
        indent=draw(st.sampled_from([None, 1, "\t"])),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([None, (",", ":")])),
    )
    return (draw(st.sampled_from(["", " ", "\r\n"])) + text).encode("utf-8", "surrogatepass")


# Scraps of JSON, put together in any order.
SCRAPS = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\xff", b"\x00"),
            *(b'"a"', b'"\\u0041"', b'"a"', b'"\\ud800"', b'{"a":', b'"b\\\\"', b'"\\""', b"'"),
            *(b"1", b"-0", b"01", b"1.", b"1e9", b"1e999", b"-1e400", b"9" * 39, b"9" * 41),
            *(b"0." + b"1" * 400, b"1" * 320 + b".5", b"2" * 290 + b"e99", b"null", b"true"),
            *(b"NaN", b"-Infinity", b"[" * 33, b"]" * 33, b"[" * 65 + b"]" * 65, b"\xef\xbb\xbf"),
        ]
    ),
    max_size=9,
).map(b"".join)

# --- safetensors ---

DTYPES = {"BOOL": 8, "U8": 8, "I16": 16, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F4": 4}
NAMES = st.one_of(st.sampled_from(["a", "b", "model.x", "\u00e4", ""]), TEXT)


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A header whose tensors follow each other without a hole, and how many bytes they take."""
    header: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(DTYPES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=4))
        bits = DTYPES[dtype]
        for axis in shape:
            bits *= axis
        size = -(-bits // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(
            st.one_of(st.dictionaries(TEXT, TEXT, max_size=2), st.none(), TREES)
        )
    return header, at


@st.composite
def near_headers(draw: st.DrawFn) -> bytes:
    """A safetensors file that is sound, or wrong in one or two places."""
    header, size = draw(headers())
    for name in draw(st.lists(st.sampled_from(sorted(header) or ["a"]), max_size=1)):
        row = header.get(name)
        if isinstance(row, dict) and "shape" in row:
            key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
            numbers = st.lists(st.one_of(INTEGERS, FLOATS), max_size=10)
            row[key] = draw(st.one_of(TREES, numbers, st.sampled_from(["F8_E4M3", "f32", "C64"])))
    pad, odd = draw(st.integers(0, 8)), draw(st.sampled_from([0, 0, 0, -1, 1, 8]))
    text = json.dumps(header, ensure_ascii=draw(st.booleans()))
    text = draw(st.sampled_from([text, " " + text, text.replace("0", "-0", 1)])) + " " * pad
    encoded = text.encode("utf-8", "surrogatepass")
    length = max(0, len(encoded) + draw(st.sampled_from([0, 0, 0, 0, 1, -1])))
    data = bytes(max(0, size + odd))
    return length.to_bytes(8, "little") + encoded + data


# --- licences and requirements ---

LICENCE_WORDS = st.sampled_from(
    [
        *("MIT", "Apache-2.0", "mit", "GPL-2.0-only", "GPL-3.0+", "LicenseRef-x", "LicenseRef-"),
        *("AND", "OR", "WITH", "and", "or", "(", ")", "()", "Classpath-exception-2.0", "other"),
        *("openrail", "llama3", "gemma", "cc", "bsd", "BSD-3-Clause", "MIT/Apache-2.0", "+", "-"),
        *("DocumentRef-a:LicenseRef-b", "NOASSERTION", "NONE", ",", "\u00e4", "\u00a0", "\x1c"),
    ]
)
LICENCES = st.one_of(
    st.lists(LICENCE_WORDS, max_size=6).map(" ".join),
    st.lists(LICENCE_WORDS, max_size=4).map("".join),
    TEXT,
)
REQUIREMENT_PARTS = st.sampled_from(
    [
        *("torch", "transformers", "Torch_x", "a.b", "torch[x]", "[a,b]", ">=2.10", "<5", "==1.*"),
        *("===x", "~=1.0", "!=2", ">", ",", ";", " ", "@", "https://x/y.whl", "1!2.0", ">=1.0+l"),
        *("python_version", ">='3.8'", "extra == 'x'", "sys_platform == 'linux'", " and ", " or "),
        *(
            "'x' in extras",
            "platform_release > '1'",
            "os_name in ''",
            "(",
            ")",
            "python_full_version",
        ),
        *(
            "implementation_version < 'a'",
            ">=99999999999999999999",
            "==2.0.0rc1",
            "dependency_groups",
        ),
    ]
)
REQUIREMENTS = st.one_of(
    st.lists(REQUIREMENT_PARTS, min_size=1, max_size=7).map("".join),
    st.text(ANY_CHARACTER, min_size=1, max_size=12),
)
