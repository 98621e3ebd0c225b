"""What of a training is not recorded, what is recorded in part, and what is kept of it."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from judging import assert_conformant, assert_patched_fails
from packages import edit, edit_json
from training_packages import ADAMW, recipe, rerecorded
from training_packages import learner as built

from slmconform.engine.registry import Inconclusive
from slmconform.measure.envelope import LEAST, Envelope, deviations, require_calm
from slmconform.measure.trajectory import summaries, summary_gap
from slmconform.recording.record import RecordingRefused, RecordOptions, record

EVIDENCE = "conformance/evidence.json"


def refused(folder, server, *words):
    """Recording is refused with these words, and writes nothing."""
    with pytest.raises(RecordingRefused) as said:
        rerecorded(folder, server)
    for word in words:
        assert re.search(word, str(said.value)), said.value
    assert said.value.exit_status == 1
    assert not (folder / EVIDENCE).exists()


def evidence_of(folder):
    return json.loads((folder / EVIDENCE).read_text("utf-8"))


@pytest.mark.parametrize(
    "optimizer", [ADAMW.replace("1e-3", "0.3"), '{ name = "sgd", lr = 1e3 }'], ids=["adamw", "sgd"]
)
def test_a_chaotic_recipe_is_not_recorded(tmp_path, server, optimizer):
    folder = built(tmp_path / "writer", "writer", training=recipe(optimizer=optimizer))
    refused(folder, server, "the recipe is chaotic", "lower the learning rate")


def test_a_time_budget_lowers_the_steps(tmp_path, server):
    folder = built(tmp_path / "tagger", "tagger", training=recipe(steps="200"))
    said = record(folder, RecordOptions(trust_code=True, time_budget=1e-3), server=server)
    assert said.lines[1] == (
        "of the training's 200 steps, 10 are recorded: as many as can be compared and fit 0.001 s"
        " (but at least ten)"
    )
    seen = evidence_of(folder)["training"]
    assert (seen["steps"], seen["recipe"]["steps"], len(seen["losses"])) == (10, 200, 10)
    assert_patched_fails(folder, None)


ROUNDS = """class Rounds(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return gradient.bfloat16().to(gradient.dtype)


class Layer("""


@pytest.mark.parametrize(
    "place",
    ["self.head(self.norm(states))", "self.mix(self.norm(states))"],
)
def test_a_backward_pass_in_bfloat16_is_not_recorded(tmp_path, server, place):
    """Its twins are all packages that are recorded without it."""
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "modeling.py", "class Layer(", ROUNDS)
    edit(folder, "modeling.py", place, f"Rounds.apply({place})")
    refused(folder, server, "the gradient of .* in float32", "rounding explains 2", "casts in own")


NEARLY_ZERO = """from torch.nn import functional


def loss(outputs, labels):
    logits = 30 * outputs["logits"].flatten(0, 1)
    return functional.cross_entropy(logits, logits.detach().argmax(-1))
"""


def nearly_zero(tmp_path):
    """A tagger with a loss of its own that it has nearly reached; not recorded."""
    table = recipe("custom", entry='"losses.py:loss"', optimizer='{ name = "sgd", lr = 1e-4 }')
    folder = built(tmp_path / "tagger", "tagger", training=table)
    (folder / "losses.py").write_text(NEARLY_ZERO, "utf-8")
    return folder


def test_twin_a_loss_near_zero_loses_more_by_rounding(tmp_path, server):
    folder = rerecorded(nearly_zero(tmp_path), server)
    seen = evidence_of(folder)
    assert seen["training"]["losses"][0] < 0.05
    assert_conformant(folder)


def test_a_change_of_rounding_alone_is_not_recorded(tmp_path, server):
    """A third of this bias is of keys, whose gradient is zero; Adam moves it like the others."""
    table = recipe(trainable='["layers.0.mix.bias"]')
    folder = built(tmp_path / "tagger", "tagger", training=table)
    refused(folder, server, r"the change of layers\.0\.mix\.bias", "exclude it: trainable = ")


def test_twin_the_same_change_by_another_optimiser(tmp_path, server):
    sgd = '{ name = "sgd", lr = 1e-2 }'
    table = recipe(trainable='["layers.0.mix.bias"]', optimizer=sgd)
    folder = built(tmp_path / "tagger", "tagger", training=table)
    assert_conformant(rerecorded(folder, server))


# A loss that is no number.

RULES_OUT = "logits = self.head(self.norm(states))\n"


def ruling_out(tmp_path, tokens):
    """A tagger that gives no probability to the last class where it reads token 7."""
    table = recipe(data='"rows.jsonl"', batch_size="1", steps="12")
    folder = built(tmp_path / "tagger", "tagger", training=table)
    edit(
        folder,
        "modeling.py",
        RULES_OUT,
        f"{RULES_OUT}        last = torch.arange(5, device=real.device) == 4\n"
        "        never = (input_ids == 7).unsqueeze(-1) & last\n"
        "        logits = logits.masked_fill(never, -torch.inf)\n",
    )
    edit(folder, "slm.toml", 'axes = ["batch", "sequence", 5]', OUTPUT)
    rows = [
        {"inputs": {"input_ids": row, "attention_mask": [1, 1, 1]}, "label": [0, 1, 4]}
        for row in tokens
    ]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return folder


OUTPUT = 'axes = ["batch", "sequence", 5]\nnegative_infinity = true'


@pytest.mark.parametrize("at", [2, 11])
def test_a_label_that_the_model_rules_out(tmp_path, server, at):
    tokens = [[1, 2, 8 + row] for row in range(12)]
    tokens[at][2] = 7
    tokens[(at + 1) % 12][1] = 7
    folder = ruling_out(tmp_path, tokens)
    refused(folder, server, f"the loss of step {at + 1} is inf in float64", "rule out")


def test_twin_a_class_that_is_ruled_out_elsewhere(tmp_path, server):
    folder = ruling_out(tmp_path, [[1, 7, 8 + row] for row in range(12)])
    assert_conformant(rerecorded(folder, server))


def test_a_deviation_that_is_no_number_is_infinite():
    nan, inf = math.nan, math.inf
    assert deviations([nan, inf, 1.0, inf, nan], [1.0, 1.0, inf, inf, nan]) == [inf] * 5
    assert deviations([2.5, 0.5], [2.0, 0.25]) == [0.25, 0.25]


def test_a_gap_that_is_no_number_is_not_forgotten():
    values = {name: torch.full((4,), float(at)) for at, name in enumerate("abc")}
    recorded = summaries(values)
    assert summary_gap(values, recorded) == ("", 0.0)
    broken = values | {"b": torch.tensor([1.0, math.nan, 1.0, 1.0])}
    assert summary_gap(broken, recorded) == ("b", math.inf)


def test_what_is_calm_and_what_is_not():
    calm, exact = [1e-7] * LEAST, [1.0] * LEAST
    require_calm(Envelope(calm, {}, []), exact)
    require_calm(Envelope([*calm, 1e-3], {}, []), [*exact, 1.0])
    for bad in (1e-3, math.inf):
        with pytest.raises(Inconclusive, match=r"is chaotic.*step 10"):
            require_calm(Envelope([*calm[1:], bad], {}, []), exact)
    for loss in (math.nan, math.inf, -math.inf):
        with pytest.raises(Inconclusive, match=r"loss of step 11 is -?(nan|inf)"):
            require_calm(Envelope([*calm, math.inf], {}, []), [*exact, loss])


# Other classes of device.


def other_device(evidence):
    evidence["devices"]["cuda sm_90"] = evidence["devices"]["cpu"]


@pytest.mark.parametrize("new", ["lr = 3e-3", "lr = 1e-3, eps = 1e-7"])
def test_training_of_another_recipe_is_not_kept(learner, server, new):
    folder = learner("tagger")
    edit_json(folder, EVIDENCE, other_device)
    before = evidence_of(folder)["devices"]["cuda sm_90"]
    edit(folder, "slm.toml", "lr = 1e-3", new)
    kept = evidence_of(rerecorded(folder, server))["devices"]["cuda sm_90"]
    assert kept == before | {"training": None}


def test_training_by_another_loss_is_not_kept(tmp_path, server):
    folder = rerecorded(nearly_zero(tmp_path), server)
    edit_json(folder, EVIDENCE, other_device)
    edit(folder, "losses.py", "30", "31")
    assert evidence_of(rerecorded(folder, server))["devices"]["cuda sm_90"]["training"] is None


def test_twin_training_of_the_same_recipe_is_kept(learner, server):
    folder = learner("tagger")
    edit_json(folder, EVIDENCE, other_device)
    before = evidence_of(folder)["devices"]["cuda sm_90"]
    edit(folder, "slm.toml", 'version = "1.0.0"', 'version = "1.0.1"')
    assert evidence_of(rerecorded(folder, server))["devices"]["cuda sm_90"] == before
