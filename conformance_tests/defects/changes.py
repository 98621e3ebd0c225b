"""Changes of a package, made by the name of what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from defect_record import Change
from packages import edit, edit_json, edit_weights, forget

from slmconform.package.read import Package
from slmconform.standard.files import EVIDENCE


def text(file: str, old: str, new: str) -> Change:
    """Another text in place of one that stands in a file."""
    return lambda folder: edit(folder, file, old, new)


def code(*pairs: tuple[str, str]) -> tuple[Change, ...]:
    """Other texts in the package's own ``modeling.py``."""
    return tuple(text("modeling.py", old, new) for old, new in pairs)


def manifest(old: str, new: str) -> Change:
    """Another text in the manifest."""
    return text("slm.toml", old, new)


def table(file: str, change: Callable[[Any], object]) -> Change:
    """A JSON file after a change of what it holds."""
    return lambda folder: edit_json(folder, file, change)


def config(**keys: Any) -> Change:
    """Other values in config.json; None takes a key out."""

    def change(values: dict[str, Any]) -> None:
        for key, value in keys.items():
            values[key] = value
            if value is None:
                del values[key]

    return table("config.json", change)


def evidence(change: Callable[[Any], object]) -> Change:
    """The evidence after a change of what it holds."""
    return table(EVIDENCE, change)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """The weights after a change."""
    return lambda folder: edit_weights(folder, change)


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """One tensor replaced by what a function makes of it."""
    return tensors(lambda all_: all_.update({name: change(all_[name]).contiguous()}))


def gone(*names: str) -> Change:
    """Files taken away."""
    return lambda folder: [(folder / name).unlink() for name in names]


def written(name: str, content: str | bytes) -> Change:
    """A file more, or another content of one."""

    def write(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return write


def unrecorded(folder: Path) -> None:
    """No evidence."""
    forget(folder)


def undeclared(folder: Path) -> None:
    """Neither evidence nor manifest: a folder as hubs hold them."""
    forget(folder, manifest=True)


def seal(folder: Path) -> None:
    """List the files in the evidence as they are now: no digest gives the change away."""
    if not (folder / EVIDENCE).exists():
        return
    package = Package(folder).folder
    rows = [
        {
            "path": path,
            "size": package.entries[path].size,
            "sha256": package.sha256(path),
        }
        for path in package.recorded()
    ]
    values = json.loads((folder / EVIDENCE).read_text("utf-8"))
    if values.get("files") != rows:
        values["files"] = rows
        (folder / EVIDENCE).write_text(json.dumps(values, indent=1), "utf-8")
