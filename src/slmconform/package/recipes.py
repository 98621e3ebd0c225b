"""Whether a declared training recipe can be followed, and whether a profile has what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.package.problem import PackageProblem
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import SGD, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The losses that each task can be trained with; a custom loss is own code and fits any.
LOSSES = {
    "causal-lm": ("cross-entropy",),
    "masked-lm": ("cross-entropy",),
    "seq2seq-lm": ("cross-entropy",),
    "text-classification": ("cross-entropy", "binary-cross-entropy", "mean-squared-error"),
    "token-classification": ("cross-entropy",),
    "question-answering": ("cross-entropy",),
    "sentence-embedding": ("contrastive",),
    "multiple-choice": ("cross-entropy",),
    "sequence-scoring": ("cross-entropy", "binary-cross-entropy", "mean-squared-error"),
    "tensor": ("mean-squared-error", "binary-cross-entropy"),
}
NEEDED = {"trainable": ("training",), "evaluated": ("training", "evaluation")}


def recipe_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    """Every declaration about training that cannot hold beside the others."""
    for table in NEEDED.get(manifest.profile, ()):
        if not getattr(manifest, table):
            shown = f"[{table}]" if table == "training" else f"[[{table}]]"
            got = f"profile {manifest.profile} without {shown}"
            fix = f"add {shown}, or claim a lower profile"
            yield _problem(f"{table}-missing", "profile", got, f"a table {shown}", fix)
    if manifest.training is not None:
        yield from _loss_problems(manifest)
        yield from _step_problems(manifest)


def _loss_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    training, task = manifest.training, manifest.model.task
    if training is None:
        return
    if training.loss == "custom":
        if training.entry is None:
            got = "a custom loss without an entry"
            yield _problem("loss-entry", "training", got, 'entry = "losses.py:loss"')
    elif training.loss == "contrastive" and training.entry is not None:
        got = "a contrastive loss with an entry"
        yield _problem("loss-entry", "training.entry", got, 'no entry, or loss = "custom"')
    elif training.loss not in LOSSES[task]:
        got = f"{training.loss} for the task {task}"
        want = " or ".join((*LOSSES[task], "custom"))
        yield _problem("loss-task", "training.loss", got, want)


def _step_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    training = manifest.training
    if training is None:
        return
    parts = training.accumulation
    if training.batch_size % parts:
        got = f"{training.batch_size} rows in {parts} micro-batches"
        yield _problem("accumulation", "training.accumulation", got, "a divisor of batch_size")
    elif parts > 1 and training.loss in ("contrastive", "custom"):
        got = f"accumulation = {parts} for a {training.loss} loss"
        want = "1: the loss of a batch is not the sum of those of its parts"
        yield _problem("accumulation", "training.accumulation", got, want)
    if training.loss == "contrastive" and training.batch_size < 2:
        want = "2 or more: one pair has nothing to be told from"
        yield _problem("batch-size", "training.batch_size", "one pair a batch", want)
    if all(pattern.startswith("!") for pattern in training.trainable):
        got = f"trainable = {training.trainable}"
        yield _problem("none-trained", "training.trainable", got, 'a pattern that selects: "*"')
    if training.schedule.warmup >= training.steps:
        got = f"{training.schedule.warmup} of {training.steps} steps"
        want = "fewer than training.steps"
        yield _problem("warmup", "training.schedule.warmup", got, want)
    optimizer = training.optimizer
    if isinstance(optimizer, SGD) and optimizer.nesterov and not optimizer.momentum:
        got = "nesterov = true without momentum"
        yield _problem("nesterov", "training.optimizer", got, "momentum above 0")


def _problem(code: str, key: str, got: str, want: str, fix: str = "") -> PackageProblem:
    where = f"{MANIFEST}: {key}"
    return PackageProblem(code, where, got, want, fix or "correct one of the two declarations")
