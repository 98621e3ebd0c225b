"""Float64 outputs as they are kept in evidence, and distances from float64 in other dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import Difference, difference, largest, mixed, worst
from slmconform.measure.forward import float64, native
from slmconform.measure.invariance import batch_of, other_attention
from slmconform.model import probes
from slmconform.model.device import threads
from slmconform.model.loaded import LoadedModel, Outputs
from slmconform.standard.evidence import OutputRecord

WHOLE = 16_384  # values: up to 128 KiB of float64 an output is kept whole
TOP = 8
PROJECTIONS = 8
FACTOR = {"float32": 2.0, "bfloat16": 3.0, "float16": 3.0}


def kept(outputs: Outputs) -> tuple[list[OutputRecord], dict[str, Tensor]]:
    """What evidence stores of float64 outputs: whole, or a sketch of each position."""
    records, tensors = [], {}
    for name, value in outputs.items():
        whole = value.numel() <= WHOLE or value.shape[-1] <= 2 * TOP
        records.append(
            OutputRecord(
                name=name,
                kept="full" if whole else "sketch",
                shape=list(value.shape),
                scale=largest(value),
                top=0 if whole else TOP,
                projections=0 if whole else PROJECTIONS,
            )
        )
        tensors.update(_stored(name, value.cpu(), records[-1], None))
    return records, tensors


def _stored(
    name: str, value: Tensor, record: OutputRecord, indices: Tensor | None
) -> dict[str, Tensor]:
    """The stored tensors of one output; ``indices`` are where the recorded top values stood."""
    key = f"output.{name}"
    if record.kept == "full":
        return {key: value.clone()}
    value = value.double()  # of integers the sums are no integers either
    if indices is None:
        indices = torch.topk(value, record.top, dim=-1).indices
    finite = torch.where(value.isfinite(), value, 0.0)  # a declared -inf would hide the rest
    vectors = signs(value.shape[-1], record.projections)
    return {
        f"{key}.top": value.gather(-1, indices.long()),
        f"{key}.indices": indices.to(torch.int32),
        f"{key}.logsumexp": torch.logsumexp(value, dim=-1),
        f"{key}.projections": finite @ vectors.T / value.shape[-1] ** 0.5,
    }


def signs(length: int, count: int) -> Tensor:
    """``count`` fixed vectors of +-1, (count, length), float64.

    Signs are a bit of a hash of the index: the same everywhere, and nothing to store.
    """
    return torch.stack([sign_row(length, which, 0, length) for which in range(count)])


def sign_row(length: int, which: int, start: int, count: int) -> Tensor:
    """``count`` entries from ``start`` on of one of the vectors of a length."""
    first = which * length + start + 1
    index = torch.arange(first, first + count, dtype=torch.int64)
    return 1.0 - 2.0 * ((mixed(index) >> 33) & 1).double()


def recorded_gap(
    outputs: Outputs, records: list[OutputRecord], tensors: Mapping[str, Tensor]
) -> Difference:
    """The largest difference between outputs and what evidence keeps of them."""
    gaps = []
    for record in records:
        value = outputs[record.name].cpu()
        if list(value.shape) != record.shape:
            want = torch.empty(record.shape, device="meta")
            return difference({record.name: value}, {record.name: want})
        indices = tensors.get(f"output.{record.name}.indices")
        got = _stored(record.name, value, record, indices)
        found = difference(got, {key: tensors[key] for key in got})
        scale = record.scale if value.is_floating_point() else 0.0
        gaps.append(Difference(found.max_abs, scale, found.where.removeprefix("output.")))
    return worst(gaps)


@dataclass(frozen=True)
class Error:
    """Distance of an output from float64: largest, root mean square; and both scales."""

    max_abs: float
    rms: float
    scale: float
    rms_scale: float


def error(got: Tensor, want: Tensor) -> Error:
    """Distance of ``got`` from ``want`` (float64); infinite where NaNs or shapes differ."""
    whole = difference({"": got}, {"": want})
    finite = want.isfinite()
    gap = (got.to(want.device) - want)[finite] if got.shape == want.shape else want
    rms = _rms(gap) if whole.max_abs != float("inf") else float("inf")
    return Error(whole.max_abs, rms, largest(want), _rms(want[finite]))


def _rms(values: Tensor) -> float:
    """The root of the mean square, 0 of nothing."""
    return float(values.square().mean().sqrt()) if values.numel() else 0.0


@measurement
def shipped(bench: Bench) -> Outputs:
    """Float64 outputs of the weights as they are shipped, whatever dtype the caller chose."""
    manifest = bench.package.manifest
    if manifest is None or bench.loader.dtype == manifest.loader.dtype:
        return float64(bench)
    declared = Bench(bench.package, replace(bench.options, dtype=None))
    outputs = float64(declared)
    bench.count(declared.forwards)
    return outputs


def model_in(bench: Bench, dtype: str) -> LoadedModel:
    """The model in a dtype: the native one where that is its own, else loaded for one use."""
    if dtype == bench.loader.dtype:
        return bench.model
    return bench.load(bench.package.root, dtype)


@measurement
def outputs_in(bench: Bench, dtype: str) -> Outputs:
    """Outputs of the typical probe in a dtype, on the device."""
    if dtype == bench.loader.dtype:
        return native(bench, "typical")
    bench.count()
    return model_in(bench, dtype).forward(bench.inputs("typical"))


def errors(bench: Bench, got: Outputs) -> dict[str, Error]:
    """The distance of every floating-point output from float64."""
    want = shipped(bench)
    return {
        name: error(value.to(want[name].device), want[name])
        for name, value in got.items()
        if value.is_floating_point()
    }


@measurement
def legitimate(bench: Bench, dtype: str) -> dict[str, Outputs]:
    """The same outputs in other legal ways, whose distances from float64 are the reference."""
    model, inputs = model_in(bench, dtype), bench.inputs("typical")
    ways = {"as loaded": model.forward(inputs)}
    bench.count()
    rows = batch_of(bench)
    for size in {1, max(1, rows // 2)} - {rows}:
        parts = [
            model.forward(probes.rows(inputs, slice(at, at + size))) for at in range(0, rows, size)
        ]
        bench.count(len(parts))
        names = parts[0].keys()
        ways[f"{size} a batch"] = {n: torch.cat([part[n] for part in parts]) for n in names}
    other = other_attention(model)
    if other and getattr(model.module, "_supports_sdpa", False):
        with model.attention(other):
            ways[f"{other} attention"] = model.forward(inputs)
        bench.count()
    if bench.options.device.type == "cpu":
        with threads(2):
            ways["two threads"] = model.forward(inputs)
        bench.count()
    return ways
