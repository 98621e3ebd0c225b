"""Gradients that are not the derivative of the loss, each beside a legal way to differentiate."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from judging import answers, assert_fails, assert_patched_fails
from packages import edit, edit_weights, forget
from safetensors.torch import load_file
from training_packages import learner as built

from slmconform.recording.record import RecordingRefused, RecordOptions, record
from slmconform.standard.report import Outcome

WIDE = "functional.gelu(self.wide(states))"
OUT = "states = states + self.out(mixed)\n"
HEAD = "logits = self.head(self.norm(states))\n"
BUILD = "    return Model(config)\n"


def backward(body: str, name: str = "Other") -> tuple[str, str]:
    """A function that passes its input on and has a backward pass of its own."""
    return (
        "class Layer(",
        f"class {name}(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x):\n"
        "        ctx.save_for_backward(x)\n"
        "        return x.clone()\n\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n"
        "        (x,) = ctx.saved_tensors\n"
        f"        return {body}\n\n\nclass Layer(",
    )


USED = (OUT, f"{OUT}        states = Other.apply(states)\n")


@dataclass(frozen=True)
class Made:
    """Edits of the code after recording; ``kills`` and ``code`` are None for a legal twin."""

    name: str
    package: str
    kills: str | None
    code: str | None
    edits: tuple[tuple[str, str], ...]
    words: tuple[str, ...] = ()


GRADIENTS = [
    Made(
        "one tensor detached",
        "tagger",
        "SLM-GRD-001",
        "detached",
        (
            (
                WIDE,
                "functional.gelu(functional.linear(states, self.wide.weight.detach(),"
                " self.wide.bias))",
            ),
        ),
        ("layers.0.wide.weight", "no gradient reaches it"),
    ),
    Made(
        "one tensor used through linear",
        "tagger",
        None,
        None,
        ((WIDE, "functional.gelu(functional.linear(states, self.wide.weight, self.wide.bias))"),),
    ),
    Made(
        "one of two uses detached",
        "tagger",
        "SLM-GRD-001",
        "gradient-differs",
        (
            (
                OUT,
                "states = states + 0.5 * self.out(mixed) + 0.5 * functional.linear(mixed,"
                " self.out.weight.detach(), self.out.bias)\n",
            ),
        ),
        ("layers.0.out.weight",),
    ),
    Made(
        "both of two uses",
        "tagger",
        None,
        None,
        ((OUT, "states = states + 0.5 * self.out(mixed) + 0.5 * self.out(mixed)\n"),),
    ),
    Made(
        "a gradient of 1.01",
        "tagger",
        "SLM-GRD-001",
        "gradient-differs",
        (backward("g * 1.01"), USED),
    ),
    Made(
        "one parameter's gradient of 1.01",
        "tagger",
        "SLM-GRD-001",
        "gradient-differs",
        (
            backward("g * 1.01"),
            (
                WIDE,
                "functional.gelu(functional.linear(states,"
                " self.wide.weight, Other.apply(self.wide.bias)))",
            ),
        ),
        ("layers.0.wide.bias",),
    ),
    Made("a gradient of 1", "tagger", None, None, (backward("g * 1.0"), USED)),
    Made(
        "a gradient of the wrong sign",
        "tagger",
        "SLM-GRD-001",
        "gradient-differs",
        (backward("-g"), USED),
    ),
    Made(
        "a gradient that is not a number",
        "tagger",
        "SLM-GRD-001",
        "gradient-differs",
        (backward("g * torch.nan"), USED),
        ("nan",),
    ),
    Made(
        "tied gradient counted once",
        "writer",
        "SLM-GRD-002",
        "tied-use-missing",
        (
            (
                HEAD,
                "logits = functional.linear(self.norm(states), self.head.weight.detach(),"
                " self.head.bias)\n",
            ),
        ),
        ("tokens.weight", "does not add"),
    ),
    Made(
        "tied gradient of the embedding lost",
        "writer",
        "SLM-GRD-002",
        "tied-use-missing",
        (("self.tokens(input_ids)", "self.tokens(input_ids).detach()"),),
    ),
    Made(
        "tied tensor used by its other name",
        "writer",
        None,
        None,
        (
            (
                HEAD,
                "logits = functional.linear(self.norm(states), self.tokens.weight,"
                " self.head.bias)\n",
            ),
        ),
    ),
    Made(
        "a frozen norm",
        "tagger",
        "SLM-GRD-003",
        "frozen",
        (
            (
                BUILD,
                "    model = Model(config)\n    model.norm.weight.requires_grad_(False)\n"
                "    return model\n",
            ),
        ),
        ("no gradient for norm.weight", "requires_grad"),
    ),
    Made(
        "a bias of zeros left out",
        "tagger",
        "SLM-GRD-003",
        "unreached",
        ((OUT, "states = states + functional.linear(mixed, self.out.weight)\n"),),
        ("layers.0.out.bias", "does not depend"),
    ),
    Made(
        "a bias of zeros added after",
        "tagger",
        None,
        None,
        ((OUT, "states = states + (functional.linear(mixed, self.out.weight) + self.out.bias)\n"),),
    ),
    Made(
        "a backward pass for few rows only",
        "tagger",
        "SLM-GRD-005",
        "gradient-changed",
        (backward("g * (1.0 if len(x) <= 4 else 1.01)"), USED),
        ("norm or projection off",),
    ),
    Made(
        "a gradient in bfloat16",
        "tagger",
        "SLM-GRD-006",
        "float32-gradient-differs",
        (backward("g.bfloat16().to(g)"), USED),
        ("times the bound", "loses precision"),
    ),
    Made(
        "a gradient by way of double precision",
        "tagger",
        None,
        None,
        (backward("g.double().to(g)"), USED),
    ),
    Made(
        "a gradient of one parameter in bfloat16",
        "writer",
        "SLM-GRD-006",
        "float32-gradient-differs",
        (
            backward("g.bfloat16().to(g)"),
            (
                HEAD,
                "logits = functional.linear(self.norm(states),"
                " self.head.weight, Other.apply(self.head.bias))\n",
            ),
        ),
        ("head.bias",),
    ),
]


@pytest.mark.parametrize("made", GRADIENTS, ids=lambda m: m.name)
def test_a_gradient_of_own_code(learner, made):
    folder = learner(made.package)
    for old, new in made.edits:
        edit(folder, "modeling.py", old, new)
    said = assert_patched_fails(folder, made.kills, *made.words)
    assert (said.code if said else None) == made.code


def test_a_detached_tensor_in_the_report(learner):
    """The same through the process of a check."""
    folder = learner("tagger")
    edit(folder, "modeling.py", "self.wide(states)", "self.wide(states.detach())")
    said = assert_fails(folder, "SLM-GRD-001", "the derivative of the loss")
    assert said.code in ("detached", "gradient-differs")


def test_a_tied_use_that_is_lost_in_the_report(learner):
    folder = learner("writer")
    edit(folder, "modeling.py", "self.tokens(input_ids)", "self.tokens(input_ids).detach()")
    assert_fails(folder, "SLM-GRD-002", "tokens.weight", "does not add")


def test_a_row_without_a_gradient_in_the_report(learner):
    """A row of padding gets none by definition; only the recorded one tells."""
    folder = learner("tagger")
    read = load_file(folder / "conformance/evidence.safetensors")["batch.input_ids"]
    row = int(read[0, 0, 0])
    edit(folder, "modeling.py", '(config["tokens"], hidden)', f'(config["tokens"], hidden, {row})')
    assert_fails(folder, "SLM-GRD-005", "tokens.weight", "a backward pass was changed")


def test_a_gradient_that_is_rounded_in_the_report(learner):
    folder = learner("tagger")
    for old, new in (backward("g.bfloat16().to(g)"), USED):
        edit(folder, "modeling.py", old, new)
    assert_fails(folder, "SLM-GRD-006", "times the bound")


# What the recipe declares trainable.


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ('["*", "!layers.7.*"]', ("'!layers.7.*' fits no parameter", "tokens.weight")),
        ('["encoder.*"]', ("'encoder.*' fits no parameter",)),
        ('["norm.*", "!norm.*"]', ("patterns that select no parameter",)),
    ],
    ids=["excluded", "chosen", "nothing left"],
)
def test_patterns_that_fit_nothing(learner, patterns, words):
    folder = learner("tagger")
    edit(folder, "slm.toml", "[training]", f"[training]\ntrainable = {patterns}")
    said = assert_fails(folder, "SLM-GRD-003", *words)
    assert said.code == ("none-trained" if "select" in words[0] else "pattern-unused")


def test_a_pattern_of_a_tied_parameters_other_name(learner):
    folder = learner("writer")
    edit(folder, "slm.toml", "[training]", '[training]\ntrainable = ["*", "!head.weight"]')
    assert_fails(folder, "SLM-GRD-003", "tokens.weight is the name of this tied parameter")


FROZEN = "    model = Model(config)\n    model.norm.requires_grad_(False)\n    return model\n"


@pytest.mark.parametrize("declared", [False, True])
def test_a_norm_that_is_frozen_and_declared_so(learner, declared):
    folder = learner("tagger")
    edit(folder, "modeling.py", BUILD, FROZEN)
    forget(folder)
    if declared:
        edit(folder, "slm.toml", "[training]", '[training]\ntrainable = ["*", "!norm.*"]')
        assert_patched_fails(folder, None)
    else:
        assert_fails(folder, "SLM-GRD-003", "norm.weight and 1 more", "requires_grad = False")


def test_a_parameter_that_nothing_uses_is_not_recorded(tmp_path, server):
    folder = built(tmp_path / "tagger", "tagger")
    line = "        self.norm = nn.LayerNorm(hidden, eps=config"
    extra = "        self.extra = nn.Parameter(torch.zeros(3))\n"
    edit(folder, "modeling.py", line, f"{extra}{line}")
    edit_weights(folder, lambda t: t.update(extra=torch.ones(3)))
    with pytest.raises(RecordingRefused, match="SLM-GRD-003") as refused:
        record(folder, RecordOptions(trust_code=True), server=server)
    failures = refused.value.report.failures
    assert [(r.id, r.finding.code) for r in failures] == [("SLM-GRD-003", "unreached")]
    assert not (folder / "conformance").exists()


# Where the loss has kinks, and the check still sees.

RELU = "functional.relu(self.wide(states))"
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


def at_kinks(tensors):
    """Half of the units get exactly 0 from every input, the others what they got."""
    tensors["layers.0.wide.weight"][::2] = 0.0
    tensors["layers.0.wide.bias"][::2] = 0.0


def in_pairs(tensors):
    """The units come in equal pairs, so that each maximum is a tie."""
    for name in ("layers.0.wide.weight", "layers.0.wide.bias"):
        half = len(tensors[name]) // 2
        tensors[name][half:] = tensors[name][:half]


KINKS = {
    "relu": (RELU, None),
    "relu at its kinks": (RELU, at_kinks),
    "relu of zeros": ("functional.relu(self.wide(states * 0))", None),
    "leaky relu at its kinks": ("functional.leaky_relu(self.wide(states))", at_kinks),
    "hard tanh": ("functional.hardtanh(self.wide(states), -0.5, 0.5)", None),
    "ties of a maximum": (
        "torch.maximum(*self.wide(states).chunk(2, -1)).repeat(1, 1, 2)",
        in_pairs,
    ),
    "ties of a largest value": (
        "self.wide(states).unflatten(-1, (2, -1)).amax(-2).repeat(1, 1, 2)",
        in_pairs,
    ),
    "gelu": (WIDE, None),
    "absolute values": ("self.wide(states).abs()", at_kinks),
    "units that are pruned": (WIDE, at_kinks),
}


@pytest.mark.parametrize("name", KINKS)
def test_twin_kinks(tmp_path, name):
    activation, change = KINKS[name]
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "modeling.py", WIDE, activation)
    if change:
        edit_weights(folder, change)
    found = answers(folder)
    bad = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE)
    assert not [r for r in found.values() if r.outcome in bad]
    assert found["SLM-GRD-001"].outcome is Outcome.PASS


@pytest.mark.parametrize("gradient", ["-g * (x > 0)", "g", "g * (x > 0) * 1.01", "g * (x < 0)"])
@pytest.mark.parametrize("change", [None, at_kinks], ids=["anywhere", "at kinks"])
def test_a_wrong_backward_pass_among_kinks(tmp_path, gradient, change):
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "modeling.py", WIDE, "Relu.apply(self.wide(states))")
    edit(folder, "modeling.py", OWN_RELU[0], OWN_RELU[1].format(gradient))
    if change:
        edit_weights(folder, change)
    assert_patched_fails(folder, "SLM-GRD-001")


def test_twin_a_right_backward_pass_among_kinks(tmp_path):
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "modeling.py", WIDE, "Relu.apply(self.wide(states))")
    edit(folder, "modeling.py", OWN_RELU[0], OWN_RELU[1].format("g * (x > 0)"))
    assert_patched_fails(folder, None)


def test_pruned_weights_that_are_detached(tmp_path):
    """The loss is smooth there: no kink excuses it."""
    folder = built(tmp_path / "tagger", "tagger")
    weight = "torch.where(self.wide.weight == 0, self.wide.weight.detach(), self.wide.weight)"
    linear = f"functional.linear(states, {weight}, self.wide.bias)"
    edit(folder, "modeling.py", WIDE, f"functional.gelu({linear})")
    edit_weights(folder, at_kinks)
    assert_patched_fails(folder, "SLM-GRD-001", "layers.0.wide.weight")


@pytest.mark.parametrize("detached", [False, True])
def test_a_mixture_of_experts(tmp_path, detached):
    folder = built(tmp_path / "tagger", "tagger")
    experts = EXPERTS.replace("best.values", "best.values.detach()") if detached else EXPERTS
    edit(folder, "modeling.py", BLOCK, experts)
    assert_patched_fails(folder, "SLM-GRD-001" if detached else None)


def test_twin_an_embedding_with_padding(tmp_path):
    """Its row gets no gradient by definition, although it is read."""
    folder = built(tmp_path / "tagger", "tagger")
    edit(folder, "modeling.py", '(config["tokens"], hidden)', '(config["tokens"], hidden, 7)')
    assert_patched_fails(folder, None)


# Checkpointing, which the library does.


@pytest.mark.parametrize("wrong", [False, True])
def test_layers_that_count_their_calls(learner, monkeypatch, wrong):
    """Called again in the backward pass, a layer that counts is at another number."""
    from transformers.models.llama import modeling_llama

    part, model = modeling_llama.LlamaMLP, modeling_llama.LlamaModel
    inner, outer, calls = part.forward, model.forward, []

    @functools.wraps(outer)
    def start(self, *args, **options):
        calls.clear()
        return outer(self, *args, **options)

    @functools.wraps(inner)
    def counted(self, x):
        calls.append(1)
        return inner(self, x * 1.001 if wrong and len(calls) > 2 else x)

    monkeypatch.setattr(model, "forward", start)
    monkeypatch.setattr(part, "forward", counted)
    folder = learner("llama")
    if wrong:
        said = assert_patched_fails(folder, "SLM-GRD-004", "2 layers recomputed")
        assert said.code == "checkpointing-differs"
    else:
        assert answers(folder)["SLM-GRD-004"].outcome is Outcome.PASS


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_twin_checkpointing(learner, name):
    found = answers(learner(name))["SLM-GRD-004"]
    assert found.outcome is Outcome.PASS
    assert "2 layers recomputed" in found.detail
