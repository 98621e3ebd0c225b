"""VAR: the variants of a model are what they say, near enough to their base, and smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import (
    Nonconformance,
    NoReference,
    NotApplicable,
    Stage,
    Unanswered,
    check,
)
from slmconform.package.problem import PackageProblem, several
from slmconform.package.variants import DYNAMIC, VariantFiles, read

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.measure.variant_distance import Worst
    from slmconform.package.read import Package
    from slmconform.standard.manifest import VariantSection

READABLE = (
    "SLM-PKG-001",
    "SLM-PKG-002",
    "SLM-PKG-003",
    "SLM-PKG-006",
    "SLM-MAN-001",
    "SLM-MAN-004",
    "SLM-MAN-005",
)


@check("SLM-VAR-001", stage=Stage.STATIC, needs=READABLE)
def variants_are_what_they_say(package: Package) -> str:
    """The files of each variant exist, are of its kind, and have the recorded digest."""
    variants = _declared(package)
    files = _files(package, variants)
    evidence = package.evidence
    recorded = {row.name: row for row in evidence.variants} if evidence else {}
    for variant in variants:
        row = recorded.get(variant.name)
        if row is None or row.kind != variant.kind or variant.name not in files:
            continue
        digest = files[variant.name].digest(package.folder)
        if digest != row.sha256:
            raise Nonconformance(
                code="variant-changed",
                where=f"variant {variant.name}: {variant.path}",
                got=f"sha256 {digest[:16]}…",
                want=f"{(row.sha256 or 'none')[:16]}…, as recorded",
                why="the variant was made anew, or changed, after the recording",
                fix="restore it, or record again: `slmconform record`",
            )
    new = [v.name for v in variants if v.name not in recorded or recorded[v.name].kind != v.kind]
    if new:
        raise NoReference(f"not recorded: {', '.join(new)}; `slmconform record` records variants")
    return f"{len(variants)} variants, as recorded"


def _declared(package: Package) -> list[VariantSection]:
    variants = package.require_manifest().variants
    if not variants:
        raise NotApplicable("no variants are declared")
    return variants


def _files(package: Package, variants: list[VariantSection]) -> dict[str, VariantFiles]:
    """The files of the variants that have some, by name; raises `Nonconformance`."""
    files, problems = {}, []
    for variant in variants:
        if variant.path is not None:
            try:
                files[variant.name] = read(package, variant)
            except PackageProblem as problem:
                problems.append(problem)
    if problems:
        raise several(problems).finding()
    return files


@check("SLM-VAR-002", stage=Stage.DYNAMIC, needs=("SLM-VAR-001", "SLM-REF-001"))
def variants_stay_within_bounds(bench: Bench) -> str:
    """The outputs of each variant are within the declared bounds of those of its base."""
    from slmconform.measure.variant_distance import Worst, broken
    from slmconform.measure.variants import distances

    seen: list[str] = []
    unanswered: list[Unanswered] = []
    for variant in _declared(bench.package):
        try:
            found = distances(bench, variant.name)
        except Unanswered as signal:
            unanswered.append(signal)
            continue
        for finding in broken(variant, found):
            raise finding
        seen.append(f"{variant.name}: {_figures(Worst.of(found))}")
    if unanswered:
        raise type(unanswered[0])("; ".join([*(one.reason for one in unanswered), *seen]))
    return "; ".join(seen)


def _figures(found: Worst) -> str:
    parts = []
    if found.kl is not None and found.top1 is not None:
        parts += [f"KL {found.kl:.2g}", f"top choice {found.top1:.2%}"]
    return ", ".join([*parts, f"cosine {found.cosine:.6f}"])


@check("SLM-VAR-003", stage=Stage.STATIC, needs=("SLM-VAR-001", "SLM-WGT-001"))
def variants_are_smaller(package: Package) -> str:
    """Each variant takes fewer bytes than the weights of its base."""
    files = _files(package, _declared(package))
    if not files:
        raise NotApplicable(f"{DYNAMIC} variants are made on the fly and have no size")
    base = sum(package.folder.entries[path].size for path in package.weights.files)
    for name, one in files.items():
        if one.size >= base:
            raise Nonconformance(
                code="variant-larger",
                where=f"variant {name}: {one.paths[0]}",
                got=f"{one.size} bytes",
                want=f"fewer than the {base} bytes of the base's weights",
                fix="store the variant in a smaller dtype, or leave it out",
            )
    sizes = ", ".join(f"{name} {one.size / base:.2f}" for name, one in files.items())
    return f"size against the base: {sizes}"
