"""Own code that loads well and behaves badly: one requirement tells it, none tells its twin."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from judging import assert_conformant, assert_fails
from packages import edit

FORWARD = "    def forward(self, input_ids"
LOGITS = "self.head(self.norm(states))"
SUMMED = "states = self.tokens(input_ids) + self.places(places)\n"
LAYERS = "        for layer in self.layers:\n            states = layer(states, allowed)\n"
PLACES = "places = (real.cumsum(1) - 1).clamp(min=0)"
ONES = "attention_mask = torch.ones_like(input_ids)"
SCORES = """\
        scores = query @ key.transpose(-1, -2) * self.slopes
        weights = scores.masked_fill(~allowed, -1e30).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(rows, length, hidden)
"""
FUSED = """\
        bias = torch.zeros(allowed.shape).to(query).masked_fill(~allowed, -torch.inf)
        mixed = functional.scaled_dot_product_attention(
            query * self.slopes, key, value, attn_mask=bias, scale=1.0
        )
        mixed = mixed.transpose(1, 2).reshape(rows, length, hidden)
"""


def then(line: str) -> tuple[str, str]:
    """One more line behind the embeddings."""
    return SUMMED, f"{SUMMED}        {line}\n"


def method(text: str) -> tuple[str, str]:
    """One more method of the model."""
    return FORWARD, f"{text}\n{FORWARD}"


@dataclass(frozen=True)
class Defect:
    """Own code after edits of ``modeling.py``; ``kills`` is the id, None for a legal twin."""

    name: str
    package: str
    kills: str | None
    edits: tuple[tuple[str, str], ...]
    words: tuple[str, ...] = ()
    manifest: tuple[tuple[str, str], ...] = ()


OWN_CODE = [
    Defect(
        "weights scaled on loading",
        "tagger",
        "SLM-IFC-004",
        (
            method(
                "    def load_state_dict(self, tensors, **options):\n"
                "        tensors = {n: t * 1.0001 for n, t in tensors.items()}\n"
                "        return super().load_state_dict(tensors, **options)\n"
            ),
        ),
        ("tensors differ: head.bias", "overwrites"),
    ),
    Defect(
        "infinite at one token",
        "tagger",
        "SLM-IFC-006",
        ((LOGITS, f"{LOGITS} / torch.tensor(min(input_ids.shape[1] - 1, 1))"),),
        ("5 of 5 values", "logits[0, 0, 0] on the smallest inputs"),
    ),
    Defect(
        "token ids clamped in place",
        "tagger",
        "SLM-IFC-007",
        (then("input_ids.clamp_(max=20)"),),
        ("changed in place: input_ids",),
    ),
    Defect(
        "token ids clamped in a copy",
        "tagger",
        None,
        (("self.tokens(input_ids)", "self.tokens(input_ids.clamp(max=39))"),),
    ),
    Defect(
        "a weight that decays with every pass",
        "tagger",
        "SLM-IFC-008",
        (then("self.norm.weight.data.mul_(0.999)"),),
        ("1 changed", "norm.weight"),
    ),
    Defect(
        "a weight turned round by every pass",
        "tagger",
        "SLM-IFC-008",
        (then("self.norm.bias.data.copy_(self.norm.bias.data.flip(0))"),),
        ("norm.bias",),
    ),
    Defect(
        "a weight replaced by the first pass",
        "tagger",
        "SLM-IFC-008",
        (then("self.head.bias.data.clamp_(max=0.0)"),),
        ("head.bias",),
    ),
    Defect(
        "a table kept for later passes",
        "tagger",
        None,
        (
            (PLACES, f"{PLACES}\n        self.last = places"),
            ("self.places(places)", "self.places(self.last)"),
        ),
    ),
    Defect(
        "weights rounded on saving",
        "tagger",
        "SLM-IFC-009",
        (
            method(
                "    def state_dict(self, *args, keep_vars=False, **options):\n"
                "        own = super().state_dict(*args, keep_vars=keep_vars, **options)\n"
                "        if keep_vars:\n"
                "            return own\n"
                "        return {n: t.half().float() for n, t in own.items()}\n"
            ),
        ),
        ("logits[", "against"),
    ),
    Defect(
        "an offset drawn on building",
        "tagger",
        "SLM-DET-002",
        (
            ('self.causal = config["causal"]', "self.causal, self.by = False, torch.rand(1)"),
            then("states = states + self.by.to(states)"),
        ),
        ("other bits in logits", "drawn"),
    ),
    Defect(
        "state kept from the first call",
        "tagger",
        "SLM-DET-002",
        (
            then(
                'self.first = getattr(self, "first", states.mean())'
                "; states = states + self.first.to(states)"
            ),
        ),
        ("other bits in logits",),
    ),
    Defect(
        "state counted over calls",
        "tagger",
        "SLM-DET-001",
        (then('self.calls = getattr(self, "calls", 0) + 1; states = states + 1e-3 * self.calls'),),
        ("keeps state",),
    ),
    Defect(
        "statistics over the batch",
        "tagger",
        "SLM-INV-001",
        (then("states = states - 0.1 * states.mean(0, keepdim=True)"),),
        ("other rows of its batch",),
    ),
    Defect(
        "statistics over the batch, causal",
        "writer",
        "SLM-INV-001",
        (then("states = states - 0.1 * states.mean((0, 1), keepdim=True)"),),
        ("other rows of its batch",),
    ),
    Defect(
        "one row at a time",
        "writer",
        None,
        (
            (
                LAYERS,
                "        for layer in self.layers:\n"
                "            pairs = zip(states.split(1), allowed.split(1))\n"
                "            states = torch.cat([layer(*pair) for pair in pairs])\n",
            ),
        ),
    ),
    Defect(
        "rows behind the second moved",
        "tagger",
        "SLM-INV-002",
        (then("states = states + 0.01 * (torch.arange(len(states)) > 1).reshape(-1, 1, 1)"),),
        ("its place in the batch",),
    ),
    Defect(
        "small ids masked where no mask is given",
        "tagger",
        "SLM-INV-003",
        ((ONES, "attention_mask = (input_ids > 9).long()"),),
        ("without a mask",),
    ),
    Defect(
        "a mask that is needed and declared not to be",
        "tagger",
        "SLM-INV-003",
        ((ONES, 'raise ValueError("no attention_mask was given")'),),
        ("ValueError: no attention_mask was given", "not required"),
    ),
    Defect(
        "a mask that is needed and declared to be",
        "tagger",
        None,
        ((ONES, 'raise ValueError("no attention_mask was given")'),),
        manifest=(("required = false", "required = true"),),
    ),
    Defect(
        "a mask for the first layer only",
        "tagger",
        "SLM-INV-004",
        ((LAYERS, f"{LAYERS}            allowed = torch.ones_like(allowed)\n"),),
        ("not everywhere", "real tokens"),
    ),
    Defect(
        "a mask that cannot hold zeros",
        "tagger",
        "SLM-INV-004",
        ((PLACES, f"{PLACES}\n        1 / (0 if (~real).any() else 1)"),),
        ("ZeroDivisionError", "padded on the right"),
    ),
    Defect(
        "positions that count padding",
        "writer",
        "SLM-INV-005",
        ((PLACES, "places = torch.arange(length).expand_as(input_ids)"),),
        ("positions count them",),
    ),
    Defect(
        "positions that count padding, only on the right",
        "writer",
        None,
        ((PLACES, "places = torch.arange(length).expand_as(input_ids)"),),
        manifest=(('padding = ["right", "left"]', 'padding = ["right"]'),),
    ),
    Defect(
        "no causal mask",
        "writer",
        "SLM-INV-006",
        (("if self.causal:", "if False:"),),
        ("a later token changes earlier outputs",),
    ),
    Defect(
        "a causal mask that nobody declared",
        "tagger",
        "SLM-INV-006",
        (("if self.causal:", "if True:"),),
        ("no earlier output changes", "causal = false"),
    ),
    Defect(
        "scaled by the length",
        "writer",
        "SLM-INV-007",
        (then("states = states * (real.sum(1) / 12.0).to(states).reshape(-1, 1, 1)"),),
        ("the length of a sequence",),
    ),
    Defect(
        "another sum on two threads",
        "tagger",
        "SLM-INV-010",
        (then("states = states * (1 + 1e-6 * (torch.get_num_threads() - 1))"),),
        ("parallel",),
    ),
    Defect(
        "computed in bfloat16",
        "writer",
        "SLM-REF-002",
        ((LOGITS, "self.head(self.norm(states).bfloat16().to(states))"),),
        ("error", "times the bound", "precision is lost"),
    ),
    Defect("fused attention", "writer", None, ((SCORES, FUSED),)),
    Defect("fused attention in bfloat16", "halved", None, ((SCORES, FUSED),)),
    Defect(
        "summed coarsely in bfloat16",
        "halved",
        "SLM-REF-003",
        (then("states = states + 8 - 8 if states.dtype == torch.bfloat16 else states"),),
        ("bfloat16", "times the bound"),
    ),
    Defect(
        "single rows summed coarsely",
        "writer",
        "SLM-REF-004",
        (
            (LOGITS, f"coarse({LOGITS})"),
            (
                "def build(",
                "def coarse(x):\n"
                "    if len(x) > 1:\n"
                "        return x\n"
                "    return ((x.bfloat16() + 256).bfloat16() - 256).to(x)\n\n\n"
                "def build(",
            ),
        ),
        ("token", "float64 margin", "prompt 0"),
    ),
]


@pytest.mark.parametrize("defect", OWN_CODE, ids=lambda d: d.name)
def test_own_code(package, defect):
    folder = package(defect.package)
    for old, new in defect.edits:
        edit(folder, "modeling.py", old, new)
    for old, new in defect.manifest:
        edit(folder, "slm.toml", old, new)
    if defect.kills is None:
        assert_conformant(folder)
    else:
        assert_fails(folder, defect.kills, *defect.words)
