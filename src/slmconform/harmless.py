"""A candidate's words made harmless wherever they are printed: terminal, CI log, report.

No control or format character comes through, no line break, and no command to a CI system.
"""

from __future__ import annotations

import re

SHOWN = 200
LINE = 600
# Anywhere in a line these are commands to some CI systems. `::` is one only where a line begins,
# which whoever breaks lines looks after.
COMMAND = re.compile(r"##(?=\[|vso\[)")


def printable(text: str, limit: int = LINE) -> str:
    """The text on one line, every unprintable character written as its escape; cut at a limit."""
    safe = text
    if not safe.isprintable():
        safe = "".join(c if c.isprintable() else _escape(c) for c in text)
    safe = COMMAND.sub(r"\\x23#", safe)
    return safe if len(safe) <= limit else f"{safe[: limit - 3]}..."


def shown(value: object) -> str:
    """A value from a file, as a literal of bounded length."""
    if isinstance(value, str):
        value = value[: SHOWN + 1]
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        return f"an integer of {value.bit_length()} bits"
    try:
        plain = isinstance(value, str) and value.isprintable()
        text = repr(value) if plain else ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested deep
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def escaped(text: str | bytes, limit: int = SHOWN) -> str:
    """The beginning of what a candidate printed or sent; runs of white space become one blank."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode(errors="backslashreplace")
    text = " ".join(text[: 4 * limit].split())
    return printable(text[:limit], 12 * limit) + ("…" if len(text) > limit else "")


def quoted(text: str | bytes, limit: int = SHOWN) -> str:
    """Like `escaped`, in quotes."""
    return f"“{escaped(text, limit)}”"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
