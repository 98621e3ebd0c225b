"""Gradients that are not the derivative of the loss, each beside a legal way to differentiate."""

from __future__ import annotations

from changes import code
from defect_record import Defect, NearMiss

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


DEFECTS = [
    Defect(
        "grd-one-tensor-detached",
        "No gradient reaches one weight.",
        "learner-tagger",
        "SLM-GRD-001",
        "detached",
        code(
            (
                WIDE,
                "functional.gelu(functional.linear(states, self.wide.weight.detach(),"
                " self.wide.bias))",
            )
        ),
        words=("layers.0.wide.weight", "no gradient reaches it"),
        twin="grd-legal-one-tensor-used-through-linear",
    ),
    Defect(
        "grd-one-of-two-uses-detached",
        "A weight is used twice and gets the gradient of one use.",
        "learner-tagger",
        "SLM-GRD-001",
        "gradient-differs",
        code(
            (
                OUT,
                "states = states + 0.5 * self.out(mixed) + 0.5 * functional.linear(mixed,"
                " self.out.weight.detach(), self.out.bias)\n",
            )
        ),
        words=("layers.0.out.weight",),
        twin="grd-legal-both-of-two-uses",
    ),
    Defect(
        "grd-a-gradient-of-1-01",
        "A backward pass of the package's own multiplies every gradient by 1.01.",
        "learner-tagger",
        "SLM-GRD-001",
        "gradient-differs",
        code(backward("g * 1.01"), USED),
        twin="grd-legal-a-gradient-of-1",
    ),
    Defect(
        "grd-one-parameter-s-gradient-of-1-01",
        "The gradient of one bias is multiplied by 1.01.",
        "learner-tagger",
        "SLM-GRD-001",
        "gradient-differs",
        code(
            backward("g * 1.01"),
            (
                WIDE,
                "functional.gelu(functional.linear(states,"
                " self.wide.weight, Other.apply(self.wide.bias)))",
            ),
        ),
        words=("layers.0.wide.bias",),
        twin="grd-legal-a-gradient-of-1",
    ),
    Defect(
        "grd-a-gradient-of-the-wrong-sign",
        "A backward pass of the package's own negates its gradient.",
        "learner-tagger",
        "SLM-GRD-001",
        "gradient-differs",
        code(backward("-g"), USED),
    ),
    Defect(
        "grd-a-gradient-that-is-not-a-number",
        "A backward pass of the package's own gives what is no number.",
        "learner-tagger",
        "SLM-GRD-001",
        "gradient-differs",
        code(backward("g * torch.nan"), USED),
        words=("nan",),
    ),
    Defect(
        "grd-tied-gradient-counted-once",
        "A tied weight gets the gradient of its use in the embedding only.",
        "learner-writer",
        "SLM-GRD-002",
        "tied-use-missing",
        code(
            (
                HEAD,
                "logits = functional.linear(self.norm(states), self.head.weight.detach(),"
                " self.head.bias)\n",
            )
        ),
        words=("tokens.weight", "does not add"),
        twin="grd-legal-tied-tensor-used-by-its-other-name",
    ),
    Defect(
        "grd-tied-gradient-of-the-embedding-lost",
        "A tied weight gets the gradient of its use in the head only.",
        "learner-writer",
        "SLM-GRD-002",
        "tied-use-missing",
        code(("self.tokens(input_ids)", "self.tokens(input_ids).detach()")),
        twin="grd-legal-tied-tensor-used-by-its-other-name",
    ),
    Defect(
        "grd-a-frozen-norm",
        "The code freezes a norm that the recipe trains.",
        "learner-tagger",
        "SLM-GRD-003",
        "frozen",
        code(
            (
                BUILD,
                "    model = Model(config)\n    model.norm.weight.requires_grad_(False)\n"
                "    return model\n",
            )
        ),
        words=("no gradient for norm.weight", "requires_grad"),
        twin="grd-legal-a-bias-of-zeros-added-after",
    ),
    Defect(
        "grd-a-bias-of-zeros-left-out",
        "A bias of zeros is left out of the computation.",
        "learner-tagger",
        "SLM-GRD-003",
        "unreached",
        code((OUT, "states = states + functional.linear(mixed, self.out.weight)\n")),
        words=("layers.0.out.bias", "does not depend"),
        twin="grd-legal-a-bias-of-zeros-added-after",
    ),
    Defect(
        "grd-a-backward-pass-for-few-rows-only",
        "A backward pass is right for four rows and wrong for more.",
        "learner-tagger",
        "SLM-GRD-005",
        "gradient-changed",
        code(backward("g * (1.0 if len(x) <= 4 else 1.01)"), USED),
        words=("norm or projection off",),
    ),
    Defect(
        "grd-a-gradient-in-bfloat16",
        "A backward pass of the package's own rounds to bfloat16.",
        "learner-tagger",
        "SLM-GRD-006",
        "float32-gradient-differs",
        code(backward("g.bfloat16().to(g)"), USED),
        words=("times the bound", "loses precision"),
        twin="grd-legal-a-gradient-by-way-of-double-precision",
    ),
    Defect(
        "grd-a-gradient-of-one-parameter-in-bfloat16",
        "The gradient of one bias is rounded to bfloat16.",
        "learner-writer",
        "SLM-GRD-006",
        "float32-gradient-differs",
        code(
            backward("g.bfloat16().to(g)"),
            (
                HEAD,
                "logits = functional.linear(self.norm(states),"
                " self.head.weight, Other.apply(self.head.bias))\n",
            ),
        ),
        words=("head.bias",),
    ),
]

NEAR_MISSES = [
    NearMiss(
        "grd-legal-one-tensor-used-through-linear",
        "A weight is used by the function instead of its module.",
        "learner-tagger",
        code(
            (WIDE, "functional.gelu(functional.linear(states, self.wide.weight, self.wide.bias))")
        ),
    ),
    NearMiss(
        "grd-legal-both-of-two-uses",
        "A weight is used twice and gets the gradient of both uses.",
        "learner-tagger",
        code((OUT, "states = states + 0.5 * self.out(mixed) + 0.5 * self.out(mixed)\n")),
    ),
    NearMiss(
        "grd-legal-a-gradient-of-1",
        "A backward pass of the package's own multiplies its gradient by 1.",
        "learner-tagger",
        code(backward("g * 1.0"), USED),
    ),
    NearMiss(
        "grd-legal-tied-tensor-used-by-its-other-name",
        "A tied weight is used by its other name.",
        "learner-writer",
        code(
            (
                HEAD,
                "logits = functional.linear(self.norm(states), self.tokens.weight,"
                " self.head.bias)\n",
            )
        ),
    ),
    NearMiss(
        "grd-legal-a-bias-of-zeros-added-after",
        "A bias of zeros is added behind the product.",
        "learner-tagger",
        code(
            (OUT, "states = states + (functional.linear(mixed, self.out.weight) + self.out.bias)\n")
        ),
    ),
    NearMiss(
        "grd-legal-a-gradient-by-way-of-double-precision",
        "A backward pass of the package's own goes by way of float64.",
        "learner-tagger",
        code(backward("g.double().to(g)"), USED),
    ),
]
