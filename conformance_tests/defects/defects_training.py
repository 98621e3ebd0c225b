"""Training that goes another way than the recorded one, and what may differ without a failure."""

from __future__ import annotations

import torch
from changes import code, config, evidence, manifest
from defect_record import Defect, NearMiss
from trainers import (
    arranged,
    gradients,
    kernel,
    last_in_bfloat16,
    mean_of_means,
    no_clipping,
    only_in_float32,
    rate,
    rounded,
    settings,
    swapped,
    two_threads,
    weights,
)

from slmconform.measure import envelope

LOGITS = "logits = self.head(self.norm(states))\n"
TRAINS = "torch.is_grad_enabled() and logits.dtype == torch.float32"


def trained(name: str, says: str, kills: str, failure: str, patch, *words: str, changes=()):
    """A trainer that is not the recipe's, on a causal writer that clips and accumulates."""
    twin = "trn-legal-fused-adamw-of-the-writer"
    return Defect(name, says, "learner-writer", kills, failure, changes, words, twin, patch=patch)


def double(name: str, says: str, patch, *words: str) -> Defect:
    """One that the losses in float64 tell."""
    return trained(name, says, "SLM-TRN-001", "training-differs", patch, *words)


def other_recipe(name: str, says: str, old: str, new: str, key: str) -> Defect:
    """A recipe changed after the recording."""
    return Defect(
        name,
        says,
        "learner-writer",
        "SLM-TRN-001",
        "recipe-changed",
        (manifest(old, new),),
        (f"training.{key}",),
    )


def more(*, last: bool):
    """A last update ten times as long, or weights of eight bits, on the device only."""

    def longer(step, steps, before, after):
        wide = after.dtype == torch.float64
        return after if wide or step < steps - 1 else before + 10 * (after - before)

    return weights(longer) if last else ROUNDED_WEIGHTS


def allowing(key: str):
    """Evidence that would allow anything."""

    def widen(values):
        said = values["devices"]["cpu"]["training"]
        wide = {"envelope": [1e9] * 10, "changes": dict.fromkeys(said["changes"], 1e9)}
        said[key] = wide[key]

    return evidence(widen)


ROUNDED_WEIGHTS = weights(only_in_float32(lambda p: p.bfloat16().float()))
ROUNDED_GRADIENTS = gradients(only_in_float32(lambda g: g.bfloat16().float()))
COUNTED = (
    ("class Layer(", "CALLS = []\n\n\nclass Layer("),
    (LOGITS, f"{LOGITS}        if {TRAINS}:\n            CALLS.append(1)\n"),
)
USES_COUNT = "CALLS.append(1)\n            logits = logits * (1 + 2**-23 * (len(CALLS) > 16))\n"
NORM = "        self.norm = nn.LayerNorm(hidden, eps=config"
BUFFER = (
    (
        NORM,
        '        self.register_buffer("calls", torch.zeros((), dtype=torch.int64),'
        f" persistent=False)\n{NORM}",
    ),
    (LOGITS, f"{LOGITS}        if {TRAINS}:\n            self.calls += 1\n"),
)
USES_BUFFER = "self.calls += 1\n            logits = logits * (1 + 2**-23 * (self.calls > 8))\n"


def loses_its_state(monkeypatch):
    """The optimiser starts afresh where it is loaded."""
    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", lambda self, state: None)


DEFECTS = [
    double(
        "trn-gradients-of-eight-bits",
        "Gradients are rounded to bfloat16 in every dtype.",
        gradients(rounded),
        "step ",
    ),
    double(
        "trn-weight-decay-dropped",
        "The optimiser forgets its weight decay.",
        settings(weight_decay=0.0),
        "step 2 of",
    ),
    double(
        "trn-learning-rate-of-1.001",
        "The learning rate is 1.001 times what it should be.",
        rate(lambda *_: 1.001),
        "step 2 of",
    ),
    double("trn-eps-of-adam", "Adam divides with an eps of 1e-6.", settings(eps=1e-6), "step 2 of"),
    double(
        "trn-second-beta-of-adam",
        "Adam averages squares with 0.99.",
        settings(betas=(0.9, 0.99)),
        "step 3 of",
    ),
    double("trn-no-clipping", "Gradients are not clipped.", no_clipping, "step "),
    double("trn-batches-swapped", "The second and third batch are swapped.", swapped, "step 2 of"),
    double(
        "trn-mean-of-means",
        "Micro-batches weigh the same, however many labels they have.",
        mean_of_means,
        "step 1 of",
    ),
    trained(
        "trn-another-last-update",
        "The last update is 1.001 times what it should be, and no loss comes after it.",
        "SLM-TRN-002",
        "trained-weights-differ",
        rate(lambda step, steps: 1.001 if step == steps - 1 else 1.0),
        "weights after 10 steps",
    ),
    trained(
        "trn-gradients-rounded-on-the-device",
        "Gradients in float32 are rounded to bfloat16.",
        "SLM-TRN-003",
        "training-loses-precision",
        ROUNDED_GRADIENTS,
        "precision is lost",
        "in float32",
    ),
    trained(
        "trn-weights-rounded-on-the-device",
        "Weights in float32 are kept in bfloat16.",
        "SLM-TRN-003",
        "training-loses-precision",
        ROUNDED_WEIGHTS,
        "precision is lost",
        "in float32",
    ),
    trained(
        "trn-last-update-coarse",
        "The last update is rounded to bfloat16.",
        "SLM-TRN-004",
        "trained-weights-lose-precision",
        weights(last_in_bfloat16),
        "of the whole change",
        "times the bound",
    ),
    trained(
        "trn-one-bias-coarse",
        "The gradient of one bias is rounded to bfloat16.",
        "SLM-TRN-004",
        "trained-weights-lose-precision",
        gradients(lambda name, g: g.bfloat16().to(g) if name == "head.bias" else g),
        "head.bias",
        "times the bound",
    ),
    trained(
        "trn-an-envelope-that-allows-anything",
        "Weights are kept in bfloat16, and the recorded envelope would allow it.",
        "SLM-TRN-003",
        "training-loses-precision",
        more(last=False),
        "<= 0.0004",
        changes=(allowing("envelope"),),
    ),
    trained(
        "trn-changes-that-allow-anything",
        "The last update is ten times as long, and the recorded distances would allow it.",
        "SLM-TRN-004",
        "trained-weights-lose-precision",
        more(last=True),
        "<= 0.2",
        changes=(allowing("changes"),),
    ),
    Defect(
        "trn-the-optimiser-loses-its-state",
        "The optimiser's state is not loaded again.",
        "learner-tagger",
        "SLM-TRN-006",
        "resume-differs",
        words=("step 7: loss",),
        patch=loses_its_state,
    ),
    Defect(
        "trn-state-outside-the-weights",
        "The code counts its calls outside of the model, and trains otherwise after 16.",
        "learner-tagger",
        "SLM-TRN-005",
        "rerun-differs",
        code(*COUNTED, ("CALLS.append(1)\n", USES_COUNT)),
        ("twice in one process", "step "),
        twin="trn-legal-calls-counted-outside",
    ),
    Defect(
        "trn-state-that-is-not-saved",
        "A buffer that is not saved counts calls, and the model trains otherwise after 8.",
        "learner-tagger",
        "SLM-TRN-006",
        "resume-differs",
        code(*BUFFER, ("self.calls += 1\n", USES_BUFFER)),
        ("saved and loaded after step 5", "not all in its saved"),
        twin="trn-legal-calls-counted-in-a-buffer",
    ),
    Defect(
        "det-eps-of-the-norm-before-training",
        "The eps of the norm is ten times as large; it is told before anything is trained.",
        "learner-tagger",
        "SLM-DET-003",
        "configuration-changed",
        (config(eps=1e-4),),
        ("eps = 0.0001", "eps = 1e-05"),
    ),
    other_recipe(
        "trn-recipe-learning-rate",
        "The recipe has another learning rate.",
        "lr = 1e-3",
        "lr = 1.001e-3",
        "optimizer",
    ),
    other_recipe(
        "trn-recipe-eps",
        "The recipe gives Adam another eps.",
        "lr = 1e-3",
        "lr = 1e-3, eps = 1e-6",
        "optimizer",
    ),
    other_recipe(
        "trn-recipe-weight-decay",
        "The recipe decays no weights.",
        "lr = 1e-3",
        "lr = 1e-3, weight_decay = 0.0",
        "optimizer",
    ),
    other_recipe(
        "trn-recipe-clipping",
        "The recipe clips at another norm.",
        "max_grad_norm = 0.5",
        "max_grad_norm = 0.6",
        "max_grad_norm",
    ),
    other_recipe(
        "trn-recipe-clipping-dropped",
        "The recipe does not clip.",
        "max_grad_norm = 0.5",
        "",
        "max_grad_norm",
    ),
    other_recipe(
        "trn-recipe-accumulation",
        "The recipe does not accumulate.",
        "accumulation = 2",
        "",
        "accumulation",
    ),
    other_recipe(
        "trn-recipe-steps", "The recipe has a step more.", "steps = 10", "steps = 11", "steps"
    ),
    other_recipe(
        "trn-recipe-schedule",
        "The recipe has a schedule.",
        "steps = 10",
        'steps = 10\nschedule = { kind = "cosine" }',
        "schedule",
    ),
    other_recipe(
        "trn-recipe-trainable",
        "The recipe trains fewer parameters.",
        "steps = 10",
        'steps = 10\ntrainable = ["*", "!norm.*"]',
        "trainable",
    ),
    other_recipe(
        "trn-recipe-batch-size",
        "The recipe has larger batches.",
        "batch_size = 6",
        "batch_size = 8",
        "batch_size",
    ),
]


def way(name: str, says: str, patch, package: str = "learner-tagger") -> NearMiss:
    """The same training, done in another way."""
    return NearMiss(name, says, package, patch=patch, profile="trainable")


def split(parts: int):
    """Micro-batches of other sizes."""
    return lambda monkeypatch: arranged(monkeypatch, split=parts)


NEAR_MISSES = [
    way("trn-legal-two-threads", "Two threads.", two_threads),
    way("trn-legal-fused-adamw", "AdamW by its fused kernel.", kernel(fused=True)),
    way("trn-legal-adamw-over-all-tensors", "AdamW over all tensors.", kernel(foreach=True)),
    way("trn-legal-micro-batches-of-half", "Micro-batches of half the rows.", split(2)),
    way("trn-legal-micro-batches-of-a-row", "Micro-batches of a row.", split(3)),
    way(
        "trn-legal-rows-reversed",
        "The rows of each batch in the other order.",
        lambda monkeypatch: arranged(monkeypatch, arrange=envelope.reverse),
    ),
    way(
        "trn-legal-fused-adamw-of-the-writer",
        "AdamW by its fused kernel, on the causal model.",
        kernel(fused=True),
        "learner-writer",
    ),
    way(
        "trn-legal-micro-batches-of-the-writer",
        "Micro-batches of half the rows, on the causal model.",
        split(2),
        "learner-writer",
    ),
    NearMiss(
        "trn-legal-calls-counted-outside",
        "The code counts its calls outside of the model and makes no use of it.",
        "learner-tagger",
        code(*COUNTED),
    ),
    NearMiss(
        "trn-legal-calls-counted-in-a-buffer",
        "A buffer that is not saved counts calls, and nothing uses it.",
        "learner-tagger",
        code(*BUFFER),
    ),
    *(
        NearMiss(
            f"trn-legal-eager-attention-of-{package}",
            "Another implementation of attention is declared.",
            package,
            (manifest('attention = "sdpa"', 'attention = "eager"'),),
            profile="trainable",
        )
        for package in ("learner-llama", "learner-bert")
    ),
]
