"""Commands for a person to paste, safe to print whatever a folder is called."""

from __future__ import annotations

import os
import shlex

from slmconform.harmless import COMMAND


def command(*words: str) -> str:
    """The words as one line for a shell; unprintable characters stand in ``$'...'``."""
    return " ".join(word_of_shell(word) for word in words)


def cache_option(hub_cache: bool) -> list[str]:  # noqa: FBT001 - it is what is asked
    """The option that a command about a snapshot in a hub client's cache repeats."""
    return ["--hub-cache"] if hub_cache else []


def word_of_shell(word: str) -> str:
    """One word, quoted where the shell would not take it as it is."""
    if word.isprintable() and not COMMAND.search(word):
        return shlex.quote(word)
    return "$'" + "".join(_escape(c) for c in word) + "'"


def _escape(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable() and character != "#":
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
