"""Whether the declarations of a manifest agree with each other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from slmconform.package.problem import PackageProblem, shown
from slmconform.package.recipes import recipe_problems
from slmconform.package.variants import variant_problems
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import InputSpec, Manifest
from slmconform.standard.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = "batch"
LARGEST = sys.float_info.max
INTEGERS = {
    "int64": (-(2**63), 2**63 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "bool": (0, 1),
}


def disagreements(manifest: Manifest) -> list[PackageProblem]:
    """Every pair of declarations that cannot both hold."""
    return [
        *_axis_problems(manifest),
        *_name_problems(manifest),
        *_input_problems(manifest),
        *_output_problems(manifest),
        *_capability_problems(manifest),
        *_loader_problems(manifest),
        *recipe_problems(manifest),
        *_claim_problems(manifest),
        *variant_problems(manifest),
    ]


def _claim_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    """Those of claimed scores; the rules of data files are imported only where there are some."""
    if manifest.evaluation:
        from slmconform.package.dataset import evaluation_problems

        yield from evaluation_problems(manifest)


def _axis_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    face = manifest.interface
    for name, axis in face.axes.items():
        if axis.min > axis.max:
            yield _problem(
                "axis-range",
                f"interface.axes.{name}",
                f"min {axis.min} above max {axis.max}",
                "min <= max",
            )
    known = {BATCH, *face.axes}
    for kind, specs in (("inputs", face.inputs), ("outputs", face.outputs)):
        for at, spec in enumerate(specs):
            for axis_name in spec.axes:
                if isinstance(axis_name, str) and axis_name not in known:
                    yield _problem(
                        "axis-undeclared",
                        f"interface.{kind}[{at}].axes",
                        f"the axis {axis_name} of {spec.name} has no range",
                        f"one of {', '.join(sorted(known))}, or a size",
                        f"add {axis_name} = {{ min = ..., max = ... }} to [interface.axes]",
                    )


def _name_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    face = manifest.interface
    for kind, specs in (("inputs", face.inputs), ("outputs", face.outputs)):
        names = [spec.name for spec in specs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            got = f"{name} is declared {names.count(name)} times"
            yield _problem("name-twice", f"interface.{kind}", got, "every name once")


def _input_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    for at, spec in enumerate(manifest.interface.inputs):
        where = f"interface.inputs[{at}]"
        if spec.role in ("tokens", "decoder-tokens") and spec.dtype not in INTEGERS:
            got = f"{spec.name} holds tokens in {spec.dtype}"
            yield _problem("input-dtype", f"{where}.dtype", got, "an integer dtype")
        if spec.range and (want := _range_wanted(spec)):
            got = f"{shown(spec.range)} of {spec.name}"
            yield _problem("input-range", f"{where}.range", got, want)


def _range_wanted(spec: InputSpec) -> str:
    """What the range of an input should have been; empty where it is right."""
    least, greatest = spec.range or (0, 0)
    if not -LARGEST <= least <= greatest <= LARGEST:  # nor is a NaN
        return "two finite numbers, the smaller first"
    if spec.dtype not in INTEGERS:
        return ""
    low, high = INTEGERS[spec.dtype]
    whole = isinstance(least, int) and isinstance(greatest, int)
    if not whole or least < low or greatest > high:
        return f"integers from {low} to {high}, as {spec.dtype} holds them"
    return ""


def _output_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    declared = {spec.name: spec for spec in manifest.interface.outputs}
    task = TASKS[manifest.model.task]
    for name, axes in task.outputs.items():
        want = f"{name} of axes {', '.join(axes)}"
        if name not in declared:
            got = f"no output {name} for the task {task.name}"
            fix = f"declare the output {name}, or correct model.task"
            yield _problem("output-missing", "interface.outputs", got, want, fix)
        elif len(declared[name].axes) != len(axes):
            got = f"{name} has {len(declared[name].axes)} axes"
            yield _problem("output-axes", "interface.outputs", got, want)


def _capability_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    face, task = manifest.interface, manifest.model.task
    can, where = face.capabilities, "interface.capabilities"
    masked = any(spec.role == "mask" or spec.name == "attention_mask" for spec in face.inputs)
    if can.padding and not masked:
        got = "padding is declared, but no input is a mask"
        fix = "declare attention_mask as an input, or padding = []"
        yield _problem("padding-mask", f"{where}.padding", got, "an input of role mask", fix)
    if can.kv_cache and not can.causal and task != "seq2seq-lm":
        got = f"a key-value cache in a {task} that is not causal"
        fix = "set causal = true or kv_cache = false"
        yield _problem("cache-causal", f"{where}.kv_cache", got, "a causal model", fix)


def _loader_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    loader, task = manifest.loader, TASKS[manifest.model.task]
    if loader.kind == "torch" and not loader.entry:
        fix = 'add entry = "modeling.py:build"'
        yield _problem("entry-missing", "loader", "kind torch without an entry", "entry", fix)
    if loader.kind == "transformers":
        if loader.entry:
            fix = 'remove entry, or set kind = "torch"'
            got = "an entry beside kind transformers"
            yield _problem("entry-unused", "loader.entry", got, "no entry", fix)
        if not task.auto_class and not loader.class_:
            got = f"kind transformers without a class, for the task {task.name}"
            yield _problem("class-missing", "loader", got, "class, or kind torch with an entry")
        if "sentence_embedding" in task.outputs and not loader.pooling:
            got = f"the task {task.name} without pooling"
            fix = 'add pooling = "mean", or how the sentence embedding is made'
            yield _problem("pooling-missing", "loader", got, "pooling", fix)
        if task.text and not _takes_text(manifest):
            got = f"no token input for the task {task.name}"
            yield _problem("tokens-missing", "interface.inputs", got, "input_ids of role tokens")
    if loader.normalize and not loader.pooling:
        got = "normalize = true without pooling"
        yield _problem("normalize-alone", "loader.normalize", got, "pooling beside it")


def _takes_text(manifest: Manifest) -> bool:
    return any(s.role == "tokens" or s.name == "input_ids" for s in manifest.interface.inputs)


def _problem(code: str, key: str, got: str, want: str, fix: str = "") -> PackageProblem:
    where = f"{MANIFEST}: {key}"
    return PackageProblem(code, where, got, want, fix or "correct one of the two declarations")
