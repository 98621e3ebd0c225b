"""F03: the cache of a hub client, in which every file is a link into a store beside the package."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from hostile_row import Row
from sound_package import sound

INSIDE = "SLM-PKG-001"
FOLLOWED = {"hub_cache": True}
WEIGHTS = "model.safetensors"


def snapshot(folder: Path) -> Path:
    """A sound package as a hub client keeps it; ``folder`` becomes a link to the snapshot."""
    cache = folder.parent / "models--someone--tiny-llama"
    root, blobs = cache / "snapshots" / "0123abcd", cache / "blobs"
    sound(root)
    blobs.mkdir()
    for path in sorted(root.iterdir()):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(Path("../../blobs") / blob.name)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abcd")
    folder.symlink_to(root)
    return root


def led(target: str, name: str = WEIGHTS) -> Callable[[Path], None]:
    """A snapshot in which one link leads elsewhere."""

    def build(folder: Path) -> None:
        root = snapshot(folder)
        content = (root / name).read_bytes()
        (root / name).unlink()
        (root / name).symlink_to(target)
        there = root / target
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)

    return build


def relayed(folder: Path) -> None:
    """A blob that is itself a link out of the store."""
    root = snapshot(folder)
    blob = (root / WEIGHTS).resolve()
    blob.rename(folder.parent / "elsewhere")
    blob.symlink_to(folder.parent / "elsewhere")


ROWS = [
    Row(
        "F03-cache",
        "a snapshot of a hub client's cache, without the option",
        snapshot,
        INSIDE,
        "link-outside",
    ),
    Row(
        "F03-cache-climbing",
        "a link of a snapshot that leads out of its cache",
        led("../../../outside.safetensors"),
        INSIDE,
        "link-outside",
        options=FOLLOWED,
        twin=snapshot,
    ),
    Row(
        "F03-cache-other",
        "a link into the store of another model",
        led("../../../models--other/blobs/abc"),
        INSIDE,
        "link-outside",
        options=FOLLOWED,
        twin=snapshot,
    ),
    Row(
        "F03-cache-snapshot",
        "a link into another snapshot",
        led("../4567/model.safetensors"),
        INSIDE,
        "link-outside",
        options=FOLLOWED,
        twin=snapshot,
    ),
    Row(
        "F03-cache-refs",
        "a link into the cache, but not into its store",
        led("../../refs/main", "LICENSE"),
        INSIDE,
        "link-outside",
        options=FOLLOWED,
        twin=snapshot,
    ),
    Row(
        "F03-cache-relayed",
        "a blob that is a link out of the store",
        relayed,
        INSIDE,
        "link-outside",
        options=FOLLOWED,
        twin=snapshot,
    ),
    Row(
        "F03-cache-run",
        "a link out of the cache, in a model that would be run",
        led("../../../outside.safetensors"),
        INSIDE,
        "link-outside",
        options=FOLLOWED | {"profile": "runnable"},
        twin=snapshot,
    ),
]
