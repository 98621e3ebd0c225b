"""Losses that are not the empirical risk, each beside another way to write the right one."""

from __future__ import annotations

from changes import code
from defect_record import Defect, NearMiss

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


DEFECTS = [
    Defect(
        "los-labels-shifted-twice",
        "Labels are shifted twice.",
        "learner-writer",
        "SLM-LOS-001",
        "shifted-twice",
        code((SHIFTED, f"{SHIFTED}{EARLY}")),
        twin="los-legal-labels-moved-instead-of-outputs",
    ),
    Defect(
        "los-labels-not-shifted",
        "A causal model does not shift its labels.",
        "learner-writer",
        "SLM-LOS-001",
        "not-shifted",
        code((f"            {SHIFTED}", "            pass\n")),
    ),
    Defect(
        "los-labels-of-a-tagger-shifted",
        "A tagger shifts its labels as a causal model does.",
        "learner-tagger",
        "SLM-LOS-001",
        "shifted",
        code(('if self.kind == "writer":\n            logits', "if True:\n            logits")),
        twin="los-legal-means-of-rows-by-their-weight",
    ),
    Defect(
        "los-mean-of-the-rows-means",
        "The loss is the mean of the rows' means.",
        "learner-tagger",
        "SLM-LOS-001",
        "mean-of-means",
        code((MEAN, rows("(torch.stack(each) / counts).mean()"))),
        twin="los-legal-means-of-rows-by-their-weight",
    ),
    Defect(
        "los-mean-of-the-rows-means-causal",
        "The loss of a causal model is the mean of the rows' means.",
        "learner-writer",
        "SLM-LOS-001",
        "mean-of-means",
        code((MEAN, rows("(torch.stack(each) / counts).mean()"))),
    ),
    Defect(
        "los-padding-counted",
        "Ignored labels count as the first class.",
        "learner-tagger",
        "SLM-LOS-001",
        "padding-counted",
        code(("labels.reshape(-1))", "labels.reshape(-1).clamp(min=0))")),
    ),
    Defect(
        "los-padding-counted-causal",
        "Ignored labels count as the first token in a causal model.",
        "learner-writer",
        "SLM-LOS-001",
        "padding-counted",
        code(("labels.reshape(-1))", "labels.reshape(-1).clamp(min=0))")),
        twin="los-legal-padding-cut-out",
    ),
    Defect(
        "los-a-sum",
        "The loss is a sum where a mean is declared.",
        "learner-writer",
        "SLM-LOS-001",
        "not-divided",
        code(("labels.reshape(-1))", "labels.reshape(-1), reduction='sum')")),
    ),
    Defect(
        "los-a-sum-over-single-outputs",
        "The loss is a sum over single outputs.",
        "learner-classifier",
        "SLM-LOS-001",
        "not-divided",
        code(("(logits, labels)\n", "(logits, labels, reduction='sum')\n")),
    ),
    Defect(
        "los-a-sum-divided-by-all-labels",
        "The loss is divided by all labels, ignored ones too.",
        "learner-tagger",
        "SLM-LOS-001",
        "divided-by-all",
        code(("labels.reshape(-1))", "labels.reshape(-1), reduction='sum') / labels.numel()")),
        twin="los-legal-a-sum-divided-by-counted-labels",
    ),
    Defect(
        "los-labels-smoothed",
        "The labels are smoothed, which nobody declared.",
        "learner-tagger",
        "SLM-LOS-001",
        "loss-differs",
        code(("labels.reshape(-1))", "labels.reshape(-1), label_smoothing=0.1)")),
    ),
    Defect(
        "los-a-loss-in-half-precision",
        "The loss is computed in bfloat16.",
        "learner-writer",
        "SLM-LOS-001",
        "loss-imprecise",
        code(("cross_entropy(logits.reshape", "cross_entropy(logits.bfloat16().reshape")),
        twin="los-legal-a-loss-in-double-precision",
    ),
    Defect(
        "los-a-gradient-scaled-by-1-01",
        "The loss is right and its gradient 1.01 times too large.",
        "learner-tagger",
        "SLM-LOS-002",
        "loss-gradient",
        code(
            (
                MEAN,
                f"        loss = {ENTROPY}\n"
                "        return (loss - loss.detach()) * 1.01 + loss.detach()\n",
            )
        ),
        twin="los-legal-a-gradient-scaled-by-1",
    ),
    Defect(
        "los-a-gradient-that-is-not-a-number",
        "The loss is right and its gradient is no number.",
        "learner-tagger",
        "SLM-LOS-002",
        "loss-gradient",
        code(
            (MEAN, f"        return {ENTROPY} + (logits - logits.detach()).square().sum().sqrt()\n")
        ),
    ),
    Defect(
        "los-a-gradient-at-ignored-places",
        "Outputs whose label is ignored get a small gradient.",
        "learner-tagger",
        "SLM-LOS-003",
        "ignored-label-counts",
        code(
            (
                MEAN,
                "        left = logits[labels == -100]\n"
                f"        return {ENTROPY} + 1e-6 * (left - left.detach()).sum()\n",
            )
        ),
        twin="los-legal-a-gradient-of-zero-at-ignored-places",
    ),
    Defect(
        "los-a-gradient-at-the-last-place",
        "The last output of a causal model, which predicts nothing, gets a gradient.",
        "learner-writer",
        "SLM-LOS-003",
        "ignored-label-counts",
        code(
            (SHIFTED, f"last = logits[:, -1]\n            {SHIFTED}"),
            (MEAN, f"        return {ENTROPY} + (last - last.detach()).sum()\n"),
        ),
    ),
    Defect(
        "los-a-gradient-that-is-not-a-number-at-ignored-places",
        "Outputs whose label is ignored get a gradient that is no number.",
        "learner-tagger",
        "SLM-LOS-003",
        "ignored-label-counts",
        code(
            (
                MEAN,
                "        left = logits[labels == -100]\n"
                f"        return {ENTROPY} + (left - left.detach()).square().sum().sqrt()\n",
            )
        ),
        twin="los-legal-a-gradient-of-zero-at-ignored-places",
    ),
    Defect(
        "los-divided-by-the-most-labels-seen-so-far",
        "The loss is divided by the most labels seen in any call.",
        "learner-tagger",
        "SLM-LOS-004",
        "accumulation-differs",
        code(
            (
                MEAN,
                "        count = (labels != -100).sum()\n"
                "        self.most = torch.maximum(getattr(self, 'most', count), count)\n"
                f"        return {ENTROPY} * count / self.most\n",
            )
        ),
    ),
    Defect(
        "los-an-offset-by-the-calls-before",
        "The loss grows a little with each call.",
        "learner-writer",
        "SLM-LOS-004",
        "accumulation-differs",
        code(
            (
                MEAN,
                "        self.calls = getattr(self, 'calls', -1) + 1\n"
                f"        return {ENTROPY} + 1e-6 * self.calls\n",
            )
        ),
        twin="los-legal-calls-counted-and-not-used",
    ),
    Defect(
        "los-a-probability-between-outputs-and-loss",
        "A probability stands between outputs and loss, and rounds to 0 or 1.",
        "learner-classifier",
        "SLM-LOS-005",
        "loss-saturates",
        code(
            ("binary_cross_entropy_with_logits(logits,", "binary_cross_entropy(logits.sigmoid(),")
        ),
        twin="los-legal-a-binary-loss-written-out",
    ),
    Defect(
        "los-the-logarithm-of-a-softmax",
        "The logarithm of a softmax stands between outputs and loss.",
        "learner-tagger",
        "SLM-LOS-005",
        "loss-saturates",
        code(
            (
                "functional.cross_entropy(logits.reshape(-1, logits.shape[-1])",
                "functional.nll_loss(logits.reshape(-1, logits.shape[-1]).softmax(-1).log()",
            )
        ),
        twin="los-legal-a-fused-log-softmax",
    ),
    Defect(
        "los-other-outputs-where-gradients-are-enabled",
        "The outputs are scaled where gradients are enabled.",
        "learner-tagger",
        "SLM-LOS-006",
        "loss-changed",
        code((HEAD, f"{HEAD}        logits = logits * (1.0 + 1e-6 * torch.is_grad_enabled())\n")),
        twin="los-legal-layers-recomputed-where-gradients-are-enabled",
    ),
]

NEAR_MISSES = [
    NearMiss(
        "los-legal-labels-moved-instead-of-outputs",
        "Labels are moved instead of outputs.",
        "learner-writer",
        code((f"            {SHIFTED}", EARLY)),
    ),
    NearMiss(
        "los-legal-means-of-rows-by-their-weight",
        "The loss is the mean of the rows' means by their number of labels.",
        "learner-tagger",
        code((MEAN, rows("(torch.stack(each) / counts * counts).sum() / counts.sum()"))),
    ),
    NearMiss(
        "los-legal-padding-cut-out",
        "Ignored labels are cut out before the loss.",
        "learner-writer",
        code(
            (
                MEAN,
                "        hit = labels != -100\n"
                "        return functional.cross_entropy(logits[hit], labels[hit])\n",
            )
        ),
    ),
    NearMiss(
        "los-legal-a-sum-divided-by-counted-labels",
        "The loss is a sum divided by the counted labels.",
        "learner-tagger",
        code(
            (
                "labels.reshape(-1))",
                "labels.reshape(-1), reduction='sum') / (labels != -100).sum()",
            )
        ),
    ),
    NearMiss(
        "los-legal-a-loss-in-double-precision",
        "The loss is computed in float64.",
        "learner-writer",
        code(("cross_entropy(logits.reshape", "cross_entropy(logits.double().reshape")),
    ),
    NearMiss(
        "los-legal-a-gradient-scaled-by-1",
        "The gradient of the loss is multiplied by 1.",
        "learner-tagger",
        code(
            (
                MEAN,
                f"        loss = {ENTROPY}\n"
                "        return (loss - loss.detach()) * 1.0 + loss.detach()\n",
            )
        ),
    ),
    NearMiss(
        "los-legal-a-gradient-of-zero-at-ignored-places",
        "Outputs whose label is ignored get a gradient of zero.",
        "learner-tagger",
        code((MEAN, f"        return {ENTROPY} + 0.0 * logits[labels == -100].sum()\n")),
    ),
    NearMiss(
        "los-legal-calls-counted-and-not-used",
        "The loss counts its calls and makes no use of it.",
        "learner-writer",
        code(
            (
                MEAN,
                f"        self.calls = getattr(self, 'calls', -1) + 1\n        return {ENTROPY}\n",
            )
        ),
    ),
    NearMiss(
        "los-legal-a-binary-loss-written-out",
        "The binary loss is written out by softplus.",
        "learner-classifier",
        code((BINARY, "        return (functional.softplus(logits) - logits * labels).mean()\n")),
    ),
    NearMiss(
        "los-legal-a-fused-log-softmax",
        "A fused log-softmax stands before the loss.",
        "learner-tagger",
        code(
            (
                "functional.cross_entropy(logits.reshape(-1, logits.shape[-1])",
                "functional.nll_loss(logits.reshape(-1, logits.shape[-1]).log_softmax(-1)",
            )
        ),
    ),
    NearMiss(
        "los-legal-layers-recomputed-where-gradients-are-enabled",
        "Layers are recomputed in the backward pass.",
        "learner-tagger",
        code(
            (
                "states = layer(states, allowed)",
                "states = torch.utils.checkpoint.checkpoint(layer, states, allowed,"
                " use_reentrant=False)",
            ),
            ("import torch\n", "import torch\nimport torch.utils.checkpoint\n"),
        ),
    ),
]
