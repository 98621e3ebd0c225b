"""MAN: the manifest, its version, what it names, and the evidence that belongs to it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn

from slmconform.engine.registry import (
    BlockedBy,
    Inconclusive,
    Nonconformance,
    NotExamined,
    Stage,
    check,
)
from slmconform.package.declarations import disagreements
from slmconform.package.documents import VERSION_CODES, VERSION_NEWER
from slmconform.package.problem import PackageProblem, several
from slmconform.package.references import declared
from slmconform.package.tensors import Header, parse
from slmconform.standard.catalogue import KNOWN_VERSIONS
from slmconform.standard.evidence import Evidence, TrainingRecord
from slmconform.standard.files import EVIDENCE, EVIDENCE_LIMIT, EVIDENCE_TENSORS, MANIFEST
from slmconform.standard.manifest import InterfaceSection, Manifest

if TYPE_CHECKING:
    from slmconform.package.read import Package

# What reports an entry that cannot be read as a file, by its kind.
UNREAD = {"stray-link": "SLM-PKG-001", "broken-link": "SLM-PKG-002", "special": "SLM-PKG-002"}


@check("SLM-MAN-001", stage=Stage.STATIC, needs=("SLM-MAN-002",))
def manifest_is_valid(package: Package) -> str:
    """The manifest is TOML in UTF-8 and satisfies the schema of its version."""
    problem = package.manifest_problem
    if problem and problem.code in VERSION_CODES:
        raise NotExamined("the schema of the declared version is not known here (SLM-MAN-002)")
    entry = package.folder.entries.get(MANIFEST)
    if problem and entry and entry.kind in UNREAD:
        raise BlockedBy(UNREAD[entry.kind])
    if problem:
        raise problem.finding()
    manifest = package.require_manifest()
    return f"{manifest.model.name} {manifest.model.version}, task {manifest.model.task}"


@check("SLM-MAN-002", stage=Stage.STATIC)
def version_is_known(package: Package) -> str:
    """The manifest declares a published version of the standard."""
    problem = package.manifest_problem
    if problem and problem.code == VERSION_NEWER:
        raise Inconclusive(
            f"spec {problem.got} is newer than {KNOWN_VERSIONS[-1]}, the newest known here: "
            "upgrade slmconform"
        )
    if problem and problem.code in VERSION_CODES:
        raise problem.finding()
    if problem:
        raise NotExamined(f"{MANIFEST} is not valid (SLM-MAN-001)")
    return f"version {package.require_manifest().spec}"


@check("SLM-MAN-003", stage=Stage.STATIC, needs=("SLM-MAN-001", "SLM-PKG-001", "SLM-PKG-002"))
def declared_files_exist(package: Package) -> str:
    """Every file of code or data that the manifest names exists."""
    named = declared(package.require_manifest())
    problems = []
    for path, where in named:
        try:
            package.folder.locate(path, where)
        except PackageProblem as problem:
            problems.append(problem)
    if problems:
        raise several(problems).finding()
    return f"{len(named)} files named, all there"


@check("SLM-MAN-004", stage=Stage.STATIC, needs=("SLM-MAN-001",))
def declarations_agree(package: Package) -> str:
    """Inputs, outputs, axes, capabilities, task and loader agree with each other."""
    manifest = package.require_manifest()
    if problems := disagreements(manifest):
        raise several(problems).finding()
    face = manifest.interface
    return f"{len(face.inputs)} inputs, {len(face.outputs)} outputs, {len(face.axes)} axes"


@check("SLM-MAN-005", stage=Stage.STATIC, needs=("SLM-MAN-001", "SLM-PKG-002"))
def evidence_belongs_to_the_package(package: Package) -> str:
    """Evidence satisfies its schema, matches its tensors, and names this model."""
    if package.evidence_problem:
        raise package.evidence_problem.finding()
    evidence, manifest = package.require_evidence(), package.require_manifest()
    header = _judge_tensor_file(package, evidence)
    _judge_model(evidence, manifest)
    _judge_probe(evidence, manifest, header)
    if evidence.training is not None:
        _judge_training(evidence, evidence.training, manifest, header)
    return f"recorded by {evidence.tool[:40]} for {', '.join(sorted(evidence.devices)) or 'none'}"


def _judge_tensor_file(package: Package, evidence: Evidence) -> Header:
    try:
        data = package.folder.read(EVIDENCE_TENSORS, EVIDENCE_LIMIT)
        with package.folder.open(EVIDENCE_TENSORS) as file:
            header = parse(file, EVIDENCE_TENSORS)
    except PackageProblem as problem:
        raise problem.finding() from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != evidence.evidence_tensors:
        raise Nonconformance(
            code="evidence-tensors",
            where=EVIDENCE_TENSORS,
            got=f"sha256 {digest[:16]}…",
            want=f"{evidence.evidence_tensors[:16]}…, as {EVIDENCE} says",
            why="the two files of the evidence are not from one recording",
            fix="restore both files, or record again: `slmconform record`",
        )
    return header


def _judge_probe(evidence: Evidence, manifest: Manifest, header: Header) -> None:
    """The recorded inputs and outputs are those that the manifest declares, in legal sizes."""
    face = manifest.interface
    declared = sorted(spec.name for spec in face.inputs)
    if sorted(evidence.inputs) != declared:
        _refuse_probe("inputs", ", ".join(evidence.inputs)[:200], ", ".join(declared))
    outputs = sorted(spec.name for spec in face.outputs)
    if sorted(row.name for row in evidence.outputs) != outputs:
        got = ", ".join(row.name for row in evidence.outputs)[:200]
        _refuse_probe("outputs", got, ", ".join(outputs))
    for spec in face.inputs:
        entry = header.tensors.get(f"input.{spec.name}")
        shape = entry.shape if entry else ()
        legal = len(shape) == len(spec.axes) and all(
            size == axis if isinstance(axis, int) else _within(face, axis, size)
            for axis, size in zip(spec.axes, shape, strict=False)
        )
        if not legal:
            _refuse_probe(f"inputs: {spec.name}", f"shape {list(shape)}", f"axes {spec.axes}")


def _within(face: InterfaceSection, axis: str, size: int) -> bool:
    declared = face.axes.get(axis)
    return declared is None or declared.min <= size <= declared.max


def _refuse_probe(key: str, got: str, want: str) -> NoReturn:
    raise Nonconformance(
        code="evidence-interface",
        where=f"{EVIDENCE}: {key}",
        got=got,
        want=f"{want}, as {MANIFEST} declares",
        why="the interface was declared otherwise when the evidence was recorded",
        fix="record again: `slmconform record`",
    )


def _judge_training(
    evidence: Evidence, training: TrainingRecord, manifest: Manifest, header: Header
) -> None:
    """As many losses as steps, everywhere; and batches of declared inputs with their labels."""
    steps = training.steps
    rows = {"training.losses": training.losses}
    for name, device in evidence.devices.items():
        if device.training is not None:
            at = f"devices.{name[:40]}.training"
            rows[f"{at}.losses"] = device.training.losses
            rows[f"{at}.envelope"] = device.training.envelope
    for key, values in rows.items():
        if len(values) != steps:
            _refuse_training(key, f"{len(values)} numbers", f"one for each of {steps} steps")
    specs = {spec.name: spec for spec in manifest.interface.inputs}
    if unknown := [name for name in training.inputs if name not in specs]:
        _refuse_training("training.inputs", unknown[0][:80], f"some of {', '.join(specs)}")
    first = _shape(header, f"batch.{training.inputs[0]}")
    count, size = (*first, 0, 0)[:2]
    if not 0 < count <= steps or not size:
        got = f"batch.{training.inputs[0]}: shape {list(first)}"
        _refuse_training("training.inputs", got, f"1 to {steps} batches of rows")
    for name in training.inputs:
        shape = _shape(header, f"batch.{name}")
        if shape[:2] != (count, size) or len(shape) != 1 + len(specs[name].axes):
            want = f"({count}, {size}, ...) with a row of axes {specs[name].axes}"
            _refuse_training("training.inputs", f"batch.{name}: shape {list(shape)}", want)
    for name in training.labels:
        shape = _shape(header, f"labels.{name}")
        wanted = (count, size // 2 if name == "pairs" else size)
        if shape[:2] != wanted:
            got, want = f"labels.{name}: shape {list(shape)}", f"{list(wanted)} and more"
            _refuse_training("training.labels", got, want)


def _shape(header: Header, name: str) -> tuple[int, ...]:
    """The shape of a tensor of the evidence, () where there is none."""
    entry = header.tensors.get(name)
    return tuple(entry.shape) if entry else ()


def _refuse_training(key: str, got: str, want: str) -> NoReturn:
    raise Nonconformance(
        code="evidence-training",
        where=f"{EVIDENCE}: {key}",
        got=got,
        want=want,
        why="the parts of the recorded training do not belong together",
        fix="restore both files of the evidence, or record again: `slmconform record`",
    )


def _judge_model(evidence: Evidence, manifest: Manifest) -> None:
    if evidence.spec not in KNOWN_VERSIONS:
        raise Nonconformance(
            code="evidence-spec",
            where=f"{EVIDENCE}: spec",
            got=evidence.spec,
            want=f"one of {', '.join(KNOWN_VERSIONS)}",
            fix="upgrade slmconform, or record again",
        )
    of, now = evidence.model, manifest.model
    for key, was, is_ in (
        ("name", of.name, now.name),
        ("version", of.version, now.version),
        ("task", of.task, now.task),
    ):
        if was != is_:
            raise Nonconformance(
                code="evidence-model",
                where=f"{EVIDENCE}: model.{key}",
                got=was[:200],
                want=f"{is_}, as {MANIFEST} says",
                why="the evidence was recorded for another model or version",
                fix="record again: `slmconform record`",
            )
