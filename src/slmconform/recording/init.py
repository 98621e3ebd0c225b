"""`slmconform init`: an existing folder becomes a package by a manifest that says what it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomlkit
from packaging.version import Version

from slmconform.engine.examine import CouldNotRun
from slmconform.isolation.client import ForkServer, Job, shared_server
from slmconform.isolation.ending import Kind
from slmconform.package.licence import inferred_licence, licence_text
from slmconform.package.read import Package
from slmconform.report.writing import write_whole
from slmconform.standard.catalogue import SPEC_VERSION
from slmconform.standard.manifest import MANIFEST, Manifest

Watch = Callable[[str], None]
UNKNOWN_LICENCE = "LicenseRef-Undeclared"


@dataclass(frozen=True)
class InitOptions:
    """What a caller may choose; ``timeout`` in seconds."""

    name: str | None = None
    license: str | None = None
    force: bool = False
    device: str = "auto"
    timeout: float = 600.0


@dataclass(frozen=True)
class Written:
    """What was written, and sentences for the person who has to go on."""

    manifest: Path
    lines: tuple[str, ...]


def init(
    path: Path | str,
    options: InitOptions | None = None,
    *,
    watch: Watch = lambda _: None,
    server: ForkServer | None = None,
) -> Written:
    """Write ``slm.toml`` (and a licence text that is known whole) into a folder.

    Raises `CouldNotRun` where there is a manifest already or the model cannot be understood.
    """
    options = options or InitOptions()
    package = Package(path)
    if package.has_manifest and not options.force:
        raise CouldNotRun(f"{package.root / MANIFEST} exists already; --force replaces it")
    seen = _infer(package, options, watch, server or shared_server())
    licence = options.license or inferred_licence(package.folder) or UNKNOWN_LICENCE
    table = _table(package, options, seen, licence)
    Manifest.model_validate(table)  # what is written is what a check will accept
    write_whole({package.root / MANIFEST: tomlkit.dumps(_document(table)).encode("utf-8")})
    lines = [f"wrote {package.root / MANIFEST}", *_licence(package, licence)]
    lines += ["next: read it, correct it, then", f"  slmconform record {path}"]
    return Written(package.root / MANIFEST, tuple(lines))


def _infer(
    package: Package, options: InitOptions, watch: Watch, server: ForkServer
) -> dict[str, Any]:
    """What the model's own process finds out."""
    records: list[dict[str, Any]] = []

    def receive(record: dict[str, Any]) -> None:
        if "phase" in record:
            watch(str(record["phase"]))
        else:
            records.append(record)

    # The folder is judged as one without a manifest, whatever lies in it.
    with tempfile.TemporaryDirectory(prefix="slmconform-") as scratch:
        arguments = {
            "package": str(package.root),
            "device": options.device,
            "scratch": scratch,
            "ignore": ["manifest", "evidence"],
        }
        ending = server.run(
            Job("slmconform.recording.child:infer", arguments),
            timeout=options.timeout,
            on_record=receive,
        )
    if ending.kind is not Kind.COMPLETE:
        raise CouldNotRun(f"the model cannot be examined: {ending.detail}")
    if "refused" in records[-1]:
        raise CouldNotRun(str(records[-1]["refused"]))
    return records[-1]


def _table(
    package: Package, options: InitOptions, seen: dict[str, Any], licence: str
) -> dict[str, Any]:
    weights = package.weights.tensors.values()
    stored = {name for e in weights if (name := FLOATS.get(e.dtype))}
    loader = _without_defaults(seen["loader"])
    loader.setdefault("dtype", seen["loader"]["dtype"])
    others = sorted(stored - {loader["dtype"]})
    if others:
        loader["other_dtypes"] = others
    return {
        "spec": SPEC_VERSION,
        "profile": "reproducible",
        "model": {
            "name": options.name or package.root.name,
            "version": "0.1.0",
            "task": seen["task"],
            "license": licence,
            "parameters": package.weights.parameters,
        },
        "loader": loader,
        "dependencies": {
            "python": ">=3.11",
            "requires": [_requirement(name) for name in ("torch", "transformers")],
        },
        "interface": {
            "inputs": [_without_defaults(row) for row in seen["interface"]["inputs"]],
            "outputs": [_without_defaults(row) for row in seen["interface"]["outputs"]],
            "axes": seen["interface"]["axes"],
            "capabilities": seen["interface"]["capabilities"],
        },
    }


FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def _without_defaults(row: dict[str, Any]) -> dict[str, Any]:
    unset: tuple[Any, ...] = (None, False, [])
    return {
        key: value
        for key, value in row.items()
        if value not in unset and not (key == "required" and value is True)
    }


def _requirement(name: str) -> str:
    """The installed minor version as lower bound; the author may widen it after a check."""
    installed = Version(version(name))
    return f"{name}>={installed.major}.{installed.minor}"


def _document(table: dict[str, Any]) -> tomlkit.TOMLDocument:
    """TOML in the order of the standard, arrays of tables as such."""
    text = tomlkit.document()
    for key, value in table.items():
        text[key] = value
    inputs, outputs = tomlkit.aot(), tomlkit.aot()
    for rows, target in (
        (table["interface"]["inputs"], inputs),
        (table["interface"]["outputs"], outputs),
    ):
        for row in rows:
            target.append(tomlkit.item(json.loads(json.dumps(row))))
    section = tomlkit.table()
    section["inputs"], section["outputs"] = inputs, outputs
    for key in ("axes", "capabilities"):
        section[key] = table["interface"][key]
    text["interface"] = section
    return text


def _licence(package: Package, licence: str) -> list[str]:
    """Ship the text where it is known whole, else say what is missing."""
    if licence == UNKNOWN_LICENCE:
        return ["no licence is declared: set model.license and add its text as LICENSE"]
    if package.licence.texts:
        return []
    text = licence_text(licence)
    if text is None:
        return [f"add the text of {licence} as LICENSE"]
    write_whole({package.root / "LICENSE": text.encode("utf-8")})
    return [f"wrote {package.root / 'LICENSE'}, the text of {licence}"]
