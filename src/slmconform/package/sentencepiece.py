"""The pieces of a SentencePiece model, read from its protobuf without the library.

Only what counts the vocabulary is read: `ModelProto.pieces` (field 1) and in each of them
`SentencePiece.piece` (field 1), as sentencepiece_model.proto of the reference defines them.
"""

from __future__ import annotations

from collections.abc import Iterator

PIECE_LIMIT = 2_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotSentencePiece(Exception):
    """The bytes are not a SentencePiece model."""


def pieces(data: bytes) -> list[str]:
    """The pieces in the order of their ids; raises `NotSentencePiece`."""
    found: list[str] = []
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            texts = [text for inner, text in _fields(value) if inner == 1]
            if len(texts) != 1 or not isinstance(texts[0], bytes):
                raise NotSentencePiece("a piece without its text")
            found.append(_text(texts[0]))
            if len(found) > PIECE_LIMIT:
                raise NotSentencePiece(f"more than {PIECE_LIMIT} pieces")
    if not found:
        raise NotSentencePiece("no pieces")
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotSentencePiece("a piece that is not UTF-8") from None


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of one message: their numbers, and their bytes or integers."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if field == 0:
            raise NotSentencePiece("a field without a number")
        value: bytes | int
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_FIXED64, _BYTES, _FIXED32):
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
            if kind == _BYTES:
                length, at = _varint(data, at)
            if at + length > len(data):
                raise NotSentencePiece("a field that ends after the file")
            value, at = data[at : at + length], at + length
        else:
            raise NotSentencePiece(f"a field of unknown kind {kind}")
        yield field, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotSentencePiece("a number that ends after the file")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotSentencePiece("a number of more than 64 bits")
