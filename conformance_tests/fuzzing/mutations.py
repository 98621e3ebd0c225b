"""Seeded mutations of the files of a package: bytes, JSON trees, lines of text, kinds of entries.

Everything is drawn from one `random.Random`, so a seed repeats a mutation exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Files = Mapping[str, bytes]
LARGEST = 2**16  # bytes that a mutation may add

INTEGERS = (
    *(0, 1, -1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64),
    10**30,
    10**45,
)
NUMBERS = (*map(str, INTEGERS), "-0", "-0.0", "1e3", "1e308", "1e309", "1e-400", "0.5", "1" * 400)
TEXTS = (
    *("", " ", "a", "..", ".", "/", "../x", "/etc/passwd", "C:\\x", "a/./b", "a//b", "~", "%s"),
    *("\x00", "\x1b[31m", "\u202e", "\ufeff", "\u00e4", "\U0001f600", "\ud800", "\n", "\r\n"),
    *("::error::x", "<script>", "]]>", "[/]", "{{ 1 }}", "{% for", "a" * 300, "MIT AND", "()"),
    *("None", "NaN", "Infinity", "true", "F32", "BOOL", "F4", "llama", "model.safetensors"),
    *("<s>", "</s>", "1.0", "2.0", ">=3.11", "torch", "torch @ file:///x", "__metadata__"),
)
TOKENS = (
    *(b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"=", b".", b"#", b"\n", b"\r", b"\0"),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"//", b"/*", b'"""'),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"0x", b"\\ud800", b"[" * 70, b"a." * 80),
    *(b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x04", b"cos\nsystem\n(S'x'\ntR.", b"GGUF"),
    *(b"---\n", b"import os\n", b"version https://git-lfs.github.com/spec/v1\n", b"\x1f\x8b\x08"),
)
CUT = re.compile(rb"[^\w.+-]+")
NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one path: new bytes, or another kind of entry; a link leads to ``data``."""

    path: str
    kind: Literal["bytes", "gone", "link", "folder", "fifo"]
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Mutation:
    """Edits of one package, the names of the operators, and whether nothing judged changes."""

    edits: tuple[Edit, ...]
    operators: tuple[str, ...]
    legal: bool = False


def mutation(rng: Random, files: Files, pool: list[bytes]) -> Mutation:
    """One mutation of a package: mostly of one file by one operator, sometimes of several.

    ``pool`` holds the files of all packages, for splices.
    """
    if rng.random() < 0.06 and (legal := _legal(rng, files)):
        return legal
    edits: dict[str, Edit] = {}
    operators: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        path = _path(rng, files)
        if rng.random() < 0.06:
            name, made = _entry(rng, files, path)
        else:
            before = edits[path].data if path in edits else files[path]
            name, data = _content(rng, path, before, pool)
            made = [Edit(path, "bytes", data)]
        edits |= {one.path: one for one in made}
        operators.append(name)
    return Mutation(tuple(edits.values()), tuple(operators))


def _path(rng: Random, files: Files) -> str:
    """A file; small ones and large ones alike, documents of the standard more often."""
    paths = sorted(files)
    return rng.choice(paths + [path for path in paths if path.endswith((".json", ".toml"))])


# --- entries ---


def _entry(rng: Random, files: Files, path: str) -> tuple[str, list[Edit]]:
    """Another kind of entry in the place of a file, or another name for it."""
    other = rng.choice(sorted(files))
    names = (path + ".bak", path.upper(), "x/" + path, path.rpartition(".")[0] or "x", "model.bin")
    choices: dict[str, Callable[[], list[Edit]]] = {
        "delete": lambda: [Edit(path, "gone")],
        "rename": lambda: [Edit(path, "gone"), Edit(rng.choice(names), "bytes", files[path])],
        "copy": lambda: [Edit(rng.choice(names), "bytes", files[path])],
        "swap": lambda: [Edit(path, "bytes", files[other]), Edit(other, "bytes", files[path])],
        "folder": lambda: [Edit(path, "folder")],
        "fifo": lambda: [Edit(path, "fifo")],
        "link-inside": lambda: [
            Edit(path + ".real", "bytes", files[path]),
            Edit(path, "link", (path.rpartition("/")[2] + ".real").encode()),
        ],
        "link-outside": lambda: [Edit(path, "link", b"/etc/hostname")],
        "link-circle": lambda: [Edit(path, "link", path.rpartition("/")[2].encode())],
        "link-up": lambda: [Edit(path, "link", b"../" * 9 + b"etc")],
    }
    name = rng.choice(sorted(choices))
    return name, choices[name]()


# --- contents ---


def _content(rng: Random, path: str, data: bytes, pool: list[bytes]) -> tuple[str, bytes]:
    """New bytes for a file, by an operator that knows its form or by one that knows none."""
    aware = FORMS.get(path.rpartition(".")[2])
    if aware and rng.random() < 0.6:
        changed = aware(rng, data)
        if changed is not None:
            return aware.__name__.strip("_"), changed
    operator = rng.choice(BYTES)
    return operator.__name__.strip("_"), operator(rng, data, pool)


def _at(rng: Random, data: bytes) -> int:
    """A place in the data, often near its start."""
    near = rng.random() < 0.3
    return rng.randrange(min(len(data), 64) + 1) if near else rng.randrange(len(data) + 1)


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    begin = _at(rng, data)
    return begin, min(len(data), begin + rng.choice((1, 1, 2, 4, 8, 16, 64, 512)))


def _flip_bits(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _number in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[min(_at(rng, data), len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    at = _at(rng, data)
    more = rng.choice(TOKENS) if rng.random() < 0.6 else rng.randbytes(rng.choice((1, 2, 8, 64)))
    return data[:at] + more + data[at:]


def _overwrite(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    at, token = _at(rng, data), rng.choice(TOKENS)
    return data[:at] + token + data[at + len(token) :]


def _delete(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[end:]


def _duplicate(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    begin, end = _span(rng, data)
    times = min(rng.choice((1, 1, 2, 100)), LARGEST // max(end - begin, 1))
    return data[:end] + data[begin:end] * times + data[end:]


def _swap_blocks(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    first, second = sorted((_span(rng, data), _span(rng, data)))
    (a, b), (c, d) = first, second
    if c < b:
        return data
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _truncate(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: _at(rng, data)] if rng.random() < 0.7 else data[_at(rng, data) :]


def _splice(rng: Random, data: bytes, pool: list[bytes]) -> bytes:
    other = rng.choice(pool)
    return data[: _at(rng, data)] + other[_at(rng, other) :][:LARGEST]


def _length_field(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    """An interesting integer in the place of 1, 2, 4 or 8 bytes."""
    size = rng.choice((1, 2, 4, 8))
    at = _at(rng, data) // size * size if rng.random() < 0.7 else _at(rng, data)
    value = rng.choice((*INTEGERS, len(data), len(data) - 8, len(data) + 1, 2**63 + len(data)))
    return data[:at] + (value % 2 ** (8 * size)).to_bytes(size, "little") + data[at + size :]


def _number_text(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    """An interesting number in the place of a written one."""
    found = list(NUMBER.finditer(data[: 2**18]))
    if not found:
        return data + b"0"
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS).encode() + data[one.end() :]


def _swap_words(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    """One word of the text in the place of another one."""
    words = CUT.split(data[: 2**16])
    old, new = rng.choice(words), rng.choice(words)
    return data.replace(old, new, rng.choice((1, -1)))[: len(data) + LARGEST] if old else data


BYTES = (
    *(_flip_bits, _insert, _overwrite, _delete, _duplicate, _swap_blocks, _truncate, _splice),
    *(_length_field, _number_text, _swap_words),
)

# --- forms ---


def _json_tree(rng: Random, data: bytes) -> bytes | None:
    """A JSON document with one node changed, written in one of several ways."""
    try:
        tree = json.loads(data)
    except ValueError:
        return None
    return _dumped(rng, _changed(rng, tree))


def _json_line(rng: Random, data: bytes) -> bytes | None:
    """One line of JSON lines changed as a tree."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    changed = _json_tree(rng, lines[at])
    return None if changed is None else b"\n".join([*lines[:at], changed, *lines[at + 1 :]])


def _safetensors_header(rng: Random, data: bytes) -> bytes | None:
    """The header changed as a tree, under a length that is true again."""
    length = int.from_bytes(data[:8], "little")
    header = _json_tree(rng, data[8 : 8 + length])
    if header is None:
        return None
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _lines(rng: Random, data: bytes) -> bytes:
    """A line left out, doubled, moved, or given another value after its first equals sign."""
    lines = data.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            key, equals, _ = lines[at].partition(b"=")
            lines[at] = key + equals + b" " + _value_text(rng)
    return b"\n".join(lines)


def _value_text(rng: Random) -> bytes:
    """A value as TOML, JSON and Python write it, mostly."""
    if rng.random() < 0.5:
        return rng.choice(
            (*NUMBERS, "nan", "inf", "true", "0x" + "f" * 4000, "2026-11-26")
        ).encode()
    return json.dumps(_value(rng, 2), ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


FORMS: dict[str, Callable[[Random, bytes], bytes | None]] = {
    "json": _json_tree,
    "jsonl": _json_line,
    "safetensors": _safetensors_header,
    **dict.fromkeys(("toml", "md", "txt", "py", "jinja"), _lines),
}


def _changed(rng: Random, tree: Any) -> Any:
    """The tree with one node replaced, left out, renamed, repeated or wrapped."""
    nodes = list(_containers(tree))
    holder = rng.choice(nodes) if nodes else None
    if holder is None or not len(holder):
        return _value(rng, 2)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = rng.choice(keys)
    match rng.randrange(7):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice((*TEXTS, *map(str, keys)))] = holder.pop(key)
        case 2:
            holder[key] = rng.choice([*holder.values()] if isinstance(holder, dict) else holder)
        case 3:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
        case 4 if isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = _value(rng, 2)
        case _:
            holder[key] = _value(rng, 2)
    return tree


def _containers(tree: Any) -> Any:
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict | list):
            yield one
            pending.extend(one.values() if isinstance(one, dict) else one)


def _value(rng: Random, depth: int) -> Any:
    """Any JSON value, interesting ones first."""
    match rng.randrange(8 if depth else 6):
        case 0:
            return rng.choice((None, True, False))
        case 1:
            return rng.choice((0.5, -0.0, 1e308, -1.5, 1.0))
        case 2 | 3:
            return rng.choice(INTEGERS)
        case 4 | 5:
            return rng.choice(TEXTS)
        case 6:
            return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice(TEXTS): _value(rng, depth - 1) for _ in range(rng.randrange(4))}


def _dumped(rng: Random, tree: Any) -> bytes:
    text = json.dumps(
        tree,
        indent=rng.choice((None, 1, 2)),
        ensure_ascii=rng.random() < 0.5,
        sort_keys=False,
        separators=rng.choice((None, (",", ":"))),
    )
    return text.encode("utf-8", rng.choice(("replace", "surrogatepass")))


# --- what changes nothing that is judged ---


def _legal(rng: Random, files: Files) -> Mutation | None:
    """A change that leaves every outcome as it was; None where the package has no place for it."""
    operator, made = rng.choice(LEGAL)
    edit = made(rng, files)
    return Mutation((edit,), (operator,), legal=True) if edit else None


def _evidence_rewritten(rng: Random, files: Files) -> Edit | None:
    path = "conformance/evidence.json"
    if path not in files:
        return None
    tree = json.loads(files[path])
    items = list(tree.items())
    rng.shuffle(items)
    text = json.dumps(dict(items), indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.5)
    return Edit(path, "bytes", text.encode() + rng.choice((b"", b"\n", b" \t\r\n")))


def _weights_rewritten(rng: Random, files: Files) -> Edit | None:
    """The same tensors under a header in another order, with other metadata and padding."""
    path = "model.safetensors"
    if path not in files:
        return None
    data = files[path]
    length = int.from_bytes(data[:8], "little")
    rows = list(json.loads(data[8 : 8 + length]).items())
    rng.shuffle(rows)
    header = dict(rows) | {
        "__metadata__": {"format": "pt", "made": rng.choice(("", "\u00e4", "x"))}
    }
    text = json.dumps(header, indent=rng.choice((None, 1))).encode() + b" " * rng.randrange(9)
    return Edit(path, "bytes", len(text).to_bytes(8, "little") + text + data[8 + length :])


def _manifest_commented(rng: Random, files: Files) -> Edit | None:
    path = "slm.toml"
    if path not in files:
        return None
    lines = files[path].split(b"\n")
    at = rng.randrange(len(lines))
    lines.insert(at, rng.choice((b"", b"# a comment: = [ \" '", b"  \t", b"#" + b"." * 200)))
    return Edit(path, "bytes", rng.choice((b"\n", b"\r\n")).join(lines))


def _prose(rng: Random, files: Files) -> Edit | None:
    text = rng.choice(("", "# Notes\n", "\u202e \ufeff caf\u00e9\n" * 3, "---\nlicense: x\n---\n"))
    return Edit(rng.choice(("NOTES.md", "docs/a b.md", ".gitignore")), "bytes", text.encode())


LEGAL = (
    ("evidence-rewritten", _evidence_rewritten),
    ("weights-rewritten", _weights_rewritten),
    ("manifest-commented", _manifest_commented),
    ("prose", _prose),
)
