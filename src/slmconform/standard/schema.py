"""JSON Schemas, generated from the models of this package and published under ``spec/``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slmconform.standard.catalogue import SPEC_VERSION
from slmconform.standard.evidence import Evidence
from slmconform.standard.manifest import Manifest
from slmconform.standard.report import Report
from slmconform.standard.waivers import Waivers

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMESPACE = "urn:slmconform:spec"
MODELS: dict[str, type[BaseModel]] = {
    "manifest": Manifest,
    "evidence": Evidence,
    "report": Report,
    "waivers": Waivers,
}


def schema(name: str) -> dict[str, Any]:
    """The schema of one document, with ``$schema``, ``$id`` and the version of the standard."""
    body = MODELS[name].model_json_schema(by_alias=True)
    return {
        "$schema": DIALECT,
        "$id": f"{NAMESPACE}:{SPEC_VERSION}:{name}",
        "version": SPEC_VERSION,
        **body,
    }


def schema_text(name: str) -> str:
    """The schema as it is published: indented JSON and a final line break."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def violations(name: str, path: Path) -> list[str]:
    """What in a TOML or JSON file breaks the schema, one sentence each.

    Raises OSError where the file cannot be read.
    """
    from jsonschema import Draft202012Validator

    data = path.read_bytes()
    try:
        document = (
            tomllib.loads(data.decode("utf-8")) if path.suffix == ".toml" else json.loads(data)
        )
    except (ValueError, RecursionError) as error:
        kind = "toml" if path.suffix == ".toml" else "json"
        return [f"{path}: not readable as {kind}: {error}"]
    as_json = json.loads(json.dumps(document, default=str))  # TOML has dates of its own
    checker = Draft202012Validator.FORMAT_CHECKER
    validator = Draft202012Validator(schema(name), format_checker=checker)
    found = sorted(validator.iter_errors(as_json), key=lambda e: list(map(str, e.path)))
    return [f"{path}: {e.json_path.removeprefix('$.')}: {e.message}" for e in found]
