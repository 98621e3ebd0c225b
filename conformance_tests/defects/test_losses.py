"""Losses that are not the empirical risk, each beside another way to write the right one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from judging import answers, assert_conformant, assert_fails, assert_patched_fails
from packages import edit, forget
from training_packages import learner as built
from training_packages import recipe

from slmconform.measure.risk import Objective
from slmconform.measure.suspects import name_of, suspects
from slmconform.recording.record import RecordingRefused, RecordOptions, record
from slmconform.standard.report import Outcome

ENTROPY = "functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))"
MEAN = f"        return {ENTROPY}\n"
SHIFTED = "logits, labels = logits[:, :-1], labels[:, 1:]\n"
BINARY = "        return functional.binary_cross_entropy_with_logits(logits, labels)\n"
HEAD = "        logits = self.head(self.norm(states))\n"
EARLY = "            labels = functional.pad(labels[:, 1:], (0, 1), value=-100)\n"


def rows(mean: str) -> str:
    """The loss over each row by itself, and their mean."""
    return (
        "        each = [functional.cross_entropy(a, b, reduction='sum')"
        " for a, b in zip(logits, labels)]\n"
        "        counts = (labels != -100).sum(1)\n"
        f"        return {mean}\n"
    )


@dataclass(frozen=True)
class Written:
    """``loss`` of a package after edits of its code; ``kills`` and ``code`` are None for twins."""

    name: str
    package: str
    kills: str | None
    code: str | None
    edits: tuple[tuple[str, str], ...]


LOSSES = [
    Written(
        "labels shifted twice",
        "writer",
        "SLM-LOS-001",
        "shifted-twice",
        ((SHIFTED, f"{SHIFTED}{EARLY}"),),
    ),
    Written(
        "labels moved instead of outputs",
        "writer",
        None,
        None,
        ((f"            {SHIFTED}", EARLY),),
    ),
    Written(
        "labels not shifted",
        "writer",
        "SLM-LOS-001",
        "not-shifted",
        ((f"            {SHIFTED}", "            pass\n"),),
    ),
    Written(
        "labels of a tagger shifted",
        "tagger",
        "SLM-LOS-001",
        "shifted",
        (('if self.kind == "writer":\n            logits', "if True:\n            logits"),),
    ),
    Written(
        "mean of the rows' means",
        "tagger",
        "SLM-LOS-001",
        "mean-of-means",
        ((MEAN, rows("(torch.stack(each) / counts).mean()")),),
    ),
    Written(
        "mean of the rows' means, causal",
        "writer",
        "SLM-LOS-001",
        "mean-of-means",
        ((MEAN, rows("(torch.stack(each) / counts).mean()")),),
    ),
    Written(
        "means of rows by their weight",
        "tagger",
        None,
        None,
        ((MEAN, rows("(torch.stack(each) / counts * counts).sum() / counts.sum()")),),
    ),
    Written(
        "padding counted",
        "tagger",
        "SLM-LOS-001",
        "padding-counted",
        (("labels.reshape(-1))", "labels.reshape(-1).clamp(min=0))"),),
    ),
    Written(
        "padding counted, causal",
        "writer",
        "SLM-LOS-001",
        "padding-counted",
        (("labels.reshape(-1))", "labels.reshape(-1).clamp(min=0))"),),
    ),
    Written(
        "padding cut out",
        "writer",
        None,
        None,
        (
            (
                MEAN,
                "        hit = labels != -100\n"
                "        return functional.cross_entropy(logits[hit], labels[hit])\n",
            ),
        ),
    ),
    Written(
        "a sum",
        "writer",
        "SLM-LOS-001",
        "not-divided",
        (("labels.reshape(-1))", "labels.reshape(-1), reduction='sum')"),),
    ),
    Written(
        "a sum over single outputs",
        "classifier",
        "SLM-LOS-001",
        "not-divided",
        (("(logits, labels)\n", "(logits, labels, reduction='sum')\n"),),
    ),
    Written(
        "a sum divided by all labels",
        "tagger",
        "SLM-LOS-001",
        "divided-by-all",
        (("labels.reshape(-1))", "labels.reshape(-1), reduction='sum') / labels.numel()"),),
    ),
    Written(
        "a sum divided by counted labels",
        "tagger",
        None,
        None,
        (
            (
                "labels.reshape(-1))",
                "labels.reshape(-1), reduction='sum') / (labels != -100).sum()",
            ),
        ),
    ),
    Written(
        "labels smoothed",
        "tagger",
        "SLM-LOS-001",
        "loss-differs",
        (("labels.reshape(-1))", "labels.reshape(-1), label_smoothing=0.1)"),),
    ),
    Written(
        "a loss in half precision",
        "writer",
        "SLM-LOS-001",
        "loss-imprecise",
        (("cross_entropy(logits.reshape", "cross_entropy(logits.bfloat16().reshape"),),
    ),
    Written(
        "a loss in double precision",
        "writer",
        None,
        None,
        (("cross_entropy(logits.reshape", "cross_entropy(logits.double().reshape"),),
    ),
    Written(
        "a gradient scaled by 1.01",
        "tagger",
        "SLM-LOS-002",
        "loss-gradient",
        (
            (
                MEAN,
                f"        loss = {ENTROPY}\n"
                "        return (loss - loss.detach()) * 1.01 + loss.detach()\n",
            ),
        ),
    ),
    Written(
        "a gradient scaled by 1",
        "tagger",
        None,
        None,
        (
            (
                MEAN,
                f"        loss = {ENTROPY}\n"
                "        return (loss - loss.detach()) * 1.0 + loss.detach()\n",
            ),
        ),
    ),
    Written(
        "a gradient that is not a number",
        "tagger",
        "SLM-LOS-002",
        "loss-gradient",
        ((MEAN, f"        return {ENTROPY} + (logits - logits.detach()).square().sum().sqrt()\n"),),
    ),
    Written(
        "a gradient at ignored places",
        "tagger",
        "SLM-LOS-003",
        "ignored-label-counts",
        (
            (
                MEAN,
                "        left = logits[labels == -100]\n"
                f"        return {ENTROPY} + 1e-6 * (left - left.detach()).sum()\n",
            ),
        ),
    ),
    Written(
        "a gradient at the last place",
        "writer",
        "SLM-LOS-003",
        "ignored-label-counts",
        (
            (SHIFTED, f"last = logits[:, -1]\n            {SHIFTED}"),
            (MEAN, f"        return {ENTROPY} + (last - last.detach()).sum()\n"),
        ),
    ),
    Written(
        "a gradient that is not a number at ignored places",
        "tagger",
        "SLM-LOS-003",
        "ignored-label-counts",
        (
            (
                MEAN,
                "        left = logits[labels == -100]\n"
                f"        return {ENTROPY} + (left - left.detach()).square().sum().sqrt()\n",
            ),
        ),
    ),
    Written(
        "a gradient of zero at ignored places",
        "tagger",
        None,
        None,
        ((MEAN, f"        return {ENTROPY} + 0.0 * logits[labels == -100].sum()\n"),),
    ),
    Written(
        "divided by the most labels seen so far",
        "tagger",
        "SLM-LOS-004",
        "accumulation-differs",
        (
            (
                MEAN,
                "        count = (labels != -100).sum()\n"
                "        self.most = torch.maximum(getattr(self, 'most', count), count)\n"
                f"        return {ENTROPY} * count / self.most\n",
            ),
        ),
    ),
    Written(
        "an offset by the calls before",
        "writer",
        "SLM-LOS-004",
        "accumulation-differs",
        (
            (
                MEAN,
                "        self.calls = getattr(self, 'calls', -1) + 1\n"
                f"        return {ENTROPY} + 1e-6 * self.calls\n",
            ),
        ),
    ),
    Written(
        "calls counted and not used",
        "writer",
        None,
        None,
        (
            (
                MEAN,
                f"        self.calls = getattr(self, 'calls', -1) + 1\n        return {ENTROPY}\n",
            ),
        ),
    ),
    Written(
        "a probability between outputs and loss",
        "classifier",
        "SLM-LOS-005",
        "loss-saturates",
        (("binary_cross_entropy_with_logits(logits,", "binary_cross_entropy(logits.sigmoid(),"),),
    ),
    Written(
        "a binary loss written out",
        "classifier",
        None,
        None,
        ((BINARY, "        return (functional.softplus(logits) - logits * labels).mean()\n"),),
    ),
    Written(
        "the logarithm of a softmax",
        "tagger",
        "SLM-LOS-005",
        "loss-saturates",
        (
            (
                "functional.cross_entropy(logits.reshape(-1, logits.shape[-1])",
                "functional.nll_loss(logits.reshape(-1, logits.shape[-1]).softmax(-1).log()",
            ),
        ),
    ),
    Written(
        "a fused log-softmax",
        "tagger",
        None,
        None,
        (
            (
                "functional.cross_entropy(logits.reshape(-1, logits.shape[-1])",
                "functional.nll_loss(logits.reshape(-1, logits.shape[-1]).log_softmax(-1)",
            ),
        ),
    ),
    Written(
        "other outputs where gradients are enabled",
        "tagger",
        "SLM-LOS-006",
        "loss-changed",
        ((HEAD, f"{HEAD}        logits = logits * (1.0 + 1e-6 * torch.is_grad_enabled())\n"),),
    ),
    Written(
        "layers recomputed where gradients are enabled",
        "tagger",
        None,
        None,
        (
            (
                "states = layer(states, allowed)",
                "states = torch.utils.checkpoint.checkpoint(layer, states, allowed,"
                " use_reentrant=False)",
            ),
            ("import torch\n", "import torch\nimport torch.utils.checkpoint\n"),
        ),
    ),
]


@pytest.mark.parametrize("written", LOSSES, ids=lambda w: w.name)
def test_a_loss_of_own_code(learner, written):
    folder = learner(written.package)
    for old, new in written.edits:
        edit(folder, "modeling.py", old, new)
    said = assert_patched_fails(folder, written.kills)
    assert (said.code if said else None) == written.code


def test_a_loss_in_the_report(learner):
    """The same through the process of a check, each with its words."""
    folder = learner("writer")
    edit(folder, "modeling.py", f"            {SHIFTED}", "            pass\n")
    said = assert_fails(folder, "SLM-LOS-001", "counted labels", "instead of the next")
    assert said.code == "not-shifted"


def test_a_gradient_of_the_loss_in_the_report(learner):
    folder = learner("tagger")
    scaled = f"        loss = {ENTROPY}\n"
    scaled += "        return (loss - loss.detach()) * 1.01 + loss.detach()\n"
    edit(folder, "modeling.py", MEAN, scaled)
    assert_fails(folder, "SLM-LOS-002", "counted outputs", "another derivative")


def test_a_gradient_at_ignored_places_in_the_report(learner):
    folder = learner("tagger")
    left = "        left = logits[labels == -100]\n"
    left += f"        return {ENTROPY} + 1e-6 * (left - left.detach()).sum()\n"
    edit(folder, "modeling.py", MEAN, left)
    assert_fails(folder, "SLM-LOS-003", "a gradient of up to 1e-06", "ignored")


def test_a_saturating_loss_in_the_report(learner):
    folder = learner("classifier")
    whole = "binary_cross_entropy_with_logits(logits,"
    edit(folder, "modeling.py", whole, "binary_cross_entropy(logits.sigmoid(),")
    words = ("gradient 0 at output", "within 4.8e-07", "rounds to 0 or 1")
    assert assert_fails(folder, "SLM-LOS-005", *words).code == "loss-saturates"


@pytest.mark.parametrize("name", ["tagger", "writer", "classifier"])
def test_twin_as_recorded(learner, name):
    report = assert_conformant(learner(name))
    assert {r.outcome for r in report.results if r.id[4:7] == "TRN"} == {Outcome.PASS}


@pytest.mark.parametrize("kills", ["SLM-LOS-001", "SLM-LOS-005"])
def test_a_package_with_a_wrong_loss_is_not_recorded(tmp_path, server, kills):
    kind = "tagger" if kills == "SLM-LOS-001" else "classifier"
    folder = built(tmp_path / kind, kind)
    if kind == "tagger":
        edit(folder, "modeling.py", MEAN, rows("(torch.stack(each) / counts).mean()"))
    else:
        old = "binary_cross_entropy_with_logits(logits,"
        edit(folder, "modeling.py", old, "binary_cross_entropy(logits.sigmoid(),")
    with pytest.raises(RecordingRefused) as refused:
        record(folder, RecordOptions(trust_code=True), server=server)
    assert [r.id for r in refused.value.report.failures] == [kills]
    assert kills in str(refused.value)
    assert refused.value.exit_status == 1
    assert not (folder / "conformance").exists()


# The package's own loss function, named by training.entry.

ENTRY = """\
from torch.nn import functional


def loss(outputs, labels):
    logits, labels = outputs["logits"], labels["labels"]
    return {value}
"""


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (ENTROPY, None),
        (
            ENTROPY.replace("labels.reshape(-1))", "labels.reshape(-1), reduction='sum')"),
            "not-divided",
        ),
        (
            "functional.cross_entropy(logits.flatten(0, 1), labels.flatten().clamp(min=0))",
            "padding-counted",
        ),
    ],
    ids=["right", "sum", "padding"],
)
def test_a_loss_function_of_the_package(learner, value, code):
    folder = learner("tagger")
    (folder / "losses.py").write_text(ENTRY.format(value=value), "utf-8")
    edit(folder, "slm.toml", "[training]", '[training]\nentry = "losses.py:loss"')
    forget(folder)
    if code:
        assert assert_patched_fails(folder, "SLM-LOS-001").code == code
    else:
        assert_patched_fails(folder, None)


def test_a_saturating_loss_function_of_the_package(learner):
    folder = learner("classifier")
    value = "functional.binary_cross_entropy(logits.sigmoid(), labels)"
    (folder / "losses.py").write_text(ENTRY.format(value=value), "utf-8")
    edit(folder, "slm.toml", "[training]", '[training]\nentry = "losses.py:loss"')
    forget(folder)
    assert_patched_fails(folder, "SLM-LOS-005", "gradient 0")


def test_twin_a_custom_loss_is_taken_as_it_is(tmp_path, server):
    """Nothing says what it should be: it is trained with, and its gradients are checked."""
    training = recipe("custom", entry='"losses.py:loss"')
    folder = built(tmp_path / "tagger", "tagger", training=training)
    value = f"0.5 * {ENTROPY} + 1e-3 * logits.square().mean()"
    (folder / "losses.py").write_text(ENTRY.format(value=value), "utf-8")
    record(folder, RecordOptions(trust_code=True), server=server)
    found = answers(folder)
    assert found["SLM-LOS-001"].outcome is Outcome.NOT_APPLICABLE
    assert found["SLM-TRN-001"].outcome is Outcome.PASS
    edit(folder, "losses.py", "0.5 *", "0.5000001 *")
    assert_patched_fails(folder, "SLM-LOS-006")


# The loss of the library.


def test_a_divisor_that_the_library_gets_wrong(learner, monkeypatch):
    from transformers.loss import loss_utils

    right = loss_utils.fixed_cross_entropy

    def wrong(source, target, num_items_in_batch=None, ignore_index=-100, **options):
        if num_items_in_batch is not None:
            num_items_in_batch = num_items_in_batch + 1
        return right(source, target, num_items_in_batch, ignore_index, **options)

    monkeypatch.setattr(loss_utils, "fixed_cross_entropy", wrong)
    said = assert_patched_fails(learner("llama"), "SLM-LOS-004", "each given num_items_in_batch")
    assert said.code == "num-items-in-batch"


def test_labels_that_the_library_shifts_twice(learner, monkeypatch):
    from transformers.loss import loss_utils

    right = loss_utils.fixed_cross_entropy

    def shifted(source, target, num_items_in_batch=None, ignore_index=-100, **options):
        rows = target.view(4, -1) if target.numel() % 4 == 0 else target.view(1, -1)
        rows = torch.nn.functional.pad(rows[:, 1:], (0, 1), value=ignore_index)
        return right(source, rows.flatten(), num_items_in_batch, ignore_index, **options)

    monkeypatch.setattr(loss_utils, "fixed_cross_entropy", shifted)
    said = assert_patched_fails(learner("llama"), "SLM-LOS-001", "shifted again")
    assert said.code == "shifted-twice"


def test_twin_the_library_as_it_is(learner):
    assert_patched_fails(learner("llama"), None)


def test_mistakes_are_told_apart_where_the_padding_is_no_class():
    """Padding of a large vocabulary cannot be a label of a small head."""
    torch.manual_seed(0)
    goal = Objective("cross-entropy", "token-classification")
    outputs = {"logits": torch.randn(2, 4, 3, dtype=torch.float64)}
    labels = {"labels": torch.tensor([[0, 1, -100, 2], [2, -100, -100, 1]])}
    found = suspects(goal, outputs, labels, pad=50256)
    assert name_of(found["padding-counted as class 0"], found) == "padding-counted"
    assert name_of(float(goal.risk(outputs, labels)), found) == "loss-differs"
    values = list(found.values())
    assert len({round(v, 9) for v in values}) == len(values)
