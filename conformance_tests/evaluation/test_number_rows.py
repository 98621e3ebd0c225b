"""Rows of numbers, and labels: held against interface, metric and loss before a model is loaded."""

from __future__ import annotations

import math

import pytest
import torch
from evaluation_packages import DATA, NUMBERS, write_rows
from package_builders import judge

from slmconform.engine.registry import Nonconformance
from slmconform.measure.dataset import collate, items
from slmconform.measure.encoding import Room
from slmconform.model.loaded import DTYPES
from slmconform.package.dataset import read_data
from slmconform.package.number_rows import LARGEST, bounds, leaves, shape_of
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package

RECIPE = '[training]\nloss = "{loss}"\n{more}[training.optimizer]\nname = "sgd"\nlr = 0.1\n'
FACE = """
[[interface.inputs]]
name = "ids"
dtype = "int16"
axes = ["batch", "sequence"]
[[interface.inputs]]
name = "attention_mask"
dtype = "int64"
axes = ["batch", "sequence"]
required = false
[[interface.inputs]]
name = "values"
dtype = "float32"
axes = ["batch", 2]
range = [-5, 1e30]
required = false
[[interface.inputs]]
name = "half"
dtype = "float16"
axes = ["batch"]
required = false
[[interface.outputs]]
name = "scores"
dtype = "float32"
axes = {axes}
[interface.axes]
sequence = {{ min = 1, max = 4 }}
items = {{ min = 1, max = 9 }}
"""


def numbers(folder, task="tensor", axes='["batch", 3]', loss=""):
    """A folder with a manifest of own code that takes numbers."""
    (folder / "conformance").mkdir(exist_ok=True)
    head = NUMBERS.format(task=task).partition("[[interface")[0] + FACE.format(axes=axes)
    if loss:
        head += RECIPE.format(loss=loss, more='entry = "a.py:f"\n' if loss == "custom" else "")
    (folder / "slm.toml").write_text(head, "utf-8")
    (folder / "config.json").write_text("{}", "utf-8")
    return folder


def found(folder, rows, use="training"):
    """How the rows are refused and where; empty where they are read."""
    write_rows(folder, rows)
    try:
        read_data(Package(folder), DATA, use)
    except PackageProblem as problem:
        return f"{problem.code} {problem.where.removeprefix(DATA)}"
    return ""


INPUTS = [
    ("", {"ids": [1, -2, 3], "attention_mask": [1, 1, 0], "values": [0.5, 2], "half": 65504}),
    ("", {"ids": [1, 2, 3, 4, 5]}),  # a training cuts it
    ("input-unknown", {"ids": [1], "attention_masks": [1]}),
    ("input-shape", {"ids": []}),
    ("input-shape", {"ids": [[1]]}),
    ("input-shape", {"ids": 1}),
    ("input-shape", {"ids": [1, 2], "attention_mask": [1]}),
    ("input-shape", {"ids": [1], "values": [1.0, 2.0, 3.0]}),
    ("input-dtype", {"ids": [1, 0.0]}),
    ("input-dtype", {"ids": [1.5]}),
    ("input-range", {"ids": [2**15]}),
    ("input-range", {"ids": [1], "attention_mask": [2**70]}),
    ("input-range", {"ids": [1], "values": [0.0, -6]}),
    ("input-range", {"ids": [1], "values": [0.0, 1e39]}),
    ("input-range", {"ids": [1], "half": 65505.0}),
]


@pytest.mark.parametrize(("code", "inputs"), INPUTS)
def test_inputs_are_held_against_the_interface(tmp_path, code, inputs):
    rows = [{"inputs": {"ids": [1]}, "label": [1, 2, 3]}, {"inputs": inputs, "label": [1, 2, 3]}]
    assert found(numbers(tmp_path), rows) == (f"{code} :2" if code else "")


def test_rows_of_an_evaluation_are_not_cut(tmp_path):
    row = {"inputs": {"ids": [1, 2, 3, 4, 5]}, "label": 1}
    assert found(numbers(tmp_path), [row], "accuracy") == "input-shape :1"
    assert not found(tmp_path, [{**row, "inputs": {"ids": [1, 2, 3, 4]}}], "accuracy")


TOKEN, QA = "token-classification", "question-answering"
LABELS = [
    (TOKEN, "macro-f1", "", [0, -100, 4]),
    (TOKEN, "seqeval-f1", "label-range", [0, 1, 5]),
    (TOKEN, "accuracy", "label-range", [0, -1, 4]),
    (TOKEN, "accuracy", "label-shape", [0, 1, 2, 3]),
    (TOKEN, "training", "label-shape", [0, 1]),
    (TOKEN, "accuracy", "no-label", [-100, -100, -100]),
    (TOKEN, "training", "", [-100, -100, -100]),
    (TOKEN, "training", "label-range", [0, 1, 2**70]),
    ("masked-lm", "accuracy", "", [-100, 7, -100]),
    ("masked-lm", "accuracy", "label-range", [-100, 999, -100]),
    ("causal-lm", "perplexity", "", [5, 6, 7]),
    ("causal-lm", "perplexity", "label-range", [5, 6, 999]),
    ("seq2seq-lm", "training", "", [5, 6, 7, 8]),
    ("seq2seq-lm", "training", "label-range", [5, 999]),
    (QA, "exact-match", "", [1, 2]),
    (QA, "exact-match", "label-range", [1, 3]),
]


@pytest.mark.parametrize(("task", "use", "code", "label"), LABELS)
def test_labels_of_tokens(package, task, use, code, label):
    row = {"inputs": {"input_ids": [5, 6, 7]}, "label": label}
    assert found(package(task), [row], use) == (f"{code} :1" if code else "")


@pytest.mark.parametrize(("label", "code"), [(1, ""), (2, "label-range :1")])
def test_labels_of_choices(package, label, code):
    row = {"inputs": {"input_ids": [[5, 6], [6, 7]]}, "label": label}
    assert found(package("multiple-choice"), [row], "accuracy") == code


ONE, SIZED, NAMED, BARE = '["batch", 1]', '["batch", 3]', '["batch", "items"]', '["batch"]'
CLASSES, BCE, MSE = "accuracy", "binary-cross-entropy", "mean-squared-error"
TENSORS = [
    (SIZED, CLASSES, 2, ""),
    (SIZED, CLASSES, [2], ""),
    (SIZED, CLASSES, 3, "label-range"),
    (SIZED, CLASSES, 2.0, "label-range"),
    (SIZED, CLASSES, -1, "label-range"),
    (SIZED, CLASSES, [1, 0, 1], ""),
    (SIZED, CLASSES, [1, 0, 2], "label-range"),
    (SIZED, CLASSES, [1, 0], "label-shape"),
    (SIZED, CLASSES, [], "label-shape"),
    (ONE, CLASSES, 1, ""),
    (ONE, CLASSES, 7, "label-range"),
    (BARE, "spearman", 0.5, ""),
    (BARE, CLASSES, 1, ""),
    (ONE, "spearman", [0.5], ""),
    (ONE, "spearman", 1e39, "label-range"),
    (ONE, "spearman", 2**70, "label-range"),
    (ONE, "spearman", [0.5, 1.0], "label-shape"),
    (SIZED, MSE, [0.5, 1, 2], ""),
    (SIZED, MSE, [[0.5, 1, 2]], ""),
    (SIZED, MSE, 1, "label-shape"),
    (SIZED, BCE, [0, 1, 0.5], ""),
    (SIZED, BCE, [0, 1, 2], "label-loss"),
    (SIZED, "custom", 2, ""),
    (NAMED, MSE, [0.5, 1.0], ""),
]


@pytest.mark.parametrize(("axes", "use", "label", "code"), TENSORS)
def test_labels_of_tensors(tmp_path, axes, use, label, code):
    loss = use if use in (MSE, BCE, "custom") else ""
    folder = numbers(tmp_path, axes=axes, loss=loss)
    row = {"inputs": {"ids": [1]}, "label": label}
    expected = f"{code} :1" if code else ""
    assert found(folder, [row], "training" if loss else use) == expected


def test_numbers_of_both_kinds_stand_beside_each_other(tmp_path):
    rows = [{"inputs": {"ids": [1]}, "label": label} for label in (3, 2.5)]
    folder = numbers(tmp_path, axes=ONE, loss=MSE)
    assert not found(folder, rows)
    assert found(folder, [*rows, {**rows[0], "label": [3]}]) == "mixed-labels :3"


ITEMS = [
    (SIZED, "recall", "", 2, ""),
    (SIZED, "recall", "", 3, "wrong-value :1"),
    (NAMED, "recall", "", 3, ""),  # how many items there are is known to the model alone
    (SIZED, "training", "cross-entropy", 2, ""),
    (SIZED, "training", BCE, 2, "label-loss :1"),
]


@pytest.mark.parametrize(("axes", "use", "loss", "target", "code"), ITEMS)
def test_targets_of_a_sequence(tmp_path, axes, use, loss, target, code):
    folder = numbers(tmp_path, "sequence-scoring", axes, loss)
    assert found(folder, [{"inputs": {"ids": [1]}, "target": target}], use) == code


LOSSES = [
    (1, BCE, 1, ""),
    (1, BCE, 0.5, ""),
    (1, BCE, 3, "label-loss"),
    (1, MSE, -7, ""),
    (1, "cross-entropy", 1, "label-loss"),
    (2, "cross-entropy", 1, ""),
    (2, "cross-entropy", "LABEL_1", ""),
    (2, "cross-entropy", [0, 1], "label-loss"),
    (2, BCE, [0, 1], ""),
    (2, BCE, 1, "label-loss"),
    (2, BCE, "LABEL_1", "label-loss"),
    (2, MSE, [0, 1], ""),
    (2, MSE, 1, "label-loss"),
]


@pytest.mark.parametrize(("labels", "loss", "label", "code"), LOSSES)
def test_labels_that_a_loss_does_not_take(package, labels, loss, label, code):
    folder = package("text-classification", labels=labels)
    with (folder / "slm.toml").open("a", encoding="utf-8") as file:
        file.write(RECIPE.format(loss=loss, more=f'data = "{DATA}"\n'))
    write_rows(folder, [{"text": "the lamp", "label": label}])
    if not code:
        assert judge("SLM-EVL-001", folder) == f"1 rows in {DATA}"
        return
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-EVL-001", folder)
    assert (caught.value.code, caught.value.where) == (code, f"{DATA}:1")
    assert loss in caught.value.got


def test_shapes_and_leaves():
    assert shape_of([[1, 2.0], [3, 4]]) == (2, 2)
    assert shape_of([[], []]) == (2, 0)
    assert shape_of(1) == ()
    for wrong in ([[1], 2], [[1], [2, 3]], [True], "1", [[[[[[[[[1]]]]]]]]]):
        assert shape_of(wrong) is None
    assert leaves([[1, 2], [3, 4]]) == [1, 2, 3, 4]
    assert leaves(5) == [5]


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_bounds_are_those_of_the_dtype(name):
    dtype = DTYPES[name]
    if name in LARGEST:
        assert bounds(name) == (-torch.finfo(dtype).max, torch.finfo(dtype).max)
        assert math.isfinite(torch.tensor(bounds(name)[1], dtype=dtype).item())
    elif name == "bool":
        assert bounds(name) == (0, 1)
    else:
        assert bounds(name) == (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def test_an_input_that_only_some_rows_give(package, bench):
    folder = package("causal-lm")
    text = (folder / "slm.toml").read_text("utf-8")
    extra = '[[interface.inputs]]\nname = "bias"\ndtype = "float32"\naxes = ["batch"]\n'
    face = text.replace("[[interface.outputs]]", f"{extra}required = false\n[[interface.outputs]]")
    (folder / "slm.toml").write_text(face, "utf-8")
    one = bench(folder)
    both = {"inputs": {"input_ids": [5, 6], "bias": 0.5}}
    rows = [items(one, row, 1, Room.of(one))[0] for row in (both, {"inputs": {"input_ids": [5]}})]
    assert collate(one, rows[:1]).inputs["bias"].tolist() == [0.5]
    with pytest.raises(PackageProblem) as caught:
        collate(one, rows)
    assert caught.value.code == "input-missing"
