"""Rows of numbers held against the interface: names, shapes, integers, and what a dtype holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from slmconform.package.json_lines import row_refused
from slmconform.package.problem import shown
from slmconform.standard.manifest import InputSpec, InterfaceSection

CUT = ("sequence", "target")  # axes along which training rows are cut
DEEPEST = 8  # axes that the manifest allows
NUMBERS = frozenset({int, float})
FLOAT32 = (2 - 2**-23) * 2.0**127
LARGEST = {
    "float64": sys.float_info.max,
    "float32": FLOAT32,
    "bfloat16": (2 - 2**-7) * 2.0**127,
    "float16": 65504.0,
}


def shape_of(value: Any, deeper: int = DEEPEST) -> tuple[int, ...] | None:
    """The shape of a number, or of rectangular lists of numbers; None for anything else."""
    if type(value) in NUMBERS:
        return ()
    if not isinstance(value, list) or not deeper:
        return None
    if NUMBERS.issuperset(map(type, value)):
        return (len(value),)
    inner = {shape_of(one, deeper - 1) for one in value}
    shape = inner.pop()
    return None if inner or shape is None else (len(value), *shape)


def leaves(value: Any) -> list[Any]:
    """The numbers of rectangular lists, in order."""
    if not isinstance(value, list):
        return [value]
    while value and isinstance(value[0], list):
        value = list(chain.from_iterable(value))
    return list(value)


def judge_inputs(
    interface: InterfaceSection, given: Mapping[str, Any], where: str, *, cut: bool
) -> dict[str, int]:
    """The sizes of the named axes of one row, given as rectangular lists by input name.

    Rows that are ``cut`` may be longer than the axes `CUT` allow. Raises `PackageProblem`:
    "input-unknown", "input-shape", "input-dtype" or "input-range".
    """
    specs = {spec.name: spec for spec in interface.inputs}
    sizes: dict[str, int] = {}
    for name, value in given.items():
        if name not in specs:
            want = f"of {', '.join(specs)}"
            raise row_refused("input-unknown", where, f"the input {shown(name)}", want)
        shape = shape_of(value) or ()
        free = CUT if cut else ()
        if want := shape_wanted(interface, specs[name], shape, sizes, free):
            raise row_refused("input-shape", where, f"{name} of shape {list(shape)}", want)
        _judge_values(specs[name], leaves(value), where)
    return sizes


def shape_wanted(
    interface: InterfaceSection,
    spec: InputSpec,
    shape: tuple[int, ...],
    sizes: dict[str, int],
    free: Iterable[str] = (),
) -> str:
    """What the shape of one row should have been, empty where it is right.

    ``sizes`` are those of the named axes so far; axes that are ``free`` have no upper bound.
    """
    axes = spec.axes[1:]
    if len(axes) != len(shape):
        return f"axes {axes}"
    for axis, size in zip(axes, shape, strict=True):
        if isinstance(axis, int):
            if axis != size:
                return f"axes {axes}"
            continue
        most = interface.axes[axis].max if axis in interface.axes and axis not in free else size
        if not 1 <= size <= most:
            return f"{axis} from 1 to {max(most, 1)}"
        if sizes.setdefault(axis, size) != size:
            return f"{axis} of {sizes[axis]}, as other inputs of the row have"
    return ""


def _judge_values(spec: InputSpec, values: list[Any], where: str) -> None:
    if spec.dtype not in LARGEST and float in set(map(type, values)):
        odd = next(value for value in values if type(value) is float)
        want = f"integers, for it is {spec.dtype}"
        raise row_refused("input-dtype", where, f"{spec.name} holds {odd}", want)
    held, declared = bounds(spec.dtype), spec.range or bounds(spec.dtype)
    low, high = max(held[0], declared[0]), min(held[1], declared[1])
    least, greatest = min(values), max(values)
    if least < low or greatest > high:
        got = f"{spec.name} holds {shown(least if least < low else greatest)}"
        raise row_refused("input-range", where, got, f"values from {low:g} to {high:g}")


def bounds(dtype: str) -> tuple[float, float]:
    """The least and the greatest number that a dtype of the standard holds."""
    if dtype in LARGEST:
        return -LARGEST[dtype], LARGEST[dtype]
    if dtype == "bool":
        return 0, 1
    bits = int(dtype.rpartition("int")[2])
    return (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
