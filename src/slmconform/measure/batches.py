"""Batches with labels: generated from integers as the probes are, or read from the evidence."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slmconform.engine.registry import Inconclusive, NotApplicable
from slmconform.measure.bench import Bench, double, measurement
from slmconform.measure.forward import native
from slmconform.model import probes
from slmconform.model.loaded import DTYPES, Outputs
from slmconform.model.probes import Inputs, TokenRules
from slmconform.package.labels import IGNORED
from slmconform.package.problem import PackageProblem
from slmconform.standard.manifest import InputSpec, InterfaceSection

ROWS = 8
PROBED = 4  # rows of the batch that differences are taken on
SEED = 1000
WIDEST = 64  # tokens a row of recorded training data
DISTINCT = 64  # batches that evidence keeps; longer recipes go round

Labels = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Inputs and labels by name; labels of text pairs are ``pairs``, (rows / 2)."""

    inputs: Inputs
    labels: Labels

    @property
    def size(self) -> int:
        """Rows."""
        return int(next(iter(self.inputs.values())).shape[0])

    @property
    def units(self) -> int:
        """Rows, or pairs of rows: what `take` counts."""
        return self.size // 2 if "pairs" in self.labels else self.size

    def wide(self) -> Batch:
        """Floating-point inputs and labels in float64."""
        return Batch(double(self.inputs), double(self.labels))

    def labels_on(self, device: torch.device) -> Labels:
        """The labels beside outputs on a device."""
        return {name: value.to(device) for name, value in self.labels.items()}

    def take(self, index: list[int]) -> Batch:
        """Some rows; of pairs the rows named and those that they are paired with."""
        if "pairs" not in self.labels:
            return Batch(probes.rows(self.inputs, index), probes.rows(self.labels, index))
        half = self.size // 2
        both = probes.rows(self.inputs, [*index, *(half + i for i in index)])
        return Batch(both, {"pairs": torch.arange(len(index))})

    def first(self, count: int) -> Batch:
        """The first rows, or half as many pairs, but at least two."""
        if "pairs" in self.labels:
            count = max(2, count // 2)
        return self.take(list(range(min(self.units, count))))


def loss_kind(bench: Bench) -> str:
    """The declared loss, else the one that the task and the configuration mean."""
    manifest = bench.package.manifest
    if manifest and manifest.training:
        return manifest.training.loss
    if bench.task == "sentence-embedding":
        names = [spec.name for spec in bench.interface.outputs]
        return "contrastive" if "sentence_embedding" in names else "mean-squared-error"
    if bench.task == "tensor":
        return "mean-squared-error"
    if bench.task == "text-classification":
        declared = getattr(bench.model.config, "problem_type", None)
        known = {
            "multi_label_classification": "binary-cross-entropy",
            "regression": "mean-squared-error",
        }
        single = _last_axis(bench, "logits") == 1 and declared is None
        return "mean-squared-error" if single else known.get(str(declared), "cross-entropy")
    return "cross-entropy"


def _last_axis(bench: Bench, name: str) -> int:
    outputs = native(bench, "typical")
    if name not in outputs:
        raise NotApplicable(f"the task {bench.task} has a loss over {name}, which is not returned")
    return int(outputs[name].shape[-1])


@measurement
def batches(bench: Bench) -> list[Batch]:
    """The batches of the training, in order: recorded, or made where nothing is recorded."""
    evidence = bench.package.evidence
    if evidence is None or evidence.training is None:
        return _made(bench)
    tensors, training = bench.evidence_tensors(), evidence.training
    dtypes = {spec.name: DTYPES[spec.dtype] for spec in bench.interface.inputs}
    inputs = {n: tensors[f"batch.{n}"].to(dtypes[n]) for n in training.inputs}
    labels = {n: tensors[f"labels.{n}"] for n in training.labels}
    labels = {n: v if v.is_floating_point() else v.long() for n, v in labels.items()}
    count = len(inputs[training.inputs[0]])
    return [Batch(probes.at(inputs, step), probes.at(labels, step)) for step in range(count)]


def _made(bench: Bench) -> list[Batch]:
    """One batch a step of the recipe, up to `DISTINCT`; one where there is no recipe."""
    manifest = bench.package.manifest
    training = manifest.training if manifest else None
    if training is None:
        return [generated(bench, 0, ROWS)]
    count = min(training.steps, DISTINCT)
    if training.data is not None:
        return _from_data(bench, training.data, training.batch_size, count)
    return [generated(bench, step, training.batch_size) for step in range(count)]


def _from_data(bench: Bench, path: str, size: int, count: int) -> list[Batch]:
    """Rows of a data file in their order, round and round, cut to `WIDEST` tokens."""
    from slmconform.package.dataset import TRAINING, read_data

    try:
        rows = read_data(bench.package, path, TRAINING).rows
        used = [rows[at % len(rows)] for at in range(size * count)]
        whole = _encoded(bench, used)
    except PackageProblem as problem:
        raise problem.finding() from None
    return [whole.take(list(range(at, at + size))) for at in range(0, size * count, size)]


def _encoded(bench: Bench, used: Sequence[Mapping[str, Any]]) -> Batch:
    from slmconform.measure.dataset import training_batch

    whole = Batch(*training_batch(bench, used))
    longest = max((tokens_of(spec, whole.inputs) for spec in bench.interface.inputs), default=0)
    if longest > WIDEST:
        whole = Batch(*training_batch(bench, used, WIDEST))
    return whole


def tokens_of(spec: InputSpec, inputs: Inputs) -> int:
    """Tokens a row of an input; 0 where it has no such axis or was not given."""
    along = [at for at, axis in enumerate(spec.axes) if axis in ("sequence", "target")]
    return max((int(inputs[spec.name].shape[at]) for at in along if spec.name in inputs), default=0)


def first_batch(bench: Bench) -> Batch:
    """The batch of the first step."""
    return batches(bench)[0]


@measurement
def probed(bench: Bench) -> Batch:
    """The first rows of the first batch."""
    return first_batch(bench).first(PROBED)


def generated(bench: Bench, step: int, rows: int) -> Batch:
    """Random legal rows of different lengths, and random legal labels."""
    kind = loss_kind(bench)
    if kind == "contrastive":
        rows *= 2
    axis = bench.interface.axes.get("batch")
    if axis and axis.max < rows:
        rows = axis.max
    if kind == "contrastive" and rows < 4:
        raise NotApplicable("a contrastive loss needs two pairs, the interface allows fewer rows")
    rng = random.Random(f"{SEED + step}:labels")  # noqa: S311
    sizes = {**probes.sizes(bench.interface, "typical"), "batch": rows}
    inputs = probes.build(bench.interface, sizes, bench.rules, seed=SEED + step)
    lengths = _shortened(bench.interface, inputs, bench.rules, rng)
    return Batch(inputs, _labels(bench, kind, inputs, lengths, rng))


def moved(labels: Tensor) -> Tensor:
    """Each label in the place of the next; where all are alike, others."""
    rolled = torch.roll(labels, 1)
    if not torch.equal(rolled, labels):
        return rolled
    if labels.is_floating_point():
        return 1 - labels
    return torch.where(labels == IGNORED, labels, (labels == 0).to(labels.dtype))


def _shortened(
    interface: InterfaceSection, inputs: Inputs, rules: TokenRules, rng: random.Random
) -> list[int]:
    """Cut rows short in place by right padding, where it is declared; the lengths of all rows."""
    mask = probes.by_role(interface, "mask")
    tokens = probes.by_role(interface, "tokens")
    rows = int(next(iter(inputs.values())).shape[0])
    if tokens is None or "sequence" not in tokens.axes:
        return [0] * rows
    width = int(inputs[tokens.name].shape[-1])
    if mask is None or "right" not in interface.capabilities.padding:
        return [width] * rows
    least = max(2, width // 2, interface.axes["sequence"].min)
    lengths = [width, *(rng.randint(min(least, width), width) for _ in range(rows - 1))]
    for row, length in enumerate(lengths):
        for spec in interface.inputs:
            if "sequence" in spec.axes and spec.axes[-1] == "sequence":
                fill = rules.pad if probes.role(spec) == "tokens" else 0
                inputs[spec.name][row, ..., length:] = fill
        if rules.final is not None:
            inputs[tokens.name][row, ..., length - 1] = rules.final
    return lengths


def _labels(
    bench: Bench, kind: str, inputs: Inputs, lengths: list[int], rng: random.Random
) -> Labels:
    rows, task = len(lengths), bench.task
    if kind == "contrastive":
        return {"pairs": torch.arange(rows // 2)}
    plain = kind == "custom" and task in ("tensor", "sentence-embedding")
    if kind in ("mean-squared-error", "binary-cross-entropy") or plain:
        return {"labels": _float_labels(bench, kind, inputs, rng)}
    if task == "question-answering":
        ends = [rng.randrange(1, max(2, length)) for length in lengths]
        starts = [rng.randrange(end) for end in ends]
        return {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}
    if task in ("causal-lm", "masked-lm", "token-classification", "seq2seq-lm"):
        return {"labels": _token_labels(bench, inputs, lengths, rng)}
    name = "scores" if task == "sequence-scoring" else "logits"
    classes = _last_axis(bench, name)
    return {
        "labels": torch.tensor([_class(inputs, row, classes, task, rng) for row in range(rows)])
    }


def _class(inputs: Inputs, row: int, classes: int, task: str, rng: random.Random) -> int:
    """A class; of items one that is not in the row, since items seen may score -inf."""
    seen: set[int] = set()
    if task == "sequence-scoring":
        seen = {
            int(v) for t in inputs.values() if not t.is_floating_point() for v in t[row].ravel()
        }
    choice = rng.randrange(classes)
    for _ in range(classes):
        if choice not in seen:
            break
        choice = (choice + 1) % classes
    return choice


def _float_labels(bench: Bench, kind: str, inputs: Inputs, rng: random.Random) -> Tensor:
    bench.count()
    outputs = bench.model.forward(inputs)
    shape = outputs[scored_output(outputs)].shape
    count = shape.numel()
    if kind == "binary-cross-entropy":
        values = [float(rng.randrange(2)) for _ in range(count)]
    else:
        values = [rng.randrange(-(2**16), 2**16 + 1) / 2**16 for _ in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def scored_output(outputs: Outputs) -> str:
    """The output that the loss is over: logits, scores, else the first of floating point."""
    for name in ("logits", "scores"):
        if name in outputs:
            return name
    for name, value in outputs.items():
        if value.is_floating_point():
            return name
    raise NotApplicable("no output is of floating point, so there is no loss over it")


def _token_labels(bench: Bench, inputs: Inputs, lengths: list[int], rng: random.Random) -> Tensor:
    """(rows, tokens): counted at different numbers of places a row, ignored at the others."""
    task = bench.task
    wanted = "decoder-tokens" if task == "seq2seq-lm" else "tokens"
    spec = probes.by_role(bench.interface, wanted)
    if spec is None:
        raise NotApplicable(f"no input holds {wanted}")
    tokens = inputs[spec.name]
    if tokens.dim() != 2:
        raise Inconclusive(f"{spec.name} has {tokens.dim()} axes: which label belongs where?")
    if task == "causal-lm":
        labels = tokens.clone().long()
    else:
        classes = _last_axis(bench, "logits")
        banned = bench.rules.avoid if task != "token-classification" else frozenset()
        labels = torch.tensor(
            [[_drawn(rng, classes, banned) for _ in row] for row in tokens.tolist()]
        )
    width = labels.shape[1]
    for row in range(labels.shape[0]):
        length = width if task == "seq2seq-lm" else lengths[row]
        labels[row, length:] = IGNORED
        skipped = row % max(1, min(3, length - 2))  # rows count different numbers of labels
        if task == "seq2seq-lm":
            labels[row, width - skipped :] = IGNORED
        else:
            labels[row, :skipped] = IGNORED
        if task == "masked-lm":
            for place in range(skipped + 1, length):
                if rng.randrange(3):
                    labels[row, place] = IGNORED
    if task == "seq2seq-lm":
        _teach(bench, tokens, labels)
    return labels


def _drawn(rng: random.Random, classes: int, banned: frozenset[int]) -> int:
    for _ in range(20):
        choice = rng.randrange(classes)
        if choice not in banned:
            return choice
    return choice


def _teach(bench: Bench, tokens: Tensor, labels: Tensor) -> None:
    """Give the decoder in place what it should have said before each label (teacher forcing)."""
    start = getattr(bench.model.config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        return  # random tokens before each label: a loss all the same
    tokens[:, 0] = start
    tokens[:, 1:] = torch.where(labels[:, :-1] == IGNORED, bench.rules.pad, labels[:, :-1])
