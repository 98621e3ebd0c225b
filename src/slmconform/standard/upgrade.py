"""Bringing a manifest to the newest version of the standard."""

from __future__ import annotations

from pathlib import Path

from slmconform.standard.catalogue import SPEC_VERSION
from slmconform.standard.files import MANIFEST


def upgrade(path: Path) -> str:
    """Say what there is to do; 1.0 is the first version, so there is nothing to rewrite yet.

    Raises `PackageProblem` where the manifest is not valid for the version that it declares.
    """
    from slmconform.package.documents import read_manifest
    from slmconform.package.folder import scan
    from slmconform.package.problem import PackageProblem

    folder = scan(path)
    if MANIFEST not in folder.entries:
        fix = "`slmconform init` writes one"
        raise PackageProblem("missing-file", MANIFEST, "there is no manifest", "a manifest", fix)
    manifest = read_manifest(folder)
    return (
        f"{path}: slm.toml declares {manifest.spec}, the newest version is {SPEC_VERSION} and no "
        "older one exists: nothing to upgrade"
    )
