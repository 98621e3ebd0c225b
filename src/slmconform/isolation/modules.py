"""The modules of this program that judge a model: preloaded by the server, sealed in a job."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

JUDGING_MODULES = "slmconform.*"
"""What stands for all of them in a list to preload."""

_PARTS = ("standard", "package", "model", "measure", "checks", "engine", "isolation")


def judging() -> Iterator[str]:
    """Yield the name of every module that judges, packages before what is in them."""
    yield "slmconform.harmless"
    for part in _PARTS:
        package = importlib.import_module(f"slmconform.{part}")
        yield package.__name__
        prefix = f"{package.__name__}."
        yield from (one.name for one in pkgutil.iter_modules(package.__path__, prefix))
