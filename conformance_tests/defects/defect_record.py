"""A defect: one way in which a sound package goes wrong, and what a check of it has to say.

The records stand as data in the modules ``defects_*.py`` beside this file, each in a list
``DEFECTS``; their legal neighbours in a list ``NEAR_MISSES`` of the same module. The rows of
``hostile/`` are defects too and are told in the same matrix.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.standard.catalogue import catalogue

if TYPE_CHECKING:
    import pytest

Change = Callable[[Path], object]
Patch = Callable[["pytest.MonkeyPatch"], None]
PROFILES = tuple(catalogue().profiles)
AS_IT_IS = "as it is"  # the twin of a defect whose nearest legal neighbour is the package itself


@dataclass(frozen=True)
class Defect:
    """One small change of a package of `bases`, or of a library under it.

    ``kills`` is the requirement that it breaks, with failure code ``code``; the kill matrix holds
    what else is told. ``changes`` are made to a copy of ``package``. ``patch`` breaks a library
    instead: the package is then judged in this process. ``words`` stand in the finding. ``twin``
    names the legal neighbour.

    ``sealed``: the evidence lists the files as they are after the change, so that no digest gives
    it away. ``profile`` is the lowest that asks for ``kills`` where nothing else is said.
    """

    name: str
    says: str
    package: str
    kills: str
    code: str
    changes: tuple[Change, ...] = ()
    words: tuple[str, ...] = ()
    twin: str = AS_IT_IS
    patch: Patch | None = None
    sealed: bool = True
    profile: str = ""

    @property
    def asked(self) -> str:
        """The profile that it is judged by."""
        return self.profile or catalogue().requirements[self.kills].profile

    @property
    def neighbour(self) -> str:
        """The name of its near miss."""
        return f"{self.package} as it is" if self.twin == AS_IT_IS else self.twin


def defect(
    name: str,
    says: str,
    package: str,
    told: str,
    *changes: Change,
    words: tuple[str, ...] = (),
    twin: str = AS_IT_IS,
    patch: Patch | None = None,
    sealed: bool = True,
) -> Defect:
    """A record in short: ``told`` is the requirement and its code, whose area precedes the name."""
    kills, code = told.split()
    name = f"{kills[4:7].lower()}-{name}"
    return Defect(name, says, package, kills, code, changes, words, twin, patch, sealed)


@dataclass(frozen=True)
class NearMiss:
    """A legal variant of a package that has to pass everything.

    It is judged by the highest profile of the defects that it stands beside, or by ``profile``.
    """

    name: str
    says: str
    package: str
    changes: tuple[Change, ...] = ()
    patch: Patch | None = None
    sealed: bool = True
    profile: str = PROFILES[0]


def _modules(folder: Path, pattern: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(pattern))


def all_defects() -> list[Defect]:
    """Every defect, in the order of the files and the lists in them."""
    names = _modules(Path(__file__).parent, "defects_*.py")
    return [one for name in names for one in importlib.import_module(name).DEFECTS]


def all_near_misses() -> dict[str, tuple[NearMiss, str]]:
    """Every near miss by name, with the profile that it is judged by; each package is one."""
    here = Path(__file__).parent
    names = _modules(here, "defects_*.py") + _modules(here.parent / "near_misses", "legal_*.py")
    defects = all_defects()
    found = {}
    for package in sorted({one.package for one in defects}):
        name = f"{package} as it is"
        found[name] = NearMiss(name, "Nothing was changed.", package)
    for name in names:
        for one in getattr(importlib.import_module(name), "NEAR_MISSES", ()):
            if one.name in found:
                raise ValueError(f"two near misses are called {one.name!r}")
            found[one.name] = one
    asked = {name: one.profile for name, one in found.items()}
    for defect in defects:
        highest = (asked[defect.neighbour], defect.asked)
        asked[defect.neighbour] = max(highest, key=PROFILES.index)
    return {name: (one, asked[name]) for name, one in found.items()}
