"""Licences: SPDX expressions, the texts in a package, and what its model card says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from slmconform.package.folder import Folder
from slmconform.package.problem import PackageProblem, shown

CARD = "README.md"
TEXT_LIMIT = 2**20  # bytes read of one licence text
CARD_LIMIT = 2**18  # bytes read of a model card
REFERENCE = "LicenseRef-"
# Least lengths of a text, in normalised characters: any own words; a licence of the SPDX list; and
# the part of the standard text below which something is a pointer to it and not the text.
LEAST_OWN_TEXT = 40
LEAST_LISTED_TEXT = 200
LEAST_PART = 0.2
# Characters beyond the recognised licences from which on a text may be a licence of its own.
OWN_WORDS = 1500

_TEXT_NAME = re.compile(r"(un)?licen[cs]es?\b|(un)?licen[cs]es?_|copying|notice", re.IGNORECASE)
_TEXT_FOLDER = re.compile(r"licen[cs]es/", re.IGNORECASE)
_NOT_TEXT = (".py", ".json", ".toml", ".yaml", ".yml", ".safetensors", ".bin")
_NOTICE = re.compile(r"notice|third|3rd", re.IGNORECASE)
_WORD = re.compile(r"[^\s()]+")
_CARD_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:\s+(.*))?$")
_CARD_ITEM = re.compile(r"\s*-\s+(.+)$")
_OPERATORS = frozenset({"and", "or", "with"})
_UNNAMED = frozenset({"other", "unknown", "none", "noassertion", "custom", "proprietary"})


class InvalidLicence(Exception):
    """A licence declaration that is no SPDX expression; ``hint`` says what to write instead."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(f"{shown(text)} is not an SPDX expression; {hint}")
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Expression:
    """A valid SPDX expression in canonical spelling, and the licence ids in it."""

    text: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LicenceText:
    """A file that may hold a licence.

    ``length`` counts the normalised characters besides identifiers, ``surplus`` those beyond the
    recognised licences; a ``notice`` may quote licences of others.
    """

    path: str
    recognised: tuple[str, ...]
    length: int
    surplus: int
    notice: bool


@dataclass(frozen=True, slots=True)
class LicenceFiles:
    """The licence texts of a package and the licence statements of its model card."""

    texts: tuple[LicenceText, ...]
    card: dict[str, tuple[str, ...]]


def read(folder: Folder) -> LicenceFiles:
    """Read the licence files at the top of the package and in ``LICENSES/``, and the card."""
    texts: list[LicenceText] = []
    for path in folder.files():
        nested = _TEXT_FOLDER.match(path)
        named = "/" not in path and _TEXT_NAME.match(path)
        if (nested or named) and not path.lower().endswith(_NOT_TEXT):
            try:
                data = folder.head(path, TEXT_LIMIT)
            except PackageProblem:
                continue  # what cannot be read is no text that a user of the model could read
            texts.append(licence_of(data, path))
    return LicenceFiles(tuple(texts), _card(folder))


def licence_of(data: bytes, path: str) -> LicenceText:
    """Recognise the licences in a text by their distinctive phrases."""
    text = _decoded(data)
    rows = [row for row in _table()["licence"] if _holds(text, row)]
    bare = re.sub(r"spdx license identifier|licen[cs]ed?|under|the", " ", text)
    for known in (*_lengths(), *_table()["card"].values()):
        bare = bare.replace(normalised(known.removeprefix(REFERENCE)), " ")
    return LicenceText(
        path=path,
        recognised=tuple(row["id"] for row in rows),
        length=len(" ".join(bare.split())),
        surplus=len(text) - sum(row["length"] for row in rows),
        notice=bool(_NOTICE.search(path)),
    )


def notices(folder: Folder) -> str:
    """What the files say whose name says notice, normalised."""
    found: list[str] = []
    for path in folder.files():
        here = "/" not in path or _TEXT_FOLDER.match(path)
        if here and "notice" in path.lower() and not path.lower().endswith(_NOT_TEXT):
            try:
                found.append(_decoded(folder.head(path, TEXT_LIMIT)))
            except PackageProblem:
                continue  # what cannot be read tells a user of the model nothing
    return " ".join(found)


def normalised(text: str) -> str:
    """Lower case, every run of other characters than letters and digits made one blank."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def letters(text: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def parse(text: str) -> Expression:
    """Read an SPDX expression; raises `InvalidLicence` with a hint."""
    canonical = _canonical(text)
    if canonical is None:
        raise InvalidLicence(text, _hint(text))
    return Expression(canonical, _ids(canonical))


def base_id(licence: str) -> str:
    """The id whose text a licence id shares: without ``-only``, ``-or-later`` and ``+``."""
    return re.sub(r"(-only|-or-later|\+)$", "", licence)


def is_text_of(text: LicenceText, licence: str) -> bool:
    """Whether a file that was not recognised as another licence may hold this one's text."""
    if licence.startswith(REFERENCE):
        return text.length >= LEAST_OWN_TEXT
    standard = _lengths().get(base_id(licence), 0)
    return text.length >= max(LEAST_LISTED_TEXT, LEAST_PART * standard)


def serves(recognised: str, declared: str) -> bool:
    """Whether a text recognised as one licence is the text of the declared id."""
    return base_id(declared).casefold() == recognised.casefold()


def accompanies(recognised: str, declared: str) -> bool:
    """Whether a recognised text belongs to the declared id or is regularly shipped beside it.

    The author names a ``LicenseRef-`` id, so a recognised text outside the SPDX list contradicts
    it only where the id itself is in the table under another text.
    """
    if serves(recognised, declared):
        return True
    if declared.startswith(REFERENCE) and recognised.startswith(REFERENCE):
        return declared.casefold() not in {one.casefold() for one in _lengths()}
    row = next(row for row in _table()["licence"] if row["id"] == recognised)
    return base_id(declared) in row.get("beside", ())


def card_licences(card: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The licence statements of a model card as they stand there, without empty ones."""
    stated = tuple(dict.fromkeys(v for v in card.get("license", ()) if v.lower() != "unknown"))
    if stated == ("other",):
        return card.get("license_name", ()) or stated
    return stated


def from_card(stated: str) -> str:
    """The SPDX expression for a licence statement of a model card."""
    name = stated.lower().removeprefix(REFERENCE.lower())
    if known := _table()["card"].get(name):
        return str(known)
    slug = re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")
    return _canonical(stated) or f"{REFERENCE}{slug or 'unnamed'}"


def agrees(stated: str, declared: tuple[str, ...]) -> bool:
    """Whether a statement of the card can mean one of the declared ids."""
    prefix = _table()["family"].get(stated.lower())
    if prefix and any(one.startswith(prefix) for one in declared):
        return True
    ids = _ids(from_card(stated))
    bases = {base_id(one).casefold() for one in declared}
    if all(base_id(one).casefold() in bases for one in ids):
        return True
    named = [letters(one.removeprefix(REFERENCE)) for one in declared if one.startswith(REFERENCE)]
    if stated.lower() == "other":
        return bool(named)
    said = letters(stated)
    return any(name in said or said in name for name in named if name and said)


def inferred_licence(folder: Folder) -> str | None:
    """The SPDX expression that a folder without a manifest seems to be under, for ``init``."""
    found = read(folder)
    stated = card_licences(found.card)
    if stated:
        return " OR ".join(dict.fromkeys(map(from_card, stated)))
    texts = {one for text in found.texts if not text.notice for one in text.recognised}
    return min(texts) if len(texts) == 1 else None


def licence_text(licence: str) -> str | None:
    """The bundled standard text of a licence, None where none is bundled."""
    file = _data() / f"{base_id(licence)}.txt"
    return file.read_text("utf-8") if licence in _lengths() and file.is_file() else None


def _decoded(data: bytes) -> str:
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return normalised(data.decode("utf-16" if utf16 else "utf-8", errors="replace"))


def _data() -> Any:
    return files("slmconform.package") / "licences"


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((_data() / "recognised.toml").read_text("utf-8"))


@cache
def _lengths() -> dict[str, int]:
    return {row["id"]: row["length"] for row in _table()["licence"]}


@cache
def _newer() -> dict[str, tuple[str, str]]:
    newer = _table()["newer"]
    pairs = {one.casefold(): (one, "0BSD") for one in newer["licences"]}
    return pairs | {one.casefold(): (one, "LLVM-exception") for one in newer["exceptions"]}


def _canonical(text: str) -> str | None:
    """The expression in canonical spelling, None where it is not valid."""
    newer = _newer()
    # Ids that the parser may not know are replaced by ones of the same kind and put back after.
    known = [newer.get(word.casefold(), (word, word)) for word in _WORD.findall(text)]
    stand_ins, spelt = iter(known), iter(known)
    replaced = _WORD.sub(lambda _: next(stand_ins)[1], text)
    try:
        canonical = canonicalize_license_expression(replaced)
    except (InvalidLicenseExpression, RecursionError, MemoryError):
        return None
    return _WORD.sub(lambda match: _put_back(match.group(), next(spelt)), canonical)


def _put_back(canonical: str, pair: tuple[str, str]) -> str:
    own, stand_in = pair
    return canonical if own == stand_in else own


def _ids(expression: str) -> tuple[str, ...]:
    """The licences of a valid expression; what follows ``WITH`` is an exception, not a licence."""
    words = _WORD.findall(expression)
    found = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word not in ("AND", "OR", "WITH") and before != "WITH"
    ]
    return tuple(dict.fromkeys(found))


def _hint(text: str) -> str:
    """What to write instead: a known id for a common name, or a ``LicenseRef-`` id."""
    parts = [part.strip() for part in re.split(r"[/,|&]", text) if part.strip()]
    if len(parts) > 1:
        return f"join alternatives as in {shown(' OR '.join(map(from_card, parts)))}"
    single = from_card(re.sub(r"\s+", "-", re.sub(r"(?i)\blicen[cs]e\b", "", text).strip()))
    if not single.startswith(REFERENCE):
        return f"write {shown(single)}"
    unknown = [
        word
        for word in _WORD.findall(text)
        if word.casefold() not in _OPERATORS and _canonical(word) is None
    ]
    if not unknown:
        return "join licence ids with AND, OR and WITH, as in 'MIT OR Apache-2.0'"
    if unknown[0].casefold() in _UNNAMED:
        return f"name the licence as '{REFERENCE}<name>' and ship its text"
    named = from_card(unknown[0]) if len(unknown) == 1 else single
    return f"write {shown(named)} for a licence outside the SPDX list"


def _holds(text: str, row: dict[str, Any]) -> bool:
    return all(phrase in text for phrase in row["phrases"]) and not any(
        phrase in text for phrase in row.get("absent", ())
    )


def _card(folder: Folder) -> dict[str, tuple[str, ...]]:
    """The top-level scalars and lists of scalars in the front matter of the model card.

    Values stay the strings that they are, so that `no` is no boolean and 1.10 no float.
    """
    try:
        head = folder.head(CARD, CARD_LIMIT)
    except PackageProblem:
        return {}
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    found: dict[str, list[str]] = {}
    if not lines or lines[0].rstrip() != "---":
        return {}
    key = ""
    for line in lines[1:]:
        if line.rstrip() in ("---", "..."):
            return {name: tuple(values) for name, values in found.items()}
        if match := _CARD_KEY.match(line):
            key = match.group(1)
            found[key] = _values(match.group(2) or "")
        elif (match := _CARD_ITEM.match(line)) and key:
            found[key] += _values(match.group(1))
        elif line[:1].strip():
            key = ""
    return {}  # a front matter without an end is none


def _values(text: str) -> list[str]:
    text = re.sub(r"(^|\s)#.*$", "", text).strip()
    listed = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    plain = (one.strip().strip("'\"").strip() for one in listed)
    return [one for one in plain if one and one not in ("null", "~", "|", ">")]
