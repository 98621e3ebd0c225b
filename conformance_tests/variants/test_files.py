"""What is told of variant files without any library of their formats, and of declarations."""

from __future__ import annotations

import io
import random
import struct

import pytest
import variant_packages as made
from package_builders import judge

from slmconform.engine.registry import Nonconformance
from slmconform.package import gguf_header, onnx_model
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.package.variants import read, variant_problems

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
        (made.raw_gguf([MATRIX], keys=9, data=68), "gguf-name"),
        (made.raw_gguf([(b"", (32,), Q8, 0)], data=68), "gguf-name"),
        (made.raw_gguf([(b"\xff", (32,), Q8, 0)], data=68), "gguf-name"),
        (made.raw_gguf([MATRIX, (b"w", (3,), F32, 96)], data=108), "gguf-name-twice"),
        (made.raw_gguf([(b"w", (31,), Q8, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([(b"w", (1,) * 9, F32, 0)], data=68), "gguf-shape"),
        (made.raw_gguf([(b"w", (32,), 4, 0)], data=68), "gguf-type"),
        (made.raw_gguf([(b"w", (32,), F32, 4)], data=200), "gguf-offset"),
        (made.raw_gguf([(b"w", (2**60, 2**60), F32, 0)], data=68), "gguf-truncated"),
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
        assert onnx_model.parse(file, "file") == ()


def test_onnx_external_data_is_found_in_subgraphs_too(opened):
    inner = made.part(5, made.part(6, made.external(b"inner.bin")))  # attribute with a graph
    content = made.raw_onnx(made.external(b"outer.bin"), made.part(1, inner))
    with opened(content) as file:
        assert onnx_model.parse(file, "file") == ("outer.bin", "inner.bin")


@pytest.mark.parametrize(
    ("content", "word"),
    [
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


@pytest.fixture
def folder(tmp_path):
    made.base(tmp_path / "mixer")
    return tmp_path / "mixer"


def test_external_data_beside_the_model_belongs_to_the_variant(folder):
    (folder / "onnx").mkdir()
    (folder / "onnx/m.onnx").write_bytes(made.raw_onnx(made.external(b"m.data")))
    made.declare(folder, "big", "onnx", "onnx/m.onnx")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    assert (caught.value.code, "m.data" in caught.value.got) == ("missing-file", True)
    (folder / "onnx/m.data").write_bytes(bytes(40))
    package = Package(folder)
    files = read(package, package.require_manifest().variants[0])
    assert files.paths == ("onnx/m.onnx", "onnx/m.data")
    assert files.size == (folder / "onnx/m.onnx").stat().st_size + 40
    first = files.digest(package.folder)
    (folder / "onnx/m.data").write_bytes(bytes(39) + b"x")
    assert files.digest(package.folder) != first


@pytest.mark.parametrize("location", [b"../outside", b"/etc/passwd"])
def test_external_data_outside(folder, location):
    (folder / "m.onnx").write_bytes(made.raw_onnx(made.external(location)))
    made.declare(folder, "big", "onnx", "m.onnx")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    assert caught.value.code == "path-outside"


# --- declarations ---


@pytest.mark.parametrize(
    ("kind", "path", "bounds", "code"),
    [
        ("onnx", None, "max_kl = 0.1", "variant-path"),
        ("dynamic-int8", "x", "max_kl = 0.1", "variant-path"),
        ("gguf", "x.gguf", "", "variant-unbounded"),
        ("gguf", "x.gguf", "max_kl = 0.1", None),
        ("dynamic-int8", None, "top1_agreement = 0.9", None),
        ("dynamic-int8", None, "min_cosine = 0.9", None),
    ],
)
def test_declarations(folder, kind, path, bounds, code):
    made.declare(folder, "one", kind, path, bounds)
    found = [p.code for p in variant_problems(Package(folder).require_manifest())]
    assert found == ([code] if code else [])


def test_two_variants_of_one_name(folder):
    for _ in range(2):
        made.declare(folder, "one", "dynamic-int8", None)
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-MAN-004", folder)
    assert caught.value.code == "variant-twice"


@pytest.mark.parametrize("bound", ["max_kl = 0.1", "top1_agreement = 0.9"])
def test_a_bound_that_vectors_do_not_have(folder, bound):
    text = (folder / "slm.toml").read_text("utf-8")
    text = text.replace('"token-classification"', '"tensor"').replace('"logits"', '"states"')
    (folder / "slm.toml").write_text(text, "utf-8")
    made.declare(folder, "one", "dynamic-int8", None, bound)
    (problem,) = variant_problems(Package(folder).require_manifest())
    assert (problem.code, problem.fix) == ("variant-bound", "declare min_cosine instead")
