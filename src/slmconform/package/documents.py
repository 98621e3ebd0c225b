"""Manifest and evidence read from bytes, with problems worded for the person who wrote them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from slmconform.package import strict_json, strict_toml
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.validated import did_you_mean, validated
from slmconform.standard.catalogue import KNOWN_VERSIONS, SPEC_VERSION
from slmconform.standard.evidence import Evidence
from slmconform.standard.files import EVIDENCE, EVIDENCE_LIMIT, MANIFEST, MANIFEST_LIMIT
from slmconform.standard.manifest import Manifest
from slmconform.standard.tasks import TASKS

if TYPE_CHECKING:
    from slmconform.package.folder import Folder

# Problems with the declared version: the schema of another version is not judged by this one.
VERSION_UNKNOWN, VERSION_NEWER = "spec-version-unknown", "spec-version-newer"
VERSION_CODES = (VERSION_UNKNOWN, VERSION_NEWER)


def read_manifest(folder: Folder) -> Manifest:
    """The manifest of a package; raises `PackageProblem` for the first thing wrong in it."""
    table = strict_toml.loads(folder.read(MANIFEST, MANIFEST_LIMIT), MANIFEST)
    _judge_version(table.get("spec"))
    manifest = validated(Manifest, table, MANIFEST)
    if manifest.model.task not in TASKS:
        got = f"{shown(manifest.model.task)}{did_you_mean(manifest.model.task, TASKS)}"
        _refuse("wrong-value", "model.task", got, f"one of {', '.join(TASKS)}")
    return manifest


def read_evidence(folder: Folder) -> Evidence:
    """The evidence of a package; raises `PackageProblem`."""
    value = strict_json.loads(folder.read(EVIDENCE, EVIDENCE_LIMIT), EVIDENCE)
    return validated(Evidence, value, EVIDENCE)


def _judge_version(version: object) -> None:
    if version in KNOWN_VERSIONS:
        return
    want = f'a published version: spec = "{SPEC_VERSION}"'
    if version is None:
        _refuse(VERSION_UNKNOWN, "spec", "no version is declared", want)
    numbers = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    newest = tuple(int(n) for n in KNOWN_VERSIONS[-1].split("."))
    if numbers and tuple(int(n) for n in numbers.groups()) > newest:
        _refuse(VERSION_NEWER, "spec", shown(version), want, "upgrade slmconform")
    _refuse(VERSION_UNKNOWN, "spec", shown(version), want, f'write spec = "{SPEC_VERSION}"')


def _refuse(code: str, key: str, got: str, want: str, fix: str = "correct the value") -> NoReturn:
    raise PackageProblem(code, f"{MANIFEST}: {key}" if key else MANIFEST, got, want, fix)
