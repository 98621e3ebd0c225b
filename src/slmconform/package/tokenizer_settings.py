"""The settings of a tokenizer that decide how long a text can become: lengths and growth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from slmconform.package.problem import PackageProblem, shown
from slmconform.package.tokenizer import CONFIG, FAST
from slmconform.package.tokenizer_growth import TooMuch, growth, pattern, steps

PADDING_LIMIT = 2**20  # tokens
GROWTH_LIMIT = 2**20  # characters made of one
FIX = "save the tokenizer again with the settings that it was trained with"
GROWING = ("normalizer", "pre_tokenizer", "decoder")

Table = Mapping[str, object]


def problems(tables: Mapping[str, Table]) -> list[PackageProblem]:
    """Every setting of tokenizer.json and tokenizer_config.json that is out of bounds."""
    return [*_fast(tables.get(FAST, {})), *_configured(tables.get(CONFIG, {}))]


def _fast(table: Table) -> Iterator[PackageProblem]:
    if isinstance(truncation := table.get("truncation"), dict):
        yield from _truncated(truncation, f"{FAST}: truncation.max_length", "max_length")
    if isinstance(padding := table.get("padding"), dict):
        strategy = padding.get("strategy")
        if isinstance(strategy, dict):
            yield from _padded(strategy, "Fixed", f"{FAST}: padding.strategy.Fixed")
        yield from _padded(padding, "pad_to_multiple_of", f"{FAST}: padding.pad_to_multiple_of")
    for key in GROWING:
        yield from _growing(table.get(key), f"{FAST}: {key}")
    yield from _repeating(table.get("post_processor"), f"{FAST}: post_processor")


def _configured(table: Table) -> Iterator[PackageProblem]:
    for key in ("model_max_length", "max_length"):
        yield from _truncated(table, f"{CONFIG}: {key}", key)
    yield from _padded(table, "pad_to_multiple_of", f"{CONFIG}: pad_to_multiple_of")


def _truncated(table: Table, where: str, key: str) -> Iterator[PackageProblem]:
    """A text is cut to one token at least, and moves on by one at least."""
    length, stride = table.get(key), table.get("stride")
    if length is None:
        return
    if not _is_number(length) or length < 1:  # type: ignore[operator]
        why = "every text is cut to nothing"
        yield PackageProblem("truncation", where, shown(length), "at least 1", FIX, why=why)
    elif stride is not None and (not _is_number(stride) or not 0 <= stride < length):  # type: ignore[operator]
        got, want = f"a stride of {shown(stride)}", f"at least 0 and less than {shown(length)}"
        why = "a text that is cut never comes to its end: the library stops with a panic"
        yield PackageProblem("stride", where, got, want, FIX, why=why)


def _padded(table: Table, key: str, where: str) -> Iterator[PackageProblem]:
    length = table.get(key)
    if length is None or (_is_number(length) and 0 <= length <= PADDING_LIMIT):  # type: ignore[operator]
        return
    why = "every text is filled up to this length: memory runs out and the process is stopped"
    want = f"0 to {PADDING_LIMIT:,} tokens"
    yield PackageProblem("padding", where, shown(length), want, FIX, why=why)


def _growing(setting: object, where: str) -> Iterator[PackageProblem]:
    for step in steps(setting):
        if step.get("type") == "Replace" and "" in pattern(step):
            got = f"a replacement of nothing by {shown(step.get('content'))}"
            yield PackageProblem("empty-pattern", where, got, "a pattern that is not empty", FIX)
            return
    try:
        most = growth(setting)
    except TooMuch as error:
        want = "steps that name less"
        yield PackageProblem("too-many-steps", where, str(error), want, FIX)
        return
    if most > GROWTH_LIMIT:
        yield _too_much(most, "character", where)


def _repeating(setting: object, where: str) -> Iterator[PackageProblem]:
    """A post-processor may put a text in several times; each does so with what it is given."""
    most = prod(map(_copies, steps(setting)))
    if most > GROWTH_LIMIT:
        yield _too_much(most, "text", where)


def _copies(step: Table) -> int:
    """How often a template holds a text."""
    lists = [step[key] for key in ("single", "pair") if isinstance(step.get(key), list)]
    counts = [
        sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces)  # type: ignore[attr-defined]
        for pieces in lists
    ]
    return max([1, *counts])


def _too_much(most: float, what: str, where: str) -> PackageProblem:
    got = f"one {what} can become {most:.3g}"
    why = "a short text fills the memory, and the process is stopped"
    return PackageProblem("growth", where, got, f"at most {GROWTH_LIMIT:,}", FIX, why=why)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
