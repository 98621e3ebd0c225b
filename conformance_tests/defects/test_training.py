"""Training that goes another way than the recorded one, and what may differ without a failure."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from judging import answers, assert_conformant, assert_fails, assert_patched_fails
from packages import edit, edit_json
from training_packages import NESTEROV, question_answering, recipe, rerecorded, vectors
from training_packages import learner as built

from slmconform.measure import envelope, opening, trajectory
from slmconform.measure import recipe as training
from slmconform.measure.risk import Objective
from slmconform.standard.report import Outcome

LOGITS = "logits = self.head(self.norm(states))\n"
TRAINS = "torch.is_grad_enabled() and logits.dtype == torch.float32"


# Patches of the trainer. Each takes monkeypatch.


def settings(**changed):
    """An optimiser with other settings than the recipe's."""

    def patched(monkeypatch):
        right = training.optimizer_for

        def wrong(parameters, chosen):
            made = right(parameters, chosen)
            for group in made.param_groups:
                group.update(changed)
            return made

        monkeypatch.setattr(training, "optimizer_for", wrong)

    return patched


def rate(change):
    """A learning rate changed by a function of the step and the steps."""

    def patched(monkeypatch):
        right = training.factor

        def wrong(schedule, step, steps):
            return right(schedule, step, steps) * change(step, steps)

        monkeypatch.setattr(training, "factor", wrong)

    return patched


def gradients(change):
    """Every gradient replaced after the backward pass, given its parameter's name."""

    def patched(monkeypatch):
        right = training.Trainer._backward

        def wrong(self, examples):
            loss = right(self, examples)
            for name, parameter in self.parameters.items():
                parameter.grad.copy_(change(name, parameter.grad))
            return loss

        monkeypatch.setattr(training.Trainer, "_backward", wrong)

    return patched


def weights(change):
    """Every weight replaced after a step, given the step and the weight before."""

    def patched(monkeypatch):
        right = training.Trainer._step

        def wrong(self, step):
            before = {n: p.detach().clone() for n, p in self.parameters.items()}
            loss = right(self, step)
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(change(step, self.recipe.steps, before[name], parameter))
            return loss

        monkeypatch.setattr(training.Trainer, "_step", wrong)

    return patched


def no_clipping(monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args, **options: None)


def swapped(monkeypatch):
    right = training.Trainer.__post_init__

    def wrong(self):
        right(self)
        one, two, three, *others = self.batches
        self.batches = [one, three, two, *others]

    monkeypatch.setattr(training.Trainer, "__post_init__", wrong)


class MeanOfMeans(Objective):
    """Every micro-batch weighs the same."""

    def counted(self, labels):
        return 1


def mean_of_means(monkeypatch):
    right = training.Trainer.__post_init__

    def wrong(self):
        right(self)
        self.objective = MeanOfMeans(**vars(self.objective))

    monkeypatch.setattr(training.Trainer, "__post_init__", wrong)


def rounded(_, gradient):
    """To the eight bits of bfloat16, in whatever dtype; numpy is not forced to float64."""
    bits = np.asarray(gradient.double().numpy(), np.float32).view(np.uint32)
    return torch.from_numpy(((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32))


def only_in_float32(change):
    """What a kernel does that has no double precision: `ForcedFloat64` undoes the casts."""

    def when(*args):
        value = args[-1]
        return change(value) if value.dtype == torch.float32 else value

    return when


DOUBLE = {
    "gradients of eight bits": (gradients(rounded), "step "),
    "weight decay dropped": (settings(weight_decay=0.0), "step 2 of"),
    "learning rate of 1.001": (rate(lambda *_: 1.001), "step 2 of"),
    "eps of Adam": (settings(eps=1e-6), "step 2 of"),
    "second beta of Adam": (settings(betas=(0.9, 0.99)), "step 3 of"),
    "no clipping": (no_clipping, "step "),
    "batches swapped": (swapped, "step 2 of"),
    "mean of means": (mean_of_means, "step 1 of"),
}


@pytest.mark.parametrize("name", DOUBLE)
def test_another_trainer(learner, monkeypatch, name):
    patched, words = DOUBLE[name]
    folder = learner("writer")
    patched(monkeypatch)
    said = assert_patched_fails(folder, "SLM-TRN-001", words)
    assert said.code == "training-differs"


def test_another_last_update(learner, monkeypatch):
    folder = learner("writer")
    rate(lambda step, steps: 1.001 if step == steps - 1 else 1.0)(monkeypatch)
    said = assert_patched_fails(folder, "SLM-TRN-002", "weights after 10 steps")
    assert said.code == "trained-weights-differ"


ROUNDED = {
    "gradients": gradients(only_in_float32(lambda g: g.bfloat16().float())),
    "weights": weights(only_in_float32(lambda p: p.bfloat16().float())),
}


@pytest.mark.parametrize("what", ROUNDED)
def test_bfloat16_on_the_device(learner, monkeypatch, what):
    """In float64 it is not there: the casts are widened."""
    folder = learner("writer")
    ROUNDED[what](monkeypatch)
    assert_patched_fails(folder, "SLM-TRN-003", "precision is lost", "in float32")


def last_in_bfloat16(step, steps, before, after):
    change = after - before
    return before + change.bfloat16().to(change) if step == steps - 1 else after


COARSE = {
    "the last update": (weights(last_in_bfloat16), "of the whole change"),
    "one bias": (
        gradients(lambda name, g: g.bfloat16().to(g) if name == "head.bias" else g),
        "head.bias",
    ),
}


@pytest.mark.parametrize("what", COARSE)
def test_coarse_updates_that_no_loss_tells(learner, monkeypatch, what):
    patched, words = COARSE[what]
    folder = learner("writer")
    patched(monkeypatch)
    assert_patched_fails(folder, "SLM-TRN-004", words, "times the bound")


def more(last):
    """A last update ten times as long, on the device only."""

    def longer(step, steps, before, after):
        wide = after.dtype == torch.float64
        return after if wide or step < steps - 1 else before + 10 * (after - before)

    return weights(longer) if last else ROUNDED["weights"]


@pytest.mark.parametrize(
    ("key", "requirement", "want"),
    [("envelope", "SLM-TRN-003", "<= 0.0004"), ("changes", "SLM-TRN-004", "<= 0.2")],
)
def test_evidence_that_would_allow_anything(learner, monkeypatch, key, requirement, want):
    folder = learner("writer")

    def widen(evidence):
        said = evidence["devices"]["cpu"]["training"]
        wide = {"envelope": [1e9] * 10, "changes": dict.fromkeys(said["changes"], 1e9)}
        said[key] = wide[key]

    edit_json(folder, "conformance/evidence.json", widen)
    assert_patched_fails(folder, None)
    more(last=key == "changes")(monkeypatch)
    assert_patched_fails(folder, requirement, want)


def test_a_state_that_the_optimiser_loses(learner, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", lambda self, state: None)
    assert_patched_fails(learner("tagger"), "SLM-TRN-006", "step 7: loss")


# Edits of a recorded package.


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("lr = 1e-3", "lr = 1.001e-3", "optimizer"),
        ("lr = 1e-3", "lr = 1e-3, eps = 1e-6", "optimizer"),
        ("lr = 1e-3", "lr = 1e-3, weight_decay = 0.0", "optimizer"),
        ("max_grad_norm = 0.5", "max_grad_norm = 0.6", "max_grad_norm"),
        ("max_grad_norm = 0.5", "", "max_grad_norm"),
        ("accumulation = 2", "", "accumulation"),
        ("steps = 10", "steps = 11", "steps"),
        ("steps = 10", 'steps = 10\nschedule = { kind = "cosine" }', "schedule"),
        ("steps = 10", 'steps = 10\ntrainable = ["*", "!norm.*"]', "trainable"),
        ("batch_size = 6", "batch_size = 8", "batch_size"),
    ],
)
def test_another_recipe(learner, old, new, key):
    folder = learner("writer")
    edit(folder, "slm.toml", old, new)
    said = assert_patched_fails(folder, "SLM-TRN-001", f"training.{key}")
    assert said.code == "recipe-changed"


def test_another_recipe_in_the_report(learner):
    folder = learner("writer")
    edit(folder, "slm.toml", "lr = 1e-3", "lr = 2e-3")
    assert_fails(folder, "SLM-TRN-001", "slm.toml: training.optimizer", "another recipe")


def test_an_eps_of_the_norm_is_told_before_it_trains(learner):
    folder = learner("tagger")
    edit_json(folder, "config.json", lambda c: c.update(eps=1e-4))
    assert_fails(folder, "SLM-DET-003", "eps = 0.0001", "eps = 1e-05")


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


def test_a_state_outside_the_weights(learner):
    folder = learner("tagger")
    edit(folder, "modeling.py", "class Layer(", "CALLS = []\n\n\nclass Layer(")
    counts = f"{LOGITS}        if {TRAINS}:\n            CALLS.append(1)\n"
    edit(folder, "modeling.py", LOGITS, counts)
    assert_patched_fails(folder, None)
    counts = "CALLS.append(1)\n            logits = logits * (1 + 2**-23 * (len(CALLS) > 16))\n"
    edit(folder, "modeling.py", "CALLS.append(1)\n", counts)
    assert_fails(folder, "SLM-TRN-005", "twice in one process", "step ")


def test_a_state_that_is_not_saved(learner):
    folder = learner("tagger")
    edit(
        folder,
        "modeling.py",
        "        self.norm = nn.LayerNorm(hidden, eps=config",
        '        self.register_buffer("calls", torch.zeros((), dtype=torch.int64),'
        " persistent=False)\n        self.norm = nn.LayerNorm(hidden, eps=config",
    )
    counts = f"{LOGITS}        if {TRAINS}:\n            self.calls += 1\n"
    edit(folder, "modeling.py", LOGITS, counts)
    assert_patched_fails(folder, None)
    used = "self.calls += 1\n            logits = logits * (1 + 2**-23 * (self.calls > 8))\n"
    edit(folder, "modeling.py", "self.calls += 1\n", used)
    assert_fails(folder, "SLM-TRN-006", "saved and loaded after step 5", "not all in its saved")


# What may differ.


def kernel(**choice):
    """The same optimiser by another of torch's kernels."""
    plain = {"foreach": False, "fused": False} | choice
    return settings(**plain)


def arranged(monkeypatch, **changed):
    """Every trainer made with other arguments."""
    right = trajectory.trainer

    def other(bench, model, *, forced=False, **_):
        return right(bench, model, forced=forced, **changed)

    monkeypatch.setattr(trajectory, "trainer", other)


def two_threads(monkeypatch):
    flags = functools.partial(opening.reference_flags, threads=2)
    monkeypatch.setattr(opening, "reference_flags", flags)


VARIATIONS = {
    "nothing": lambda monkeypatch: None,
    "two threads": two_threads,
    "fused AdamW": kernel(fused=True),
    "AdamW over all tensors": kernel(foreach=True),
    "micro-batches of half the rows": lambda monkeypatch: arranged(monkeypatch, split=2),
    "micro-batches of a row": lambda monkeypatch: arranged(monkeypatch, split=3),
    "rows reversed": lambda monkeypatch: arranged(monkeypatch, arrange=envelope.reverse),
}


WAYS = [("tagger", name) for name in VARIATIONS]
WAYS += [("writer", "fused AdamW"), ("writer", "micro-batches of half the rows")]


@pytest.mark.parametrize(("package", "name"), WAYS)
def test_twin_another_way_to_train(learner, monkeypatch, package, name):
    folder = learner(package)
    VARIATIONS[name](monkeypatch)
    assert_patched_fails(folder, None)


@pytest.mark.parametrize("package", ["llama", "bert"])
def test_twin_another_attention(learner, package):
    folder = learner(package)
    old = 'attention = "sdpa"'
    edit(folder, "slm.toml", old, 'attention = "eager"')
    assert_patched_fails(folder, None)


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
