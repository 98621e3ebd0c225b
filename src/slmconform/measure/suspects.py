"""What a wrong loss would be if it were one of the known mistakes, to name the one it is."""

from __future__ import annotations

import torch
from torch import Tensor

from slmconform.measure.batches import Labels, scored_output
from slmconform.measure.risk import Objective
from slmconform.model.loaded import Outputs
from slmconform.package.labels import IGNORED

REASONS = {
    "shifted-twice": "labels are shifted again although they were shifted before",
    "not-shifted": "the output at a token is scored against that token instead of the next",
    "shifted": "labels are shifted although the task scores each output against its own label",
    "mean-of-means": "the mean of the rows' means weighs rows with few labels too much",
    "padding-counted": "ignored labels count as the padding token or as class 0",
    "not-divided": "the loss is a sum: it is not divided by the number of counted labels",
    "divided-by-all": "the loss is divided by all labels, those ignored included",
}


def suspects(goal: Objective, outputs: Outputs, labels: Labels, pad: int) -> dict[str, float]:
    """The loss under each known mistake that the task allows, by its code."""
    right = float(goal.risk(outputs, labels))
    found = {"not-divided": right * goal.counted(labels)}
    every = sum(target.numel() for target in labels.values())
    if goal.kind != "cross-entropy" or goal.task == "question-answering":
        return found
    found["divided-by-all"] = right * goal.counted(labels) / every
    target = labels["labels"]
    if target.dim() == 2:
        plain = Objective(goal.kind, "token-classification")
        shifted = torch.nn.functional.pad(target[:, 1:], (0, 1), value=IGNORED)
        if goal.shifts:
            found["not-shifted"] = float(plain.risk(outputs, labels))
            found["shifted-twice"] = float(goal.risk(outputs, {"labels": shifted}))
        else:
            found["shifted"] = float(plain.risk(outputs, {"labels": shifted}))
        found["mean-of-means"] = _mean_of_means(goal, outputs, target)
        classes = outputs[scored_output(outputs)].shape[-1]
        for fill in {fill for fill in (pad, 0) if fill < classes}:
            filled = torch.where(target == IGNORED, fill, target)
            name = "padding-counted"
            value = float(goal.risk(outputs, {"labels": filled}))
            found[name if fill == pad else f"{name} as class 0"] = value
    return found


def _mean_of_means(goal: Objective, outputs: Outputs, target: Tensor) -> float:
    rows = [
        goal.risk({n: v[row : row + 1] for n, v in outputs.items()}, {"labels": one})
        for row in range(len(target))
        for one in (target[row : row + 1],)
        if goal.counted({"labels": one})
    ]
    return float(torch.stack(rows).mean())


def name_of(value: float, found: dict[str, float]) -> str:
    """The code of the mistake that gives this loss, "loss-differs" where none does."""
    for code, wrong in found.items():
        if abs(value - wrong) <= 1e-9 * max(1.0, abs(wrong)):
            return code.split(" ")[0]
    return "loss-differs"
