"""Figures of the first page against the code that they define: digests, limits, tasks, outcomes."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from package_builders import make_package, raw_safetensors
from spec_documents import SPEC

from slmconform.engine.verdict import EXIT
from slmconform.package import (
    code,
    documents,
    folder,
    gguf_header,
    onnx_model,
    strict_json,
    tensors,
)
from slmconform.package.configuration import HEADS, LAYERS, OPTIONAL, POSITIONS, VOCABULARY, WIDTH
from slmconform.package.read import Package
from slmconform.standard.files import EVIDENCE_LIMIT
from slmconform.standard.report import Outcome, Verdict
from slmconform.standard.tasks import TASKS

TEXT = (SPEC / "README.md").read_text("utf-8")
MIB = 2**20


def row(start: str) -> str:
    found = re.search(rf"^\| {re.escape(start)}[^|]*\|(.+)\|$", TEXT, re.MULTILINE)
    assert found, start
    return found[1].strip()


def test_the_weights_digest_is_the_one_of_the_worked_example(tmp_path):
    data = struct.pack("<3h2f", 1, 0, -1, 1.0, -2.0)
    header = {
        "bias": {"dtype": "I16", "shape": [3], "data_offsets": [0, 6]},
        "Weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [6, 14]},
    }
    files = {"model.safetensors": raw_safetensors(header, data)}
    weights = Package(make_package(tmp_path, files=files)).weights
    assert f"the digest is `{weights.digest}`" in TEXT
    for seen in weights.scan().values():
        assert f'"{seen.sha256}"' in TEXT


def test_names_outside_ascii_are_escaped_and_sorted_by_code_point(tmp_path):
    import hashlib

    arrays = {name: np.zeros(1, np.float32) for name in ("é", "z", "😀")}
    weights = Package(make_package(tmp_path, tensors=arrays)).weights
    one = hashlib.sha256(bytes(4)).hexdigest()
    names = ("z", r"\u00e9", r"\ud83d\ude00")
    rows = ",".join(f'["{name}","F32",[1],"{one}"]' for name in names)
    assert weights.digest == hashlib.sha256(f"[{rows}]".encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    ("start", "limit"),
    [
        ("entries of a package", f"{folder.MAX_ENTRIES:,}"),
        ("`slm.toml` | 1", ""),
        ("each evidence file", f"{EVIDENCE_LIMIT // MIB} MiB"),
        ("a JSON file", f"{strict_json.SIZE_LIMIT // MIB} MiB"),
        ("a JSON file that grows with the voc", f"{strict_json.LARGE_SIZE_LIMIT // MIB} MiB"),
        ("a JSON file that grows with the num", f"{strict_json.INDEX_SIZE_LIMIT // MIB} MiB"),
        ("values of a JSON file, or", f"2^{strict_json.VALUE_LIMIT.bit_length() - 1}"),
        ("values of a JSON file that", f"2^{strict_json.LARGE_VALUE_LIMIT.bit_length() - 1}"),
        ("depth of a JSON value", f"{strict_json.DEPTH_LIMIT}"),
        ("digits of a JSON integer", f"{strict_json.DIGIT_LIMIT}"),
        ("safetensors header", f"{tensors.HEADER_LIMIT // MIB} MiB"),
        ("all safetensors headers", f"{tensors.ALL_HEADERS_LIMIT // MIB} MiB"),
        ("rank of a tensor", f"{tensors.RANK_LIMIT}"),
        ("an axis of a tensor", f"2^{tensors.DIMENSION_LIMIT.bit_length() - 1}"),
        ("tensors of a GGUF file", f"{gguf_header.ROW_LIMIT:,}"),
        ("tensors, keys and strings of a GGUF file", f"{gguf_header.COUNT_LIMIT:,}"),
        ("fields of an ONNX file", f"{onnx_model.FIELD_LIMIT:,}"),
        ("a Python source file", f"{code.SOURCE_LIMIT // MIB} MiB"),
        ("all Python source files together", f"{code.SOURCES_LIMIT // MIB} MiB"),
    ],
)
def test_limits_are_those_of_the_reader(start: str, limit: str):
    if limit:
        assert row(start) == limit
    else:
        assert f"| `slm.toml` | {documents.MANIFEST_LIMIT // MIB} MiB |" in TEXT


def test_names_of_tensors_have_the_length_of_the_reader():
    assert f"1 to {tensors.NAME_LIMIT} printable" in row("name of a tensor")


def test_large_json_files_are_those_that_the_page_lists():
    named = re.findall(r"`\*([^`*]+)\*?([^`]*)`", row_of("a JSON file that grows with the voc"))
    for middle, rest in named:
        path = f"x{middle}{rest}" if middle.endswith(".json") else f"{middle}y{rest}"
        assert strict_json.size_limit(path) == strict_json.LARGE_SIZE_LIMIT, path
    assert strict_json.size_limit("config.json") == strict_json.SIZE_LIMIT


def row_of(start: str) -> str:
    found = re.search(rf"^\| {re.escape(start)}.*$", TEXT, re.MULTILINE)
    assert found, start
    return found[0]


@pytest.mark.parametrize(
    ("start", "bound"),
    [
        ("vocabulary sizes", VOCABULARY),
        ("widths", WIDTH),
        ("numbers of layers", LAYERS),
        ("numbers of heads", HEADS),
        ("numbers of positions", POSITIONS),
        ("head dimension", OPTIONAL),
    ],
)
def test_ceilings_are_those_of_the_reader(start: str, bound):
    least, greatest = (cell.strip() for cell in row_of(start).split("|")[2:4])
    assert least == ("0" if bound.zero else "1")
    assert greatest == f"2^{bound.ceiling.bit_length() - 1}"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_tasks_have_the_outputs_that_the_page_lists(task):
    (line,) = [one for one in TEXT.split("\n") if one.startswith("|") and f"`{task.name}`" in one]
    for name, axes in task.outputs.items():
        assert f"`{name}`" in line
        assert f"[{', '.join(axes)}]" in line


def test_every_outcome_and_verdict_is_defined():
    for outcome in Outcome:
        assert row(f"`{outcome.value}`")
    for verdict in Verdict:
        assert row(verdict.value).endswith(f"| {EXIT[verdict]}")
