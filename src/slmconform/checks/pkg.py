"""PKG: paths, entries, forbidden serialisations, recorded files, declared code, exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import Nonconformance, NotApplicable, Stage, check
from slmconform.package import exports
from slmconform.package.formats import executable
from slmconform.package.problem import PackageProblem, printable, several, shown
from slmconform.package.references import declared, references
from slmconform.package.variants import files_of_variants

if TYPE_CHECKING:
    from slmconform.package.read import Package

LINK_OUTSIDE = "link-outside"


@check("SLM-PKG-001", stage=Stage.STATIC)
def paths_stay_inside(package: Package) -> str:
    """Every path that a file of the package names leads to a place inside it."""
    problems = [p for p in package.folder.problems if p.code == LINK_OUTSIDE]
    named = list(references(package))
    for path, where in named:
        if problem := package.folder.path_problem(path, where):
            problems.append(problem)
    if problems:
        raise several(problems).finding()
    return f"{len(named)} named paths, all inside the package"


@check("SLM-PKG-002", stage=Stage.STATIC)
def entries_are_regular(package: Package) -> str:
    """Every entry is a regular file, a directory, or a link to one of these inside."""
    problems = [p for p in package.folder.problems if p.code != LINK_OUTSIDE]
    if problems:
        raise several(problems).finding()
    files = package.folder.files()
    size = sum(package.folder.entries[path].size for path in files)
    return f"{len(files)} files of {size / 1e6:.1f} MB"


@check("SLM-PKG-003", stage=Stage.STATIC)
def nothing_is_executable(package: Package) -> str:
    """No file is in a serialisation that can run code or expand without bound when read."""
    from slmconform.package.pickles import Patience

    problems, patience = [], Patience()
    files = package.folder.files()
    for path in files:
        try:
            found = executable(package.folder, path, patience)
        except PackageProblem as problem:
            problems.append(problem)
            continue
        if found:
            problems.append(
                PackageProblem(
                    "executable-format",
                    path,
                    f"a {found.format}: {found.evidence}",
                    "weights as safetensors, data as JSON or text",
                    "remove the file; convert weights with safetensors",
                    why="reading it can run code or expand without bound",
                )
            )
    if problems:
        raise several(problems).finding()
    return f"{len(files)} files looked into"


@check(
    "SLM-PKG-004",
    stage=Stage.STATIC,
    needs=(
        "SLM-PKG-001",
        "SLM-PKG-002",
        "SLM-PKG-003",
        "SLM-PKG-005",
        "SLM-PKG-006",
        "SLM-MAN-005",
        "SLM-CFG-001",
        "SLM-CFG-002",
        "SLM-CFG-003",
        "SLM-CFG-004",
    ),
)
def files_are_those_recorded(package: Package) -> str:
    """The files that evidence lists are there, unchanged, and no others."""
    recorded = {record.path: record for record in package.require_evidence().files}
    variants = files_of_variants(package)
    present = [path for path in package.folder.recorded() if path not in variants]
    differences = [("file-gone", path) for path in sorted(recorded.keys() - set(present))]
    differences += [("file-added", path) for path in present if path not in recorded]
    for path in present:
        record = recorded.get(path)
        if record and (
            package.folder.entries[path].size != record.size
            or package.folder.sha256(path) != record.sha256
        ):
            differences.append(("file-changed", path))
    if not differences:
        return f"{len(present)} files, byte for byte"
    state = {"file-gone": "is gone", "file-added": "is new", "file-changed": "has changed"}
    raise Nonconformance(
        code=differences[0][0],
        got="; ".join(f"{shown(path)} {state[code]}" for code, path in differences[:5])
        + (f"; and {len(differences) - 5} more" if len(differences) > 5 else ""),
        want="the files of the recording",
        where=printable(differences[0][1]),
        fix="restore the files, or record again: `slmconform record`",
    )


@check("SLM-PKG-005", stage=Stage.STATIC, needs=("SLM-MAN-001",))
def code_is_declared(package: Package) -> str:
    """Every Python source file is declared in the manifest."""
    known = {path for path, _ in declared(package.require_manifest())}
    undeclared = [path for path in package.sources if path not in known]
    if not undeclared:
        return f"{len(package.sources)} source files, all declared"
    listed = ", ".join(f'"{path}"' for path in undeclared[:5])
    raise Nonconformance(
        code="undeclared-code",
        got=f"{len(undeclared)} undeclared: {shown(listed)}",
        want="every .py file in loader.entry or loader.code",
        where=printable(undeclared[0]),
        fix=f"add code = [{printable(listed)}] to [loader], or remove the files",
    )


@check("SLM-PKG-006", stage=Stage.STATIC, needs=("SLM-PKG-003",))
def exports_are_well_formed(package: Package) -> str:
    """Every GGUF and ONNX file is well-formed within the limits of the standard."""
    found, problems = exports.exports(package.folder), []
    if not found:
        raise NotApplicable("the package holds no GGUF and no ONNX file")
    for path in found:
        try:
            exports.judge(package.folder, path)
        except PackageProblem as problem:
            problems.append(problem)
    if problems:
        raise several(problems).finding()
    return f"{len(found)} files"
