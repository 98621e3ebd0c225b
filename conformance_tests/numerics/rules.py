"""What a check makes of measured numbers: the check itself, with measurements made up."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from slmconform.engine.registry import Nonconformance, Unanswered
from slmconform.standard.evidence import SummaryRecord

INF, NAN = math.inf, math.nan
NO_NUMBERS = (INF, NAN)


def judged(check, bench):
    """ "pass", the code of the failure, or the name of what it could not tell."""
    try:
        check(bench)
    except Nonconformance as found:
        return found.code
    except Unanswered as signal:
        return type(signal).__name__
    return "pass"


def finding(check, bench):
    """The failure of a check."""
    try:
        check(bench)
    except Nonconformance as found:
        return found
    raise AssertionError("the check passes")


def patched(monkeypatch, name, value):
    """Put a measurement in the place of one of the package."""
    monkeypatch.setattr(f"slmconform.measure.{name}", lambda *_, **__: value)


def above(bound):
    return math.nextafter(bound, INF)


def below(bound):
    return math.nextafter(bound, -INF)


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


def row(name, norm, *projections):
    return SummaryRecord(name=name, norm=norm, projections=list(projections or (0.0, 0.0)))


def bench_of(*, dtype="float32", kind="transformers", task="causal-lm", **evidence):
    """A bench with a manifest and evidence that hold what is named."""
    loader = SimpleNamespace(dtype=dtype, kind=kind)
    manifest = SimpleNamespace(evaluation=[], variants=[], training=None, loader=loader)
    kept = SimpleNamespace(training=None, devices={}, outputs=[], greedy=[], environment={})
    vars(kept).update(evidence)
    package = SimpleNamespace(
        evidence=kept,
        manifest=manifest,
        require_evidence=lambda: kept,
        require_manifest=lambda: manifest,
    )
    capabilities = SimpleNamespace(causal=True, kv_cache=True, padding=["right", "left"])
    return SimpleNamespace(
        package=package,
        declared=True,
        task=task,
        loader=loader,
        model=SimpleNamespace(module=torch.nn.Module()),
        options=SimpleNamespace(device=torch.device("cpu")),
        interface=SimpleNamespace(capabilities=capabilities, inputs=[]),
        rules=SimpleNamespace(pad=0),
        evidence_tensors=dict,
        count=lambda _=1: None,
    )
