"""What the recipe declares trainable, losses with kinks, and layers that are recomputed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from changes import code, manifest, tensors, text, unrecorded
from defect_record import Defect, NearMiss
from defects_gradients import BUILD, WIDE
from safetensors.torch import load_file

from slmconform.standard.files import EVIDENCE_TENSORS

if TYPE_CHECKING:
    import pytest

TRAINED = "SLM-GRD-003"
DERIVATIVE = "SLM-GRD-001"
FROZEN = (
    BUILD,
    "    model = Model(config)\n    model.norm.requires_grad_(False)\n    return model\n",
)


def trainable(patterns: str):
    """Patterns of names in the recipe."""
    return manifest("[training]", f"[training]\ntrainable = {patterns}")


def row_without_gradient(folder: Path) -> None:
    """The row of a token that the first recorded batch reads is one of padding."""
    row = int(load_file(folder / EVIDENCE_TENSORS)["batch.input_ids"][0, 0, 0])
    text("modeling.py", '(config["vocab_size"], hidden)', f'(config["vocab_size"], hidden, {row})')(
        folder
    )


def unused(
    name: str, says: str, patterns: str, failure: str, *words: str, package="learner-tagger"
):
    """Patterns that do not say what they seem to."""
    changes = (trainable(patterns),)
    twin = "grd-legal-frozen-and-declared"
    return Defect(name, says, package, TRAINED, failure, changes, words, twin)


# Where the loss has kinks.

OWN_RELU = (
    "class Layer(",
    "class Relu(torch.autograd.Function):\n"
    "    @staticmethod\n"
    "    def forward(ctx, x):\n"
    "        ctx.save_for_backward(x)\n"
    "        return x.clamp(min=0)\n\n"
    "    @staticmethod\n"
    "    def backward(ctx, g):\n"
    "        (x,) = ctx.saved_tensors\n"
    "        return {}\n\n\nclass Layer(",
)
EXPERTS = """\
gates = self.wide(states)[..., :4].softmax(-1)
        best = gates.topk(2, -1)
        gates = torch.zeros_like(gates).scatter(-1, best.indices, best.values)
        expert = functional.relu(self.wide(states)).unflatten(-1, (4, -1)) * gates.unsqueeze(-1)
        return states + self.narrow(expert.flatten(-2))"""
BLOCK = f"return states + self.narrow({WIDE})"


def at_kinks(tensors_):
    """Half of the units get exactly 0 from every input, the others what they got."""
    tensors_["layers.0.wide.weight"][::2] = 0.0
    tensors_["layers.0.wide.bias"][::2] = 0.0


def in_pairs(tensors_):
    """The units come in equal pairs, so that each maximum is a tie."""
    for name in ("layers.0.wide.weight", "layers.0.wide.bias"):
        half = len(tensors_[name]) // 2
        tensors_[name][half:] = tensors_[name][:half]


def own_relu(gradient: str):
    """A ReLU of the package with a backward pass of its own."""
    return code(
        (WIDE, "Relu.apply(self.wide(states))"), (OWN_RELU[0], OWN_RELU[1].format(gradient))
    )


def wrong_relu(name: str, says: str, gradient: str, *more):
    """A wrong backward pass of a ReLU; not recorded."""
    changes = (unrecorded, *own_relu(gradient), *more)
    twin = "grd-legal-a-right-backward-pass-among-kinks"
    return Defect(name, says, "learner-tagger", DERIVATIVE, "gradient-differs", changes, twin=twin)


def smooth_or_not(name: str, activation: str, change=None) -> NearMiss:
    """Another activation, not recorded."""
    more = (tensors(change),) if change else ()
    slug = name.replace(" ", "-")
    changes = (unrecorded, *code((WIDE, activation)), *more)
    says = f"The activation has kinks, or seems to: {name}."
    return NearMiss(f"grd-legal-{slug}", says, "learner-tagger", changes, profile="trainable")


def detached_pruned() -> tuple:
    weight = "torch.where(self.wide.weight == 0, self.wide.weight.detach(), self.wide.weight)"
    linear = f"functional.linear(states, {weight}, self.wide.bias)"
    return (unrecorded, *code((WIDE, f"functional.gelu({linear})")), tensors(at_kinks))


# Layers of the library that count their calls.


def counted(*, wrong: bool):
    """A layer that counts its calls, and computes otherwise from the third on if it is wrong."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers.models.llama import modeling_llama

        part, model = modeling_llama.LlamaMLP, modeling_llama.LlamaModel
        inner, outer, calls = part.forward, model.forward, []

        @functools.wraps(outer)
        def start(self, *args, **options):
            calls.clear()
            return outer(self, *args, **options)

        @functools.wraps(inner)
        def one_more(self, x):
            calls.append(1)
            return inner(self, x * 1.001 if wrong and len(calls) > 2 else x)

        monkeypatch.setattr(model, "forward", start)
        monkeypatch.setattr(part, "forward", one_more)

    return patch


DEFECTS = [
    unused(
        "grd-excluded-pattern-fits-nothing",
        "An excluding pattern of the recipe fits no parameter.",
        '["*", "!layers.7.*"]',
        "pattern-unused",
        "'!layers.7.*' fits no parameter",
        "tokens.weight",
    ),
    unused(
        "grd-chosen-pattern-fits-nothing",
        "The only pattern of the recipe fits no parameter.",
        '["encoder.*"]',
        "pattern-unused",
        "'encoder.*' fits no parameter",
    ),
    unused(
        "grd-nothing-left-to-train",
        "The patterns of the recipe take back all that they choose.",
        '["norm.*", "!norm.*"]',
        "none-trained",
        "patterns that select no parameter",
    ),
    unused(
        "grd-pattern-of-the-other-name",
        "A pattern names a tied parameter by the name that is not its own.",
        '["*", "!head.weight"]',
        "pattern-unused",
        "tokens.weight is the name of this tied parameter",
        package="learner-writer",
    ),
    Defect(
        "grd-frozen-before-anything-is-recorded",
        "The code freezes a norm that the recipe trains, and nothing is recorded yet.",
        "learner-tagger",
        TRAINED,
        "frozen",
        (unrecorded, *code(FROZEN)),
        ("norm.weight and 1 more", "requires_grad = False"),
        twin="grd-legal-frozen-and-declared",
    ),
    Defect(
        "grd-row-without-a-gradient",
        "The embedding gives no gradient to the row of a token that is read.",
        "learner-tagger",
        "SLM-GRD-005",
        "gradient-changed",
        (row_without_gradient,),
        ("tokens.weight", "a backward pass was changed"),
        twin="grd-legal-an-embedding-with-padding",
    ),
    wrong_relu("grd-relu-turned-round", "A ReLU passes its gradient on negated.", "-g * (x > 0)"),
    wrong_relu("grd-relu-passes-everything", "A ReLU passes on every gradient.", "g"),
    wrong_relu(
        "grd-relu-times-1.01", "A ReLU passes on 1.01 times its gradient.", "g * (x > 0) * 1.01"
    ),
    wrong_relu(
        "grd-relu-of-the-others", "A ReLU passes on the gradients of the others.", "g * (x < 0)"
    ),
    wrong_relu(
        "grd-relu-at-kinks-passes-everything",
        "A ReLU passes on every gradient; half of its units are at their kinks.",
        "g",
        tensors(at_kinks),
    ),
    wrong_relu(
        "grd-relu-at-kinks-times-1.01",
        "A ReLU passes on 1.01 times its gradient; half of its units are at their kinks.",
        "g * (x > 0) * 1.01",
        tensors(at_kinks),
    ),
    Defect(
        "grd-pruned-weights-detached",
        "Weights that were pruned get no gradient, where the loss is smooth.",
        "learner-tagger",
        DERIVATIVE,
        "gradient-differs",
        detached_pruned(),
        ("layers.0.wide.weight",),
        twin="grd-legal-units-that-are-pruned",
    ),
    Defect(
        "grd-gates-of-experts-detached",
        "A mixture of experts passes no gradient to its gates.",
        "learner-tagger",
        DERIVATIVE,
        "gradient-differs",
        (unrecorded, *code((BLOCK, EXPERTS.replace("best.values", "best.values.detach()")))),
        twin="grd-legal-a-mixture-of-experts",
    ),
    Defect(
        "grd-layers-that-count-their-calls",
        "A layer computes otherwise when it is recomputed in the backward pass.",
        "learner-llama",
        "SLM-GRD-004",
        "checkpointing-differs",
        words=("2 layers recomputed",),
        patch=counted(wrong=True),
        twin="grd-legal-layers-that-count-their-calls",
    ),
]

NEAR_MISSES = [
    NearMiss(
        "grd-legal-frozen-and-declared",
        "The code freezes a norm, and the recipe leaves it out.",
        "learner-tagger",
        (unrecorded, *code(FROZEN), trainable('["*", "!norm.*"]')),
    ),
    NearMiss(
        "grd-legal-an-embedding-with-padding",
        "The row of padding gets no gradient by definition.",
        "learner-tagger",
        (
            unrecorded,
            *code(('(config["vocab_size"], hidden)', '(config["vocab_size"], hidden, 7)')),
        ),
    ),
    NearMiss(
        "grd-legal-a-right-backward-pass-among-kinks",
        "A ReLU of the package with the right backward pass.",
        "learner-tagger",
        (unrecorded, *own_relu("g * (x > 0)")),
    ),
    NearMiss(
        "grd-legal-a-mixture-of-experts",
        "A mixture of experts whose gates get their gradient.",
        "learner-tagger",
        (unrecorded, *code((BLOCK, EXPERTS))),
    ),
    NearMiss(
        "grd-legal-layers-that-count-their-calls",
        "A layer counts its calls and makes no use of it.",
        "learner-llama",
        patch=counted(wrong=False),
    ),
    smooth_or_not("relu", "functional.relu(self.wide(states))"),
    smooth_or_not("relu at its kinks", "functional.relu(self.wide(states))", at_kinks),
    smooth_or_not("relu of zeros", "functional.relu(self.wide(states * 0))"),
    smooth_or_not("leaky relu at its kinks", "functional.leaky_relu(self.wide(states))", at_kinks),
    smooth_or_not("hard tanh", "functional.hardtanh(self.wide(states), -0.5, 0.5)"),
    smooth_or_not(
        "ties of a maximum",
        "torch.maximum(*self.wide(states).chunk(2, -1)).repeat(1, 1, 2)",
        in_pairs,
    ),
    smooth_or_not(
        "ties of a largest value",
        "self.wide(states).unflatten(-1, (2, -1)).amax(-2).repeat(1, 1, 2)",
        in_pairs,
    ),
    smooth_or_not("absolute values", "self.wide(states).abs()", at_kinks),
    smooth_or_not("units that are pruned", WIDE, at_kinks),
]
