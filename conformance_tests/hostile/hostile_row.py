"""A row of the hostile catalogue: one way in which a package is broken or means harm.

The rows stand in the modules ``rows_*.py`` beside this file, each in a list ``ROWS``. They are
built when a test runs, from bytes written out in the code: nothing harmful is stored.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STATIC_LIMIT_S = 5.0
DYNAMIC_LIMIT_S = 20.0


@dataclass(frozen=True)
class Row:
    """What is built, and what a check of it has to say.

    ``id`` is that of the catalogue and what is special about this row: ``F04-fifo``. ``build``
    writes the package into a folder that does not exist yet. ``kills`` is the only requirement
    that fails, with ``outcome`` ("fail", "warn", "error") and failure code ``code``; all others
    pass or are blocked, but for those of its line in the kill matrix. ``twin`` writes a legal
    neighbour for which ``kills`` passes. ``options`` are those of `slmconform.check`; the profile
    ``packaged`` runs nothing of the package.
    """

    id: str
    says: str
    build: Callable[[Path], object]
    kills: str
    code: str
    outcome: str = "fail"
    twin: Callable[[Path], object] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The profile that it is judged by."""
        return self.options.get("profile", "packaged")

    @property
    def static(self) -> bool:
        """Whether nothing of the package is run to tell it."""
        return self.asked == "packaged"

    @property
    def limit_s(self) -> float:
        """How long a check of it may take."""
        return STATIC_LIMIT_S if self.static else DYNAMIC_LIMIT_S


def all_rows() -> list[Row]:
    """Every row, in the order of the files and the lists in them."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
    return [row for name in names for row in importlib.import_module(name).ROWS]
