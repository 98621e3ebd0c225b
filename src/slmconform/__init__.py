"""The standard for shared small language models, and the runner that proves one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmconform.api import check, load_manifest, record
    from slmconform.plugin.case import RequirementWarning
    from slmconform.plugin.parametrize import parametrize
    from slmconform.standard.report import Report

__version__ = "0.1.0"

__all__ = [
    "Report",
    "RequirementWarning",
    "__version__",
    "check",
    "load_manifest",
    "parametrize",
    "record",
]

_HOMES = {
    "check": "slmconform.api",
    "load_manifest": "slmconform.api",
    "parametrize": "slmconform.plugin.parametrize",
    "record": "slmconform.api",
    "Report": "slmconform.standard.report",
    "RequirementWarning": "slmconform.plugin.case",
}


def __getattr__(name: str) -> object:
    """Import the public names on first use, so that ``--version`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
