"""The published schemas are those of the models, and say the same as the reader."""

from __future__ import annotations

import json

import jsonschema
import pytest
from package_builders import make_package
from spec_documents import EXAMPLES, SPEC, Example, examples

from slmconform.package.documents import read_manifest
from slmconform.package.folder import scan
from slmconform.package.problem import PackageProblem
from slmconform.standard.catalogue import SPEC_VERSION
from slmconform.standard.evidence import Evidence
from slmconform.standard.report import Report
from slmconform.standard.schema import MODELS, schema, schema_text, violations

VALID, INVALID = examples("valid"), examples("invalid")
# The ways in which the schema alone can tell that a manifest is wrong.
BY_SCHEMA = {"unknown-key", "missing-key", "wrong-value"}
REFUSED = [one for one in INVALID if one.code in BY_SCHEMA]
ACCEPTED = [one for one in INVALID if one.fails in ("SLM-MAN-003", "SLM-MAN-004")]


def name_of(example: Example) -> str:
    return example.name


def read(example: Example, folder):
    return read_manifest(scan(make_package(folder, manifest=example.text)))


@pytest.mark.parametrize("name", MODELS)
def test_the_published_schema_is_a_fresh_export(name):
    published = (SPEC / "schema" / f"{name}.json").read_text("utf-8")
    assert published == schema_text(name), f"slmconform schema {name} > spec/1.0/schema/{name}.json"


def test_nothing_else_is_published_as_a_schema():
    assert {path.stem for path in (SPEC / "schema").iterdir()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_schema_is_itself_valid_and_says_what_it_is(name):
    published = schema(name)
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    assert published["$id"] == f"urn:slmconform:spec:{SPEC_VERSION}:{name}"
    assert published["version"] == SPEC_VERSION


@pytest.mark.parametrize("example", VALID, ids=name_of)
def test_schema_and_reader_accept_a_valid_example(example: Example, tmp_path):
    assert violations("manifest", EXAMPLES / "valid" / f"{example.name}.toml") == []
    assert read(example, tmp_path).spec == SPEC_VERSION


@pytest.mark.parametrize("example", REFUSED, ids=name_of)
def test_schema_and_reader_refuse_a_schema_invalid_example(example: Example, tmp_path):
    assert violations("manifest", EXAMPLES / "invalid" / f"{example.name}.toml")
    with pytest.raises(PackageProblem) as raised:
        read(example, tmp_path)
    assert raised.value.code == example.code


@pytest.mark.parametrize("example", ACCEPTED, ids=name_of)
def test_what_only_a_check_can_tell_is_valid_by_schema(example: Example, tmp_path):
    assert violations("manifest", EXAMPLES / "invalid" / f"{example.name}.toml") == []
    read(example, tmp_path)


def test_some_examples_are_of_each_kind():
    assert {one.code for one in REFUSED} == BY_SCHEMA
    assert {one.fails for one in ACCEPTED} == {"SLM-MAN-003", "SLM-MAN-004"}


def test_a_file_that_is_no_toml_is_one_sentence_and_no_traceback():
    (found,) = violations("manifest", EXAMPLES / "invalid" / "not-toml.toml")
    assert "not readable as toml" in found


EVIDENCE = {
    "spec": "1.0",
    "tool": "slmconform 0.1.0",
    "model": {"name": "m", "version": "1.0.0", "task": "causal-lm"},
    "files": [{"path": "config.json", "size": 2, "sha256": "0" * 64}],
    "tensors": [{"name": "w", "dtype": "F32", "shape": [2], "sha256": "0" * 64}],
    "weights_digest": "0" * 64,
    "evidence_tensors": "0" * 64,
    "configuration": {"hidden_size": 8},
    "ties": [["a", "b"]],
    "inputs": ["input_ids"],
    "outputs": [{"name": "logits", "kept": "full", "shape": [1], "scale": 1.0}],
    "devices": {"cpu": {"environment": {}, "flags": {}, "errors": []}},
}


def test_schema_and_model_of_evidence_agree():
    checker = jsonschema.Draft202012Validator(schema("evidence"))
    checker.validate(EVIDENCE)
    whole = Evidence.model_validate(EVIDENCE)
    checker.validate(json.loads(whole.model_dump_json()))


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "0" * 63},
        {"weights_digest": "A" * 64},
        {"spec": "1"},
        {"more": 1},
        {"outputs": [{"name": "logits", "kept": "some", "shape": [1], "scale": 1.0}]},
        {"outputs": [{"name": "logits", "kept": "full", "shape": [-1], "scale": 1.0}]},
        {"ties": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_schema_and_model_of_evidence_refuse_the_same(change):
    checker = jsonschema.Draft202012Validator(schema("evidence"))
    assert not checker.is_valid(EVIDENCE | change)
    with pytest.raises(ValueError, match="validation error"):
        Evidence.model_validate(EVIDENCE | change)


@pytest.mark.parametrize("key", EVIDENCE)
def test_every_part_of_evidence_is_required(key):
    less = {k: v for k, v in EVIDENCE.items() if k != key}
    assert not jsonschema.Draft202012Validator(schema("evidence")).is_valid(less)


def test_a_report_is_valid_by_its_schema():
    report = Report.model_validate(
        {
            "spec": "1.0",
            "status": "draft",
            "tool": "slmconform 0.1.0",
            "subject": {"path": "model"},
            "profile": "packaged",
            "profile_digest": "0" * 64,
            "verdict": "not conformant",
            "provisional": False,
            "exit_status": 1,
            "counts": {"fail": 1},
            "applicable": 1,
            "results": [
                {
                    "id": "SLM-WGT-003",
                    "title": "weights are finite",
                    "keyword": "MUST",
                    "profile": "packaged",
                    "outcome": "fail",
                    "finding": {"code": "not-finite", "got": "NaN", "want": "finite values"},
                }
            ],
            "setting": {},
        }
    )
    checker = jsonschema.Draft202012Validator(schema("report"))
    written = json.loads(report.model_dump_json())
    checker.validate(written)
    assert not checker.is_valid(written | {"verdict": "fine"})
    assert not checker.is_valid(written | {"more": 1})
