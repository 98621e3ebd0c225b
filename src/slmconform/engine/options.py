"""What a caller says before anything is examined; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Watch = Callable[[str], None]


class CouldNotRun(Exception):
    """Nothing could be examined; the message says why and what to do."""


@dataclass(frozen=True)
class CheckOptions:
    """What a caller may choose. ``timeout`` is the wall limit of the model's process, seconds.

    ``ignore`` names documents ("manifest", "evidence") to be treated as absent.
    """

    profile: str | None = None
    device: str = "auto"
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    dtype: str | None = None
    trust_code: bool = False
    timeout: float = 600.0
    strict: bool = False
    ignore: Sequence[str] = ()
