"""GGUF and ONNX files, told by their bytes without any library of their formats."""

from __future__ import annotations

import io
import random
import struct

import pytest
import variant_packages as made

from slmconform.package import gguf_header, onnx_model
from slmconform.package.problem import PackageProblem

F32, Q8 = 0, 8
MATRIX = (b"w", (32, 2), Q8, 0)  # 2 rows of 32 values: 68 bytes
VECTOR = (b"b", (3,), F32, 96)
GOOD = made.raw_gguf([MATRIX, VECTOR], data=108)


@pytest.fixture
def opened(tmp_path):
    """Bytes as an open file."""

    def as_file(content: bytes) -> io.FileIO:
        path = tmp_path / "file"
        path.write_bytes(content)
        return path.open("rb", buffering=0)

    return as_file


def refused(parse, file):
    with file, pytest.raises(PackageProblem) as caught:
        parse(file, "file")
    return caught.value


def test_gguf_rows(opened):
    with opened(GOOD) as file:
        rows = gguf_header.parse(file, "file")
    assert [(r.name, r.shape, r.size) for r in rows] == [("w", (2, 32), 68), ("b", (3,), 12)]


def test_gguf_tensors_side_by_side_in_any_order_and_empty_ones(opened):
    rows = [(b"b", (3,), F32, 96), (b"none", (0,), F32, 0), MATRIX, (b"one", (), F32, 128)]
    with opened(made.raw_gguf(rows, data=132)) as file:
        assert [row.size for row in gguf_header.parse(file, "file")] == [12, 0, 68, 4]


def test_gguf_metadata_of_every_type_is_passed_over(opened):
    scalars = b"".join(
        made.text(f"k{kind}".encode()) + struct.pack("<I", kind) + bytes(size)
        for kind, size in {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 12: 8}.items()
    )
    words = made.text(b"words") + struct.pack("<IIQ", 9, 8, 2) + made.text(b"a") + made.text(b"")
    align = made.text(b"general.alignment") + struct.pack("<II", 4, 32)
    content = made.raw_gguf([MATRIX], metadata=scalars + words + align, keys=12, data=68)
    with opened(content) as file:
        assert len(gguf_header.parse(file, "file")) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"GGUF", "gguf-magic"),
        (b"GGML" + GOOD[4:], "gguf-magic"),
        (made.raw_gguf([MATRIX], version=1, data=68), "gguf-version"),
        (made.raw_gguf([MATRIX], version=0x03000000, data=68), "gguf-version"),
        (made.raw_gguf([], data=68), "gguf-empty"),
        (made.raw_gguf([MATRIX], keys=2**40, data=68), "gguf-count"),
        (made.raw_gguf([MATRIX], keys=100_001, data=68), "gguf-count"),
        (GOOD[:8] + struct.pack("<Q", 100_001) + GOOD[16:], "gguf-count"),
        (made.raw_gguf([MATRIX], keys=9, data=68), "gguf-name"),
        (made.raw_gguf([(b"", (32,), Q8, 0)], data=68), "gguf-name"),
        (made.raw_gguf([(b"\xff", (32,), Q8, 0)], data=68), "gguf-name"),
        (made.raw_gguf([MATRIX, (b"w", (3,), F32, 96)], data=108), "gguf-name-twice"),
        (made.raw_gguf([(b"w", (31,), Q8, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([(b"w", (1,) * 9, F32, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([(b"w", (32,), 4, 0)], data=68), "gguf-type"),
        (made.raw_gguf([(b"w", (32,), F32, 4)], data=200), "gguf-offset"),
        (made.raw_gguf([(b"w", (2**60, 2**60), F32, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([(b"w", (2**40, 2**40), F32, 0)], data=68), "gguf-truncated"),
        (made.raw_gguf([MATRIX], data=67), "gguf-truncated"),
        (GOOD[:40], "gguf-truncated"),
        (
            made.raw_gguf(
                [MATRIX],
                metadata=made.text(b"general.alignment") + struct.pack("<II", 4, 3),
                keys=1,
                data=68,
            ),
            "gguf-alignment",
        ),
        (
            made.raw_gguf(
                [MATRIX],
                metadata=made.text(b"general.alignment") + struct.pack("<IH", 2, 64),
                keys=1,
                data=68,
            ),
            "gguf-alignment",
        ),
        (
            made.raw_gguf(
                [MATRIX],
                metadata=(made.text(b"general.alignment") + struct.pack("<II", 4, 32)) * 2,
                keys=2,
                data=68,
            ),
            "gguf-key-twice",
        ),
        (made.raw_gguf([(b"w", (), Q8, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([MATRIX, (b"b", (3,), F32, 64)], data=108), "gguf-overlap"),
        (made.raw_gguf([MATRIX, (b"b", (3,), F32, 0)], data=108), "gguf-overlap"),
        (
            made.raw_gguf(  # each array within the limit, all together not
                [MATRIX],
                metadata=b"".join(
                    made.text(b"k%d" % at) + struct.pack("<IIQ", 9, 8, 600_000) + bytes(8 * 600_000)
                    for at in range(2)
                ),
                keys=2,
                data=68,
            ),
            "gguf-count",
        ),
        (
            made.raw_gguf([MATRIX], metadata=made.text(b"k") + struct.pack("<I", 99), keys=1),
            "gguf-metadata",
        ),
        (
            made.raw_gguf([MATRIX], metadata=made.text(b"k") + struct.pack("<II", 9, 9), keys=1),
            "gguf-metadata",
        ),
        (
            made.raw_gguf(
                [MATRIX], metadata=made.text(b"k") + struct.pack("<IIQ", 9, 8, 2**40), keys=1
            ),
            "gguf-count",
        ),
        (
            made.raw_gguf(
                [MATRIX], metadata=made.text(b"k") + struct.pack("<IIQ", 9, 12, 2**61), keys=1
            ),
            "gguf-truncated",
        ),
    ],
)
def test_gguf_defects(opened, content, code):
    assert refused(gguf_header.parse, opened(content)).code == code


def test_gguf_of_random_bytes_is_refused_in_bounds(opened):
    rng, codes = random.Random(3), set()
    for _ in range(200):
        content = bytearray(GOOD)
        for _ in range(4):
            content[rng.randrange(len(content) - 108)] = rng.randrange(256)
        with opened(bytes(content)) as file:
            try:
                gguf_header.parse(file, "file")
            except PackageProblem as problem:
                codes.add(problem.code)
    assert len(codes) > 4
    assert all(code.startswith("gguf-") for code in codes)


def test_onnx_without_external_data(opened):
    content = made.raw_onnx(made.part(2, b"graph"), made.part(5, made.part(8, b"w")))
    with opened(content) as file:
        assert onnx_model.parse(file, "file").external == {}


def test_onnx_external_data_is_found_in_subgraphs_too(opened):
    inner = made.part(5, made.part(6, made.external(b"inner.bin")))  # attribute with a graph
    content = made.raw_onnx(made.external(b"outer.bin"), made.part(1, inner))
    with opened(content) as file:
        assert onnx_model.parse(file, "file").external == {"outer.bin": 0, "inner.bin": 0}


def test_onnx_external_data_is_found_wherever_a_tensor_may_stand(opened):
    tensor = made.external(b"a.bin")[2:]  # without its place in the graph
    content = (
        made.raw_onnx()
        + made.part(20, made.part(2, made.part(5, tensor)))  # a graph of training
        + made.part(25, made.part(11, made.part(5, tensor.replace(b"a.bin", b"b.bin"))))
        + made.part(25, made.part(7, made.part(5, made.part(5, tensor.replace(b"a.", b"c.")))))
        + made.part(7, made.part(15, made.part(1, tensor.replace(b"a.", b"d."))))
    )
    with opened(content) as file:
        found = onnx_model.parse(file, "file").external
    assert set(found) == {"a.bin", "b.bin", "c.bin", "d.bin"}


def test_onnx_inputs_are_those_without_a_value(opened):
    inputs = [made.part(11, made.part(1, name) + made.part(2, b"")) for name in (b"ids", b"w")]
    weight = made.part(5, made.part(8, b"w") + made.part(9, bytes(4)))
    with opened(made.raw_onnx(*inputs, weight)) as file:
        assert onnx_model.parse(file, "file").inputs == {"ids"}


def test_onnx_data_are_passed_over_however_long_they_are(opened):
    data = made.part(9, b"\x08\x01" * 3_000_000)  # would be that many fields
    with opened(made.raw_onnx(made.part(5, made.part(8, b"w") + data))) as file:
        assert onnx_model.parse(file, "file").external == {}


@pytest.mark.parametrize("at", ["model", "graph", "tensor", "unknown graph part"])
def test_onnx_of_fields_without_end(opened, monkeypatch, at):
    monkeypatch.setattr(onnx_model, "FIELD_LIMIT", 20_000)
    fields = b"\x08\x01" * 25_000
    content = {
        "model": made.raw_onnx() + fields,
        "graph": made.raw_onnx(fields),
        "tensor": made.raw_onnx(made.part(5, fields)),
        "unknown graph part": made.raw_onnx(made.part(99, b"") * 25_000),
    }[at]
    problem = refused(onnx_model.parse, opened(content))
    assert (problem.code, "more than 20000 fields" in problem.got) == ("onnx-structure", True)


def test_onnx_data_in_files_without_end(opened, monkeypatch):
    monkeypatch.setattr(onnx_model, "EXTERNAL_LIMIT", 20)
    content = made.raw_onnx(*(made.external(b"%d" % at) for at in range(21)))
    assert "more than 20 files" in refused(onnx_model.parse, opened(content)).got
    content = made.raw_onnx(*(made.external(b"%d" % (at % 20)) for at in range(40)))
    with opened(content) as file:
        assert len(onnx_model.parse(file, "file").external) == 20


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (made.raw_onnx(made.external(b"m.data", offset=b"-1")), "an external offset of '-1'"),
        (made.raw_onnx(made.external(b"m.data", length=b"9" * 20)), "an external length of"),
        (made.raw_onnx(made.external(b"m" * 5000)), "more than 4096 bytes"),
        (made.raw_onnx(made.external(b"\xff")), "not UTF-8"),
        (b"", "empty"),
        (b"ORTM" * 8, "wire type"),
        (made.raw_onnx()[:-1], "past its message"),
        (made.part(1, 8) + made.part(7, b""), "no operator set"),
        (made.part(7, b"") + made.part(8, b""), "no IR version"),
        (made.part(1, 8) + made.part(8, b""), "no graph"),
        (made.raw_onnx(b"\x80" * 12), "does not end"),
        (b"\x02\x00" + made.raw_onnx(), "without a number"),
        (b'{"not": "onnx"}', ""),
        (GOOD, ""),
    ],
)
def test_onnx_defects(opened, content, word):
    problem = refused(onnx_model.parse, opened(content))
    assert problem.code == "onnx-structure"
    assert word in problem.got


def test_onnx_graphs_without_end(opened):
    graph = b""
    for _ in range(20):
        graph = made.part(1, made.part(5, made.part(6, graph)))
    assert "nested" in refused(onnx_model.parse, opened(made.raw_onnx(graph))).got
