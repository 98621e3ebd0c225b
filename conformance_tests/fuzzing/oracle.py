"""What a report may not say of a mutated package, told without the product's own readers.

Tensors are read by the safetensors library, documents by `json` and `tomllib`, the manifest is
judged by the published schema; digests are taken again.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import safetensors

from slmconform.standard.report import Outcome, Report, Result

SCHEMAS = Path(__file__).parents[2] / "spec" / "1.0" / "schema"
MANIFEST, EVIDENCE = "slm.toml", "conformance/evidence.json"
EVIDENCE_TENSORS = "conformance/evidence.safetensors"
LEFT_OUT = (".gitattributes", ".gitignore", ".gitmodules", ".hgignore")
JUDGED = ("spec", "model", "tensors", "weights_digest", "evidence_tensors", "variants")
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
UNDECIDED = (Outcome.BLOCKED, Outcome.INCONCLUSIVE, Outcome.NO_REFERENCE, Outcome.NOT_EXAMINED)

Tree = Mapping[str, bytes | None]  # None: what is no regular file that is reached inside


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """The published schema of a document."""
    return jsonschema.Draft202012Validator(
        json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    )


def inconsistency(report: Report) -> str:
    """Why the exit status is not the one that the results stand for; empty where it is."""
    if any(one.outcome is Outcome.ERROR for one in report.results):
        return "a check ended in an error: " + "; ".join(
            f"{one.id} {one.finding.got}"
            for one in report.results
            if one.outcome is Outcome.ERROR and one.finding
        )
    must = [one for one in report.results if one.keyword.startswith("MUST")]
    asked = [one for one in must if not (report.provisional and _unasked(one))]
    outcomes = {one.outcome for one in asked}
    if Outcome.FAIL in {one.outcome for one in must}:
        status = 1
    elif outcomes & set(UNDECIDED) or Outcome.PASS not in outcomes:
        status = 3
    else:
        status = 0
    if report.exit_status != status:
        return f"exit status {report.exit_status} where the results stand for {status}"
    if any(bool(one.finding) != (one.outcome in (Outcome.FAIL, Outcome.WARN)) for one in must):
        return "a failure without a finding, or a finding without a failure"
    return ""


def _unasked(one: Result) -> bool:
    """Whether only a manifest or evidence could have answered."""
    return one.outcome in UNDECIDED[2:] and not one.detail.startswith("left out by")


def wrong_pass(report: Report, base: Tree, now: Tree, variants: str = "") -> str:
    """What the report passes and should not, given the files before and after the mutation.

    ``variants`` is the beginning of the paths that hold variants, separated by blanks.
    """
    outcomes = {one.id: one.outcome for one in report.results}
    beginnings = tuple(variants.split())
    if beginnings and outcomes["SLM-VAR-001"] is Outcome.PASS:
        for path in base:
            if path.startswith(beginnings) and now.get(path) != base[path]:
                return f"SLM-VAR-001 passes with another {path}"
    if report.exit_status != 0:
        return ""
    if None in now.values():
        return f"passed with {next(p for p, data in now.items() if data is None)}, no regular file"
    if reason := next(_unreadable(now), ""):
        return reason
    if MANIFEST not in now:
        return "" if report.provisional else "passed without a manifest"
    if EVIDENCE not in now:
        return "passed without evidence"
    if EVIDENCE not in base:
        return ""  # a copy of other evidence cannot be told from a recording
    return next(_unnoticed(outcomes, base, now), "")


def _unreadable(now: Tree) -> Iterator[str]:
    """Documents and weights that others could not read."""
    for path, data in now.items():
        if path.endswith(".json") and (path != EVIDENCE or MANIFEST in now):
            try:
                json.loads(data or b"", parse_constant=_refuse, object_pairs_hook=_unique)
            except ValueError as error:
                yield f"passed with {path}: {error}"
    weights = weights_of(now)
    if not weights:
        yield "passed without weights"
    for path in weights:
        try:
            tensors = safetensors.deserialize(now[path] or b"")
        except safetensors.SafetensorError as error:
            yield f"passed with {path}: {error}"
            continue
        for name, one in tensors:
            kind = FLOATS.get(one["dtype"])
            if kind and not np.isfinite(np.frombuffer(one["data"], kind)).all():
                yield f"passed with a value of {name} that is not finite"


def _unnoticed(outcomes: Mapping[str, Outcome], base: Tree, now: Tree) -> Iterator[str]:
    """Changes of what evidence lists that no requirement tells."""
    if tensors_of(now) != tensors_of(base):
        yield "passed with other tensors than the recorded ones"
    was, evidence = json.loads(base[EVIDENCE] or b""), json.loads(now[EVIDENCE] or b"")
    for key in JUDGED:
        if _sorted(was.get(key)) != _sorted(evidence.get(key)):
            yield f"passed with other {key} in the evidence"
    digest = hashlib.sha256(now.get(EVIDENCE_TENSORS) or b"").hexdigest()
    if digest != evidence["evidence_tensors"]:
        yield "passed with other tensors of the evidence than it names"
    manifest = tomllib.loads((now[MANIFEST] or b"").decode("utf-8"))
    if errors := [one.message[:200] for one in validator("manifest").iter_errors(manifest)]:
        yield f"passed with a manifest that the schema refuses: {errors[0]}"
    if any(manifest["model"][key] != evidence["model"][key] for key in ("name", "version", "task")):
        yield "passed with the evidence of another model"
    listed = {row["path"]: row["sha256"] for row in evidence["files"]}
    found = {p: hashlib.sha256(d or b"").hexdigest() for p, d in now.items() if _is_recorded(p)}
    if listed != found and outcomes["SLM-PKG-004"] is Outcome.PASS:
        yield "SLM-PKG-004 passes with other files than the recorded ones"


def _is_recorded(path: str) -> bool:
    return (
        path != MANIFEST
        and not path.startswith("conformance/")
        and not path.lower().endswith((".md", ".safetensors"))
        and path.rpartition("/")[2] not in LEFT_OUT
    )


def weights_of(files: Tree) -> list[str]:
    """The weight files: one, or those that an index names."""
    index = files.get("model.safetensors.index.json")
    if index is None:
        return [path for path in files if path == "model.safetensors"]
    table = json.loads(index).get("weight_map") or {}
    named = {posixpath.normpath(one) for one in table.values()}
    return sorted(path for path in named if path in files)


def tensors_of(files: Tree) -> dict[str, Any]:
    """Every tensor of the weights as the safetensors library reads it."""
    found = {}
    for path in weights_of(files):
        for name, one in safetensors.deserialize(files[path] or b""):
            found[name] = (one["dtype"], tuple(one["shape"]), bytes(one["data"]))
    return found


def _sorted(value: Any) -> Any:
    """Rows by their names: their order says nothing."""
    return sorted(value, key=lambda row: str(row["name"])) if isinstance(value, list) else value


def _refuse(name: str) -> Any:
    raise ValueError(f"the number {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
