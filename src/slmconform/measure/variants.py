"""How far the outputs of each variant are from those of its base on the recorded inputs.

Where the manifest declares padding, both are also run on these inputs cut to different lengths,
padded and masked: with nothing masked, a variant that ignores its mask is as near as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from slmconform.engine.registry import (
    Inconclusive,
    Nonconformance,
    NotApplicable,
    Unanswered,
)
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import describe
from slmconform.measure.forward import native
from slmconform.measure.invariance import batch_of, padded_lengths, width_of
from slmconform.measure.variant_distance import Distance, Worst, alternatives, cosines_of
from slmconform.model import probes, variants
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.model.probes import Inputs
from slmconform.package.variants import (
    DYNAMIC,
    SCORES,
    compared,
    located,
    onnx_inputs,
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
class Probe:
    """Inputs that base and variant are run on; ``real``, (rows, tokens), is what is not masked."""

    on: str
    inputs: Inputs
    real: Tensor | None = None


@measurement
def probes_of(bench: Bench) -> list[Probe]:
    """The recorded inputs, and the same padded where padding is declared."""
    whole = Probe("the recorded inputs", bench.inputs("typical"))
    sides = bench.interface.capabilities.padding
    if not sides or probes.by_role(bench.interface, "mask") is None:
        return [whole]
    try:
        return [whole, _padded(bench, "right" if "right" in sides else "left")]
    except NotApplicable:  # the interface allows one length alone
        return [whole]


def _padded(bench: Bench, side: str) -> Probe:
    """The rows of the recorded inputs, each cut to a length of its own, padded and masked."""
    typical, width, some = bench.inputs("typical"), width_of(bench), padded_lengths(bench)
    lengths = [some[row % len(some)] for row in range(batch_of(bench))]
    singles = [
        probes.cut(bench.interface, probes.rows(typical, [row]), length, bench.rules)
        for row, length in enumerate(lengths)
    ]
    inputs = probes.padded(bench.interface, singles, width, side, bench.rules)
    places, many = torch.arange(width), torch.tensor(lengths)[:, None]
    real = places < many if side == "right" else places >= width - many
    positions = probes.by_role(bench.interface, "positions")
    if side == "left" and positions is not None:
        inputs[positions.name] = probes.positions_of(real).to(inputs[positions.name].dtype)
    return Probe(f"the recorded inputs, padded on the {side}", inputs, real)


@measurement
def bases(bench: Bench) -> list[Outputs]:
    """Outputs of the base for each probe, in the shipped dtype."""
    found = [native(bench, "typical")]
    for probe in probes_of(bench)[1:]:
        try:
            found.append(bench.native(_copied(probe.inputs)))
        except CandidateError as error:  # told by SLM-INV-004 or SLM-INV-005
            raise Inconclusive(f"the base does not run on {probe.on}: {error}") from error
    return found


def _copied(inputs: Inputs) -> Inputs:
    return {name: value.clone() for name, value in inputs.items()}


def outputs_of(bench: Bench, variant: VariantSection) -> list[Outputs]:
    """Outputs of a variant for each probe.

    Raises `Nonconformance` where it cannot be loaded or run, or tensors do not fit, and
    `NoReference` where the library that runs it is not installed.
    """
    try:
        run = _runner(bench, variant)
        bench.count(len(probes_of(bench)))
        return [run(_copied(probe.inputs)) for probe in probes_of(bench)]
    except CandidateError as error:
        raise Nonconformance(
            code="variant-broken",
            got=str(error),
            want="a variant that loads and runs on the inputs of its base",
            where=_place(variant),
            fix="export it again, with the inputs that the interface declares",
        ) from error


def _runner(bench: Bench, variant: VariantSection) -> Callable[[Inputs], Outputs]:
    """What runs a variant once on some inputs."""
    if variant.kind == "onnx":
        _takes_masks(bench, variant)
        path = bench.package.root / located(variant)
        return lambda inputs: variants.run_onnx(path, bench.model, inputs)
    loaded = _loaded(bench, variant)
    left = variants.unfit(loaded.loading)
    if left:
        raise Nonconformance(
            code="variant-incomplete",
            got="; ".join(left),
            want="every tensor of the model, and no other",
            where=_place(variant),
            why="what is missing keeps the values of the base, or gets random ones",
            fix="save all tensors of the variant, under the names of the base",
        )
    return loaded.forward


def _takes_masks(bench: Bench, variant: VariantSection) -> None:
    """An ONNX file has to take the masks without which padding counts as text."""
    if not bench.interface.capabilities.padding:
        return
    masks = {spec.name for spec in bench.interface.inputs if probes.role(spec) == "mask"}
    left = sorted(masks - onnx_inputs(bench.package, variant))
    if left:
        raise Nonconformance(
            code="variant-mask",
            got=f"it does not take the input {', '.join(left)}",
            want="every mask that the interface declares, since padding is declared",
            where=_place(variant),
            why="it cannot tell padded places from text",
            fix="export it again, with the mask as an input",
        )


def _place(variant: VariantSection) -> str:
    return f"variant {variant.name}: {variant.path or variant.kind}"


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
def distances(bench: Bench, name: str) -> list[Distance]:
    """A declared variant, by its name, against its base: each output on each probe."""
    variant = next(v for v in bench.package.require_manifest().variants if v.name == name)
    specs = compared(bench.task, bench.interface)
    if not specs:
        raise Inconclusive(f"variant {name}: no floating-point output to compare")
    runs = zip(probes_of(bench), bases(bench), outputs_of(bench, variant), strict=True)
    return [
        _distance(bench, spec, probe, _rows(variant, spec, probe, base, got))
        for probe, base, got in runs
        for spec in specs
    ]


def _distance(
    bench: Bench, spec: OutputSpec, probe: Probe, pair: tuple[Tensor, Tensor]
) -> Distance:
    cosines = cosines_of(*pair)
    kl, agreeing, positions = None, 0, 0
    if spec.name in SCORES and not regression(bench.package.require_manifest()):
        kl, agreeing, positions = alternatives(*pair, binary=_binary(bench))
    return Distance(
        output=spec.name,
        on=probe.on,
        cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        vectors=cosines.numel(),
        kl=kl,
        agreeing=agreeing,
        positions=positions,
    )


def _binary(bench: Bench) -> bool:
    """Whether each score is a yes or no of its own rather than one of several alternatives."""
    training = bench.package.require_manifest().training
    if training is not None and training.loss == "binary-cross-entropy":
        return True
    return (bench.package.config or {}).get("problem_type") == "multi_label_classification"


def _rows(
    variant: VariantSection, spec: OutputSpec, probe: Probe, base: Outputs, got: Outputs
) -> tuple[Tensor, Tensor]:
    """Both outputs in float64, (counted positions, values); uncounted values are -inf."""
    want = base[spec.name].detach().cpu().double()
    if spec.name not in got:
        raise _unlike(variant, f"no output {spec.name}", f"{spec.name}, as the interface declares")
    value = got[spec.name].detach().cpu().double()
    if value.shape != want.shape:
        raise _unlike(variant, f"{spec.name}: {describe(value)}", describe(want))
    counted = _counted(spec, want, probe.real)
    lower = value.isneginf() & (want.isneginf() if spec.negative_infinity else False)
    many = int((counted & ~(value.isfinite() | lower)).sum())
    if many:
        raise _unlike(variant, f"{spec.name}: {many} values not finite", "finite outputs")
    keep = counted.flatten(0, -2).any(-1)
    return tuple(
        torch.where(counted, one, -torch.inf).flatten(0, -2)[keep] for one in (want, value)
    )  # type: ignore[return-value]


def _unlike(variant: VariantSection, got: str, want: str) -> Nonconformance:
    return Nonconformance(
        code="variant-outputs",
        got=got,
        want=want,
        where=_place(variant),
        fix="export it again, with the outputs of its base",
    )


def _counted(spec: OutputSpec, value: Tensor, real: Tensor | None) -> Tensor:
    """Which values count: along every axis of tokens those at real ones."""
    counted = torch.ones_like(value, dtype=torch.bool)
    for axis, name in enumerate(spec.axes):
        if real is not None and axis and name == probes.SEQUENCE:
            shape = [1] * value.dim()
            shape[0], shape[axis] = real.shape
            counted &= real.reshape(shape)
    return counted


def records(bench: Bench) -> list[VariantRecord]:
    """One record a declared variant, for evidence; without figures where it cannot be run."""
    manifest = bench.package.manifest
    return [_record(bench, variant) for variant in manifest.variants] if manifest else []


def _record(bench: Bench, variant: VariantSection) -> VariantRecord:
    package = bench.package
    files = read(package, variant) if variant.path else None
    try:
        found: Worst | None = Worst.of(distances(bench, variant.name))
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
