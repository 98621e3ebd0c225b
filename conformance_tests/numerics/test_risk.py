"""The empirical risk and its closed-form gradient, against torch's own losses and autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from slmconform.measure.risk import Objective
from slmconform.package.labels import IGNORED

EXACT = 1e-12  # float64
BIG = (0.0, 1.0, -1.0, 20.0, -20.0, 100.0, -100.0)


def drawn(*shape, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def classes(*shape, count=5, ignored=0.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, count, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = IGNORED
    return labels


def shifted(value, labels):
    """Torch's loss of a causal model: each token against the next label."""
    return functional.cross_entropy(value[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def flat(value, labels):
    return functional.cross_entropy(value.flatten(0, -2), labels.flatten())


ENTROPY = "cross-entropy"
BINARY = "binary-cross-entropy"
CASES = {
    "sequence": (Objective(ENTROPY, "text-classification"), drawn(6, 5), classes(6), flat),
    "tokens": (
        Objective(ENTROPY, "token-classification"),
        drawn(3, 7, 5),
        classes(3, 7, ignored=0.4),
        flat,
    ),
    "masked": (
        Objective(ENTROPY, "masked-lm"),
        drawn(3, 7, 11),
        classes(3, 7, count=11, ignored=0.8),
        flat,
    ),
    "causal": (
        Objective(ENTROPY, "causal-lm", causal=True),
        drawn(3, 7, 5),
        classes(3, 7, ignored=0.4),
        shifted,
    ),
    "sequence to sequence": (
        Objective(ENTROPY, "seq2seq-lm", causal=True),
        drawn(2, 6, 5),
        classes(2, 6, ignored=0.3),
        flat,
    ),
    "binary": (
        Objective(BINARY, "text-classification"),
        drawn(6, 1),
        classes(6, 1, count=2).double(),
        functional.binary_cross_entropy_with_logits,
    ),
    "multi-label": (
        Objective(BINARY, "text-classification"),
        drawn(6, 4),
        classes(6, 4, count=2).double(),
        functional.binary_cross_entropy_with_logits,
    ),
    "regression": (
        Objective("mean-squared-error", "text-classification"),
        drawn(6, 2),
        drawn(6, 2, seed=3),
        functional.mse_loss,
    ),
}


def gradient_of(goal, value, labels):
    """The loss and its gradient by autograd."""
    value = value.clone().requires_grad_()
    loss = goal.risk({"logits": value}, {"labels": labels})
    (found,) = torch.autograd.grad(loss, value)
    return float(loss.detach()), found


@pytest.mark.parametrize("name", CASES)
def test_risk_is_the_loss_of_torch(name):
    goal, value, labels, reference = CASES[name]
    mine = float(goal.risk({"logits": value}, {"labels": labels}))
    assert mine == pytest.approx(float(reference(value, labels)), abs=EXACT)


@pytest.mark.parametrize("name", CASES)
def test_closed_form_is_the_gradient(name):
    goal, value, labels, reference = CASES[name]
    closed = goal.closed_gradient({"logits": value}, {"labels": labels})["logits"]
    _, mine = gradient_of(goal, value, labels)
    leaf = value.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(reference(leaf, labels), leaf)
    assert float((closed - mine).abs().max()) <= EXACT
    assert float((closed - theirs).abs().max()) <= EXACT


@pytest.mark.parametrize("name", CASES)
def test_labels_moved_by_one_do_not_pass(name):
    """The vacuity control: a comparison that any labels would pass proves nothing."""
    goal, value, labels, _ = CASES[name]
    moved = labels.roll(1, 0)
    assert not torch.equal(moved, labels)
    closed = goal.closed_gradient({"logits": value}, {"labels": moved})["logits"]
    _, mine = gradient_of(goal, value, labels)
    assert float((closed - mine).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["tokens", "masked", "causal", "sequence to sequence"])
def test_what_is_ignored_does_not_count(name):
    goal, value, labels, _ = CASES[name]
    loss, gradient = gradient_of(goal, value, labels)
    used = labels[:, 1:] if goal.shifts else labels
    idle = used == IGNORED
    seen = gradient[:, :-1] if goal.shifts else gradient
    assert idle.any()
    assert torch.count_nonzero(seen[idle]) == 0
    closed = goal.closed_gradient({"logits": value}, {"labels": labels})["logits"]
    assert torch.equal(closed == 0, gradient == 0)
    if goal.shifts:
        assert torch.count_nonzero(gradient[:, -1]) == 0
    other = value.clone()
    (other[:, :-1] if goal.shifts else other)[idle] += 7.0
    assert gradient_of(goal, other, labels)[0] == loss
    assert goal.counted({"labels": labels}) == int((~idle).sum())


@pytest.mark.parametrize("z", BIG)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_large_outputs_of_a_binary_loss(z, label):
    goal = Objective(BINARY, "text-classification")
    value, labels = torch.tensor([[z]], dtype=torch.float64), torch.tensor([[label]]).double()
    loss, gradient = gradient_of(goal, value, labels)
    sign = z if label == 0 else -z
    exact = torch.nn.functional.softplus(torch.tensor(sign, dtype=torch.float64), threshold=1000)
    assert loss == pytest.approx(float(exact), rel=EXACT, abs=1e-300)
    closed = goal.closed_gradient({"logits": value}, {"labels": labels})["logits"]
    theirs = torch.sigmoid(value) - labels
    assert float((gradient - closed).abs().max()) <= EXACT
    assert float((closed - theirs).abs().max()) <= EXACT


@pytest.mark.parametrize("z", BIG)
@pytest.mark.parametrize("label", [0, 1])
def test_large_outputs_of_a_cross_entropy(z, label):
    goal = Objective(ENTROPY, "text-classification")
    value, labels = torch.tensor([[z, 0.0]], dtype=torch.float64), torch.tensor([label])
    loss, gradient = gradient_of(goal, value, labels)
    assert loss == pytest.approx(float(functional.cross_entropy(value, labels)), abs=EXACT)
    closed = goal.closed_gradient({"logits": value}, {"labels": labels})["logits"]
    assert float((gradient - closed).abs().max()) <= EXACT
    assert gradient.isfinite().all()


@pytest.mark.parametrize("z", [20.0, 100.0])
def test_a_saturated_sigmoid_has_no_gradient_in_float32(z):
    """What SLM-LOS-005 is there for: where it should be 1, it is 0."""
    value = torch.tensor([[z]], requires_grad=True)
    labels = torch.zeros(1, 1)
    functional.binary_cross_entropy(value.sigmoid(), labels).backward()
    goal = Objective(BINARY, "text-classification")
    closed = goal.closed_gradient({"logits": value}, {"labels": labels})["logits"]
    assert float(value.grad) == 0.0
    assert float(closed) == pytest.approx(1.0)
    _, right = gradient_of(goal, value.detach(), labels)
    assert float(right) == pytest.approx(1.0)


def test_question_answering_is_the_mean_of_both_ends():
    goal = Objective(ENTROPY, "question-answering")
    starts, ends = drawn(4, 9), drawn(4, 9, seed=2)
    labels = {"start_positions": classes(4, count=9), "end_positions": classes(4, count=9, seed=5)}
    outputs = {"start_logits": starts, "end_logits": ends}
    first = functional.cross_entropy(starts, labels["start_positions"])
    last = functional.cross_entropy(ends, labels["end_positions"])
    assert float(goal.risk(outputs, labels)) == pytest.approx(float(first + last) / 2, abs=EXACT)
    closed = goal.closed_gradient(outputs, labels)
    leaf = starts.clone().requires_grad_()
    (mine,) = torch.autograd.grad(goal.risk(outputs | {"start_logits": leaf}, labels), leaf)
    assert float((closed["start_logits"] - mine).abs().max()) <= EXACT


def test_contrastive_loss_is_a_cross_entropy_over_cosines():
    goal = Objective("contrastive", "sentence-embedding", scale=7.0)
    rows = drawn(6, 8)
    scores = 7.0 * functional.cosine_similarity(rows[:3, None], rows[None, 3:], dim=-1)
    exact = functional.cross_entropy(scores, torch.arange(3))
    found = goal.risk({"sentence_embedding": rows}, {"pairs": torch.arange(3)})
    assert float(found) == pytest.approx(float(exact), abs=EXACT)
    assert goal.counted({"pairs": torch.arange(3)}) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    goal, value, labels, _ = CASES["tokens"]
    loss = goal.risk({"logits": value.to(dtype)}, {"labels": labels})
    assert loss.dtype == torch.float32
    exact = goal.risk({"logits": value.to(dtype).double()}, {"labels": labels})
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)
