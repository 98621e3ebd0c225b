"""What is known of each pair beforehand: the data files, and what a pair comes to by them.

Imports neither torch nor transformers, so that the page can be written without them.
"""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent
# What is expected is known of these versions exactly; another is held to what its line does.
LINES = {"4.57": "4.57.6", "5.23": "5.23.0"}

PASS, FINDING, UNDECIDED, NOT_BUILT = "pass", "finding", "inconclusive", "not built"


@cache
def table(name: str) -> dict[str, Any]:
    """One of the data files beside this module."""
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Row:
    """What some pairs come to, and why. ``pairs`` are patterns; no ``lines`` means each."""

    pairs: tuple[str, ...]
    cause: str
    lines: tuple[str, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    built: bool = True

    def concerns(self, pair: str, line: str) -> bool:
        """Whether it speaks of a pair on a line of transformers."""
        here = not self.lines or line in self.lines
        return here and any(fnmatch.fnmatchcase(pair, pattern) for pattern in self.pairs)

    @property
    def kind(self) -> str:
        """What it makes of a pair."""
        return kind_by(self.results.values()) if self.built else NOT_BUILT


def kind_by(outcomes: Any) -> str:
    """Pass, finding or inconclusive, by outcomes with or without a failure code."""
    words = {each.split()[0] for each in outcomes}
    if words & {"fail", "error", "taken-for"}:
        return FINDING
    return UNDECIDED if "inconclusive" in words else PASS


@cache
def rows() -> tuple[Row, ...]:
    """All rows of the expectations."""
    data = table("expected.toml")
    return tuple(
        Row(
            tuple(row["pairs"]),
            row["cause"],
            tuple(row.get("lines", ())),
            row.get("results", {}),
            built,
        )
        for name, built in (("finding", True), ("not_built", False))
        for row in data.get(name, [])
    )


def expected(pair: str, line: str) -> dict[str, str]:
    """What is told of a pair on a line; nothing by default, which is a plain pass."""
    found: dict[str, str] = {}
    for row in rows():
        if row.built and row.concerns(pair, line):
            found |= row.results
    return found


def not_built(pair: str, line: str) -> str:
    """Why a pair is known to have no tiny model; empty where it has one."""
    return next((r.cause for r in rows() if not r.built and r.concerns(pair, line)), "")


def kind_of(pair: str, line: str) -> str:
    """What a pair comes to on a line, by the data."""
    return NOT_BUILT if not_built(pair, line) else kind_by(expected(pair, line).values())


def listed(line: str) -> list[str]:
    """The names of all pairs that the pinned version of a line has."""
    return sorted(
        f"{model_type}/{task}"
        for task, types in table("pairs.toml").items()
        for model_type in (*types["both"], *types[line])
    )
