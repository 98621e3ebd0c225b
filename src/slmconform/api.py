"""Slmconform in Python: check, record, load a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmconform.engine.examine import CheckOptions, examine

if TYPE_CHECKING:
    from slmconform.standard.manifest import Manifest
    from slmconform.standard.report import Report


def check(path: Path | str, **options: Any) -> Report:
    """Check the package at ``path``; ``options`` are those of `CheckOptions`.

    Raises `UnreadablePackage` where there is no package to read, and `CouldNotRun`.
    """
    return examine(path, CheckOptions(**options))


def record(path: Path | str, **options: Any) -> Path:
    """Record the evidence of a package and return the path of ``evidence.json``.

    ``options`` are those of `RecordOptions`. Raises `RecordingRefused` where the package fails.
    """
    from slmconform.recording.record import RecordOptions
    from slmconform.recording.record import record as write

    return write(path, RecordOptions(**options)).evidence


def load_manifest(path: Path | str, *, hub_cache: bool = False) -> Manifest:
    """The manifest of the package at ``path``; raises `PackageProblem` where it is not valid.

    ``hub_cache`` is that of `CheckOptions`.
    """
    from slmconform.package.documents import read_manifest
    from slmconform.package.read import Package

    return read_manifest(Package(path, hub_cache=hub_cache).folder)
