"""The declared variants of a model: what their files are, and whether the declarations agree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmconform.package import tensors
from slmconform.package.folder import UnreadablePackage, scan
from slmconform.package.problem import PackageProblem, shown
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
WEIGHTS = "a directory with model.safetensors, or shards with their index"
SAVE = "save the weights there"
# Endings of files that the model itself may be read from: code, configuration, tokenizer, data.
READ = (".py", ".json", ".jsonl", ".toml", ".txt", ".model", ".spm", ".vocab", ".jinja")
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
                from slmconform.package import gguf_header

                gguf_header.parse(file, path)
                paths = [path]
            elif variant.kind == "onnx":
                from slmconform.package import onnx_model

                external = onnx_model.parse(file, path).external
                paths = [path, *_external(folder, path, external)]
            else:
                tensors.parse(file, path)
                paths = [path]
    return VariantFiles(tuple(paths), sum(_size(folder, one) for one in paths))


def _size(folder: Folder, path: str) -> int:
    """The bytes of a file that is part of the package, wherever links lead on the way to it."""
    located = folder.locate(path)
    if located.parent == folder.blobs:
        return located.stat().st_size
    real = located.relative_to(folder.root).as_posix()
    if real not in folder.entries:
        got, want = f"{shown(path)} stands in a folder that is left out", "a file of the package"
        raise PackageProblem("missing-file", path, got, want, "move it out of that folder")
    return folder.entries[real].size


def onnx_inputs(package: Package, variant: VariantSection) -> frozenset[str]:
    """The names of the inputs that an ONNX variant takes; raises `PackageProblem`."""
    from slmconform.package import onnx_model

    path = located(variant)
    with package.folder.open(path) as file:
        return onnx_model.parse(file, path).inputs


def _weights_in(package: Package, path: str) -> list[str]:
    """Weight files of a directory, then index and configuration where it has them."""
    try:
        inner = scan(package.root / path, package.folder.blobs)
    except UnreadablePackage as error:  # which names the place of the whole package
        got = str(error).removeprefix(f"{package.root / path}: ")
        raise PackageProblem("variant-empty", path, got, WEIGHTS, SAVE) from None
    try:
        weights = _whole(inner)
    except PackageProblem as problem:
        where = posixpath.normpath(f"{path}/{problem.where}")
        raise PackageProblem(
            problem.code, where, problem.got, problem.want, problem.fix, why=problem.why
        ) from None
    more = [name for name in (INDEX, CONFIG) if name in inner.files()]
    return [f"{path}/{name}" for name in (*weights.files, *more)]


def _whole(inner: Folder) -> Weights:
    """The weights in a directory by itself; raises `PackageProblem`."""
    weights = Weights(inner, inner.json(INDEX) if INDEX in inner.entries else None)
    if not weights.files:
        raise PackageProblem("variant-empty", ".", "no weights", WEIGHTS, SAVE)
    for problem in (*weights.problems, *index_problems(weights, inner)):
        raise problem
    return weights


def _external(folder: Folder, path: str, locations: Mapping[str, int]) -> Iterator[str]:
    """Files beside an ONNX file that hold some of its tensors, each once however it is named.

    ``locations`` says how many bytes each has to hold.
    """
    where = f"{path}: external data"
    itself = _identity(folder.locate(path).stat())
    seen = {itself}
    for location, end in locations.items():
        if problem := folder.path_problem(location, where):
            raise problem
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), location))
        status = folder.locate(beside, where).stat()
        if _identity(status) == itself:
            got, want = f"{shown(location)} is the model file itself", "a file of data beside it"
            raise PackageProblem("external-itself", where, got, want, "export the model again")
        if status.st_size < end:
            got, want = f"{shown(location)} holds {status.st_size} bytes", f"{end} bytes"
            fix = "the file is cut off: copy or export it again"
            raise PackageProblem("external-truncated", where, got, want, fix)
        if _identity(status) not in seen:
            seen.add(_identity(status))
            yield beside


def _identity(status: os.stat_result) -> tuple[int, int]:
    """What two names of one file have in common."""
    return status.st_dev, status.st_ino


def files_of_variants(package: Package) -> frozenset[str]:
    """Every file that belongs to a variant: evidence keeps its digest with the variant.

    What the model itself may be read from stays with the files of the package, whoever names it.
    """
    found: set[str] = set()
    for variant in package.manifest.variants if package.manifest else ():
        if variant.path is None:
            continue
        path = located(variant)
        named = {path}
        with contextlib.suppress(PackageProblem):  # SLM-VAR-001 says what is wrong with it
            named.update(read(package, variant).paths)
        found |= {
            one for one in named if one.startswith(f"{path}/") or not one.lower().endswith(READ)
        }
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
        vectors = ", ".join(sorted(outputs - SCORES))
        if given and vectors and variant.min_cosine is None:
            got = f"no bound for the output {vectors} of {variant.name}"
            want = "min_cosine: these outputs are no scores of alternatives"
            yield _problem("variant-unbounded", where, got, want, "declare min_cosine as well")
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
