"""The declared variants of a model: what their files are, and whether the declarations agree."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmconform.package import gguf_header, onnx_model, tensors
from slmconform.package.folder import UnreadablePackage, scan
from slmconform.package.problem import PackageProblem
from slmconform.package.sharding import index_problems
from slmconform.package.weights import INDEX, Weights
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import InterfaceSection, Manifest, OutputSpec, VariantSection
from slmconform.standard.tasks import TASKS

if TYPE_CHECKING:
    from slmconform.package.folder import Folder
    from slmconform.package.read import Package

DYNAMIC = "dynamic-int8"
CONFIG = "config.json"
# Outputs whose last axis holds the scores of alternatives; any other output is a vector.
SCORES = frozenset({"logits", "start_logits", "end_logits", "scores"})
FLOATS = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class VariantFiles:
    """The files of one variant by path in the package, the one that is loaded first."""

    paths: tuple[str, ...]
    size: int

    def digest(self, folder: Folder) -> str:
        """sha256 of the one file, or over the rows (name, sha256) of several as compact JSON."""
        if len(self.paths) == 1:
            return folder.sha256(self.paths[0])
        top = posixpath.dirname(self.paths[0])
        rows = sorted([posixpath.relpath(p, top), folder.sha256(p)] for p in self.paths)
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def located(variant: VariantSection) -> str:
    """The path of a variant without `.` segments and trailing slashes; "" where it has none."""
    return posixpath.normpath(variant.path) if variant.path else ""


def read(package: Package, variant: VariantSection) -> VariantFiles:
    """The files of a variant that has some, each of its declared kind.

    Raises `PackageProblem`.
    """
    path, folder = located(variant), package.folder
    entry = folder.entries.get(path)
    if entry and entry.kind == "directory" and variant.kind == "safetensors":
        paths = _weights_in(package, path)
    else:
        where = f"{MANIFEST}: variants: {variant.name}"
        with folder.open(path, where) as file:
            if variant.kind == "gguf":
                gguf_header.parse(file, path)
                paths = [path]
            elif variant.kind == "onnx":
                paths = [path, *_external(folder, path, onnx_model.parse(file, path))]
            else:
                tensors.parse(file, path)
                paths = [path]
    return VariantFiles(tuple(paths), sum(folder.entries[one].size for one in paths))


def _weights_in(package: Package, path: str) -> list[str]:
    """Weight files of a directory, then index and configuration where it has them."""
    want = "a directory with model.safetensors, or shards with their index"
    try:
        inner = scan(package.root / path)
    except UnreadablePackage as error:
        raise PackageProblem("variant-empty", path, str(error), want) from None
    index = inner.json(INDEX) if INDEX in inner.entries else None
    weights = Weights(inner, index)
    if not weights.files:
        raise PackageProblem("variant-empty", path, "no weights", want, "save the weights there")
    for problem in (*weights.problems, *index_problems(weights, inner)):
        raise PackageProblem(
            problem.code, f"{path}/{problem.where}", problem.got, problem.want, problem.fix
        )
    more = [name for name in (INDEX, CONFIG) if name in inner.files()]
    return [f"{path}/{name}" for name in (*weights.files, *more)]


def _external(folder: Folder, path: str, locations: tuple[str, ...]) -> Iterator[str]:
    """Files beside an ONNX file that hold some of its tensors."""
    for location in locations:
        where = f"{path}: external data"
        if problem := folder.path_problem(location, where):
            raise problem
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), location))
        folder.locate(beside, where)
        yield beside


def files_of_variants(package: Package) -> frozenset[str]:
    """Every file that belongs to a variant: evidence keeps its digest with the variant."""
    found: set[str] = set()
    for variant in package.manifest.variants if package.manifest else ():
        if variant.path is None:
            continue
        found.add(located(variant))
        try:
            found.update(read(package, variant).paths)
        except PackageProblem:  # SLM-VAR-001 says what is wrong with it
            continue
    return frozenset(found)


def compared(task: str, interface: InterfaceSection) -> list[OutputSpec]:
    """The outputs that a variant is judged by.

    Those of the task; of a sentence embedding the embedding alone, because hidden states inside
    an exported model are its own affair; every floating-point one of the task ``tensor``.
    """
    wanted = set(TASKS[task].outputs) or {spec.name for spec in interface.outputs}
    if "sentence_embedding" in wanted:
        wanted = {"sentence_embedding"}
    return [s for s in interface.outputs if s.name in wanted and s.dtype in FLOATS]


def regression(manifest: Manifest) -> bool:
    """Whether the outputs are quantities rather than scores, as the recipe says."""
    return manifest.training is not None and manifest.training.loss == "mean-squared-error"


def variant_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    """What in the declared variants cannot hold."""
    names = [variant.name for variant in manifest.variants]
    for name in sorted({name for name in names if names.count(name) > 1}):
        got = f"{name} is declared {names.count(name)} times"
        yield _problem("variant-twice", "variants", got, "every name once", "rename one")
    for at, variant in enumerate(manifest.variants):
        where = f"variants[{at}]"
        if variant.kind == DYNAMIC and variant.path is not None:
            got, want = f"a path for {variant.name}", f"no path: {DYNAMIC} is made of the base"
            yield _problem("variant-path", f"{where}.path", got, want, "remove path")
        if variant.kind != DYNAMIC and variant.path is None:
            got = f"no path for {variant.name}"
            want = f"the {variant.kind} file of the variant"
            yield _problem("variant-path", where, got, want, "add path")
        yield from _bound_problems(manifest, variant, where)


def _bound_problems(
    manifest: Manifest, variant: VariantSection, where: str
) -> Iterator[PackageProblem]:
    bounds = ("max_kl", "top1_agreement", "min_cosine")
    given = [name for name in bounds if getattr(variant, name) is not None]
    if not given:
        got, want = f"no bound for {variant.name}", f"one of {', '.join(bounds)}"
        fix = "measure the variant and declare how far it may be from its base"
        yield _problem("variant-unbounded", where, got, want, fix)
    outputs = {spec.name for spec in compared(manifest.model.task, manifest.interface)}
    if (outputs & SCORES) and not regression(manifest):
        return
    for name in given:
        if name != "min_cosine":
            got = f"{name} for the outputs {', '.join(sorted(outputs)) or 'of no float dtype'}"
            yield _problem(
                "variant-bound",
                f"{where}.{name}",
                got,
                "min_cosine: these outputs are no scores of alternatives",
                "declare min_cosine instead",
            )


def _problem(code: str, key: str, got: str, want: str, fix: str) -> PackageProblem:
    return PackageProblem(code, f"{MANIFEST}: {key}", got, want, fix)
