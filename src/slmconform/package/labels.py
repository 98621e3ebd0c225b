"""Whether the label of a row fits the output that answers, the metric, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from slmconform.package.json_lines import Row, row_refused
from slmconform.package.number_rows import FLOAT32, LARGEST, leaves
from slmconform.package.problem import PackageProblem, shown
from slmconform.standard.manifest import InterfaceSection, Manifest, OutputSpec

IGNORED = -100  # the label that no loss counts: the convention of torch and transformers
CLASSES = ("accuracy", "macro-f1", "micro-f1", "matthews")
BY_TOKEN = ("token-classification", "masked-lm", "causal-lm", "seq2seq-lm")
ANSWERS = ("logits", "scores", "start_logits")  # else the first output of floating point
EXACT = 2**53  # integers that float64 holds all of


def answering(interface: InterfaceSection) -> OutputSpec:
    """The output that answers."""
    named = [spec for spec in interface.outputs if spec.name in ANSWERS]
    floating = [spec for spec in interface.outputs if spec.dtype in LARGEST]
    return (named or floating or interface.outputs)[0]


def answer_size(interface: InterfaceSection) -> int | None:
    """The last axis of the output that answers; None where its size varies."""
    axes = answering(interface).axes[1:]
    return _size(interface, axes[-1], {}) if axes else 1


def _size(interface: InterfaceSection, axis: int | str, sizes: Mapping[str, int]) -> int | None:
    """The size of an axis: given, that of a row, or the only one that its range leaves."""
    if isinstance(axis, int):
        return axis
    span = interface.axes.get(axis)
    only = span.max if span and span.min == span.max else None
    return sizes.get(axis, only)


def judge_label(
    manifest: Manifest, row: Row, use: str, sizes: Mapping[str, int], loss: str | None
) -> None:
    """Raise `PackageProblem` where a label cannot be scored, or trained on.

    ``sizes`` are those of the named axes of the row, ``loss`` is that of a training, None where
    the use is a metric. Codes are "label-range", "label-shape",
    "no-label", and "label-loss" for a label that the declared loss does not take.
    """
    task, interface = manifest.model.task, manifest.interface
    outputs = [_size(interface, axis, sizes) for axis in answering(interface).axes[1:]]
    if task == "text-classification":
        _judge_class(row, row["label"], use, loss, outputs[-1])
    elif task == "tensor":
        _judge_tensor(row, use, loss, outputs)
    elif task == "sequence-scoring" and loss in ("binary-cross-entropy", "mean-squared-error"):
        raise _loss(row, loss, "one right item a row")
    if "inputs" not in row:
        return
    if task in BY_TOKEN and "label" in row:
        _judge_tokens(row, outputs[0], outputs[-1], scored=loss is None)
    elif task == "question-answering":
        _judge_below(row, row["label"][1], outputs[-1])
    elif task in ("multiple-choice", "sequence-scoring"):
        _judge_below(row, row["target" if "target" in row else "label"], outputs[-1])


def _judge_class(row: Row, label: Any, use: str, loss: str | None, outputs: int | None) -> None:
    single, several = outputs == 1, isinstance(label, list)
    if use in CLASSES and single and label not in (0, 1):
        raise _range(row, label, f"0 or 1, for {use} of a single output")
    if loss == "cross-entropy" and single:
        raise _loss(row, loss, "a single output")
    if loss == "cross-entropy" and several:
        raise _loss(row, loss, "several labels at once")
    if loss in ("binary-cross-entropy", "mean-squared-error") and not single and not several:
        raise _loss(row, loss, "one class of several")
    if loss == "binary-cross-entropy" and not all(0 <= one <= 1 for one in leaves(label)):
        raise _loss(row, loss, f"the label {shown(label)}")


def _judge_tensor(row: Row, use: str, loss: str | None, outputs: list[int | None]) -> None:
    """A class, several labels, or one number for each place of the output."""
    label = row["label"]
    values, want = leaves(label), [size for size in outputs if size is not None]
    free = len(want) != len(outputs) or (loss is not None and loss not in WANTED)
    count = None if free else prod(want)
    index = use in CLASSES and len(values) == 1 and count != 1
    if not values or (count not in (None, len(values)) and not index):
        places = "a number for each place of the output" if count is None else f"{count} numbers"
        raise row_refused("label-shape", row.where, f"a label of {len(values)} numbers", places)
    if use in CLASSES and not index and not all(one in (0, 1) for one in values):
        raise _range(row, label, f"0 or 1, for {use} of each output")
    if index and (type(values[0]) is not int or values[0] < 0):
        raise _range(row, label, "an integer from 0")
    if index:
        _judge_below(row, values[0], outputs[-1])
    if not all(abs(one) <= (EXACT if type(one) is int else FLOAT32) for one in values):
        raise _range(row, label, f"numbers that float32 holds, integers up to {EXACT}")
    if loss == "binary-cross-entropy" and not all(0 <= one <= 1 for one in values):
        raise _loss(row, loss, f"the label {shown(label)}")


def _judge_tokens(row: Row, length: int | None, outputs: int | None, *, scored: bool) -> None:
    """One label a token; where a row is scored, at least one of them counts."""
    label = row["label"]
    if length not in (None, len(label)):
        got = f"{len(label)} labels for {length} tokens"
        raise row_refused("label-shape", row.where, got, "one label a token")
    if (least := min(label)) < 0 and any(one < 0 and one != IGNORED for one in label):
        raise _range(row, least, f"{IGNORED}, or an integer from 0")
    if scored and max(label) == IGNORED:
        want = f"a label other than {IGNORED}"
        raise row_refused("no-label", row.where, f"{IGNORED} at every token", want)
    _judge_below(row, max(label), outputs)


def _judge_below(row: Row, value: int, size: int | None) -> None:
    limit = size or 2**31  # no axis is longer
    if value >= limit:
        raise _range(row, value, f"an integer below {limit}")


def _range(row: Row, label: Any, want: str) -> PackageProblem:
    return row_refused("label-range", row.where, f"label {shown(label)}", want)


def _loss(row: Row, loss: str, got: str) -> PackageProblem:
    return row_refused("label-loss", row.where, f"{got} for the loss {loss}", WANTED[loss])


WANTED = {
    "cross-entropy": "one index or name of several classes",
    "binary-cross-entropy": "a number from 0 to 1 for each output, in a list if there are several",
    "mean-squared-error": "a number for each output, in a list if there are several",
}
