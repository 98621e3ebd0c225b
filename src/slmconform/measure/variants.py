"""How far the outputs of each variant are from those of its base on the typical probe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from slmconform.engine.registry import Inconclusive, Nonconformance, Unanswered
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import describe
from slmconform.measure.forward import native
from slmconform.model import probes, variants
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.package.variants import (
    DYNAMIC,
    SCORES,
    compared,
    located,
    read,
    regression,
)
from slmconform.standard.evidence import VariantRecord
from slmconform.standard.manifest import OutputSpec, VariantSection

LIBRARIES = {
    DYNAMIC: ("torch",),
    "safetensors": ("torch", "safetensors"),
    "onnx": ("onnxruntime",),
    "gguf": ("torch", "gguf"),
}


@dataclass(frozen=True)
class Distance:
    """A variant against its base over ``positions``; None where the outputs have no such measure.

    ``kl``: mean KL(base || variant) in nats; ``agreeing``: positions with the same arg-max;
    ``cosine`` and ``mean_cosine``: least and mean cosine of ``vectors`` output vectors.
    """

    kl: float | None = None
    agreeing: int = 0
    positions: int = 0
    cosine: float | None = None
    mean_cosine: float | None = None
    vectors: int = 0

    @property
    def top1(self) -> float | None:
        """The share of positions with the same arg-max."""
        return self.agreeing / self.positions if self.positions else None


def outputs_of(bench: Bench, variant: VariantSection) -> Outputs:
    """Outputs of a variant for the typical probe.

    Raises `Nonconformance` where it cannot be loaded or run, or tensors do not fit, and
    `NoReference` where the library that runs it is not installed.
    """
    inputs = bench.inputs("typical")
    bench.count()
    try:
        if variant.kind == "onnx":
            return variants.run_onnx(bench.package.root / located(variant), bench.model, inputs)
        loaded = _loaded(bench, variant)
        left = variants.unfit(loaded.loading)
        if left:
            raise Nonconformance(
                code="variant-incomplete",
                got="; ".join(left),
                want="every tensor of the model, and no other",
                where=f"variant {variant.name}: {variant.path}",
                why="what is missing keeps the values of the base, or gets random ones",
                fix="save all tensors of the variant, under the names of the base",
            )
        return loaded.forward(inputs)
    except CandidateError as error:
        raise Nonconformance(
            code="variant-broken",
            got=str(error),
            want="a variant that loads and runs on the inputs of its base",
            where=f"variant {variant.name}: {variant.path or variant.kind}",
            fix="export it again, with the inputs that the interface declares",
        ) from error


def _loaded(bench: Bench, variant: VariantSection) -> LoadedModel:
    root = bench.package.root
    if variant.kind == "safetensors":
        at = bench.options.scratch / f"variant-{len(list(bench.options.scratch.iterdir()))}"
        return bench.load(variants.assemble(root, root / located(variant), at))
    model = bench.load(root)
    if variant.kind == "gguf":
        return variants.fill_from_gguf(model, root / located(variant))
    if not variants.quantise(model):
        raise Inconclusive(f"variant {variant.name}: no linear layer that could be quantised")
    return model


@measurement
def distance(bench: Bench, name: str) -> Distance:
    """A declared variant, by its name, against its base in the shipped dtype."""
    variant = next(v for v in bench.package.require_manifest().variants if v.name == name)
    specs = compared(bench.task, bench.interface)
    if not specs:
        raise Inconclusive(f"variant {name}: no floating-point output to compare")
    base, got = native(bench, "typical"), outputs_of(bench, variant)
    rows = {spec.name: _rows(bench, variant, spec, base, got) for spec in specs}
    scores = {n: pair for n, pair in rows.items() if n in SCORES and not _quantities(bench)}
    found = _alternatives(scores, binary=_binary(bench)) if scores else Distance()
    vectors = {n: pair for n, pair in rows.items() if n not in scores} or rows
    cosines = torch.cat([_cosines(*pair) for pair in vectors.values()])
    return Distance(
        kl=found.kl,
        agreeing=found.agreeing,
        positions=found.positions,
        cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        vectors=cosines.numel(),
    )


def _quantities(bench: Bench) -> bool:
    return regression(bench.package.require_manifest())


def _binary(bench: Bench) -> bool:
    """Whether each score is a yes or no of its own rather than one of several alternatives."""
    training = bench.package.require_manifest().training
    if training is not None and training.loss == "binary-cross-entropy":
        return True
    return (bench.package.config or {}).get("problem_type") == "multi_label_classification"


def _rows(
    bench: Bench, variant: VariantSection, spec: OutputSpec, base: Outputs, got: Outputs
) -> tuple[Tensor, Tensor]:
    """Both outputs in float64, (counted positions, values); uncounted values are -inf."""
    want = base[spec.name].detach().cpu().double()
    if spec.name not in got:
        raise _unlike(variant, f"no output {spec.name}", f"{spec.name}, as the interface declares")
    value = got[spec.name].detach().cpu().double()
    if value.shape != want.shape:
        raise _unlike(variant, f"{spec.name}: {describe(value)}", describe(want))
    lower = value.isneginf() & (want.isneginf() if spec.negative_infinity else False)
    if not bool((value.isfinite() | lower).all()):
        many = int((~(value.isfinite() | lower)).sum())
        raise _unlike(variant, f"{spec.name}: {many} values not finite", "finite outputs")
    counted = _counted(bench, spec, want)
    keep = counted.flatten(0, -2).any(-1)
    return tuple(
        torch.where(counted, one, -torch.inf).flatten(0, -2)[keep] for one in (want, value)
    )  # type: ignore[return-value]


def _unlike(variant: VariantSection, got: str, want: str) -> Nonconformance:
    return Nonconformance(
        code="variant-outputs",
        got=got,
        want=want,
        where=f"variant {variant.name}: {variant.path or variant.kind}",
        fix="export it again, with the outputs of its base",
    )


def _counted(bench: Bench, spec: OutputSpec, value: Tensor) -> Tensor:
    """Which values count: those at positions that the mask keeps, if it runs along the output."""
    mask = probes.by_role(bench.interface, "mask")
    if mask is None or spec.axes[: len(mask.axes)] != mask.axes:
        return torch.ones_like(value, dtype=torch.bool)
    real = bench.inputs("typical")[mask.name].cpu().bool()
    return real.reshape(*real.shape, *[1] * (value.dim() - real.dim())).expand_as(value)


def _alternatives(pairs: Mapping[str, tuple[Tensor, Tensor]], *, binary: bool) -> Distance:
    """Divergence and agreement of scores, over the positions of all outputs together."""
    divergences, agreements = [], []
    for pair in pairs.values():
        base, got = pair
        if binary or base.shape[-1] == 1:
            real = base.isfinite()
            base, got = (_two_classes(one[real]) for one in pair)
        best = base.amax(-1, keepdim=True)
        agreements.append(base.gather(-1, got.argmax(-1, keepdim=True)) == best)  # ties agree
        divergences.append(divergence(base, got))
    kl, agree = torch.cat(divergences), torch.cat(agreements)
    return Distance(kl=float(kl.mean()), agreeing=int(agree.sum()), positions=kl.numel())


def _two_classes(logits: Tensor) -> Tensor:
    """(n,) -> (n, 2): scores of no and yes whose softmax is the sigmoid."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def divergence(base: Tensor, got: Tensor) -> Tensor:
    """KL(softmax(base) || softmax(got)) in nats of each row, (rows, classes) -> (rows,)."""
    p, q = functional.log_softmax(base, -1), functional.log_softmax(got, -1)
    terms = torch.where(p.isneginf(), 0.0, p.exp() * (p - q))
    return terms.sum(-1).clamp(min=0.0)


def _cosines(base: Tensor, got: Tensor) -> Tensor:
    """The cosine of each row; of one value a position, that of the whole column."""
    one, other = (torch.where(t.isfinite(), t, 0.0) for t in (base, got))
    if base.shape[-1] == 1:
        one, other = one.T, other.T
    dot = (one * other).sum(-1)
    norms = one.norm(dim=-1) * other.norm(dim=-1)
    same = ((one == 0).all(-1) & (other == 0).all(-1)).double()  # nothing against nothing
    return torch.where(norms > 0, dot / norms.clamp(min=math.ulp(0.0)), same).clamp(-1.0, 1.0)


def records(bench: Bench) -> list[VariantRecord]:
    """One record a declared variant, for evidence; without figures where it cannot be run."""
    manifest = bench.package.manifest
    return [_record(bench, variant) for variant in manifest.variants] if manifest else []


def _record(bench: Bench, variant: VariantSection) -> VariantRecord:
    package = bench.package
    files = read(package, variant) if variant.path else None
    try:
        found: Distance | None = distance(bench, variant.name)
        libraries = variants.versions(*LIBRARIES[variant.kind])
    except Unanswered:
        found, libraries = None, {}
    return VariantRecord(
        name=variant.name,
        kind=variant.kind,
        sha256=files.digest(package.folder) if files else None,
        size=files.size if files else None,
        base_size=base_size(bench),
        kl=found.kl if found else None,
        top1=found.top1 if found else None,
        cosine=found.cosine if found else None,
        libraries=libraries,
    )


def base_size(bench: Bench) -> int:
    """The bytes of the base's weight files."""
    folder = bench.package.folder
    return sum(folder.entries[path].size for path in bench.package.weights.files)


def broken(variant: VariantSection, found: Distance) -> Iterator[Nonconformance]:
    """Every declared bound that a variant is outside of."""
    for key, got, bound, code in (
        ("max_kl", found.kl, variant.max_kl, "kl-exceeded"),
        ("top1_agreement", found.top1, variant.top1_agreement, "top1-below"),
        ("min_cosine", found.cosine, variant.min_cosine, "cosine-below"),
    ):
        if bound is None or got is None or (got <= bound if key == "max_kl" else got >= bound):
            continue
        yield Nonconformance(
            code=code,
            got=_words(key, got, found),
            want=f"<= {bound:g}" if key == "max_kl" else f">= {bound:g}",
            where=f"slm.toml: variants: {variant.name}: {key}",
            why=f"the outputs of {variant.path or variant.kind} on the recorded inputs are "
            "further from those of the base than declared",
            fix="make the variant of this base, or declare what was measured",
        )


def _words(key: str, got: float, found: Distance) -> str:
    if key == "max_kl":
        return f"mean KL {got:.4g} nats over {found.positions} positions"
    if key == "top1_agreement":
        return f"the same top choice at {found.agreeing} of {found.positions} positions"
    return f"least cosine {got:.6f} of {found.vectors} vectors (mean {found.mean_cosine:.6f})"
