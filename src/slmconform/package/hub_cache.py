"""The cache of a hub client: a snapshot is a folder of links into a store of blobs beside it.

``models--NAME/snapshots/REVISION`` is the package, ``models--NAME/blobs`` holds its files.
"""

from __future__ import annotations

import os
from pathlib import Path

LAYOUT = "models--NAME/snapshots/REVISION with models--NAME/blobs beside snapshots"


def blobs_of(root: Path | str) -> Path | None:
    """The store of the cache that a folder is a snapshot of; None where it is none."""
    real = Path(os.path.realpath(root))
    cache = real.parent.parent
    store = cache / "blobs"
    if real.parent.name != "snapshots" or not cache.name.startswith("models--"):
        return None
    return store if store.is_dir() and not store.is_symlink() else None
