"""Small packages of own code whose manifest does not say what the code does."""

from __future__ import annotations

from changes import code, config, manifest, unrecorded
from defect_record import Defect, NearMiss, defect

HEAD = "self.head(self.norm(states))"
RULED_OUT = (HEAD, f"{HEAD}.index_fill(-1, torch.tensor([3]), -torch.inf)")
AXES = 'axes = ["batch", "sequence", 5]\n'
SECOND = (
    '[[interface.outputs]]\nname = "hidden"\ndtype = "float32"\n'
    'axes = ["batch", "sequence", 16]\n\n[interface.axes]'
)
NARROW = "ifc-legal-a-narrower-interface"


def d(name: str, says: str, told: str, *changes, words=(), twin=NARROW) -> Defect:
    """A defect of the tagger."""
    return defect(name, says, "tagger", told, *changes, words=words, twin=twin)


DEFECTS = [
    d(
        "another-number-of-outputs",
        "Six labels are declared where there are five.",
        "SLM-IFC-005 output-shape",
        manifest('"sequence", 5]', '"sequence", 6]'),
        words=("shape [1, 1, 5]", "output logits"),
    ),
    d(
        "a-size-that-is-too-large",
        "Sequences are declared twice as long as they can be.",
        "SLM-IFC-005 forward-raises",
        manifest("max = 32", "max = 64"),
        words=("IndexError", "sequence 64"),
    ),
    d(
        "another-dtype-of-the-output",
        "The output is declared in float64.",
        "SLM-IFC-005 output-dtype",
        manifest('name = "logits"\ndtype = "float32"', 'name = "logits"\ndtype = "float64"'),
        words=("float32", "float64", "output logits"),
    ),
    d(
        "an-output-that-nobody-recorded",
        "An output is declared after the recording.",
        "SLM-MAN-005 evidence-interface",
        manifest("[interface.axes]", SECOND),
        words=("logits", "hidden"),
    ),
    d(
        "an-output-that-is-not-returned",
        "An output is declared that the code does not return.",
        "SLM-IFC-005 output-missing",
        manifest("[interface.axes]", SECOND),
        unrecorded,
        words=("outputs logits", "an output named hidden"),
    ),
    d(
        "a-label-ruled-out",
        "One label is ruled out by negative infinity, which nobody declared.",
        "SLM-IFC-006 not-finite",
        *code(RULED_OUT),
        unrecorded,
        words=("logits[0, 0, 3]", "finite values"),
        twin="ifc-legal-a-label-ruled-out-as-declared",
    ),
    d(
        "own-code-does-not-build",
        "The code reads a key that its configuration does not have.",
        "SLM-IFC-002 does-not-load",
        *code(("return Model(config)", "return Model(config['model'])")),
        words=("KeyError", "'model'"),
    ),
    d(
        "buffer-left-uninitialised",
        "A buffer that is not saved holds whatever was in memory.",
        "SLM-IFC-003 uninitialised",
        *code(("0.5 ** torch.arange(heads).reshape(heads, 1, 1)", "torch.empty(heads, 1, 1)")),
        words=("layers.0.slopes", "garbage"),
        twin="ifc-legal-code-reformatted",
    ),
    d(
        "dropout-of-the-head",
        "Dropout before the head is on in evaluation mode.",
        "SLM-DET-001 not-repeatable",
        *code(
            (HEAD, "self.head(functional.dropout(self.norm(states), 0.1, training=True))"),
        ),
        words=("against", "dropout left on"),
        twin="ifc-legal-code-reformatted",
    ),
    d(
        "a-key-gone-from-the-configuration",
        "A key is gone from the configuration, and the code has a default.",
        "SLM-DET-003 configuration-changed",
        *code(('config["eps"]', 'config.get("eps", 1e-5)')),
        config(eps=None),
        words=("no eps", "eps = 1e-05"),
        twin="ifc-legal-code-reformatted",
    ),
    d(
        "mask-taken-from-the-ids",
        "The attention mask is ignored.",
        "SLM-INV-004 mask-ignored",
        *code(("real = attention_mask.bool()", "real = input_ids >= 0")),
        words=("the attention mask is ignored", "real tokens of the row"),
        twin="ifc-legal-code-reformatted",
    ),
    d(
        "eps-written-into-the-code",
        "The code has an eps of its own for its norms.",
        "SLM-REF-001 float64-differs",
        *code(("nn.LayerNorm(hidden, eps=eps)", "nn.LayerNorm(hidden, eps=1e-4)")),
        words=("logits[", "the code computes otherwise"),
        twin="ifc-legal-code-reformatted",
    ),
]

NEAR_MISSES = [
    NearMiss(
        NARROW,
        "Fewer sizes are declared than the code takes.",
        "tagger",
        (manifest("min = 1, max = 32", "min = 2, max = 16"),),
    ),
    NearMiss(
        "ifc-legal-a-label-ruled-out-as-declared",
        "One label is ruled out by negative infinity, as the manifest says.",
        "tagger",
        (*code(RULED_OUT), manifest(AXES, f"{AXES}negative_infinity = true\n"), unrecorded),
    ),
    NearMiss(
        "ifc-legal-code-reformatted",
        "The code has a comment more.",
        "tagger",
        code(("self.slopes\n", "self.slopes  # a head's own width\n")),
    ),
]
