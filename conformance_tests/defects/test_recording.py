"""Packages that would be told by a check are not recorded."""

from __future__ import annotations

import pytest
import torch
from defects_loss_functions import ENTRY
from defects_losses import ENTROPY
from judging import answers, assert_patched_fails
from packages import edit, edit_weights
from training_packages import learner as built
from training_packages import recipe

from slmconform.recording.record import RecordingRefused, RecordOptions, record
from slmconform.standard.report import Outcome


def refused(folder, server):
    """The failures for which a package is not recorded; nothing is written."""
    with pytest.raises(RecordingRefused) as said:
        record(folder, RecordOptions(trust_code=True), server=server)
    assert said.value.exit_status == 1
    assert not (folder / "conformance").exists()
    found = [(r.id, r.finding.code) for r in said.value.report.failures]
    assert all(one in str(said.value) for one, _ in found)
    return found


def test_a_parameter_that_nothing_uses_is_not_recorded(tmp_path, server):
    folder = built(tmp_path / "tagger", "tagger")
    line = "        self.norm = nn.LayerNorm(hidden, eps=config"
    extra = "        self.extra = nn.Parameter(torch.zeros(3))\n"
    edit(folder, "modeling.py", line, f"{extra}{line}")
    edit_weights(folder, lambda t: t.update(extra=torch.ones(3)))
    assert refused(folder, server) == [("SLM-GRD-003", "unreached")]


@pytest.mark.parametrize(
    ("kind", "old", "new", "kills"),
    [
        ("tagger", "labels.reshape(-1))", "labels.reshape(-1), reduction='sum')", "SLM-LOS-001"),
        (
            "classifier",
            "binary_cross_entropy_with_logits(logits,",
            "binary_cross_entropy(logits.sigmoid(),",
            "SLM-LOS-005",
        ),
    ],
)
def test_a_package_with_a_wrong_loss_is_not_recorded(tmp_path, server, kind, old, new, kills):
    folder = built(tmp_path / kind, kind)
    edit(folder, "modeling.py", old, new)
    assert [one for one, _ in refused(folder, server)] == [kills]


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_how_many_layers_are_recomputed(learner, name):
    found = answers(learner(name))["SLM-GRD-004"]
    assert found.outcome is Outcome.PASS
    assert "2 layers recomputed" in found.detail


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


def test_twin_a_head_of_zeros(tmp_path):
    """Nothing can be made large, and nothing is wrong."""
    folder = built(tmp_path / "classifier", "classifier")
    edit_weights(folder, lambda t: t.update({n: t[n] * 0 for n in t if n.startswith("head.")}))
    found = answers(folder)
    assert found["SLM-LOS-005"].outcome is Outcome.INCONCLUSIVE
    assert not [r for r in found.values() if r.outcome in (Outcome.FAIL, Outcome.ERROR)]
