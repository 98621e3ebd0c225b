"""MAN: each defect fails with exactly its id, and the legal twin beside it passes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_builders import (
    MANIFEST,
    Nonconformance,
    judge,
    make_package,
    outcomes,
    write_evidence,
)
from safetensors.numpy import load, save

from slmconform.engine.registry import Inconclusive, NotExamined
from slmconform.standard.files import EVIDENCE, EVIDENCE_TENSORS


def test_a_valid_manifest(tmp_path: Path) -> None:
    make_package(tmp_path)
    assert outcomes(tmp_path) == {}
    assert judge("SLM-MAN-001", tmp_path) == "tiny-llama 1.0.0, task causal-lm"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (MANIFEST + "[modle]\n", "unknown-key"),
        (MANIFEST.replace('name = "tiny-llama"\n', ""), "missing-key"),
        (MANIFEST.replace('version = "1.0.0"', 'version = "v1"'), "wrong-value"),
        (MANIFEST.replace("[model]", "[model"), "not-toml"),
    ],
)
def test_invalid_manifest(tmp_path: Path, text: str, code: str) -> None:
    make_package(tmp_path, manifest=text)
    write = tmp_path / "conformance"
    write.mkdir()
    (write / "evidence.json").write_text("{}")
    assert outcomes(tmp_path) == {"SLM-MAN-001": code}


@pytest.mark.parametrize("spec", ['"banana"', "1.0", '"0.1"', '""'])
def test_unknown_version(tmp_path: Path, spec: str) -> None:
    make_package(tmp_path, manifest=MANIFEST.replace('spec = "1.0"', f"spec = {spec}\nx = 1"))
    assert outcomes(tmp_path) == {"SLM-MAN-002": "spec-version-unknown"}


def test_newer_version_is_inconclusive(tmp_path: Path) -> None:
    make_package(tmp_path, manifest=MANIFEST.replace('spec = "1.0"', 'spec = "1.9"\nnew = 1'))
    assert outcomes(tmp_path) == {}
    with pytest.raises(Inconclusive, match="upgrade slmconform"):
        judge("SLM-MAN-002", tmp_path)
    with pytest.raises(NotExamined):
        judge("SLM-MAN-001", tmp_path)


def torch_package(folder: Path, **files: str) -> None:
    kind = 'kind = "torch"\nentry = "modeling.py:build"'
    make_package(folder, replace={'kind = "transformers"': kind}, files=dict(files))


def test_declared_file_is_missing(tmp_path: Path) -> None:
    torch_package(tmp_path)
    assert outcomes(tmp_path) == {"SLM-MAN-003": "missing-file"}


def test_declared_file_is_a_folder(tmp_path: Path) -> None:
    torch_package(tmp_path, **{"modeling.py/x.txt": ""})
    assert outcomes(tmp_path) == {"SLM-MAN-003": "not-a-file"}


def test_declared_file_is_there(tmp_path: Path) -> None:
    torch_package(tmp_path, **{"modeling.py": ""})
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("sequence = { min", "sequnce = { min", "axis-undeclared"),
        ("causal = true", "causal = false", "cache-causal"),
        ('name = "logits"', 'name = "scores"', "output-missing"),
    ],
)
def test_declarations_that_disagree(tmp_path: Path, old: str, new: str, code: str) -> None:
    make_package(tmp_path, replace={old: new})
    assert outcomes(tmp_path) == {"SLM-MAN-004": code}


def test_evidence_belongs(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    assert outcomes(tmp_path) == {}
    assert "slmconform 0" in judge("SLM-MAN-005", tmp_path)


MODEL = {"name": "tiny-llama", "version": "1.0.0", "task": "causal-lm"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": MODEL | {"version": "1.0.1"}}, "evidence-model"),
        ({"model": MODEL | {"name": "\x1b[31mother"}}, "evidence-model"),
        ({"model": MODEL | {"task": "masked-lm"}}, "evidence-model"),
        ({"spec": "9.9"}, "evidence-spec"),
        ({"evidence_tensors": "0" * 64}, "evidence-tensors"),
        ({"weights_digest": "xyz"}, "wrong-value"),
        ({"surprise": 1}, "unknown-key"),
        ({"inputs": ["input_ids", "token_type_ids"]}, "evidence-interface"),
        ({"outputs": []}, "evidence-interface"),
    ],
)
def test_evidence_of_something_else(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path, **changes)
    assert outcomes(tmp_path) == {"SLM-MAN-005": code}


@pytest.mark.parametrize(("longest", "bad"), [(2, {}), (1, {"SLM-MAN-005": "evidence-interface"})])
def test_the_recorded_probe_is_of_a_legal_size(tmp_path: Path, longest: int, bad: Any) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    manifest = (tmp_path / "slm.toml").read_text()
    narrowed = re.sub(r"max = \d+", f"max = {longest}", manifest)
    (tmp_path / "slm.toml").write_text(narrowed)
    assert outcomes(tmp_path) == bad


@pytest.mark.parametrize(
    ("content", "code"), [(None, "missing-file"), (b"", "too-short"), (b"x" * 99, "header-length")]
)
def test_evidence_without_its_tensors(tmp_path: Path, content: bytes | None, code: str) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    path = tmp_path / "conformance" / "evidence.safetensors"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert outcomes(tmp_path) == {"SLM-MAN-005": code}


def test_evidence_that_is_no_json(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    (tmp_path / "conformance" / "evidence.json").write_text("{")
    assert outcomes(tmp_path) == {"SLM-MAN-005": "not-json"}
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-MAN-005", tmp_path)
    assert caught.value.where.startswith("conformance/evidence.json")


def test_a_version_raised_after_the_recording(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    text = (tmp_path / "slm.toml").read_text().replace('"1.0.0"', '"1.1.0"')
    (tmp_path / "slm.toml").write_text(text)
    assert outcomes(tmp_path) == {"SLM-MAN-005": "evidence-model"}


STEPS = 12
ON_DEVICE: dict[str, Any] = {
    "dtype": "float32",
    "losses": [1.0] * STEPS,
    "envelope": [1e-7] * STEPS,
    "gradients": {"w": 1e-7},
    "changes": {"w": 1e-7},
    "configurations": ["as loaded"],
}
SUMMARY = [{"name": "w", "norm": 1.0, "projections": [0.5, -0.5]}]


def write_training(
    folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], **training: Any
) -> None:
    """Evidence of a training, after a change to it and its tensors; keys of ``training`` too."""
    names = list(write_evidence(folder)["inputs"])
    evidence = json.loads((folder / EVIDENCE).read_text())
    tensors = load((folder / EVIDENCE_TENSORS).read_bytes())
    tensors |= {f"batch.{name}": np.ones((STEPS, 4, 3), np.uint8) for name in names}
    tensors["labels.labels"] = np.ones((STEPS, 4, 3), np.uint8)
    evidence["training"] = {
        "recipe": {},
        "inputs": names,
        "labels": ["labels"],
        "steps": STEPS,
        "losses": [1.0] * STEPS,
        "gradients": SUMMARY,
        "changes": SUMMARY,
    } | training
    device = {"environment": {}, "flags": {}, "errors": [], "training": ON_DEVICE}
    evidence["devices"] = {"cpu": json.loads(json.dumps(device))}
    change(evidence, tensors)
    data = save(tensors)
    (folder / EVIDENCE_TENSORS).write_bytes(data)
    evidence["evidence_tensors"] = hashlib.sha256(data).hexdigest()
    (folder / EVIDENCE).write_text(json.dumps(evidence))


def on_device(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda evidence, _: evidence["devices"]["cpu"]["training"].update(changes)


def tensor(name: str, *shape: int) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda _, tensors: tensors.update({name: np.ones(shape, np.uint8)})


def every(*shape: int) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    """All batches and labels of one shape."""

    def change(_: dict[str, Any], tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if not name.startswith("input.")]:
            tensors[name] = np.ones(shape, np.uint8)

    return change


def nothing(*_: Any) -> None:
    """The training as it was recorded."""


LEGAL = {
    "as recorded": (nothing, {}),
    "batches that go round": (every(5, 4, 3), {}),
    "a device that has not trained": (
        lambda evidence, _: evidence["devices"]["cpu"].update(training=None),
        {},
    ),
    "labels of rows": (tensor("labels.labels", STEPS, 4), {}),
    "pairs": (tensor("labels.pairs", STEPS, 2), {"labels": ["pairs"]}),
}


@pytest.mark.parametrize("name", LEGAL)
def test_recorded_training_that_holds_together(tmp_path: Path, name: str) -> None:
    make_package(tmp_path)
    write_training(tmp_path, LEGAL[name][0], **LEGAL[name][1])
    assert outcomes(tmp_path) == {}


ODD, WRONG = "evidence-training", "wrong-value"
DEFECTS = {
    "more steps": (nothing, {"steps": 13}, ODD),
    "a loss too few": (nothing, {"losses": [1.0] * 11}, ODD),
    "a loss of null": (nothing, {"losses": [1.0] * 11 + [None]}, WRONG),
    "no inputs": (nothing, {"inputs": []}, WRONG),
    "another input": (nothing, {"inputs": ["input_ids", "pixels"]}, ODD),
    "other labels": (nothing, {"labels": ["labels", "tags"]}, ODD),
    "a projection too few": (nothing, {"gradients": [SUMMARY[0] | {"projections": [0.5]}]}, WRONG),
    "no projections": (nothing, {"changes": [SUMMARY[0] | {"projections": []}]}, WRONG),
    "a device's loss too few": (on_device(losses=[1.0] * 11), {}, ODD),
    "a short envelope": (on_device(envelope=[1e-7] * 11), {}, ODD),
    "a long envelope": (on_device(envelope=[1e-7] * 13), {}, ODD),
    "a negative envelope": (on_device(envelope=[-1e-7] * STEPS), {}, WRONG),
    "no batches": (lambda _, tensors: tensors.pop("batch.input_ids"), {}, ODD),
    "no labels": (lambda _, tensors: tensors.pop("labels.labels"), {}, ODD),
    "more batches than steps": (every(13, 4, 3), {}, ODD),
    "no batch": (every(0, 4, 3), {}, ODD),
    "no rows": (every(STEPS, 0, 3), {}, ODD),
    "a batch without rows": (every(STEPS), {}, ODD),
    "batches of other axes": (tensor("batch.input_ids", STEPS, 4, 3, 1), {}, ODD),
    "labels of fewer rows": (tensor("labels.labels", STEPS, 3, 3), {}, ODD),
    "labels of fewer batches": (tensor("labels.labels", 11, 4, 3), {}, ODD),
    "pairs of every row": (tensor("labels.pairs", STEPS, 4), {"labels": ["pairs"]}, ODD),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_recorded_training_that_does_not(tmp_path: Path, name: str) -> None:
    change, training, code = DEFECTS[name]
    make_package(tmp_path)
    write_training(tmp_path, change, **training)
    assert outcomes(tmp_path) == {"SLM-MAN-005": code}


def test_a_loss_that_is_no_number_in_json(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_training(tmp_path, nothing, losses=[float("nan")] * STEPS)
    assert set(outcomes(tmp_path)) == {"SLM-MAN-005"}
