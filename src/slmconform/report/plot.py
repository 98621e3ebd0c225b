"""A plot of a few lines of characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

LABEL = 9  # columns left of the axis


@dataclass(frozen=True)
class Glyphs:
    """The characters of a plot."""

    point: str
    bound: str
    outside: str
    axis: str
    corner: str
    floor: str


LINES = Glyphs("•", "─", "×", "│", "└", "─")  # noqa: RUF001 - a mark, not a letter
ASCII = Glyphs("*", "-", "x", "|", "+", "-")


def glyphs(stream: TextIO) -> Glyphs:
    """The characters that a stream can show."""
    try:
        "".join(vars(LINES).values()).encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return LINES


@dataclass(frozen=True)
class Series:
    """Values by step, None where there is none, all drawn with one mark."""

    values: Sequence[float | None]
    mark: str


@dataclass(frozen=True)
class Frame:
    """Where a plot stands: columns and rows of its whole, and how many steps wide it is."""

    width: int
    height: int
    steps: int
    glyphs: Glyphs


def plot(title: str, series: Sequence[Series], frame: Frame, *, log: bool = False) -> list[str]:
    """Lines of ``frame.width``: a title, the plot, its axis and the numbers of the steps.

    Later series are drawn over earlier ones; what is no finite number stands on the top row, and
    with a logarithmic axis what is not positive on the lowest.
    """
    columns, rows = frame.width - LABEL - 1, frame.height - 3
    values = [v for one in series for v in one.values if v is not None and math.isfinite(v)]
    drawn = [v for v in values if v > 0] if log else values
    low, high = min(drawn, default=0.0), max(drawn, default=0.0)
    row = _scale(low, high, rows, math.log10 if log else float)
    grid = [[" "] * columns for _ in range(rows)]
    for one in series:
        for index, value in enumerate(one.values):
            if value is not None:
                column = index * (columns - 1) // max(1, frame.steps - 1)
                grid[row(value)][column] = one.mark
    labels = [" " * LABEL] * rows
    if drawn:
        labels[0], labels[-1] = f"{high:>{LABEL}.3g}", f"{low:>{LABEL}.3g}"
    lines = [f"{'':{LABEL}} {title}"[: frame.width]]
    lines += [
        label + frame.glyphs.axis + "".join(cells)
        for label, cells in zip(labels, grid, strict=True)
    ]
    lines += [" " * LABEL + frame.glyphs.corner + frame.glyphs.floor * columns]
    lines += [f"{'':{LABEL}} 1{frame.steps:>{columns - 1}}"]
    return [line.ljust(frame.width) for line in lines]


def _scale(
    low: float, high: float, rows: int, axis: Callable[[float], float]
) -> Callable[[float], int]:
    """The row of a value, counted from the top."""

    def row(value: float) -> int:
        if not math.isfinite(value):
            return 0
        if value <= low:
            return rows - 1
        top, bottom = axis(high), axis(low)
        return round((top - axis(value)) / (top - bottom) * (rows - 1))

    return row


def beside(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Two plots of equal height, side by side."""
    return [f"{one}  {other}" for one, other in zip(left, right, strict=True)]
