"""Losses that the package names, raises from or hides, and those of the library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from changes import code, manifest, unrecorded, written
from defect_record import Defect, NearMiss
from defects_losses import ENTROPY, SHIFTED

if TYPE_CHECKING:
    import pytest

RISK = "SLM-LOS-001"
ENTRY = """\
from torch.nn import functional


def loss(outputs, labels):
    logits, labels = outputs["logits"], labels["labels"]
    return {value}
"""
NAMED = manifest("[training]", '[training]\nentry = "losses.py:loss"')
CUSTOM = manifest('loss = "cross-entropy"', 'loss = "custom"\nentry = "losses.py:loss"')
LOGITS = "outputs['logits']"
FORWARD = "attention_mask: Tensor | None = None, labels: Tensor | None = None\n"
START = "        if attention_mask is None:\n"
BEHIND_KEYWORDS = (
    (FORWARD, "attention_mask=None, **given\n"),
    (START, f'        labels = given.get("labels")\n{START}'),
)
EARLY = "            labels = functional.pad(labels[:, 1:], (0, 1), value=-100)\n"
RAISES = """\
class Other(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g[:, :2]


class Layer("""


def entry(name: str, says: str, kills: str, failure: str, value: str, *words: str, package: str):
    """A loss function of the package in place of the model's own."""
    changes = (unrecorded, written("losses.py", ENTRY.format(value=value)), NAMED)
    twin = "los-legal-a-loss-function-of-the-package"
    return Defect(name, says, package, kills, failure, changes, words, twin)


def custom(body: str):
    """A loss that the standard does not know."""
    return unrecorded, written("losses.py", f"def loss(outputs, labels):\n    {body}\n"), CUSTOM


def custom_defect(name: str, says: str, failure: str, body: str, *words: str) -> Defect:
    """A custom loss function that gives no gradient or no loss."""
    twin = "los-legal-a-loss-of-one-number"
    changes = custom(body)
    return Defect(name, says, "learner-tagger", "SLM-GRD-001", failure, changes, words, twin)


def behind_a_name(name: str, of: str) -> Defect:
    """A module with a wrong backward pass."""
    layer = (
        f"class {of}(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x).detach() * 2 - super().forward(x)\n\n\nclass Layer("
    )
    changes = code(("class Layer(", layer), ("self.wide = nn.Linear(", f"self.wide = {of}("))
    says = f"A module called {of} negates its gradient."
    return Defect(
        name, says, "learner-tagger", "SLM-GRD-001", "gradient-differs", (unrecorded, *changes)
    )


def in_library(change):
    """The loss of the library after a change of its arguments."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers.loss import loss_utils

        right = loss_utils.fixed_cross_entropy

        def wrong(source, target, num_items_in_batch=None, ignore_index=-100, **options):
            target, items = change(target, num_items_in_batch, ignore_index)
            return right(source, target, items, ignore_index, **options)

        monkeypatch.setattr(loss_utils, "fixed_cross_entropy", wrong)

    return patch


def one_item_more(target, items, ignored):
    """The divisor is one too large, where there is one."""
    return target, items + 1 if items is not None else None


def shifted_again(target, items, ignored):
    """Labels of another token yet."""
    from torch.nn import functional

    rows = target.view(4, -1) if target.numel() % 4 == 0 else target.view(1, -1)
    return functional.pad(rows[:, 1:], (0, 1), value=ignored).flatten(), items


DATA_ROWS = [
    {"inputs": {"input_ids": ids}, "label": labels}
    for ids, labels in (
        ([3, 4, 5, 6], [-100, -100, -100, -100]),
        ([3, 4, 5, 6], [3, 4, 0, 1]),
        ([9, 8, 7], [4, 3, -100]),
    )
]

DEFECTS = [
    entry(
        "los-entry-sums",
        "The package's loss function sums where a mean is declared.",
        RISK,
        "not-divided",
        ENTROPY.replace("labels.reshape(-1))", "labels.reshape(-1), reduction='sum')"),
        package="learner-tagger",
    ),
    entry(
        "los-entry-counts-padding",
        "The package's loss function counts padding as the first class.",
        RISK,
        "padding-counted",
        "functional.cross_entropy(logits.flatten(0, 1), labels.flatten().clamp(min=0))",
        package="learner-tagger",
    ),
    entry(
        "los-entry-saturates",
        "The package's loss function rounds large outputs to probabilities 0 and 1.",
        "SLM-LOS-005",
        "loss-saturates",
        "functional.binary_cross_entropy(logits.sigmoid(), labels)",
        "gradient 0",
        package="learner-classifier",
    ),
    Defect(
        "los-entry-not-there",
        "The manifest names a loss function that the file does not hold.",
        "learner-tagger",
        RISK,
        "load-raises",
        (*custom("return None"), manifest("losses.py:loss", "losses.py:other")),
        ("other",),
        twin="los-legal-a-loss-of-one-number",
    ),
    Defect(
        "los-own-loss-raises",
        "The model raises when it is given labels.",
        "learner-tagger",
        RISK,
        "forward-raises",
        (unrecorded, *code(("self.loss(logits, labels)}", "self.loss(logits, labels[:, :3])}"))),
    ),
    Defect(
        "los-shifted-twice-behind-keywords",
        "Labels are shifted twice by a model that takes them among keywords it does not name.",
        "learner-writer",
        RISK,
        "shifted-twice",
        (unrecorded, *code(*BEHIND_KEYWORDS, (SHIFTED, f"{SHIFTED}{EARLY}"))),
        twin="los-legal-labels-behind-keywords",
    ),
    custom_defect(
        "grd-a-loss-without-any-slope",
        "A custom loss is the same whatever the model answers.",
        "no-gradient",
        f"return 3.0 + 0.0 * {LOGITS}.sum()",
        "exactly 0 for every parameter",
    ),
    custom_defect(
        "grd-loss-reads-another-output",
        "A custom loss reads an output that there is not.",
        "loss-raises",
        "return outputs['scores'].sum()",
        "KeyError",
        "training.entry",
    ),
    custom_defect(
        "grd-loss-is-a-plain-number",
        "A custom loss returns a number of Python.",
        "loss-raises",
        f"return float({LOGITS}.detach().sum())",
        "not float",
    ),
    custom_defect(
        "grd-loss-is-nothing",
        "A custom loss returns nothing.",
        "loss-raises",
        "pass",
        "not NoneType",
    ),
    custom_defect(
        "grd-loss-is-a-vector",
        "A custom loss returns one number a row.",
        "loss-raises",
        f"return {LOGITS}.sum(0)",
        "not of shape",
    ),
    Defect(
        "grd-backward-raises",
        "A backward pass of the package's own raises.",
        "learner-tagger",
        "SLM-GRD-001",
        "backward-raises",
        (
            *custom(f"return {LOGITS}.square().mean()"),
            *code(
                ("class Layer(", RAISES),
                ("self.head(self.norm(states))", "self.head(self.norm(Other.apply(states)))"),
            ),
        ),
        twin="los-legal-a-loss-of-one-number",
    ),
    behind_a_name("grd-behind-a-name-of-the-library", "SinusoidalMix"),
    behind_a_name("grd-behind-another-name", "OtherMix"),
    Defect(
        "los-library-divides-by-one-more",
        "The library divides a loss by one item more than it is told.",
        "learner-llama",
        "SLM-LOS-004",
        "num-items-in-batch",
        words=("each given num_items_in_batch",),
        patch=in_library(one_item_more),
    ),
    Defect(
        "los-library-shifts-twice",
        "The library shifts labels that were shifted before.",
        "learner-llama",
        RISK,
        "shifted-twice",
        words=("shifted again",),
        patch=in_library(shifted_again),
    ),
]

NEAR_MISSES = [
    NearMiss(
        "los-legal-a-loss-function-of-the-package",
        "The package's loss function is the mean that is declared.",
        "learner-tagger",
        (unrecorded, written("losses.py", ENTRY.format(value=ENTROPY)), NAMED),
    ),
    NearMiss(
        "los-legal-a-loss-of-one-number",
        "A custom loss returns one number in a vector.",
        "learner-tagger",
        custom(f"return {LOGITS}.square().mean().reshape(1)"),
    ),
    NearMiss(
        "los-legal-labels-behind-keywords",
        "A model takes its labels among keywords that it does not name.",
        "learner-writer",
        (unrecorded, *code(*BEHIND_KEYWORDS)),
    ),
    NearMiss(
        "los-legal-a-row-whose-labels-do-not-count",
        "No label of a training row counts.",
        "learner-tagger",
        (
            unrecorded,
            written("rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in DATA_ROWS)),
            manifest("batch_size = 6", 'batch_size = 6\naccumulation = 6\ndata = "rows.jsonl"'),
        ),
        profile="trainable",
    ),
]
