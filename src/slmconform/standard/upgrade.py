"""Bringing a manifest to the newest version of the standard."""

from __future__ import annotations

from pathlib import Path

from slmconform.standard.catalogue import SPEC_VERSION


def upgrade(path: Path) -> str:
    """Say what there is to do; 1.0 is the first version, so there is nothing to rewrite yet.

    Raises `PackageProblem` where the manifest is not valid for the version that it declares.
    """
    from slmconform.package.documents import read_manifest
    from slmconform.package.folder import scan

    manifest = read_manifest(scan(path))
    return (
        f"{path}: slm.toml declares {manifest.spec}, the newest version is {SPEC_VERSION} and no "
        "older one exists: nothing to upgrade"
    )
