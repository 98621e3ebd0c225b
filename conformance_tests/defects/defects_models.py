"""Reference models that load or answer otherwise than they should."""

from __future__ import annotations

import torch
from changes import code, config, manifest, tensors, undeclared, unrecorded
from defect_record import AS_IT_IS, NearMiss, defect

POSITIONS = "positions = (real.cumsum(dim=1) - 1).clamp(min=0)"
STATES = (
    "states = self.dropout(self.item_embedding(item_ids) + self.position_embedding(positions))\n"
)
SCORES = "summary @ self.item_embedding.weight.T + self.item_bias"
FORWARD = "    def forward(self, item_ids: Tensor"
MADE = "        self.item_bias = nn.Parameter(torch.zeros(items))\n"
REAL = "real = attention_mask.bool()"


def own(name: str, says: str, told: str, *pairs: tuple[str, str], words=(), twin=AS_IT_IS):
    """A defect of the recommender's code."""
    name = f"recommender-{name}"
    return defect(name, says, "torch-recommender", told, *code(*pairs), words=words, twin=twin)


def then(line: str) -> tuple[str, str]:
    """One more line behind the embeddings of the recommender."""
    return STATES, f"{STATES}        {line}\n"


def method(text: str) -> tuple[str, str]:
    """One more method of the recommender."""
    return FORWARD, f"{text}\n{FORWARD}"


def buffer(made: str) -> tuple[str, str]:
    """A buffer that is not saved, added to the states."""
    line = f'        self.register_buffer("extra", {made}, persistent=False)\n'
    return MADE, f"{MADE}{line}"


DEFECTS = [
    # Loading.
    defect(
        "a-far-larger-bert",
        "The configuration describes a model far larger than the weights.",
        "bert-ner",
        "SLM-CFG-006 out-of-proportion",
        config(intermediate_size=2**18),
        unrecorded,
        words=("parameters of at least", "weights of", "at most 4,194,304"),
    ),
    defect(
        "a-far-larger-llama",
        "The configuration describes a model far larger than the weights.",
        "llama-assistant",
        "SLM-CFG-006 out-of-proportion",
        config(intermediate_size=2**18),
        unrecorded,
    ),
    defect(
        "tie-broken",
        "The configuration takes a recorded tie back.",
        "llama-assistant",
        "SLM-IFC-001 tie-changed",
        config(tie_word_embeddings=False),
        words=("no ties", "lm_head.weight = model.embed_tokens.weight"),
    ),
    defect(
        "head-missing-in-a-hub-folder",
        "The head is missing, and nothing was declared.",
        "bert-ner",
        "SLM-IFC-002 missing-tensors",
        tensors(lambda t: t.pop("classifier.weight")),
        undeclared,
        words=("1 missing: classifier.weight", "random values"),
    ),
    defect(
        "head-missing-before-the-recording",
        "The head is missing, and nothing is recorded yet.",
        "bert-ner",
        "SLM-IFC-002 missing-tensors",
        tensors(lambda t: t.pop("classifier.weight")),
        unrecorded,
        manifest("parameters = 77721\n", ""),
        words=("1 missing: classifier.weight", "random values"),
    ),
    defect(
        "tensor-of-nobody",
        "A tensor is there that no parameter takes.",
        "bert-ner",
        "SLM-IFC-002 unexpected-tensors",
        tensors(lambda t: t.update({"bert.extra.weight": torch.ones(3)})),
        undeclared,
        words=("1 unexpected: bert.extra.weight", "ignores"),
    ),
    defect(
        "head-of-another-size",
        "The configuration has an item less than the weights.",
        "torch-recommender",
        "SLM-IFC-002 mismatched-tensors",
        config(items=199),
        words=("2 mismatched", "item_bias"),
    ),
    defect(
        "class-of-nowhere",
        "The declared class does not exist.",
        "bert-ner",
        "SLM-IFC-002 does-not-load",
        manifest("BertForTokenClassification", "BertForNothing"),
        words=("no class 'BertForNothing'",),
    ),
    defect(
        "code-does-not-build",
        "The code refuses its own configuration.",
        "torch-recommender",
        "SLM-IFC-002 does-not-load",
        config(note="new"),
        words=("ValueError", "unknown keys"),
    ),
    own(
        "buffer-uninitialised",
        "A buffer that is not saved holds whatever was in memory.",
        "SLM-IFC-003 uninitialised",
        buffer("torch.empty(hidden)"),
        words=("extra", "garbage"),
        twin="ifc-legal-buffer-of-zeros",
    ),
    own(
        "weights-scaled-on-loading",
        "The code scales the weights when it takes them.",
        "SLM-IFC-004 values-differ",
        method(
            "    def load_state_dict(self, tensors, **options):\n"
            "        tensors = {n: t * 1.0001 for n, t in tensors.items()}\n"
            "        return super().load_state_dict(tensors, **options)\n"
        ),
        words=("tensors differ", "overwrites"),
    ),
    # Interface.
    defect(
        "longer-than-its-positions",
        "Sequences are declared longer than there are positions.",
        "bert-ner",
        "SLM-IFC-005 forward-raises",
        manifest("max = 96", "max = 128"),
    ),
    defect(
        "shape-of-another-model",
        "The output is declared with another width than it has.",
        "minilm-retrieval",
        "SLM-IFC-005 output-shape",
        manifest('"sequence", 48]', '"sequence", 64]'),
        unrecorded,
    ),
    own(
        "infinite-at-one-item",
        "The scores of a history of one item are infinite.",
        "SLM-IFC-006 not-finite",
        (SCORES, f"({SCORES}) / (real.shape[1] - 1)"),
    ),
    own(
        "items-changed-in-place",
        "The item ids are changed in place.",
        "SLM-IFC-007 input-changed",
        then("item_ids.clamp_(max=100)"),
        words=("changed in place: item_ids",),
        twin="ifc-legal-a-copy-is-clamped",
    ),
    own(
        "a-weight-that-decays",
        "Every pass makes one weight smaller.",
        "SLM-IFC-008 parameter-changed",
        then("self.item_bias.data.mul_(0.999)"),
        words=("item_bias",),
    ),
    own(
        "rounded-on-saving",
        "The weights are rounded when they are saved.",
        "SLM-IFC-009 reload-differs",
        method(
            "    def state_dict(self, *args, keep_vars=False, **options):\n"
            "        own = super().state_dict(*args, keep_vars=keep_vars, **options)\n"
            "        if keep_vars:\n"
            "            return own\n"
            "        return {n: t.half().float() for n, t in own.items()}\n"
        ),
    ),
    defect(
        "cache-undeclared",
        "A cache is returned that the manifest denies.",
        "llama-assistant",
        "SLM-IFC-010 cache-undeclared",
        manifest("kv_cache = true", "kv_cache = false"),
        words=("a cache is returned", "kv_cache = false"),
    ),
    own(
        "opens-a-connection",
        "The code opens a connection while it is built.",
        "SLM-IFC-011 network",
        (
            MADE,
            f"{MADE}        import socket\n        try:\n"
            "            socket.create_connection(('127.0.0.1', 9), timeout=1)\n"
            "        except OSError:\n            pass\n",
        ),
    ),
    # Determinism.
    own(
        "dropout-left-on",
        "Dropout is on in evaluation mode.",
        "SLM-DET-001 not-repeatable",
        then("states = nn.functional.dropout(states, 0.1, training=True)"),
        words=("against", "dropout left on"),
    ),
    own(
        "an-offset-drawn",
        "An offset is drawn when the model is built.",
        "SLM-DET-002 process-differs",
        (MADE, f"{MADE}        self.offset = torch.rand(1)\n"),
        then("states = states + self.offset.to(states)"),
    ),
    defect(
        "layer-norm-eps",
        "The eps of the layer norm is ten times as large.",
        "bert-ner",
        "SLM-DET-003 configuration-changed",
        config(layer_norm_eps=1e-11),
        words=("layer_norm_eps = 1e-11", "layer_norm_eps = 1e-12"),
    ),
    defect(
        "rms-norm-eps",
        "The eps of the norm is ten times as large.",
        "llama-assistant",
        "SLM-DET-003 configuration-changed",
        config(rms_norm_eps=1e-5),
        words=("rms_norm_eps = 1e-05", "rms_norm_eps = 1e-06"),
    ),
    defect(
        "rotary-base",
        "The rotary base went from 10000 to 10001.",
        "llama-assistant",
        "SLM-DET-003 configuration-changed",
        config(rope_theta=10001.0),
        words=("rope_theta = 10001.0", "rope_theta = 10000.0"),
    ),
    defect(
        "another-activation",
        "GELU became its approximation by tanh.",
        "bert-sentiment",
        "SLM-DET-003 configuration-changed",
        config(hidden_act="gelu_new"),
    ),
    defect(
        "fewer-heads",
        "Two heads of attention in place of four.",
        "minilm-retrieval",
        "SLM-DET-003 configuration-changed",
        config(num_attention_heads=2),
    ),
    defect(
        "distance-of-relative-positions",
        "Relative positions are bucketed up to another distance.",
        "t5-rewrite",
        "SLM-DET-003 configuration-changed",
        config(relative_attention_max_distance=64),
    ),
    defect(
        "norm-eps-of-t5",
        "The norm of T5 got another eps.",
        "t5-rewrite",
        "SLM-DET-003 configuration-changed",
        config(layer_norm_epsilon=1e-5),
    ),
    # Invariances.
    own(
        "statistics-over-the-batch",
        "The mean of the batch is taken off each row.",
        "SLM-INV-001 batch-dependent",
        then("states = states - 0.1 * states.mean(0, keepdim=True)"),
        words=("other rows of its batch",),
    ),
    own(
        "rows-behind-the-second",
        "Rows behind the second are moved.",
        "SLM-INV-002 order-dependent",
        then("states = states * (1 + 0.01 * (torch.arange(len(states)) > 1).reshape(-1, 1, 1))"),
        words=("its place in the batch",),
    ),
    own(
        "mask-ignored",
        "The mask is ignored.",
        "SLM-INV-004 mask-ignored",
        (REAL, "real = torch.ones_like(attention_mask).bool()"),
        words=("the attention mask is ignored",),
    ),
    own(
        "last-place-for-the-last-item",
        "The scores are read at the last place, padding or not.",
        "SLM-INV-004 padding-leaks",
        ("last = (steps * real).amax(dim=1)", "last = steps[-1].expand(len(real))"),
    ),
    own(
        "positions-count-padding",
        "Positions count the padding on the left.",
        "SLM-INV-005 padding-leaks",
        (POSITIONS, "positions = torch.arange(real.shape[1]).expand_as(item_ids)"),
        twin="inv-legal-only-right-padding",
    ),
    defect(
        "a-cache-and-not-causal",
        "A model with a cache is declared not to be causal.",
        "llama-assistant",
        "SLM-MAN-004 cache-causal",
        manifest("causal = true", "causal = false"),
    ),
    defect(
        "bert-is-causal",
        "A model that looks ahead is declared causal.",
        "bert-ner",
        "SLM-INV-006 sees-the-future",
        manifest("causal = false", "causal = true"),
    ),
    own(
        "another-sum-on-two-threads",
        "The states depend on the number of threads.",
        "SLM-INV-010 thread-dependent",
        then("states = states * (1 + 1e-6 * (torch.get_num_threads() - 1))"),
        words=("parallel",),
    ),
    # References.
    own(
        "eps-in-the-code",
        "The code gives its norms another eps.",
        "SLM-REF-001 float64-differs",
        ("self.norm = nn.LayerNorm(hidden)", "self.norm = nn.LayerNorm(hidden, eps=1e-4)"),
        words=("scores[", "the code computes otherwise"),
    ),
    own(
        "another-root-in-attention",
        "The attention weights are scaled by another root.",
        "SLM-REF-001 float64-differs",
        ("query.shape[-1] ** -0.5", "query.shape[-1] ** -0.49"),
    ),
    own(
        "summed-in-bfloat16",
        "The scores are summed in bfloat16.",
        "SLM-REF-002 float32-differs",
        (
            SCORES,
            "(summary.bfloat16().to(summary) @ self.item_embedding.weight.T + self.item_bias)",
        ),
        words=("times the bound", "precision is lost"),
        twin="ref-legal-summed-in-double",
    ),
    # Training.
    defect(
        "reference-recipe-rate",
        "The learning rate was changed after the recording.",
        "bert-sentiment",
        "SLM-TRN-001 recipe-changed",
        manifest("lr = 1e-3", "lr = 2e-3"),
        words=("training.optimizer", "another recipe"),
    ),
    defect(
        "reference-recipe-schedule",
        "The schedule was taken out after the recording.",
        "bert-ner",
        "SLM-TRN-001 recipe-changed",
        manifest("steps = 50", 'steps = 50\nschedule = { kind = "linear" }'),
    ),
    own(
        "position-embedding-detached",
        "No gradient reaches the positions.",
        "SLM-GRD-001 detached",
        ("self.position_embedding(positions)", "self.position_embedding(positions).detach()"),
        words=("position_embedding.weight",),
    ),
    own(
        "bias-frozen",
        "The code freezes a bias that the recipe trains.",
        "SLM-GRD-003 frozen",
        (MADE, f"{MADE}        self.item_bias.requires_grad_(False)\n"),
        words=("item_bias",),
    ),
]

NEAR_MISSES = [
    NearMiss(
        "ifc-legal-buffer-of-zeros",
        "A buffer that is not saved holds zeros.",
        "torch-recommender",
        code(buffer("torch.zeros(hidden)")),
    ),
    NearMiss(
        "ifc-legal-a-copy-is-clamped",
        "A copy of the item ids is changed.",
        "torch-recommender",
        code(then("item_ids = item_ids.clamp(max=199)")),
    ),
    NearMiss(
        "inv-legal-only-right-padding",
        "Positions count the padding on the left, which is not declared.",
        "torch-recommender",
        (
            *code((POSITIONS, "positions = torch.arange(real.shape[1]).expand_as(item_ids)")),
            manifest('padding = ["right", "left"]', 'padding = ["right"]'),
        ),
    ),
    NearMiss(
        "ref-legal-summed-in-double",
        "The scores are summed in double precision.",
        "torch-recommender",
        code(
            (
                SCORES,
                "(summary.double() @ self.item_embedding.weight.T.double()"
                " + self.item_bias).to(summary)",
            )
        ),
    ),
]
