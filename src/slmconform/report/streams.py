"""Standard output and error as they may be: closed, full, a pipe that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def mend() -> None:
    """Give every standard stream a place, and make every character printable on it.

    A process may be started with some of the three closed; the next file that it opens would
    then take the number, and be taken for the stream.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def colours(stream: TextIO) -> bool:
    """Whether to colour: on a terminal that has not been asked to be plain (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def say(text: str) -> None:
    """Print to standard output at once; a reader that has gone (``| head``) is no error.

    Raises OSError where it cannot be written for another reason, such as a full disk.
    """
    with contextlib.suppress(BrokenPipeError):
        _write(sys.stdout, text)


def tell(text: str) -> None:
    """Print to standard error; where nobody can read that, there is nobody to tell."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # What is left in the buffer is flushed again at exit: let that succeed.
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        raise
