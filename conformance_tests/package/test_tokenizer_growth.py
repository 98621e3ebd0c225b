"""What a tokenizer's steps can make of one character, estimated without running them."""

from __future__ import annotations

import pytest

from slmconform.package.tokenizer_growth import TooMuch, growth, shortest_match


def text(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def expression(pattern, content):
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def steps(*listed):
    return {"type": "Sequence", "normalizers": list(listed)}


LOWER, NFKC = {"type": "Lowercase"}, {"type": "NFKC"}
MARK = {"type": "Metaspace", "replacement": "\u2581"}


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        (None, 1),
        (text("a", "bb"), 2),
        (text("ab", "abab"), 2),
        (text("''", '"'), 1),
        (steps(*[text("a", "aa")] * 10), 2**10),
        (steps(text("a", "bb"), text("b", "ccc")), 6),
        (steps(text("b", "ccc"), text("a", "bb")), 3),
        (steps(text("a", "BB"), LOWER, text("b", "ccc")), 6),
        (steps(text("a", "\ufdfa"), NFKC, text(" ", "xxxx")), 18 + 3 * 3),
        (steps(text("a", "\u2581"), MARK, text(" ", "xxx")), 3),
        (steps(steps(text("a", "bb")), steps(text("b", "cc"))), 4),
        (steps(*[text(sign, f" {sign} ") for sign in ".,!?;:"]), 3),
        (expression("[0-9]", "<number>"), 8),
        (expression("https?://\\S+", "<address>"), 9 / 8),
        (expression("\\p{Z}{2,}", " "), 1),
        (expression("(?=[A-Z])", " "), 2),
        (steps({"type": "Prepend", "prepend": "ab"}, text("a", "ccc")), 4),
        ({"type": "ByteLevel"}, 2),
    ],
)
def test_the_most_that_one_character_becomes(setting, most):
    assert growth(setting) == pytest.approx(most)


def test_growth_is_not_counted_beyond_reason():
    assert growth(steps(*[text("a", "a" * 1000)] * 900)) == 1e30


def test_steps_that_name_too_much_are_not_judged():
    with pytest.raises(TooMuch, match="2,000,000 characters in 1 steps"):
        growth({"type": "Prepend", "prepend": "a" * 2_000_000})


@pytest.mark.parametrize(
    ("pattern", "least"),
    [("", 0), ("a*", 0), ("a+b", 2), ("(?:ab|c)", 1), ("(", 1), ("(" * 9000 + ")" * 9000, 1)],
)
def test_the_shortest_match(pattern, least):
    assert shortest_match(pattern) == least
