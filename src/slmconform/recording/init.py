"""`slmconform init`: an existing folder becomes a package by a manifest that says what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomlkit
from packaging.version import Version
from pydantic import ValidationError

from slmconform.engine.command import cache_option, command
from slmconform.engine.confinement import confinement
from slmconform.engine.options import CouldNotRun, ProcessOptions, Watch
from slmconform.harmless import printable
from slmconform.isolation.client import ForkServer, shared_server
from slmconform.isolation.scratch import scratch_folder
from slmconform.package.licence import InvalidLicence, inferred_licence, licence_text, parse
from slmconform.package.read import Package
from slmconform.package.tensors import FLOAT_NAMES
from slmconform.recording.asking import NoAnswer, ask
from slmconform.report.writing import require_writable, write_whole
from slmconform.standard.catalogue import SPEC_VERSION
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import Manifest, ModelSection

# Gentle enough for a pretrained model: one unit of rounding must not grow over fifty steps.
RECIPE: dict[str, Any] = {
    "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01},
    "steps": 50,
    "batch_size": 8,
    "max_grad_norm": 1.0,
}
UNKNOWN_LICENCE = "LicenseRef-Undeclared"


@dataclass(frozen=True, kw_only=True)
class InitOptions(ProcessOptions):
    """What a caller may choose."""

    name: str | None = None
    license: str | None = None
    force: bool = False
    profile: str = "reproducible"


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

    Raises `CouldNotRun` where there is a manifest already or the model cannot be understood, and
    `Unwritable`.
    """
    options = options or InitOptions()
    package = Package(path, hub_cache=options.hub_cache)
    if package.has_manifest and not options.force:
        raise CouldNotRun(f"{package.root / MANIFEST} exists already; --force replaces it")
    require_writable(package.root / MANIFEST)
    model = _model(package, options)
    seen = _infer(package, options, watch, server or shared_server())
    table = _table(package, model, seen, options.profile)
    Manifest.model_validate(table)  # what is written is what a check will accept
    write_whole({package.root / MANIFEST: tomlkit.dumps(_document(table)).encode("utf-8")})
    lines = [f"wrote {printable(str(package.root / MANIFEST), 4096)}"]
    lines += _licence(package, model["license"])
    words = ["record", str(path), *cache_option(options.hub_cache)]
    lines += ["next: read it, correct it, then", f"  {command('slmconform', *words)}"]
    return Written(package.root / MANIFEST, tuple(lines))


def _model(package: Package, options: InitOptions) -> dict[str, Any]:
    """The section that says who the model is; raises `CouldNotRun` before anything is loaded."""
    licence = options.license or inferred_licence(package.folder) or UNKNOWN_LICENCE
    section = {
        "name": options.name or package.root.name,
        "version": "0.1.0",
        "task": "tensor",
        "license": licence,
    }
    try:
        parse(licence)
    except InvalidLicence as error:
        raise CouldNotRun(f"{licence!r} is no licence: {error}; give another --license") from None
    try:
        ModelSection.model_validate(section)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        want = "1 to 200 printable characters" if key == "name" else "an SPDX expression"
        raise CouldNotRun(f"{section[key]!r} is no {key}: give {want} with --{key}") from None
    return section


def _infer(
    package: Package, options: InitOptions, watch: Watch, server: ForkServer
) -> dict[str, Any]:
    """What the model's own process finds out, as of a folder without a manifest."""
    with scratch_folder() as scratch:
        try:
            seen = ask(
                server,
                "infer",
                {
                    "package": str(package.root),
                    "device": options.device,
                    "ignore": ["manifest", "evidence"],
                    "hub_cache": package.hub_cache,
                    "training": options.profile == "trainable",
                },
                confinement(package, options, scratch),
                watch=watch,
            )
        except NoAnswer as error:
            raise CouldNotRun(f"the model cannot be examined: {error}") from None
    if "refused" in seen:
        raise CouldNotRun(str(seen["refused"]))
    return seen


def _table(
    package: Package, model: dict[str, Any], seen: dict[str, Any], profile: str
) -> dict[str, Any]:
    weights = package.weights.tensors.values()
    stored = {name for e in weights if (name := FLOAT_NAMES.get(e.dtype))}
    loader = _without_defaults(seen["loader"])
    loader.setdefault("dtype", seen["loader"]["dtype"])
    others = sorted(stored - {loader["dtype"]})
    if others:
        loader["other_dtypes"] = others
    if package.sources:
        loader["code"] = package.sources
    task = seen["task"]
    if task == "sentence-embedding" and "pooling" not in loader:
        task = "tensor"  # hidden states that nothing makes a sentence embedding of
    return {
        "spec": SPEC_VERSION,
        "profile": profile,
        "model": {**model, "task": task, "parameters": package.weights.parameters},
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
        **({"training": {**seen["training"], **RECIPE}} if profile == "trainable" else {}),
    }


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
        if key not in ("interface", "training"):
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
    if "training" in table:
        optimizer = tomlkit.inline_table()
        optimizer.update(table["training"]["optimizer"])
        text["training"] = {**table["training"], "optimizer": optimizer}
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
    return [f"wrote {printable(str(package.root / 'LICENSE'), 4096)}, the text of {licence}"]
