"""CFG: strict JSON, dimensions in bounds, no remote code, agreement with weights and manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import (
    Nonconformance,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)
from slmconform.package.configuration import (
    agreement_problems,
    dimension_problems,
    remote_code_problems,
)
from slmconform.package.formats import executable
from slmconform.package.problem import PackageProblem, several, shown
from slmconform.package.read import CONFIG
from slmconform.standard.files import EVIDENCE

if TYPE_CHECKING:
    from slmconform.package.read import Package

# What has to hold before a model is built from the package.
LOADABLE = (
    "SLM-PKG-001",
    "SLM-PKG-002",
    "SLM-MAN-001",
    "SLM-MAN-002",
    "SLM-MAN-003",
    "SLM-MAN-004",
    "SLM-WGT-001",
    "SLM-WGT-002",
    "SLM-WGT-005",
    "SLM-CFG-001",
    "SLM-CFG-002",
    "SLM-CFG-003",
    "SLM-CFG-004",
)


@check("SLM-CFG-001", stage=Stage.STATIC, needs=("SLM-PKG-001", "SLM-PKG-002"))
def json_is_strict(package: Package) -> str:
    """Every JSON file is strict JSON within the limits; evidence has its own requirement."""
    problems = []
    read = [p for p in package.folder.files() if p.endswith(".json") and p != EVIDENCE]
    for path in read:
        try:
            package.json(path)
        except PackageProblem as problem:
            if not executable(package.folder, path):  # which SLM-PKG-003 reports
                problems.append(problem)
    if problems:
        raise several(problems).finding()
    return f"{len(read)} JSON files"


@check("SLM-CFG-002", stage=Stage.STATIC, needs=("SLM-CFG-001",))
def dimensions_are_in_bounds(package: Package) -> str:
    """Every dimension is a positive integer below its ceiling, and heads divide the width."""
    config = _config(package)
    if problems := dimension_problems(config, CONFIG):
        raise several(problems).finding()
    return f"model type {shown(config['model_type'])}" if "model_type" in config else "in bounds"


@check("SLM-CFG-003", stage=Stage.STATIC, needs=("SLM-CFG-001",))
def no_remote_code(package: Package) -> str:
    """No configuration asks for code from elsewhere."""
    problems, read = [], 0
    for path in package.folder.files():
        if path.endswith(".json") and "config" in path.rpartition("/")[2]:
            read += 1
            problems += remote_code_problems(package.table(path), path)
    if problems:
        raise several(problems).finding()
    return f"{read} configuration files"


@check(
    "SLM-CFG-004",
    stage=Stage.STATIC,
    needs=("SLM-CFG-002", "SLM-WGT-001", "SLM-WGT-002", "SLM-WGT-005"),
)
def configuration_agrees_with_weights(package: Package) -> str:
    """Vocabulary size, hidden size and number of layers are those of the tensors."""
    config = _config(package)
    if "model_type" not in config or (package.manifest and package.manifest.loader.entry):
        raise NotApplicable("the configuration is not one of transformers")
    if problems := agreement_problems(config, package.weights.tensors, CONFIG):
        raise several(problems).finding()
    return f"{len(package.weights.tensors)} tensors"


@check("SLM-CFG-005", stage=Stage.STATIC, needs=("SLM-MAN-001", "SLM-CFG-002"))
def architecture_is_the_declared_class(package: Package) -> str:
    """The declared class is one of the architectures of the configuration."""
    loader = package.require_manifest().loader
    if loader.kind != "transformers" or loader.class_ is None:
        raise NotApplicable("the manifest declares no class of transformers")
    listed = _config(package).get("architectures") or []
    if isinstance(listed, list) and loader.class_ in listed:
        return loader.class_
    raise Nonconformance(
        code="architecture",
        where=f"{CONFIG}: architectures",
        got=shown(repr(listed)),
        want=f"{loader.class_}, the class of slm.toml",
        fix="correct loader.class, or save the model with that class",
    )


def _config(package: Package) -> dict[str, object]:
    """The configuration; raises the signal or the finding that its absence stands for."""
    if package.config is not None:
        return package.config
    if CONFIG not in package.folder.entries:
        raise NotApplicable(f"there is no {CONFIG}")
    try:
        value = package.json(CONFIG)
    except PackageProblem:
        raise NotExamined(f"{CONFIG} cannot be read (SLM-PKG-003)") from None
    raise PackageProblem(
        "not-an-object",
        CONFIG,
        f"a JSON {type(value).__name__}",
        "a JSON object",
        "restore the configuration of the model",
    ).finding()
