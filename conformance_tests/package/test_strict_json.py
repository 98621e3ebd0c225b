"""Strict JSON: every refusal beside the nearest value that is legal."""

from __future__ import annotations

import json
import time

import pytest

from slmconform.package.problem import PackageProblem
from slmconform.package.strict_json import (
    DEPTH_LIMIT,
    INDEX_SIZE_LIMIT,
    LARGE_SIZE_LIMIT,
    SIZE_LIMIT,
    VALUE_LIMIT,
    loads,
    size_limit,
)


def code(data: bytes) -> str:
    with pytest.raises(PackageProblem) as caught:
        loads(data, "config.json")
    assert caught.value.where.startswith("config.json")
    assert str(caught.value).isprintable()
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b'{"x": {"a": 1, "\\u0061": 2}}', "duplicate-key"),
        (b'\xef\xbb\xbf{"a": 1}', "byte-order-mark"),
        ('{"a": 1}'.encode("utf-16"), "byte-order-mark"),
        (b'{"a": NaN}', "not-finite"),
        (b'{"a": -Infinity}', "not-finite"),
        (b'{"a": 1e999}', "not-finite"),
        (b'{"a": ' + b"1" * 400 + b".5}", "not-finite"),
        (b'{"a": -1E+4000}', "not-finite"),
        (b'{"a": ' + b"9" * 41 + b"}", "too-many-digits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too-many-digits"),
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (b"[" * 100_000, "too-deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too-deep"),
        (b'["\\\\", ' + b"[" * 64 + b"]" * 64 + b"]", "too-deep"),
        (b'{"a": "\xff"}', "not-utf8"),
        (b'{"a": 1,}', "not-json"),
        (b"{'a': 1}", "not-json"),
        (b"", "not-json"),
        (b"  \n", "not-json"),
        (b'{"a": 1} x', "not-json"),
        (b'{"a": 1', "not-json"),
    ],
)
def test_refused(data: bytes, expected: str) -> None:
    assert code(data) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": 2}',
        '[{"a": 1}, {"a": 1}]',
        '{"a": 1e300, "b": 1e-400}',
        '{"a": ' + "9" * 20 + "}",
        '{"a": -' + "9" * 20 + "}",
        '{"a": "' + "9" * 50 + '"}',
        '{"a": "NaN Infinity 1e999"}',
        "[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT,
        '{"a": "' + "[" * 200 + '"}',
        '{"a": "\\\\\\"' + "{" * 200 + '"}',
        '{"a": "\\n\\"[[", "b\\\\": "]"}',
        '"x"',
        "null",
        '{"Ġ": "é", "\\ud83d\\ude00": 1}',
    ],
)
def test_accepted_as_the_standard_parser_does(text: str) -> None:
    assert loads(text.encode(), "x") == json.loads(text)


def test_line_and_column_of_a_syntax_error() -> None:
    with pytest.raises(PackageProblem) as caught:
        loads(b'{\n  "a": 1,\n}', "config.json")
    assert caught.value.where.startswith("config.json:")


def test_size_limits() -> None:
    assert size_limit("config.json") == size_limit("my/index.json") == SIZE_LIMIT
    for path in ("tokenizer.json", "sub/vocab.json"):
        assert size_limit(path) == LARGE_SIZE_LIMIT
    assert size_limit("model.safetensors.index.json") == INDEX_SIZE_LIMIT


@pytest.mark.parametrize("value", ["{}", "1", '""', "[]"])
def test_the_number_of_values_is_bounded(value: str) -> None:
    text = "[" + ",".join([value] * (VALUE_LIMIT + 1)) + "]"
    with pytest.raises(PackageProblem) as caught:
        loads(text.encode(), "model.safetensors.index.json")
    assert caught.value.code == "too-many-values"


def test_commas_in_strings_are_no_values() -> None:
    assert loads(json.dumps("," * VALUE_LIMIT).encode(), "x") == "," * VALUE_LIMIT


def test_a_vocabulary_is_parsed_quickly() -> None:
    data = json.dumps({f"tok[{i}]en": i for i in range(50_000)}).encode()
    start = time.perf_counter()
    assert len(loads(data, "vocab.json")) == 50_000  # type: ignore[arg-type]
    assert time.perf_counter() - start < 1.0


def test_hostile_nesting_is_refused_quickly() -> None:
    start = time.perf_counter()
    assert code(b"[" * 2_000_000) == "too-deep"
    assert time.perf_counter() - start < 3.0
