"""The pieces of a SentencePiece model, read from its protobuf without the library.

Only what counts the vocabulary is read: `ModelProto.pieces` (field 1) and in each of them
`SentencePiece.piece` (field 1, which writers put first), as sentencepiece_model.proto of the
reference defines them.
"""

from __future__ import annotations

FIELD_LIMIT = 1_000_000  # of the outer message; the largest vocabularies have 256,000 pieces
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECE = 1 << 3 | _BYTES  # the key of field 1, in the outer and in the inner message


class NotSentencePiece(Exception):
    """The bytes are not a SentencePiece model."""


def pieces(data: bytes) -> list[str]:
    """The pieces in the order of their ids; raises `NotSentencePiece`."""
    found: list[str] = []
    at = 0
    for _ in range(FIELD_LIMIT):
        if at >= len(data):
            break
        key, at = _varint(data, at)
        begin, at = _value(data, at, key)
        if key == _PIECE:
            found.append(_text(data, begin, at))
    else:
        raise NotSentencePiece(f"more than {FIELD_LIMIT} fields")
    if not found:
        raise NotSentencePiece("no pieces")
    return found


def _text(data: bytes, at: int, end: int) -> str:
    """The text of the piece whose message stands in ``[at, end)``."""
    if at >= end or data[at] != _PIECE:
        raise NotSentencePiece("a piece without its text")
    begin, stop = _value(data, at + 1, _PIECE)
    if stop > end:
        raise NotSentencePiece("a text that is longer than its piece")
    try:
        return data[begin:stop].decode("utf-8")
    except UnicodeDecodeError:
        raise NotSentencePiece("a piece that is not UTF-8") from None


def _value(data: bytes, at: int, key: int) -> tuple[int, int]:
    """Where the value of a field begins and ends."""
    kind = key & 7
    if key < 8 or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
        raise NotSentencePiece(f"a field of unknown kind {key}")
    if kind == _VARINT:
        return at, _varint(data, at)[1]
    length = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
    if kind == _BYTES:
        length, at = _varint(data, at)
    if at + length > len(data):
        raise NotSentencePiece("a field that ends after the file")
    return at, at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits in groups of seven, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotSentencePiece("a number that ends after the file")
        byte = data[at]
        at += 1
        if byte < 0x80:
            return value | byte << shift, at
        value |= (byte & 0x7F) << shift
    raise NotSentencePiece("a number of more than 64 bits")
