"""The paths that files of a package name, for those that some loader follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slmconform.package.problem import PackageProblem
from slmconform.package.weights import INDEX
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slmconform.package.read import Package

TOKENIZER_CONFIG = "tokenizer_config.json"
MODULES = "modules.json"
# Where a tokenizer was once saved; no loader opens it.
PROVENANCE = "special_tokens_map_file"


class Reference(NamedTuple):
    """A path and the place that names it."""

    path: str
    where: str


def references(package: Package) -> Iterator[Reference]:
    """Every path named by the index, the configurations and the manifest, if they are readable."""
    shards = sorted(set(package.weights.weight_map.values()))
    yield from (Reference(shard, f"{INDEX}: weight_map") for shard in shards)
    weights = (package.config or {}).get("transformers_weights")
    if isinstance(weights, str):
        yield Reference(weights, "config.json: transformers_weights")
    yield from _tokenizer(package)
    yield from _modules(package)
    if package.manifest:
        yield from declared(package.manifest)
        for at, variant in enumerate(package.manifest.variants):
            if variant.path is not None:
                yield Reference(variant.path, f"{MANIFEST}: variants[{at}].path")


def declared(manifest: Manifest) -> list[Reference]:
    """The files that the manifest names as part of every package: code and data."""
    found = [
        Reference(entry.rpartition(":")[0], f"{MANIFEST}: {key}")
        for key, entry in entries(manifest).items()
    ]
    found += [
        Reference(path, f"{MANIFEST}: loader.code[{at}]")
        for at, path in enumerate(manifest.loader.code)
    ]
    if manifest.training and manifest.training.data:
        found.append(Reference(manifest.training.data, f"{MANIFEST}: training.data"))
    return found + [
        Reference(one.data, f"{MANIFEST}: evaluation[{at}].data")
        for at, one in enumerate(manifest.evaluation)
    ]


def entries(manifest: Manifest) -> dict[str, str]:
    """The entry points into own code, by the key that names them."""
    training = manifest.training.entry if manifest.training else None
    named = {"loader.entry": manifest.loader.entry, "training.entry": training}
    return {key: entry for key, entry in named.items() if entry}


def _tokenizer(package: Package) -> Iterator[Reference]:
    for key, value in (package.table(TOKENIZER_CONFIG) or {}).items():
        place = f"{TOKENIZER_CONFIG}: {key}"
        if key.endswith("_file") and key != PROVENANCE and isinstance(value, str) and value:
            yield Reference(value, place)
        elif key == "fast_tokenizer_files" and isinstance(value, list):
            yield from (Reference(one, place) for one in value if isinstance(one, str))


def _modules(package: Package) -> Iterator[Reference]:
    """The folders of a sentence-transformers pipeline; an empty path is the top."""
    if MODULES not in package.folder.entries:
        return
    try:
        modules = package.json(MODULES)
    except PackageProblem:  # which SLM-CFG-001 reports
        return
    for module in modules if isinstance(modules, list) else ():
        path = module.get("path") if isinstance(module, dict) else None
        if isinstance(path, str) and path:
            yield Reference(path, f"{MODULES}: path")
