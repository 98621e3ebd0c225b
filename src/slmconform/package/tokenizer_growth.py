"""How much longer a text can become in the steps of a tokenizer.

The steps of one kind run one after the other. Read from the last to the first, each tells what a
character before it can come to at the end, so that a hundred steps that each double one letter are
seen without doubling anything. Where a step says only what it puts in (a regular expression), the
shortest text that it matches is taken: the result is an upper bound.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

NESTED = ("normalizers", "pretokenizers", "decoders", "processors")
MARKS = ("replacement", "suffix", "prefix", "word_delimiter_token")
PROPERTY = re.compile(r"\\[pP]\{\^?\w+\}|\\[hHRX]")
BYTES = 2.0  # characters that a byte-level step makes of one that is not plain ASCII, at least
LARGEST = 1e30  # where counting stops
TEXT_LIMIT = 2**20  # characters that all steps name
WORK_LIMIT = 2**20  # steps that can change any character, times characters

Step = Mapping[str, object]


def steps(setting: object) -> Iterator[Step]:
    """The steps of a normaliser, pre-tokenizer, decoder or post-processor, nested ones in order."""
    if not isinstance(setting, dict):
        return
    inner = [setting[key] for key in NESTED if isinstance(setting.get(key), list)]
    if not inner:
        yield setting
    for listed in inner:
        for one in listed:
            yield from steps(one)


class TooMuch(Exception):
    """The steps name more text than any tokenizer does: to judge them would take long."""


def growth(setting: object) -> float:
    """The most characters that one character can become, or that a text can be given.

    Raises `TooMuch`.
    """
    order = list(steps(setting))
    if (named := sum(map(len, map(_named, order)))) > TEXT_LIMIT:
        raise TooMuch(f"{named:,} characters in {len(order):,} steps")
    lengths = _Lengths({" "}.union(*map(_characters, order)))
    wide = sum(
        1 for step in order if str(step.get("type")) in REWRITERS or pattern(step)[1] is not None
    )
    if wide * len(lengths.of) > WORK_LIMIT:
        raise TooMuch(f"{wide:,} steps over {len(lengths.of):,} characters")
    for step in reversed(order):
        take = _STEPS.get(str(step.get("type")), _keep)
        take(lengths, step)
    return lengths.most()


class _Lengths:
    """The length at the end of each character before some step; of all others, ``other``."""

    def __init__(self, characters: set[str]) -> None:
        self.of = dict.fromkeys(characters, 1.0)
        self.other, self.added = 1.0, 0.0

    def copy(self) -> _Lengths:
        """The same lengths, to look at while these change."""
        other = _Lengths(set())
        other.of, other.other, other.added = dict(self.of), self.other, self.added
        return other

    def text(self, text: str) -> float:
        """The length that a text comes to."""
        return min(sum(self.of.get(char, self.other) for char in text), LARGEST)

    def most(self) -> float:
        """The largest of all."""
        return max([*self.of.values(), self.other, self.added])

    def all(self, become: Callable[[str, float], float]) -> None:
        """Give every character a new length, from itself ("" for any other) and its present one."""
        self.of = {char: min(become(char, now), LARGEST) for char, now in self.of.items()}
        self.other = min(become("", self.other), LARGEST)


def _keep(lengths: _Lengths, step: Step) -> None:
    """A step that adds nothing."""


def _replace(lengths: _Lengths, step: Step) -> None:
    written, expression = pattern(step)
    put = lengths.text(str(step.get("content", "")))
    if expression is not None:
        least = shortest_match(expression)
        if least:
            lengths.all(lambda _, now: max(now, put / least))
        else:
            lengths.all(lambda _, now: now + put)
    elif written and len(written) == 1:
        lengths.of[written] = put
    elif written:
        factor = max(1.0, put / max(lengths.text(written), 1.0))
        for char in set(written):
            lengths.of[char] = min(lengths.of[char] * factor, LARGEST)
    else:
        lengths.all(lambda _, now: now + put)


def _prepend(lengths: _Lengths, step: Step) -> None:
    lengths.added += lengths.text(str(step.get("prepend", "")))


def _unicode(form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> Callable[[str], str]:
    return lambda char: unicodedata.normalize(form, char)


REWRITERS: dict[str, Callable[[str], str]] = {
    "NFC": _unicode("NFC"),
    "NFD": _unicode("NFD"),
    "NFKC": _unicode("NFKC"),
    "NFKD": _unicode("NFKD"),
    "Precompiled": _unicode("NFKC"),
    "Lowercase": str.lower,
    "Nmt": str,
    "BertNormalizer": lambda char: unicodedata.normalize("NFD", char).lower(),
}


def _rewrite(lengths: _Lengths, step: Step) -> None:
    """A step that writes each character anew, and white space as a blank."""
    rewritten, blank = REWRITERS[str(step.get("type"))], lengths.text(" ")
    before = lengths.copy()
    lengths.all(lambda char, now: max(now if not char else before.text(rewritten(char)), blank))


def _swap(lengths: _Lengths, step: Step) -> None:
    """A step that writes a mark as a blank, or a blank as a mark."""
    mark = _mark(step)
    longest = max(lengths.text(" "), lengths.text(mark))
    for char in {*mark, " "}:
        lengths.of[char] = max(lengths.of[char], longest)


def _byte_level(lengths: _Lengths, _: Step) -> None:
    most = lengths.most()
    lengths.all(lambda char, now: now if char.isascii() and char.isalnum() else BYTES * most)


_STEPS: dict[str, Callable[[_Lengths, Step], None]] = {
    "Replace": _replace,
    "Prepend": _prepend,
    "ByteLevel": _byte_level,
    **dict.fromkeys(("Metaspace", "BPEDecoder", "WordPiece", "CTC"), _swap),
    **dict.fromkeys(REWRITERS, _rewrite),
}


def pattern(step: Step) -> tuple[str | None, str | None]:
    """The text that a step looks for, or the regular expression."""
    value = step.get("pattern")
    if isinstance(value, str):
        return value, None
    table = value if isinstance(value, dict) else {}
    written, expression = table.get("String"), table.get("Regex")
    return (
        written if isinstance(written, str) else None,
        expression if isinstance(expression, str) else None,
    )


def shortest_match(expression: str) -> int:
    """The length of the shortest text that a regular expression matches; 1 where unknown.

    It is parsed and never run. Classes that python does not know count as one letter.
    """
    from re import _parser  # type: ignore[attr-defined]

    try:
        return int(_parser.parse(PROPERTY.sub(r"\\w", expression)).getwidth()[0])
    except (re.error, RecursionError, OverflowError, ValueError):
        return 1


def _mark(step: Step) -> str:
    """The text that stands for a blank."""
    return "".join(str(step.get(key, "")) for key in MARKS)


def _named(step: Step) -> str:
    """Every text that a step names."""
    parts = (pattern(step)[0], step.get("content"), step.get("prepend"), _mark(step))
    return "".join(part for part in parts if isinstance(part, str))


def _characters(step: Step) -> set[str]:
    """Every character that a step names, with what other steps may write it as."""
    named = "".join(set(_named(step)))
    both = named + named.lower()
    return {*both, *unicodedata.normalize("NFKC", both), *unicodedata.normalize("NFKD", both)}
