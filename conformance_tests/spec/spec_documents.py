"""The published text taken apart: sections, quoted sentences, fences and example manifests."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from package_builders import MIT, make_package

from slmconform.engine.plan import load_checks, order
from slmconform.engine.run import run_checks
from slmconform.package.licence import licence_text
from slmconform.package.read import Package
from slmconform.standard.catalogue import catalogue, spec_folder
from slmconform.standard.report import Outcome

SPEC = spec_folder()
EXAMPLES = SPEC / "examples"
BASE = EXAMPLES / "valid" / "causal-lm.toml"

_HEADING = re.compile(r"^### (.+?) — (.+)$")
_FENCE = re.compile(r"^```toml ([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Section:
    """One requirement as a page has it: ``body`` is everything under its heading."""

    id: str
    title: str
    body: str
    page: str

    @property
    def quoted(self) -> list[str]:
        return [line[2:] for line in self.body.split("\n") if line.startswith("> ")]


@dataclass(frozen=True)
class Example:
    """A manifest, the requirement and code that it fails with ("" for a valid one), its files."""

    name: str
    text: str
    fails: str = ""
    code: str = ""
    files: tuple[str, ...] = ()


def pages() -> dict[str, str]:
    """The area pages by the code of their area."""
    return {area: (SPEC / f"{area.lower()}.md").read_text("utf-8") for area in catalogue().areas}


def sections() -> list[Section]:
    """Every third-level section of the area pages, in the order in which they are read."""
    found: list[Section] = []
    for area, text in pages().items():
        for part in re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]:
            heading, _, body = part.partition("\n")
            match = _HEADING.match(heading)
            assert match, f"{area.lower()}.md: {heading}"
            found.append(Section(match[1], match[2], body, f"{area.lower()}.md"))
    return found


def examples(kind: str) -> list[Example]:
    """The manifests of ``examples/valid`` or ``examples/invalid``, judged by their comments."""
    return [_example(path) for path in sorted((EXAMPLES / kind).glob("*.toml"))]


def _example(path: Path) -> Example:
    text = path.read_text("utf-8")
    said = dict(re.findall(r"^# (fails|files): (.+)$", text, re.MULTILINE))
    fails, _, code = said.get("fails", "").partition(" ")
    return Example(path.stem, text, fails, code, tuple(said.get("files", "").split()))


def fences() -> list[Example]:
    """The TOML fences of all pages, each made a whole manifest."""
    found = []
    for page in ("README.md", *(f"{area.lower()}.md" for area in catalogue().areas)):
        for info, text in _FENCE.findall((SPEC / page).read_text("utf-8")):
            kind, _, rest = info.partition(" ")
            fails, _, code = rest.partition(" ")
            assert (kind == "invalid") == bool(fails), f"{page}: {info}"
            whole = text if {"model", "interface"} <= tomllib.loads(text).keys() else merged(text)
            found.append(Example(f"{page}: {info or kind}", whole, fails, code))
    return found


def merged(text: str) -> str:
    """The base example with the tables of a short fence laid over its own, key by key."""
    table = tomllib.loads(BASE.read_text("utf-8"))
    _lay(tomllib.loads(text), table)
    return tomlkit.dumps(table)


def _lay(over: dict[str, Any], under: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _lay(value, under[key])
        else:
            under[key] = value


def package_of(folder: Path, example: Example) -> Path:
    """A package with the manifest and the files of an example, and the texts of its licences."""
    files = dict.fromkeys(example.files, "import torch\n")
    files["LICENSE"] = licence_text("Apache-2.0") or ""
    if "OR MIT" in example.text:
        files["LICENSES/MIT.txt"] = MIT
    return make_package(folder, manifest=example.text, files=files)


def failing(package: Package, areas: tuple[str, ...]) -> dict[str, str]:
    """Requirements of the areas that fail or warn -> finding code; blocked ones are left out."""
    checks, known = load_checks(), catalogue()
    ids = [one for one in checks if one.split("-")[1] in areas]
    results = run_checks(order(ids, checks), package, package, known, {})
    bad = (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)
    return {r.id: r.finding.code for r in results if r.outcome in bad and r.finding}
