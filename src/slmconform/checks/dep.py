"""DEP: what a package needs is declared, can be had together, and is here."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

from slmconform.engine.registry import NotApplicable, Stage, check
from slmconform.package import code, dependencies
from slmconform.package.problem import PackageProblem, printable, several
from slmconform.standard.files import MANIFEST

if TYPE_CHECKING:
    from slmconform.package.code import Import
    from slmconform.package.dependencies import Dependencies, Dependency
    from slmconform.package.read import Package

# What can be a lock file: a package without any need not pay for reading them.
LOCK = re.compile(r"(requirements[^/]*\.txt|(^|/)pylock[^/]*\.toml|\.lock)$")


@check("SLM-DEP-001", stage=Stage.STATIC, needs=("SLM-MAN-001",))
def dependencies_are_named(package: Package) -> str:
    """Every dependency is a name and a version range."""
    declared = _declared(package)
    return f"{len(declared.requires)} requirements by name, python {declared.python or 'any'}"


@check("SLM-DEP-002", stage=Stage.STATIC, needs=("SLM-DEP-001",))
def dependencies_are_compatible(package: Package) -> str:
    """The declared version ranges have a common solution."""
    declared = _declared(package)
    problem = dependencies.conflict(declared)
    if problem:
        raise problem.finding()
    return f"ranges of {len(declared.names)} distributions, none of them contradictory"


@check("SLM-DEP-003", stage=Stage.STATIC, needs=("SLM-DEP-002",))
def environment_satisfies_dependencies(package: Package) -> str:
    """The environment satisfies every declared dependency."""
    declared = _declared(package)
    problems = dependencies.unsatisfied(declared)
    if problems:
        raise several(problems).finding()
    here = {one.name: dependencies.installed(one.name) for one in declared.requires if one.applies}
    found = [f"{name} {one.version}" for name, one in here.items() if one]
    return ", ".join([f"python {platform.python_version()}", *found])


@check("SLM-DEP-004", stage=Stage.STATIC, needs=("SLM-DEP-003",))
def dependencies_have_lower_bounds(package: Package) -> str:
    """Every dependency has a lower bound."""
    declared = _declared(package)
    problems = [
        PackageProblem(
            "no-lower-bound",
            one.where,
            str(one.requirement),
            f"a lower bound, such as {one.name}>=1.0",
            "state the oldest version that the model was tried with",
            why="an installer may choose any version, however old",
        )
        for one in dependencies.unbounded(declared)
    ]
    if problems:
        raise several(problems).finding()
    if not declared.requires:
        raise NotApplicable("the manifest declares no dependency")
    return f"{len(declared.requires)} lower bounds"


@check("SLM-DEP-005", stage=Stage.STATIC, needs=("SLM-DEP-001", "SLM-PKG-005"))
def imports_are_declared(package: Package) -> str:
    """Everything that code and loader import is declared."""
    declared = _declared(package)
    kind = package.require_manifest().loader.kind
    missing = [name for name in dependencies.LOADER_NEEDS[kind] if name not in declared.names]
    problems = [_undeclared_loader(kind, name) for name in missing]
    try:
        wanted = _demanded(package)
    except PackageProblem as problem:
        raise problem.finding() from None
    for one in wanted:
        providers = code.distributions(one.module)
        if not providers & declared.names and not providers & set(missing):
            problems.append(_undeclared(one, min(providers)))
            missing += sorted(providers)
    if problems:
        raise several(problems).finding()
    seen = f"{len(wanted)} imports in {len(package.sources)} files" if package.sources else ""
    return f"loader {kind} declared" + (f", {seen}" if seen else ", no code in the package")


@check("SLM-DEP-006", stage=Stage.STATIC, needs=("SLM-DEP-003", "SLM-DEP-005"))
def dependencies_are_used(package: Package) -> str:
    """Every declared dependency is used by the code or by what loads it."""
    declared = _declared(package)
    if not package.sources:
        raise NotApplicable("no code in the package: what its libraries use is not known here")
    if path := next((p for p in package.sources if _by_variable(package, p)), ""):
        raise NotApplicable(f"{printable(path)} imports by a name that only running it tells")
    imported = {name for one in _foreign(package) for name in code.distributions(one.module)}
    kind = package.require_manifest().loader.kind
    unused = dependencies.unused(declared, frozenset(imported), kind)
    problems = [_unused(one) for one in unused if code.importable(one.name)]
    if problems:
        raise several(problems).finding()
    return f"{len(declared.names)} dependencies, none of them idle"


@check("SLM-DEP-007", stage=Stage.STATIC, needs=("SLM-PKG-001", "SLM-PKG-002"))
def locks_have_hashes(package: Package) -> str:
    """Every lock file gives a hash for what it pins."""
    if not any(map(LOCK.search, package.folder.files())):
        raise NotApplicable("no lock file in the package")
    from slmconform.package import lock_files

    problems, count = lock_files.problems(package.folder)
    if problems:
        raise several(problems).finding()
    if not count:
        raise NotApplicable("no lock file in the package")
    return f"{count} lock files with hashes"


def _declared(package: Package) -> Dependencies:
    try:
        return dependencies.read(package.require_manifest().dependencies)
    except PackageProblem as problem:
        raise problem.finding() from None


def _demanded(package: Package) -> list[Import]:
    """The imports that somebody else's distribution has to provide."""
    return [one for one in _foreign(package) if not one.optional]


def _foreign(package: Package) -> list[Import]:
    """The imports of the package's code from outside it, optional ones too."""
    size = sum(package.folder.entries[path].size for path in package.sources)
    if size > code.SOURCES_LIMIT:
        raise PackageProblem(
            "too-much-code",
            package.sources[0],
            f"{len(package.sources)} source files of {size} bytes",
            f"at most {code.SOURCES_LIMIT} bytes",
            "keep in the package what the model needs",
        )
    own = code.own_modules(package.sources)
    found: list[Import] = []
    for path in package.sources:
        found += code.imports(package.folder.read(path, code.SOURCE_LIMIT), path)
    return code.foreign(found, own)


def _by_variable(package: Package, path: str) -> bool:
    return code.imports_by_variable(package.folder.read(path, code.SOURCE_LIMIT), path)


def _undeclared_loader(kind: str, name: str) -> PackageProblem:
    return PackageProblem(
        "undeclared-loader",
        f"{MANIFEST}: dependencies.requires",
        f"{name} is not declared",
        f"{name} with a version range, for loader.kind is {kind!r}",
        f"add {name} to dependencies.requires",
    )


def _undeclared(one: Import, provider: str) -> PackageProblem:
    return PackageProblem(
        "undeclared-import",
        f"{one.path}:{one.line}",
        f"imports {one.top}, which no declared dependency provides",
        f"{provider} in dependencies.requires of {MANIFEST}",
        f"declare {provider}, or import it under `try` with a handler for ImportError",
    )


def _unused(one: Dependency) -> PackageProblem:
    return PackageProblem(
        "unused-dependency",
        one.where,
        f"{one.name} is declared, and neither the code nor its loader uses it",
        "dependencies that the model needs",
        f"remove {one.name}, or import it where it is needed",
        why="everybody who uses the model installs it",
    )
