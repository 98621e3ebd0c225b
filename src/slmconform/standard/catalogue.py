"""The catalogue of requirements and the cumulative profiles, read from ``spec/<version>/``."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

SPEC_VERSION = "1.0"
KNOWN_VERSIONS = (SPEC_VERSION,)

Keyword = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"]
Source = Literal["files", "manifest", "evidence"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One normative sentence of the standard."""

    id: str
    keyword: Keyword
    profile: str
    since: str
    title: str
    sentence: str
    source: Source = "files"
    excluded: str = ""

    @property
    def area(self) -> str:
        """The three letters between the dashes of the id."""
        return self.id.split("-")[1]

    @property
    def mandatory(self) -> bool:
        """Whether breaking it makes a package non-conformant (RFC 2119)."""
        return self.keyword in ("MUST", "MUST NOT")


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of requirements; includes every profile before it."""

    name: str
    proves: str
    runs: str
    ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 over the sorted ids as compact JSON: names the frozen list in a report."""
        return hashlib.sha256(json.dumps(sorted(self.ids)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that one version of the standard requires."""

    version: str
    status: str
    areas: dict[str, str]
    requirements: dict[str, Requirement]
    profiles: dict[str, Profile]


def spec_folder(version: str = SPEC_VERSION) -> Path:
    """Where the published text of a version lies: in the wheel, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    for root in (package / "spec", package.parents[1] / "spec"):
        if (root / version).is_dir():
            return root / version
    raise FileNotFoundError(f"the specification {version} is not part of this installation")


@cache
def catalogue(version: str = SPEC_VERSION) -> Catalogue:
    """Read the requirements and profiles of one version."""
    folder = spec_folder(version)
    table = tomllib.loads((folder / "requirements.toml").read_text("utf-8"))
    rows = [
        Requirement(**{("source" if k == "needs-from" else k): v for k, v in row.items()})
        for row in table["requirement"]
    ]
    requirements = {row.id: row for row in rows}
    if len(requirements) != len(rows):
        raise ValueError(f"{folder / 'requirements.toml'}: an id is used twice")
    return Catalogue(
        version=table["version"],
        status=table["status"],
        areas={area["code"]: area["title"] for area in table["area"]},
        requirements=requirements,
        profiles=_profiles(folder, rows),
    )


def _profiles(folder: Path, rows: list[Requirement]) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    ids: tuple[str, ...] = ()
    for row in tomllib.loads((folder / "profiles.toml").read_text("utf-8"))["profile"]:
        ids += tuple(r.id for r in rows if r.profile == row["name"])
        profiles[row["name"]] = Profile(row["name"], row["proves"], row["runs"], ids)
    unknown = {r.profile for r in rows} - profiles.keys()
    if unknown:
        raise ValueError(f"{folder / 'requirements.toml'}: no such profile: {sorted(unknown)}")
    return profiles
