"""REF: the recorded outputs come out again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slmconform.engine.registry import (
    Inconclusive,
    Nonconformance,
    NoReference,
    NotApplicable,
    Stage,
    check,
)

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.measure.reference import Error
    from slmconform.standard.evidence import DeviceRecord, ErrorRecord

SAME_MODEL = ("SLM-MAN-005", "SLM-WGT-006", "SLM-IFC-004", "SLM-DET-003", "SLM-DET-001")
SAME_FUNCTION = ("SLM-DET-002", "SLM-INV-002", "SLM-INV-006", "SLM-INV-007")
USELESS = 0.1  # of the output's scale: above it an error says nothing


@check("SLM-REF-001", stage=Stage.DYNAMIC, needs=(*SAME_MODEL, *SAME_FUNCTION))
def float64_outputs(bench: Bench) -> str:
    """Float64 outputs for the recorded inputs are the recorded ones."""
    from slmconform.measure.compare import require
    from slmconform.measure.reference import recorded_gap, shipped

    evidence = bench.package.require_evidence()
    gap = recorded_gap(shipped(bench), evidence.outputs, bench.evidence_tensors())
    return require(
        gap,
        code="float64-differs",
        why="weights and configuration are the recorded ones, so the code computes otherwise",
        fix="compare the library versions with `environment` in conformance/evidence.json",
    )


@check("SLM-REF-002", stage=Stage.DYNAMIC, needs=("SLM-REF-001",))
def float32_outputs(bench: Bench) -> str:
    """Float32 outputs on this device are as near to float64 as recorded."""
    return _close(bench, "float32")


@check("SLM-REF-003", stage=Stage.DYNAMIC, needs=("SLM-REF-002",))
def shipped_dtype_outputs(bench: Bench) -> str:
    """Outputs in the shipped dtype are as near to float64 as recorded."""
    if bench.loader.dtype in ("float32", "float64"):
        raise NotApplicable(f"the shipped dtype is {bench.loader.dtype}")
    return _close(bench, bench.loader.dtype)


def _close(bench: Bench, dtype: str) -> str:
    from slmconform.measure.reference import errors, outputs_in

    recorded = _recorded(bench, dtype)
    found = errors(bench, outputs_in(bench, dtype))
    worst = 0.0
    for name, error in found.items():
        reference = recorded.get(name)
        if reference is None:
            raise NoReference(f"no {dtype} error of {name} is recorded for this device")
        if reference.max_abs > USELESS * error.scale:
            raise Inconclusive(f"the recorded {dtype} error of {name} is a tenth of its scale")
        worst = max(worst, _require_close(name, dtype, error, reference))
    return f"{worst:.2f} of the allowed distance from float64"


def _require_close(name: str, dtype: str, error: Error, reference: ErrorRecord) -> float:
    """The share of the allowed error that was used; raises above one."""
    share = 0.0
    for kind, got, recorded, scale in (
        ("max", error.max_abs, reference.max_abs, error.scale),
        ("rms", error.rms, reference.rms, error.rms_scale),
    ):
        allowed = allowance(dtype, recorded, scale)
        used = got / allowed if allowed else (math.inf if got else 0.0)
        if not got <= allowed:
            raise Nonconformance(
                code=f"{dtype}-differs",
                got=f"{kind} error {got:.3g} against float64, {used:.3g} times the bound",
                want=f"<= {allowed:.3g}, from the error that was recorded on such a device",
                where=f"output {name} in {dtype}",
                why="float64 outputs are right: precision is lost, in the code or on the device",
                fix="look for casts, and for kernels of reduced precision (TF32, bf16 sums)",
            )
        share = max(share, used)
    return share


def allowance(dtype: str, recorded: float, scale: float) -> float:
    """Allow k times the recorded error, plus half a unit in the last place of the scale."""
    import torch

    from slmconform.measure.reference import FACTOR
    from slmconform.model.loaded import DTYPES

    return FACTOR[dtype] * recorded + torch.finfo(DTYPES[dtype]).eps / 2 * scale


def _recorded(bench: Bench, dtype: str) -> dict[str, ErrorRecord]:
    return {row.output: row for row in recorded_device(bench).errors if row.dtype == dtype}


def recorded_device(bench: Bench) -> DeviceRecord:
    """What was recorded on this class of device; no reference where nothing was."""
    from slmconform.model.device import device_class

    here = device_class(bench.options.device)
    evidence = bench.package.require_evidence()
    device = evidence.devices.get(here)
    if device is None:
        classes = ", ".join(evidence.devices) or "none"
        raise NoReference(
            f"nothing is recorded for {here} (recorded: {classes}); "
            "`slmconform record --device ...` adds this device"
        )
    return device


@check("SLM-REF-004", stage=Stage.DYNAMIC, needs=("SLM-REF-002", "SLM-REF-003"))
def greedy_tokens(bench: Bench) -> str:
    """Greedy decoding gives the recorded tokens where float64 leaves no doubt."""
    from slmconform.measure.compare import largest
    from slmconform.measure.generation import natively, prompts
    from slmconform.measure.reference import shipped

    prompts(bench)  # not applicable to a model that does not generate
    evidence = bench.package.require_evidence()
    dtype = bench.loader.dtype
    recorded = _recorded(bench, dtype).get("logits")
    if recorded is None or not evidence.greedy:
        raise NoReference("no greedy tokens are recorded for this device")
    doubt = 2 * allowance(dtype, recorded.max_abs, largest(shipped(bench)["logits"]))
    compared = 0
    for row, want in enumerate(evidence.greedy):
        sure = next((i for i, m in enumerate(want.margins) if m <= doubt), len(want.margins))
        got = natively(bench, row, want.prompt, sure)
        compared += sure
        if got.tokens != want.tokens[:sure]:
            at = next(
                i for i, (a, b) in enumerate(zip(got.tokens, want.tokens, strict=False)) if a != b
            )
            raise Nonconformance(
                code="greedy-differs",
                got=f"token {got.tokens[at]} in {dtype}",
                want=f"token {want.tokens[at]} (float64 margin {want.margins[at]:.3g})",
                where=f"prompt {row}, new token {at + 1}",
                why="the probe batch gives the recorded outputs; one row alone, growing, does not",
                fix="compare the logits of this prompt alone with those in a batch",
            )
    total = sum(len(want.tokens) for want in evidence.greedy)
    if not compared:
        raise Inconclusive(f"no margin of {total} tokens exceeds {doubt:.2g}")
    return f"{compared} of {total} tokens compared, all as recorded"
