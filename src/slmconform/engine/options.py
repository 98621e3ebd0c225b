"""What a caller says before anything is examined; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

Watch = Callable[[str], None]


class CouldNotRun(Exception):
    """Nothing could be examined; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How a package is opened and its model's process is run.

    ``timeout`` is the wall limit of the process in seconds, ``memory`` its limit in GiB; without
    one it follows from the size of the model. ``require_sandbox`` refuses to run anything where a
    layer of the sandbox is missing. ``hub_cache``: the package is a snapshot in the cache of a hub
    client, whose links are followed into its blobs.
    """

    device: str = "auto"
    trust_code: bool = False
    timeout: float = 600.0
    memory: float | None = None
    require_sandbox: bool = False
    hub_cache: bool = False

    @property
    def process(self) -> dict[str, Any]:
        """These options alone, for another verb."""
        return {one.name: getattr(self, one.name) for one in fields(ProcessOptions)}


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ProcessOptions):
    """What the caller of a check may choose.

    ``ignore`` names documents ("manifest", "evidence") to be treated as absent. ``waivers`` is the
    adopter's file of known failures. ``self_test`` puts known defects into the candidate itself:
    a check that does not tell them ends in an error.
    """

    profile: str | None = None
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    dtype: str | None = None
    strict: bool = False
    ignore: Sequence[str] = ()
    waivers: Path | str | None = None
    self_test: bool = False


def in_ci() -> bool:
    """Whether a CI system says that it runs this: by the variable ``CI``, as nearly all do."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
