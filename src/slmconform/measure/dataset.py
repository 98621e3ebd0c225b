"""Rows of a data file as batches: the declared inputs, padded and masked, and labels beside them.

Labels are named as transformers names them, with -100 where there is none: ``labels`` are () for
a class, (sequence,) for tokens, (target,) for a text to write, unshifted; ``start_positions`` and
``end_positions`` for answers; ``pairs`` for pairs of sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from slmconform.engine.registry import Inconclusive
from slmconform.measure.batches import Batch, Labels
from slmconform.measure.bench import Bench
from slmconform.measure.encoding import (
    Example,
    Room,
    class_label,
    encode,
    place_of,
    row_problem,
    shifted,
)
from slmconform.model import probes
from slmconform.model.loaded import DTYPES
from slmconform.model.probes import Inputs
from slmconform.package.labels import IGNORED, answer_size
from slmconform.package.number_rows import judge_inputs, shape_wanted
from slmconform.standard.manifest import InputSpec

PLACES = ("start_positions", "end_positions")


@dataclass(frozen=True)
class Item:
    """One sequence: inputs and labels by name without a batch axis, and where labels run."""

    where: str
    inputs: Inputs
    labels: Labels
    aligned: str | None = None
    example: Example | None = None


@dataclass(frozen=True)
class Padded(Batch):
    """A batch of rows; ``moved`` is how far padding moved each of them to the right."""

    moved: list[int] = field(default_factory=list)


def training_batch(
    bench: Bench, rows: Sequence[Mapping[str, Any]], width: int | None = None
) -> tuple[Inputs, Labels]:
    """Inputs and labels of some rows, each ``width`` long: padded to it, and cut to it.

    Pairs of sentences give 2N rows, all first sentences before all second ones. Without
    ``width`` the batch is as long as its longest row, which is cut only where it exceeds the
    declared axis. Raises `PackageProblem` naming the row.
    """
    room = Room.of(bench, width, cut=True)
    found = [items(bench, row, number, room) for number, row in enumerate(rows, 1)]
    if bench.task == "sentence-embedding":
        ordered = [pair[side] for side in (0, 1) for pair in found]
        batch = collate(bench, ordered, width)
        return batch.inputs, {"pairs": torch.arange(len(found))}
    batch = collate(bench, [one for row in found for one in row], width)
    return batch.inputs, batch.labels


def items(bench: Bench, row: Mapping[str, Any], number: int, room: Room) -> list[Item]:
    """The sequences of a row, two for a pair of sentences; raises `PackageProblem`.

    Of rows as `judge_rows` lets them pass; what only the model or the tokenizer says is asked here.
    """
    if "inputs" in row:
        return [_from_numbers(bench, row, place_of(row, number), room)]
    found = encode(bench, row, number, room)
    if bench.task == "seq2seq-lm":
        found = [shifted(one, start_token(bench)) for one in found]
    return [from_text(bench, one) for one in found]


def start_token(bench: Bench) -> int:
    """The token that a decoder starts from; inconclusive where the configuration has none."""
    start = getattr(bench.model.config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        raise Inconclusive("the configuration names no decoder_start_token_id")
    return start


def from_text(bench: Bench, example: Example) -> Item:
    """The declared inputs of an example; a target stands as the decoder reads it."""
    inputs: Inputs = {}
    for spec in bench.interface.inputs:
        value = _input(bench, spec, example)
        if value is None and spec.required:
            raise Inconclusive(f"nothing in a row of text says what the input {spec.name} is")
        if value is not None:
            inputs[spec.name] = value.to(DTYPES[spec.dtype])
    _require_fit(bench, inputs, example.where)
    item = Item(example.where, inputs, dict(example.labels), example.aligned, example)
    return _with_known_labels(bench, item)


def _input(bench: Bench, spec: InputSpec, example: Example) -> Tensor | None:
    """What an input holds for a row, by its role; None where the row does not say."""
    kind = probes.role(spec)
    masks_target = spec.name == "decoder_attention_mask" or "target" in spec.axes
    if kind == "decoder-tokens" and example.target is None:  # the states of a decoder are asked for
        return torch.tensor([start_token(bench), *example.tokens[:-1]])
    if kind == "decoder-tokens":
        return torch.tensor(example.target)
    if masks_target:
        return torch.ones(len(example.target or example.tokens))
    if kind == "tokens":
        return _rectangle(bench, example.tokens, bench.rules.pad)
    if kind == "mask":
        ones: list[Any] = [_ones(one) for one in example.tokens]
        return _rectangle(bench, ones, 0)
    if kind == "segments":
        segments = example.segments or [_zeros(one) for one in example.tokens]
        return _rectangle(bench, segments, 0)
    return torch.arange(len(example.tokens)) if kind == "positions" else None


def _ones(token: Any) -> Any:
    return [1] * len(token) if isinstance(token, list) else 1


def _zeros(token: Any) -> Any:
    return [0] * len(token) if isinstance(token, list) else 0


def _rectangle(bench: Bench, values: list[Any], fill: int) -> Tensor:
    """(sequence,) as it is; the choices of a row padded to one length (choices, sequence)."""
    if not values or not isinstance(values[0], list):
        return torch.tensor(values, dtype=torch.int64)
    longest = max(map(len, values))
    blank = [[fill] * (longest - len(one)) for one in values]
    right = padding_side(bench) != "left"
    rows = [v + b if right else b + v for v, b in zip(values, blank, strict=True)]
    return torch.tensor(rows, dtype=torch.int64)


def padding_side(bench: Bench) -> str | None:
    """The declared side, right where both are declared; None where none is."""
    declared = bench.interface.capabilities.padding
    return "right" if "right" in declared else declared[0] if declared else None


def _from_numbers(bench: Bench, row: Mapping[str, Any], where: str, room: Room) -> Item:
    given = dict(row["inputs"])
    label = row.get("label", row.get("target"))
    labels: Labels = {}
    aligned: str | None = None
    if bench.task == "question-answering" and isinstance(label, list):
        labels = {name: torch.tensor(at) for name, at in zip(PLACES, label, strict=True)}
    elif bench.task == "causal-lm" and label is None:
        tokens = probes.by_role(bench.interface, "tokens")
        label = given.get(tokens.name) if tokens else None
    if label is not None and not labels:
        labels, aligned = _number_labels(bench, label)
    if bench.task == "seq2seq-lm" and label is not None:
        decoder = probes.by_role(bench.interface, "decoder-tokens")
        if decoder and decoder.name not in given:
            if IGNORED in label:
                want = f"labels without {IGNORED}, or {decoder.name} under `inputs`"
                raise row_problem("label-range", where, f"a label {IGNORED} to be read", want)
            given[decoder.name] = [start_token(bench), *label[:-1]]
    judge_inputs(bench.interface, given, where, cut=room.cut)
    item = Item(where, _given(bench, given, where), labels, aligned)
    return _fitted(bench, _with_known_labels(bench, item), room)


def _number_labels(bench: Bench, label: Any) -> tuple[Labels, str | None]:
    if bench.task == "text-classification":
        return {"labels": class_label(bench, label)}, None
    aligned = {"seq2seq-lm": "target", "tensor": None}.get(bench.task, "sequence")
    return {"labels": torch.tensor(label)}, aligned if isinstance(label, list) else None


def _given(bench: Bench, given: Mapping[str, Any], where: str) -> Inputs:
    """The declared inputs that a row gives; masks that it does not give are all ones."""
    inputs: Inputs = {}
    specs = {spec.name: spec for spec in bench.interface.inputs}
    for name, spec in specs.items():
        if name in given:
            inputs[name] = torch.tensor(given[name], dtype=DTYPES[spec.dtype])
    for name, spec in specs.items():
        like = next((n for n in inputs if specs[n].axes == spec.axes), None)
        if name not in inputs and probes.role(spec) == "mask" and like:
            inputs[name] = torch.ones_like(inputs[like], dtype=DTYPES[spec.dtype])
        if name not in inputs and probes.role(spec) == "positions" and like:
            inputs[name] = torch.arange(inputs[like].shape[-1], dtype=DTYPES[spec.dtype])
        if name not in inputs and spec.required:
            raise row_problem("input-missing", where, f"no {name}", f"{name} under `inputs`")
    return inputs


def _fitted(bench: Bench, item: Item, room: Room) -> Item:
    """A row cut to the room that there is along ``sequence`` and ``target``."""
    limits = {"sequence": room.sequence, "target": room.target}
    inputs, labels = dict(item.inputs), dict(item.labels)
    for spec in bench.interface.inputs:
        for place, axis in enumerate(spec.axes[1:]):
            limit = limits.get(str(axis))
            if limit and spec.name in inputs and inputs[spec.name].shape[place] > limit:
                inputs[spec.name] = inputs[spec.name].narrow(place, 0, limit)
    if item.aligned:
        labels["labels"] = labels["labels"][: limits[item.aligned]]
    if room.sequence and any(int(labels[name]) >= room.sequence for name in PLACES & labels.keys()):
        labels |= {name: torch.tensor(0) for name in PLACES}  # cut off: the first token
    return replace(item, inputs=inputs, labels=labels)


def _with_known_labels(bench: Bench, item: Item) -> Item:
    """The row itself; raises `PackageProblem` for a class or token that no output stands for."""
    label, classes = item.labels.get("labels"), answer_size(bench.interface)
    whole = label is not None and not label.is_floating_point() and bench.task != "tensor"
    if whole and classes and label is not None and label.numel() and int(label.max()) >= classes:
        got = f"a label of {int(label.max())} for {classes} outputs"
        raise row_problem("label-range", item.where, got, f"labels below {classes}")
    return item


def _require_fit(bench: Bench, inputs: Inputs, where: str) -> None:
    """Sizes and values of the inputs that a text gives, against the interface."""
    sizes: dict[str, int] = {}
    for spec in bench.interface.inputs:
        value = inputs.get(spec.name)
        if value is None:
            continue
        if want := shape_wanted(bench.interface, spec, tuple(value.shape), sizes):
            got = f"{spec.name} of shape {list(value.shape)}"
            raise row_problem("input-shape", where, got, want)
        low, high = spec.range or (float("-inf"), float("inf"))
        least, greatest = value.min().item(), value.max().item()
        if least < low or greatest > high:
            got = f"{spec.name} holds {least if least < low else greatest}"
            raise row_problem("input-range", where, got, f"values from {low} to {high}")


def collate(bench: Bench, rows: Sequence[Item], width: int | None = None) -> Padded:
    """Rows as one batch, padded on the declared side and masked."""
    side, batch = padding_side(bench), Padded({}, {}, [0] * len(rows))
    for spec in bench.interface.inputs:
        without = [row for row in rows if spec.name not in row.inputs]
        if without and len(without) < len(rows):
            got, want = f"no {spec.name}", f"{spec.name}, as other rows have"
            raise row_problem("input-missing", without[0].where, got, want)
        if not without:
            batch.inputs[spec.name] = _stacked(bench, spec, rows, width, side, batch.moved)
    for name in rows[0].labels:
        batch.labels[name] = _labels(bench, name, rows, batch)
    _count_positions(bench, batch.inputs, side)
    return batch


def _stacked(
    bench: Bench,
    spec: InputSpec,
    rows: Sequence[Item],
    width: int | None,
    side: str | None,
    moved: list[int],
) -> Tensor:
    """One input of every row, grown along its named axes to a common size."""
    values = [row.inputs[spec.name] for row in rows]
    fill = bench.rules.pad if probes.role(spec) == "tokens" else 0
    for place, axis in enumerate(spec.axes[1:]):
        if isinstance(axis, int):
            continue
        declared = bench.interface.axes.get(axis)
        floor = declared.min if declared else 1
        if width and axis in ("sequence", "target"):
            most = declared.max if declared else width
            floor = max(floor, min(width, most))
        size = max(floor, *(value.shape[place] for value in values))
        left = side == "left" and axis == "sequence"
        for at, value in enumerate(values):
            missing = size - value.shape[place]
            if missing and not _may_pad(bench, axis, side):
                got = f"{value.shape[place]} along {axis} where {size} are needed"
                raise row_problem("padding-undeclared", rows[at].where, got, "rows of one length")
            values[at] = _grown(value, place, missing, fill, left=left)
            if left and probes.role(spec) == "tokens":
                moved[at] = missing
    return torch.stack(values)


def _may_pad(bench: Bench, axis: str, side: str | None) -> bool:
    """Whether a model is told which places along an axis are padding."""
    if axis == "sequence":
        return side is not None
    masks = [spec for spec in bench.interface.inputs if probes.role(spec) == "mask"]
    return axis == "target" or any(axis in spec.axes for spec in masks)


def _grown(value: Tensor, place: int, missing: int, fill: int, *, left: bool) -> Tensor:
    shape = list(value.shape)
    shape[place] = missing
    blank = torch.full(shape, fill, dtype=value.dtype)
    return torch.cat([blank, value] if left else [value, blank], dim=place)


def _labels(bench: Bench, name: str, rows: Sequence[Item], batch: Padded) -> Tensor:
    values = [row.labels[name] for row in rows]
    if name in PLACES:
        return torch.stack([v + by for v, by in zip(values, batch.moved, strict=True)])
    axis = rows[0].aligned
    if axis:
        kind = "decoder-tokens" if axis == "target" else "tokens"
        spec = probes.by_role(bench.interface, kind)
        size = batch.inputs[spec.name].shape[1] if spec else max(len(v) for v in values)
        values = [
            _grown(_grown(v, 0, by, IGNORED, left=True), 0, size - by - len(v), IGNORED, left=False)
            for v, by in zip(
                values, batch.moved if axis == "sequence" else [0] * len(rows), strict=True
            )
        ]
    shape, mixed = values[0].shape, len({value.dtype for value in values}) > 1
    for row, value in zip(rows, values, strict=True):
        if value.shape != shape:
            got = f"a label of shape {list(value.shape)}"
            raise row_problem("label-shape", row.where, got, f"shape {list(shape)}, as before")
    return torch.stack([value.float() if mixed else value for value in values])


def _count_positions(bench: Bench, inputs: Inputs, side: str | None) -> None:
    """Positions count real tokens where padding stands before them, and all tokens else."""
    spec, mask = probes.by_role(bench.interface, "positions"), None
    if spec is None or spec.name not in inputs:
        return
    mask = probes.by_role(bench.interface, "mask")
    shape = inputs[spec.name].shape
    if side == "left" and mask and mask.name in inputs:
        inputs[spec.name] = probes.positions_of(inputs[mask.name])
    else:
        inputs[spec.name] = torch.arange(shape[-1]).expand(shape).clone()
    inputs[spec.name] = inputs[spec.name].to(DTYPES[spec.dtype])
