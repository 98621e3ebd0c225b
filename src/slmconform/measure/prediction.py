"""A model run over the rows of a data file, in the shipped dtype on the device.

Rows run in batches of similar length, without gradients, and what is kept of each is decided row
by row, so that a file of any length takes the memory of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from slmconform.engine.registry import Nonconformance
from slmconform.measure.bench import Bench
from slmconform.measure.dataset import Item, collate, items, padding_side
from slmconform.measure.encoding import Room
from slmconform.model import probes
from slmconform.model.loaded import Outputs
from slmconform.package.json_lines import Row
from slmconform.package.labels import answer_size

ROWS = 16  # a batch
ELEMENTS = 2**26  # the largest output of a batch
ANSWERS = ("logits", "scores", "sentence_embedding")  # else the first output of floating point

T = TypeVar("T")
Rows = Sequence[Row]


@dataclass(frozen=True)
class Seen:
    """One row after the pass: its outputs without batch axis, and how far padding moved it."""

    item: Item
    outputs: Outputs
    moved: int

    @property
    def answer(self) -> Tensor:
        """The output that answers."""
        named = [name for name in ANSWERS if name in self.outputs]
        floating = [name for name, value in self.outputs.items() if value.is_floating_point()]
        return self.output((named or floating or list(self.outputs))[0])

    def output(self, name: str) -> Tensor:
        """One output; NaN in it is a failure of the model, whatever the metric."""
        value = self.outputs[name]
        if bool(value.isnan().any()):
            raise Nonconformance(
                code="not-finite",
                got="NaN",
                want="numbers",
                where=f"{self.item.where}: output {name}",
                fix="run this row alone, and look for the operation that overflows",
            )
        return value


def sequences_of(bench: Bench, rows: Rows) -> list[Item]:
    """One sequence a row, two for a pair; raises `PackageProblem` where one does not fit."""
    room = Room.of(bench)
    return [one for at, row in enumerate(rows, 1) for one in items(bench, row, at, room)]


def run(bench: Bench, sequences: Sequence[Item], reduce: Callable[[Seen], T]) -> list[T]:
    """What ``reduce`` keeps of each sequence, in the order given."""
    found: dict[int, T] = {}
    for places in _batches(bench, sequences):
        batch = collate(bench, [sequences[at] for at in places])
        outputs = bench.native(batch.inputs)
        for row, at in enumerate(places):
            one = {name: value[row] for name, value in outputs.items()}
            found[at] = reduce(Seen(sequences[at], one, batch.moved[row]))
    return [found[at] for at in range(len(sequences))]


def _batches(bench: Bench, sequences: Sequence[Item]) -> Iterator[list[int]]:
    """Indices of sequences that run together, the longest first.

    Of one length where padding is not declared; filled up with a row of the same batch where the
    interface asks for more rows.
    """
    lengths = [_length(bench, one) for one in sequences]
    order = sorted(range(len(sequences)), key=lambda at: (-lengths[at], at))
    size, limits = answer_size(bench.interface) or 1, bench.interface.axes.get("batch")
    alike = padding_side(bench) is None
    while order:
        longest = lengths[order[0]]
        most = max(1, min(ROWS, ELEMENTS // (max(longest, 1) * size)))
        if limits:
            most = min(max(most, limits.min), limits.max)
        chosen = [at for at in order[:most] if not alike or lengths[at] == longest]
        order = order[len(chosen) :]
        short = limits.min - len(chosen) if limits else 0
        yield chosen + chosen[:1] * max(0, short)


def _length(bench: Bench, item: Item) -> int:
    """The size of a row along the sequence, else of its largest input."""
    for spec in bench.interface.inputs:
        axis = probes.sequence_axis(bench.interface, spec.name)
        if axis is not None and spec.name in item.inputs:
            return int(item.inputs[spec.name].shape[axis - 1])
    return max((value.numel() for value in item.inputs.values()), default=1)
