"""Trainings that have to be recorded to be judged: frozen parameters, other recipes and tasks."""

from __future__ import annotations

import pytest
from defects_training import LOGITS
from judging import answers, assert_conformant, assert_fails, assert_patched_fails
from packages import edit
from training_packages import NESTEROV, question_answering, recipe, rerecorded, vectors
from training_packages import learner as built

from slmconform.standard.report import Outcome


def test_a_frozen_parameter_that_moves(tmp_path, server):
    """In a row that no example reads, so that no loss tells."""
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "slm.toml", "[training]", '[training]\ntrainable = ["*", "!tokens.*"]')
    rerecorded(folder, server)
    assert_patched_fails(folder, None)
    moves = f"{LOGITS}        if torch.is_grad_enabled():\n"
    moves += "            self.tokens.weight.data[0] += 1e-6\n"
    edit(folder, "modeling.py", LOGITS, moves)
    assert_fails(folder, "SLM-TRN-002", "tokens.weight changed", "does not train it")


MSE = "functional.mse_loss(logits, labels)"
BCE = "functional.binary_cross_entropy_with_logits(logits, labels)"
COSINE = '{ kind = "cosine", warmup = 4 }'
RECIPES = {
    "cosine with warm-up": ("tagger", recipe(schedule=COSINE)),
    "linear without warm-up": ("writer", recipe(schedule='{ kind = "linear" }')),
    "nesterov": ("tagger", recipe(optimizer=NESTEROV)),
    "plain SGD": ("writer", recipe(optimizer='{ name = "sgd", lr = 1e-2 }')),
    "frozen patterns": ("tagger", recipe(trainable='["*", "!tokens.*", "!*.norm.*"]')),
    "head only": ("writer", recipe(trainable='["head.*", "norm.*"]')),
    "mean squared error": ("classifier", recipe("mean-squared-error", max_grad_norm="1.0")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_twin_recipes(tmp_path, server, name):
    kind, table = RECIPES[name]
    folder = built(tmp_path / kind, kind, training=table)
    if "mean-squared" in table:
        edit(folder, "modeling.py", BCE, MSE)
    rerecorded(folder, server)
    assert_patched_fails(folder, None)
    found = answers(folder)
    assert found["SLM-TRN-006"].outcome is Outcome.PASS


@pytest.mark.slow
@pytest.mark.parametrize("make", [question_answering, vectors], ids=lambda m: m.__name__)
def test_twin_other_tasks(tmp_path, server, make):
    folder = rerecorded(make(tmp_path / "package", server), server)
    assert_conformant(folder)


@pytest.mark.slow
def test_twin_shipped_in_bfloat16(tmp_path, server):
    """Gradients are compared in bfloat16; what is trained is float32."""
    folder = built(tmp_path / "tagger", "tagger", dtype="bfloat16")
    rerecorded(folder, server)
    report = assert_conformant(folder)
    found = {r.id: r.outcome for r in report.results}
    assert found["SLM-GRD-006"] is found["SLM-TRN-004"] is Outcome.PASS
