"""The empirical risk of outputs against labels, and its gradient in closed form.

L(theta) = (1/N) sum over counted labels of l(M(x_i), y_i). Written from the definitions, so that
a library's loss is compared with something else than itself:

* cross-entropy l = log(sum_c exp z_c) - z_y, dL/dz = (softmax(z) - onehot(y)) / N;
* binary cross-entropy l = -[y log p + (1-y) log(1-p)] with p = sigmoid(z), taken as
  log p = -log(1 + exp(-z)), which neither overflows nor has a kink at 0; dL/dz = (p - y) / N;
* mean squared error l = (z - y)^2, dL/dz = 2 (z - y) / N;
* contrastive: cross-entropy over scale * cosine(a_i, b_j), with b_i the right one for a_i
  (Henderson et al. 2017, van den Oord et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from slmconform.engine.registry import Nonconformance, NotApplicable
from slmconform.isolation.seal import guarded
from slmconform.measure.batches import Labels, scored_output
from slmconform.model.loaded import CandidateError, Outputs
from slmconform.package.labels import IGNORED

Custom = Callable[[Outputs, Labels], Tensor]


@dataclass(frozen=True)
class Objective:
    """What is minimised: a kind of loss for a task. ``custom`` is the package's own function.

    ``causal`` models are scored at each token against the label of the next.
    """

    kind: str
    task: str
    causal: bool = False
    scale: float = 20.0
    custom: Custom | None = None

    def risk(self, outputs: Outputs, labels: Labels) -> Tensor:
        """The mean loss over counted labels, a scalar that can be differentiated."""
        if self.custom is not None and self.kind == "custom":
            return called(self.custom, outputs, labels)
        if self.kind == "contrastive":
            return self._contrastive(outputs)
        terms, total = [], 0
        for scores, target in self.pairs(outputs, labels):
            self._require_fit(scores, target)
            loss, counted = LOSSES[self.kind](_precise(scores), target.to(scores.device))
            terms.append(loss)
            total = total + counted
        if not total:
            raise no_labels()
        return torch.stack(terms).sum() / total

    def counted(self, labels: Labels) -> int:
        """How many labels count, which is what a micro-batch weighs; rows for a custom loss."""
        if self.kind in ("contrastive", "custom"):
            return int(next(iter(labels.values())).shape[0])
        if self.kind != "cross-entropy":
            return sum(target.numel() for target in labels.values())
        used = [t[:, 1:] if self.shifts else t for t in labels.values()]
        return sum(int((target != IGNORED).sum()) for target in used)

    def closed_gradient(self, outputs: Outputs, labels: Labels) -> dict[str, Tensor]:
        """dL/dz of each output that the loss is over, in float64; zero where nothing counts."""
        total = self.counted(labels)
        found: dict[str, Tensor] = {}
        for name, target in self.targets(outputs, labels).items():
            scores = outputs[name].detach().double()
            gradient = torch.zeros_like(scores)
            if self.kind == "cross-entropy":
                used, wanted = self._aligned(scores, target.to(scores.device))
                hit = wanted != IGNORED
                part = torch.softmax(used[hit], -1)
                part[torch.arange(part.shape[0]), wanted[hit]] -= 1
                view = gradient[..., : used.shape[-2], :] if self.shifts else gradient
                view[hit] = part / total
            else:
                goal = target.to(scores.device).double().reshape(scores.shape)
                slope = torch.sigmoid(scores) if self.kind == "binary-cross-entropy" else 2 * scores
                factor = 1 if self.kind == "binary-cross-entropy" else 2
                gradient = (slope - factor * goal) / total
            found[name] = gradient
        return found

    @property
    def shifts(self) -> bool:
        """Whether the output at a token is scored against the next label."""
        return self.causal and self.task == "causal-lm" and self.kind == "cross-entropy"

    def targets(self, outputs: Outputs, labels: Labels) -> dict[str, Tensor]:
        """The labels of each output that the loss is over."""
        if self.task == "question-answering":
            return {
                "start_logits": labels["start_positions"],
                "end_logits": labels["end_positions"],
            }
        return {scored_output(outputs): labels["labels"]}

    def pairs(self, outputs: Outputs, labels: Labels) -> list[tuple[Tensor, Tensor]]:
        """Outputs and labels side by side, shifted where the task shifts."""
        return [
            self._aligned(outputs[name], target)
            for name, target in self.targets(outputs, labels).items()
        ]

    def _require_fit(self, scores: Tensor, target: Tensor) -> None:
        """Labels have the shape and the values that the loss takes beside these outputs."""
        if self.kind == "cross-entropy":
            whole = not target.is_floating_point() and target.shape == scores.shape[:-1]
            fits = whole and bool((target < scores.shape[-1]).all())
            want = f"integers below {scores.shape[-1]} of shape {list(scores.shape[:-1])}"
        else:
            fits = target.numel() == scores.numel()
            want = f"a number for each of {list(scores.shape)}"
        if not fits:
            raise Nonconformance(
                code="labels-do-not-fit",
                got=f"labels of shape {list(target.shape)}, {target.dtype}",
                want=f"{want}, for {self.kind}",
                where="the loss of the first batch",
                fix="correct training.loss, the labels of training.data, or the declared outputs",
            )

    def _aligned(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (scores[:, :-1], target[:, 1:]) if self.shifts else (scores, target)

    def _contrastive(self, outputs: Outputs) -> Tensor:
        if "sentence_embedding" not in outputs:
            raise NotApplicable("a contrastive loss is over sentence_embedding, not returned here")
        rows = _precise(outputs["sentence_embedding"])
        unit = rows / rows.norm(dim=-1, keepdim=True)
        one, other = unit.chunk(2)
        scores = self.scale * one @ other.T
        loss, counted = _cross_entropy(scores, torch.arange(len(scores), device=scores.device))
        return loss / counted


def no_labels() -> Nonconformance:
    """The finding of a batch whose labels are all left out of the loss."""
    return Nonconformance(
        code="no-labels",
        got="a batch without a label that counts",
        want="one label or more in each batch of the reference training",
        where="training.data, or the labels of the recorded batches",
        fix="remove rows that teach nothing, such as texts of one token",
    )


def called(custom: Custom, outputs: Outputs, labels: Labels) -> Tensor:
    """The package's own loss function; raises `CandidateError` with phase "loss"."""
    try:
        value = guarded(lambda: custom(outputs, labels))
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TypeError(f"the loss has to be a tensor of one number, not {_shown(value)}")
    except Exception as error:
        raise CandidateError("loss", error) from error
    return value.reshape(())


def _shown(value: object) -> str:
    return f"of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _precise(values: Tensor) -> Tensor:
    """At least float32: a loss is not summed in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _cross_entropy(scores: Tensor, target: Tensor) -> tuple[Tensor, int]:
    hit = target != IGNORED
    used, right = scores[hit], target[hit]
    picked = used.gather(-1, right.unsqueeze(-1)).squeeze(-1)
    return (torch.logsumexp(used, dim=-1) - picked).sum(), int(hit.sum())


def _binary_cross_entropy(scores: Tensor, target: Tensor) -> tuple[Tensor, int]:
    goal = target.to(scores.dtype).reshape(scores.shape)
    zero = torch.zeros_like(scores)
    terms = goal * torch.logaddexp(-scores, zero) + (1 - goal) * torch.logaddexp(scores, zero)
    return terms.sum(), scores.numel()


def _mean_squared_error(scores: Tensor, target: Tensor) -> tuple[Tensor, int]:
    goal = target.to(scores.dtype).reshape(scores.shape)
    return (scores - goal).square().sum(), scores.numel()


LOSSES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, int]]] = {
    "cross-entropy": _cross_entropy,
    "binary-cross-entropy": _binary_cross_entropy,
    "mean-squared-error": _mean_squared_error,
}
