"""The paths that files of a package name, for those that some loader follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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


def declared(manifest: Manifest) -> list[Reference]:
    """The files that the manifest names."""
    entry = manifest.loader.entry
    found = [Reference(entry.rpartition(":")[0], f"{MANIFEST}: loader.entry")] if entry else []
    return found + [
        Reference(path, f"{MANIFEST}: loader.code[{at}]")
        for at, path in enumerate(manifest.loader.code)
    ]


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
    modules = package.json(MODULES)
    for module in modules if isinstance(modules, list) else ():
        path = module.get("path") if isinstance(module, dict) else None
        if isinstance(path, str) and path:
            yield Reference(path, f"{MODULES}: path")
