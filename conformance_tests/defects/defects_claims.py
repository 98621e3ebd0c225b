"""Scores that do not come out, data that say nothing, variants that are another model."""

from __future__ import annotations

import json

import torch
from changes import gone, manifest, unrecorded
from claimed_packages import DATA, HALF, WEIGHTS, save_half, write_rows
from defect_record import AS_IT_IS, Change, Defect, NearMiss, defect
from safetensors.torch import load_file

from slmconform.package.read import Package
from slmconform.package.variants import read
from slmconform.standard.files import EVIDENCE

PRUNED = "variants/pruned/model.safetensors"
VALUE, TOLERANCE = "value = 0.857", "tolerance = 0.001"


def d(name: str, says: str, told: str, *changes, words=(), twin=AS_IT_IS) -> Defect:
    """A defect of the package that claims."""
    return defect(name, says, "claims", told, *changes, words=words, twin=twin)


def half(change) -> Change:
    """The variant after a change of its tensors; its digest in the evidence is the new one."""

    def write(folder) -> None:
        save_half(folder, change(load_file(folder / WEIGHTS)))
        noted(folder)

    return write


def noted(folder) -> None:
    """Bring the digests of the variants in the evidence up to date, and nothing else."""
    package = Package(folder)
    variants = {v.name: v for v in package.require_manifest().variants}
    values = json.loads((folder / EVIDENCE).read_text("utf-8"))
    for row in values["variants"]:
        if row["sha256"]:
            row["sha256"] = read(package, variants[row["name"]]).digest(package.folder)
    (folder / EVIDENCE).write_text(json.dumps(values), "utf-8")


def edited(folder) -> None:
    """One value of the variant changed after the recording."""
    every = load_file(folder / HALF)
    every["head.bias"][2] += 1e-3
    save_half(folder, every)


def without_head(every):
    """No weight of the head."""
    return {name: one for name, one in every.items() if name != "head.weight"}


def scaled(every):
    """The same head, three times as large."""
    return every | {"head.weight": every["head.weight"] * 3}


def zeros(every):
    """Nothing but zeros."""
    return {name: torch.zeros_like(one) for name, one in every.items()}


def pruned_a_little(every):
    """Small values are zero."""
    return {name: torch.where(one.abs() < 0.005, 0.0, one) for name, one in every.items()}


def in_double_precision(folder) -> None:
    """A variant twice as large as its base."""
    save_half(folder, load_file(folder / WEIGHTS), "float64")
    noted(folder)


def one_class(folder) -> None:
    """Every label is the same, and so is the trivial answer."""
    rows = [json.loads(line) for line in (folder / DATA).read_text("utf-8").splitlines()]
    for row in rows:
        row["label"] = [0] * len(row["label"])
    write_rows(folder, rows)


DEFECTS = [
    d(
        "score-too-high",
        "The claimed score is higher than the true one.",
        "SLM-EVL-002 score-differs",
        manifest(VALUE, "value = 0.87"),
        words=("95 % interval",),
        twin="evl-legal-a-score-that-just-holds",
    ),
    d(
        "tolerance-too-wide",
        "The tolerance is wider than the noise.",
        "SLM-EVL-004 tolerance-too-wide",
        manifest(TOLERANCE, "tolerance = 0.3"),
        words=("half the interval",),
        twin="evl-legal-a-wide-tolerance-with-a-reason",
    ),
    d(
        "no-better-than-trivial",
        "The trivial answer is always right.",
        "SLM-EVL-003 no-better-than-trivial",
        one_class,
        unrecorded,
        manifest(TOLERANCE, 'tolerance = 1.0\nreason = "any score will do"'),
        words=("better than",),
        twin="evl-legal-a-wide-tolerance-with-a-reason",
    ),
    defect(
        "sentiment-overstated",
        "The claimed accuracy is 5 points higher.",
        "bert-sentiment",
        "SLM-EVL-002 score-differs",
        manifest("value = 0.8\n", "value = 0.85\n"),
    ),
    defect(
        "pruned-variant-missing",
        "The file of a declared variant is missing.",
        "minilm-retrieval",
        "SLM-VAR-001 missing-file",
        gone(PRUNED),
    ),
    d(
        "variant-missing",
        "The file of a declared variant is missing.",
        "SLM-VAR-001 missing-file",
        gone(HALF),
        words=(HALF,),
    ),
    d(
        "variant-edited",
        "A variant was changed after the recording.",
        "SLM-VAR-001 variant-changed",
        edited,
    ),
    d(
        "variant-of-another-kind",
        "A variant is declared of another kind than its file.",
        "SLM-VAR-001 onnx-structure",
        manifest('kind = "safetensors"', 'kind = "onnx"'),
    ),
    d(
        "variant-of-zeros",
        "A variant was pruned to nothing.",
        "SLM-VAR-002 kl-exceeded",
        half(zeros),
        words=("half: max_kl",),
        twin="var-legal-pruned-a-little",
    ),
    d(
        "variant-with-another-head",
        "The head of a variant is three times as large.",
        "SLM-VAR-002 kl-exceeded",
        half(scaled),
        twin="var-legal-pruned-a-little",
    ),
    d(
        "variant-without-a-head",
        "A tensor is missing in a variant.",
        "SLM-VAR-002 variant-incomplete",
        half(without_head),
        words=("1 missing: head.weight",),
        twin="var-legal-pruned-a-little",
    ),
    d(
        "bound-too-narrow",
        "A variant is declared nearer to its base than it is.",
        "SLM-VAR-002 cosine-below",
        manifest("min_cosine = 0.99\n", "min_cosine = 0.9999999\n"),
    ),
    d(
        "variant-larger",
        "A variant takes more bytes than its base.",
        "SLM-VAR-003 variant-larger",
        in_double_precision,
    ),
]

NEAR_MISSES = [
    NearMiss(
        "evl-legal-a-score-that-just-holds",
        "The claimed score is within its tolerance.",
        "claims",
        (manifest(VALUE, "value = 0.858"),),
    ),
    NearMiss(
        "evl-legal-a-wide-tolerance-with-a-reason",
        "A wide tolerance has a reason.",
        "claims",
        (manifest(TOLERANCE, 'tolerance = 0.3\nreason = "the accelerator of the phone"'),),
    ),
    NearMiss(
        "var-legal-pruned-a-little",
        "Small values of a variant are zero.",
        "claims",
        (half(pruned_a_little),),
    ),
]
