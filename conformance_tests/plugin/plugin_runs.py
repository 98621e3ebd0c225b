"""Runs of pytest as a process of its own, with the plugin in it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from package_builders import make_package, write_evidence

# Where the package is only on the path, and not installed, its entry point is not known.
INSTALLED = any(one.name == "slmconform" for one in entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "slmconform.pytest_plugin")
# Plugins that this suite needs, and no model repository has to have.
WITHOUT = ("-p", "no:hypothesispytest", "-p", "no:anyio")
# Neither what this run of pytest says of itself, nor where tox would have pytest keep its cache.
OUTER = ("PYTEST_", "TOX_")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(OUTER)},
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "100",
}
BROKEN = "SLM-WGT-006"  # what `break_weights` breaks
STATES = {"failure": "failed", "skipped": "skipped", "error": "error"}


@dataclass(frozen=True)
class Case:
    """One test case of a JUnit file."""

    name: str
    state: str
    message: str
    properties: dict[str, str]


@dataclass(frozen=True)
class Ran:
    """What a run left: its exit status, what it wrote, and its test cases by name."""

    status: int
    out: str
    cases: dict[str, Case]

    def named(self, state: str) -> set[str]:
        """The names of the cases that came out so."""
        return {one.name for one in self.cases.values() if one.state == state}


def command(*arguments: object) -> list[str]:
    words = (sys.executable, "-m", "pytest", *PLUGIN, *WITHOUT, *arguments)
    return [str(word) for word in words]


def run(folder: Path, *arguments: object) -> Ran:
    """Run pytest in a folder; its JUnit file lies beside the folder."""
    junit = folder.parent / f"{folder.name}.xml"
    junit.unlink(missing_ok=True)
    words = command(f"--junitxml={junit}", *arguments)
    done = subprocess.run(
        words, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=300, check=False
    )
    out = (done.stdout + done.stderr).decode()
    assert "INTERNALERROR" not in out, out
    return Ran(done.returncode, out, _cases(junit) if junit.exists() else {})


def _cases(junit: Path) -> dict[str, Case]:
    found = {}
    for one in ET.parse(junit).getroot().iter("testcase"):
        told = [child for child in one if child.tag in STATES]
        properties = {p.get("name", ""): p.get("value", "") for p in one.iter("property")}
        state = STATES[told[0].tag] if told else "passed"
        message = (told[0].text or "") if told else ""
        name = one.get("name", "")
        assert name not in found, name
        found[name] = Case(name, state, message, properties)
    return found


def make_repository(folder: Path) -> Path:
    """A repository with a package of the profile packaged, in which one SHOULD is not kept."""
    write_evidence(make_package(folder / "model", replace={'"runnable"': '"packaged"'}))
    return folder


def break_weights(folder: Path) -> None:
    """Change one byte of the last tensor: a sound file with other weights."""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
