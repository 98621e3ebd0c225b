"""Tokenizer files of sixteen tokens, as the families of real models ship theirs."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from package_builders import CONFIG, make_package

from slmconform.engine.plan import load_checks, order
from slmconform.engine.registry import Stage
from slmconform.engine.run import run_checks
from slmconform.package.read import Package
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome

ROWS = CONFIG["vocab_size"]
TOKENS = ["<unk>", "<s>", "</s>", "<pad>", *"abcdefghijkl"]


def added(*pairs: tuple[str, int], special: bool = True) -> list[dict[str, Any]]:
    """Entries of `added_tokens`."""
    return [{"id": number, "content": token, "special": special} for token, number in pairs]


def fast(
    tokens: list[str] | dict[str, int] = TOKENS,
    extra: list[dict[str, Any]] | None = None,
    *,
    kind: str = "BPE",
    processor: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A `tokenizer.json`; by default its first four tokens are special."""
    ids = tokens if isinstance(tokens, dict) else {t: i for i, t in enumerate(tokens)}
    vocab: Any = [[token, -1.0] for token in tokens] if kind == "Unigram" else ids
    if extra is None:
        extra = added(*[(token, ids[token]) for token in list(ids)[:4]])
    return {
        "version": "1.0",
        "added_tokens": extra,
        "post_processor": processor,
        "model": {"type": kind, "vocab": vocab},
    }


def template(*pairs: tuple[str, int]) -> dict[str, Any]:
    """A post-processor that puts tokens around a text."""
    special = {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in pairs}
    return {"type": "TemplateProcessing", "special_tokens": special}


def roles(**tokens: Any) -> dict[str, Any]:
    """A `tokenizer_config.json` that names special tokens by role."""
    return {f"{role}_token": token for role, token in tokens.items()}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def sentencepiece_model(pieces: list[str]) -> bytes:
    """A model as the trainer writes it: pieces with score and type, then its own settings."""
    out = bytearray()
    for piece in pieces:
        text = piece.encode()
        inner = (
            b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", -1.5) + b"\x18\x01"
        )
        out += b"\x0a" + _varint(len(inner)) + inner
    settings = b"\x18\x03\x20\x80\x7d"
    return bytes(out) + b"\x12" + _varint(len(settings)) + settings


def as_files(tables: dict[str, Any]) -> dict[str, str | bytes]:
    """File contents: tables become JSON."""
    return {
        path: value if isinstance(value, str | bytes) else json.dumps(value)
        for path, value in tables.items()
    }


def with_tokenizer(folder: Path, tables: dict[str, Any], **options: Any) -> Path:
    """A package with the given tokenizer files beside a tiny Llama."""
    return make_package(folder, files=as_files(tables), **options)


def outcomes(folder: Path, *areas: str) -> dict[str, Outcome]:
    """The outcome of every static check of the package, or of those of some areas."""
    return {id_: outcome for id_, (outcome, _) in _results(folder, areas).items()}


def failures(folder: Path) -> dict[str, str]:
    """Every static check that does not hold -> its code; blocked ones are left out."""
    return {
        id_: code
        for id_, (outcome, code) in _results(folder, ()).items()
        if outcome in (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)
    }


def _results(folder: Path, areas: tuple[str, ...]) -> dict[str, tuple[Outcome, str]]:
    checks = load_checks()
    static = [one for one in checks if checks[one].stage is Stage.STATIC]
    package = Package(folder)
    results = run_checks(order(static, checks), package, package, catalogue(), {})
    return {
        r.id: (r.outcome, r.finding.code if r.finding else "")
        for r in results
        if not areas or r.id.split("-")[1] in areas
    }
