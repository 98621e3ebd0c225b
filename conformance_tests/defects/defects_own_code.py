"""Own code that loads well and behaves badly: one requirement tells it, none tells its twin."""

from __future__ import annotations

from changes import code, manifest
from defect_record import Defect, NearMiss

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


DEFECTS = [
    Defect(
        "ifc-weights-scaled-on-loading",
        "The code scales the weights when it takes them.",
        "tagger",
        "SLM-IFC-004",
        "values-differ",
        code(
            method(
                "    def load_state_dict(self, tensors, **options):\n"
                "        tensors = {n: t * 1.0001 for n, t in tensors.items()}\n"
                "        return super().load_state_dict(tensors, **options)\n"
            )
        ),
        words=("tensors differ: head.bias", "overwrites"),
    ),
    Defect(
        "ifc-infinite-at-one-token",
        "The outputs for a sequence of one token are infinite.",
        "tagger",
        "SLM-IFC-006",
        "not-finite",
        code((LOGITS, f"{LOGITS} / torch.tensor(min(input_ids.shape[1] - 1, 1))")),
        words=("5 of 5 values", "logits[0, 0, 0] on the smallest inputs"),
    ),
    Defect(
        "ifc-token-ids-clamped-in-place",
        "The token ids are clamped in place.",
        "tagger",
        "SLM-IFC-007",
        "input-changed",
        code(then("input_ids.clamp_(max=20)")),
        words=("changed in place: input_ids",),
        twin="ifc-legal-token-ids-clamped-in-a-copy",
    ),
    Defect(
        "ifc-a-weight-that-decays-with-every-pass",
        "Every pass makes one weight smaller.",
        "tagger",
        "SLM-IFC-008",
        "parameter-changed",
        code(then("self.norm.weight.data.mul_(0.999)")),
        words=("1 changed", "norm.weight"),
        twin="ifc-legal-a-table-kept-for-later-passes",
    ),
    Defect(
        "ifc-a-weight-turned-round-by-every-pass",
        "Every pass turns one weight round, and two passes turn it back.",
        "tagger",
        "SLM-IFC-008",
        "parameter-changed",
        code(then("self.norm.bias.data.copy_(self.norm.bias.data.flip(0))")),
        words=("norm.bias",),
        twin="ifc-legal-a-table-kept-for-later-passes",
    ),
    Defect(
        "ifc-a-weight-replaced-by-the-first-pass",
        "The first pass replaces one weight; later ones change nothing.",
        "tagger",
        "SLM-IFC-008",
        "parameter-changed",
        code(then("self.head.bias.data.clamp_(max=0.0)")),
        words=("head.bias",),
        twin="ifc-legal-a-table-kept-for-later-passes",
    ),
    Defect(
        "ifc-weights-rounded-on-saving",
        "The weights are rounded when they are saved.",
        "tagger",
        "SLM-IFC-009",
        "reload-differs",
        code(
            method(
                "    def state_dict(self, *args, keep_vars=False, **options):\n"
                "        own = super().state_dict(*args, keep_vars=keep_vars, **options)\n"
                "        if keep_vars:\n"
                "            return own\n"
                "        return {n: t.half().float() for n, t in own.items()}\n"
            )
        ),
        words=("logits[", "against"),
    ),
    Defect(
        "det-an-offset-drawn-on-building",
        "An offset is drawn when the model is built.",
        "tagger",
        "SLM-DET-002",
        "process-differs",
        code(
            ('self.causal = config["causal"]', "self.causal, self.by = False, torch.rand(1)"),
            then("states = states + self.by.to(states)"),
        ),
        words=("other bits in logits", "drawn"),
    ),
    Defect(
        "det-state-kept-from-the-first-call",
        "The model keeps a state of its first call and adds it to later ones.",
        "tagger",
        "SLM-DET-002",
        "process-differs",
        code(
            then(
                'self.first = getattr(self, "first", states.mean())'
                "; states = states + self.first.to(states)"
            )
        ),
        words=("other bits in logits",),
    ),
    Defect(
        "det-state-counted-over-calls",
        "The model counts its calls and adds the count.",
        "tagger",
        "SLM-DET-001",
        "not-repeatable",
        code(
            then('self.calls = getattr(self, "calls", 0) + 1; states = states + 1e-3 * self.calls')
        ),
        words=("keeps state",),
    ),
    Defect(
        "inv-statistics-over-the-batch",
        "The mean over the batch is taken off each row.",
        "tagger",
        "SLM-INV-001",
        "batch-dependent",
        code(then("states = states - 0.1 * states.mean(0, keepdim=True)")),
        words=("other rows of its batch",),
    ),
    Defect(
        "inv-statistics-over-the-batch-causal",
        "The mean over rows and places is taken off, in a causal model.",
        "writer",
        "SLM-INV-001",
        "batch-dependent",
        code(then("states = states - 0.1 * states.mean((0, 1), keepdim=True)")),
        words=("other rows of its batch",),
        twin="inv-legal-one-row-at-a-time",
    ),
    Defect(
        "inv-rows-behind-the-second-moved",
        "Rows behind the second are moved.",
        "tagger",
        "SLM-INV-002",
        "order-dependent",
        code(then("states = states + 0.01 * (torch.arange(len(states)) > 1).reshape(-1, 1, 1)")),
        words=("its place in the batch",),
    ),
    Defect(
        "inv-small-ids-masked-where-no-mask-is-given",
        "Small token ids are masked where no mask is given.",
        "tagger",
        "SLM-INV-003",
        "default-mask",
        code((ONES, "attention_mask = (input_ids > 9).long()")),
        words=("without a mask",),
        twin="inv-legal-a-mask-that-is-needed-and-declared-to-be",
    ),
    Defect(
        "inv-a-mask-that-is-needed-and-declared-not-to-be",
        "A mask is needed that is declared not to be required.",
        "tagger",
        "SLM-INV-003",
        "forward-raises",
        code((ONES, 'raise ValueError("no attention_mask was given")')),
        words=("ValueError: no attention_mask was given", "not required"),
        twin="inv-legal-a-mask-that-is-needed-and-declared-to-be",
    ),
    Defect(
        "inv-a-mask-for-the-first-layer-only",
        "The mask is heeded by the first layer only.",
        "tagger",
        "SLM-INV-004",
        "padding-leaks",
        code((LAYERS, f"{LAYERS}            allowed = torch.ones_like(allowed)\n")),
        words=("not everywhere", "real tokens"),
    ),
    Defect(
        "inv-a-mask-that-cannot-hold-zeros",
        "A mask with a zero makes the code raise.",
        "tagger",
        "SLM-INV-004",
        "forward-raises",
        code((PLACES, f"{PLACES}\n        1 / (0 if (~real).any() else 1)")),
        words=("ZeroDivisionError", "padded on the right"),
    ),
    Defect(
        "inv-positions-that-count-padding",
        "Positions count the padding on the left.",
        "writer",
        "SLM-INV-005",
        "padding-leaks",
        code((PLACES, "places = torch.arange(length).expand_as(input_ids)")),
        words=("positions count them",),
        twin="inv-legal-positions-that-count-padding-only-on-the-right",
    ),
    Defect(
        "inv-no-causal-mask",
        "A model that is declared causal has no causal mask.",
        "writer",
        "SLM-INV-006",
        "sees-the-future",
        code(("if self.causal:", "if False:")),
        words=("a later token changes earlier outputs",),
    ),
    Defect(
        "inv-a-causal-mask-that-nobody-declared",
        "A model that is declared not to be causal is.",
        "tagger",
        "SLM-INV-006",
        "is-causal",
        code(("if self.causal:", "if True:")),
        words=("no earlier output changes", "causal = false"),
    ),
    Defect(
        "inv-scaled-by-the-length",
        "The states are scaled by the length of the sequence.",
        "writer",
        "SLM-INV-007",
        "prefix-differs",
        code(then("states = states * (real.sum(1) / 12.0).to(states).reshape(-1, 1, 1)")),
        words=("the length of a sequence",),
    ),
    Defect(
        "inv-another-sum-on-two-threads",
        "The states depend on the number of threads.",
        "tagger",
        "SLM-INV-010",
        "thread-dependent",
        code(then("states = states * (1 + 1e-6 * (torch.get_num_threads() - 1))")),
        words=("parallel",),
    ),
    Defect(
        "ref-computed-in-bfloat16",
        "The head reads its input rounded to bfloat16.",
        "writer",
        "SLM-REF-002",
        "float32-differs",
        code((LOGITS, "self.head(self.norm(states).bfloat16().to(states))")),
        words=("error", "times the bound", "precision is lost"),
        twin="ref-legal-fused-attention",
    ),
    Defect(
        "ref-summed-coarsely-in-bfloat16",
        "A large number is added and taken off again in bfloat16.",
        "halved",
        "SLM-REF-003",
        "bfloat16-differs",
        code(then("states = states + 8 - 8 if states.dtype == torch.bfloat16 else states")),
        words=("bfloat16", "times the bound"),
    ),
    Defect(
        "ref-single-rows-summed-coarsely",
        "The outputs of single rows are rounded coarsely, so that greedy decoding goes astray.",
        "writer",
        "SLM-REF-004",
        "greedy-differs",
        code(
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
        words=("token", "float64 margin", "prompt 0"),
    ),
]

NEAR_MISSES = [
    NearMiss(
        "ifc-legal-token-ids-clamped-in-a-copy",
        "A copy of the token ids is clamped.",
        "tagger",
        code(("self.tokens(input_ids)", "self.tokens(input_ids.clamp(max=39))")),
    ),
    NearMiss(
        "ifc-legal-a-table-kept-for-later-passes",
        "The positions of a pass are kept on the module.",
        "tagger",
        code(
            (PLACES, f"{PLACES}\n        self.last = places"),
            ("self.places(places)", "self.places(self.last)"),
        ),
    ),
    NearMiss(
        "inv-legal-one-row-at-a-time",
        "The layers take one row at a time.",
        "writer",
        code(
            (
                LAYERS,
                "        for layer in self.layers:\n"
                "            pairs = zip(states.split(1), allowed.split(1))\n"
                "            states = torch.cat([layer(*pair) for pair in pairs])\n",
            )
        ),
    ),
    NearMiss(
        "inv-legal-a-mask-that-is-needed-and-declared-to-be",
        "A mask is needed and declared to be required.",
        "tagger",
        (
            *code((ONES, 'raise ValueError("no attention_mask was given")')),
            manifest("required = false", "required = true"),
        ),
    ),
    NearMiss(
        "inv-legal-positions-that-count-padding-only-on-the-right",
        "Positions count padding on the left, which is not declared.",
        "writer",
        (
            *code((PLACES, "places = torch.arange(length).expand_as(input_ids)")),
            manifest('padding = ["right", "left"]', 'padding = ["right"]'),
        ),
    ),
    NearMiss(
        "ref-legal-fused-attention",
        "Attention is computed by a fused kernel.",
        "writer",
        code((SCORES, FUSED)),
    ),
    NearMiss(
        "any-legal-fused-attention-in-bfloat16",
        "Attention is computed by a fused kernel in bfloat16.",
        "halved",
        code((SCORES, FUSED)),
    ),
]
