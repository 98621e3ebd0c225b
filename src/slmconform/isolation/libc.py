"""Calls of the C library that Python does not have."""

from __future__ import annotations

import ctypes
import os
import sys


def call(name: str, *arguments: object) -> int:
    """Call a function that returns a negative number where it fails, as an `OSError` then."""
    found = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return found


def prctl(option: int, value: int) -> None:
    """Call Linux's ``prctl``; elsewhere do nothing. Raises `OSError` where it is refused."""
    if sys.platform == "linux":
        call("prctl", option, value, 0, 0, 0)
