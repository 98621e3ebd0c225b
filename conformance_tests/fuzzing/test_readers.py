"""Each reader raises its own exception or none, and takes what the reference parsers take."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import tempfile
from typing import Any

import pytest
import safetensors
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import SCRAPS, TEXT, near_headers, trees, written

from slmconform.package import gguf_header, onnx_model, sentencepiece, strict_json, tensors
from slmconform.package.pickles import walk
from slmconform.package.problem import PackageProblem

# What this standard refuses and the reference parser of safetensors takes.
STRICTER = {
    *("duplicate-key", "tensor-name", "no-tensors", "shape", "rank", "metadata", "too-deep"),
    *("too-many-digits", "not-finite", "minus-zero", "lone-surrogate"),
}


def parsed(parse, data: bytes) -> Any:
    """What a reader of open files makes of the bytes, or its problem."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        try:
            return parse(file, "a file")
        except PackageProblem as problem:
            return problem


# --- JSON ---


class Limit(Exception):
    """A named limit of the standard is broken."""


def reference(data: bytes) -> Any:
    """The value by the standard library and the limits of the standard, told in another way."""

    def unique(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            raise Limit("duplicate-key")
        return dict(pairs)

    def refuse(_):
        raise Limit("not-finite")

    def integer(digits):
        if len(digits.lstrip("-")) > 40:
            raise Limit("too-many-digits")
        return int(digits)

    def finite(digits):
        return float(digits) if abs(float(digits)) < float("inf") else refuse(digits)

    if data[:3] == b"\xef\xbb\xbf" or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Limit("byte-order-mark")
    hooks = {"object_pairs_hook": unique, "parse_constant": refuse}
    value = json.loads(data.decode("utf-8"), **hooks, parse_int=integer, parse_float=finite)
    if depth(value) > 64:
        raise Limit("too-deep")
    return value


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


@given(st.one_of(SCRAPS, written(), st.binary(max_size=30)))
@example(b"[" * 64 + b"]" * 64)
@example(b"[" * 65 + b"]" * 65)
@example(b"1" * 400 + b".0")
@example(b"2" * 290 + b"e99")
@example(b'{"a":1,"\\u0061":2}')
@example(b'["\\\\", "[[[\\"", {}]')
def test_json_is_read_as_the_standard_library_reads_it_or_a_limit_is_named(data):
    try:
        wanted: Any = repr(reference(data))
    except Limit as limit:
        wanted = str(limit)
    except ValueError:
        wanted = None
    try:
        found: Any = repr(strict_json.loads(data, "x.json"))
    except PackageProblem as problem:
        found = problem.code
    if wanted is None:
        assert found in ("not-json", "not-utf8", "too-deep", "byte-order-mark")
    else:
        assert found == wanted or (found == "too-deep" and data.count(b"[") > 64)


# --- safetensors ---


def one_tensor(row: str, more: str = "") -> bytes:
    """A file of one tensor of two bytes, described by a text."""
    header = f'{{"a": {row}{more}}}'.encode()
    return len(header).to_bytes(8, "little") + header + bytes(2)


SOUND = '{"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}'


@given(st.one_of(near_headers(), st.binary(max_size=60)))
@example(one_tensor(SOUND))
@example(one_tensor(SOUND.replace("0,", "-0,")))
@example(one_tensor(SOUND, ', "__metadata__": {"a-0": "-0"}'))
@example(one_tensor(SOUND, ', "__metadata__": {"a": "\\ud800"}'))
@example(one_tensor(SOUND[:-1] + ', "\\ud800": 1}'))
@example(one_tensor(SOUND, ', "__metadata__": {"\\ud83d\\ude00": ""}'))
def test_safetensors_are_taken_only_as_the_library_takes_them(data):
    found = parsed(tensors.parse, data)
    try:
        rows = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        assert isinstance(found, PackageProblem)
        return
    if isinstance(found, PackageProblem):
        assert found.code in STRICTER
        return
    assert found.tensors.keys() == rows.keys()
    for name, entry in found.tensors.items():
        assert entry.dtype == rows[name]["dtype"]
        assert list(entry.shape) == rows[name]["shape"]
        assert data[entry.begin : entry.end] == bytes(rows[name]["data"])


# --- GGUF ---


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@st.composite
def gguf_files(draw: st.DrawFn) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    """A sound GGUF file of float32 tensors, and the shape of each."""
    names = draw(st.lists(TEXT.filter(encodable), min_size=1, max_size=3, unique=True))
    shapes = {name: tuple(draw(st.lists(st.integers(0, 3), max_size=4))) for name in names}
    keys = draw(st.lists(st.sampled_from("abcdef"), max_size=3, unique=True))
    metadata = b"".join(text(key.encode()) + draw(values()) for key in keys)
    rows, at = b"", 0
    for name, shape in shapes.items():
        rows += text(name.encode()) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        rows += struct.pack("<IQ", 0, at)
        size = 4
        for axis in shape:
            size *= axis
        at += -(-size // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", draw(st.sampled_from([2, 3])), len(names), len(keys))
    head += metadata + rows
    return head + bytes(-len(head) % 32) + bytes(at), shapes


def encodable(name: str) -> bool:
    return bool(name) and not any("\ud800" <= one <= "\udfff" for one in name)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A value of the metadata with its type."""
    word = text(draw(st.binary(max_size=5)))
    scalar = {0: b"\1", 3: b"\1\0", 4: bytes(4), 6: bytes(4), 7: b"\1", 10: bytes(8), 8: word}
    kind = draw(st.sampled_from([*scalar, 9]))
    if kind != 9:
        return struct.pack("<I", kind) + scalar[kind]
    inner, count = draw(st.sampled_from(sorted(scalar))), draw(st.integers(0, 3))
    return struct.pack("<IIQ", 9, inner, count) + scalar[inner] * count


@given(gguf_files())
def test_sound_gguf_is_taken_as_it_was_written(made):
    data, shapes = made
    found = parsed(gguf_header.parse, data)
    assert {one.name: one.shape for one in found} == shapes


@given(gguf_files(), st.data())
def test_damaged_gguf_is_refused_or_taken_and_never_more(made, drawn):
    data = bytearray(made[0])
    for _ in range(drawn.draw(st.integers(1, 3))):
        at = drawn.draw(st.integers(0, len(data) - 1))
        width = drawn.draw(st.sampled_from([1, 4, 8]))
        number = drawn.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
        data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    found = parsed(gguf_header.parse, bytes(data))
    if not isinstance(found, PackageProblem):
        assert all(row.offset + row.size <= len(data) for row in found)


# --- ONNX ---


@st.composite
def onnx_models(draw: st.DrawFn) -> Any:
    """A model of the library: inputs, initializers inside and outside, a nested graph."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names = st.sampled_from(["x", "y", "w", "\u00e4", "a/b"])
    inputs = draw(st.lists(names, max_size=3, unique=True))
    tensors_ = []
    for name in draw(st.lists(names, max_size=3, unique=True)):
        tensor = helper.make_tensor(name, kind, [1], [1.0])
        if draw(st.booleans()):
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            location = draw(st.sampled_from(["m.data", "n.data"]))
            length = draw(st.integers(0, 2**40))
            for key, value in (("location", location), ("length", str(length))):
                tensor.external_data.add(key=key, value=value)
        tensors_.append(tensor)
    given_ = [helper.make_tensor_value_info(name, kind, [1]) for name in inputs]
    node = helper.make_node("Identity", ["x"], ["z"])
    inner = helper.make_graph([node], "inner", [], [], tensors_[:1])
    node.attribute.append(helper.make_attribute("body", inner))
    graph = helper.make_graph([node], "g", given_, [], tensors_)
    return helper.make_model(graph, ir_version=8)


@given(onnx_models())
def test_an_onnx_model_of_the_library_is_taken_as_it_was_written(model):
    found = parsed(onnx_model.parse, model.SerializeToString())
    named = {one.name for one in model.graph.input}
    assert found.inputs == named - {one.name for one in model.graph.initializer}
    outside: dict[str, int] = {}
    for tensor in model.graph.initializer:
        row = {one.key: one.value for one in tensor.external_data}
        if row:
            place = row["location"]
            outside[place] = max(outside.get(place, 0), int(row["length"]))
    assert found.external == outside


@given(onnx_models(), st.data())
def test_damaged_onnx_is_refused_or_taken_and_never_more(model, drawn):
    data = bytearray(model.SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 3))):
        at = drawn.draw(st.integers(0, len(data) - 1))
        data[at] = drawn.draw(st.integers(0, 255))
    found = parsed(onnx_model.parse, bytes(data))
    assert isinstance(found, PackageProblem | onnx_model.OnnxModel)


@pytest.mark.parametrize("parse", [gguf_header.parse, onnx_model.parse, tensors.parse])
def test_no_reader_of_binary_files_stumbles_over_any_bytes(parse):
    @given(st.binary(max_size=80), st.sampled_from([b"", b"GGUF\3\0\0\0", b"\x08\x08", bytes(8)]))
    def of(data, begin):
        parsed(parse, begin + data)

    of()


# --- SentencePiece and pickles ---


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def bytes_field(key: int, value: bytes) -> bytes:
    return varint(key << 3 | 2) + varint(len(value)) + value


@given(st.lists(TEXT.filter(encodable), min_size=1, max_size=5), st.binary(max_size=5))
def test_pieces_are_read_as_they_were_written(pieces, settings_):
    rows = b"".join(bytes_field(1, bytes_field(1, one.encode()) + b"\x18\x01") for one in pieces)
    assert sentencepiece.pieces(rows + bytes_field(2, settings_)) == pieces


@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_no_sentencepiece_model(data):
    with contextlib.suppress(sentencepiece.NotSentencePiece):
        assert sentencepiece.pieces(data)


@given(trees(), st.integers(2, 5))
def test_a_pickle_with_its_mark_is_told(value, protocol):
    assert walk(pickle.dumps(value, protocol))


@given(st.sampled_from([print, io.BytesIO, struct.Struct]), st.integers(0, 5))
def test_a_pickle_that_calls_is_told(function, protocol):
    class Calls:
        def __reduce__(self):
            return function, (b"x",)

    assert walk(pickle.dumps(Calls(), protocol))


@given(st.one_of(st.binary(min_size=1, max_size=60), SCRAPS.filter(bool)))
def test_the_walk_over_any_bytes_ends(data):
    assert isinstance(walk(data), str)


@given(st.one_of(written(), TEXT.filter(encodable).map(str.encode)).filter(bool))
def test_documents_and_words_are_no_pickles(data):
    assert walk(data) == ""
