"""Defects of the library itself, put into the running process, under a reference model."""

from __future__ import annotations

import functools

import torch
from defect_record import Defect, defect

ASSISTANT = "llama-assistant"


def loaded_otherwise(monkeypatch):
    """One weight is another after loading."""
    from transformers import LlamaForCausalLM

    load = LlamaForCausalLM.from_pretrained.__func__

    def altered(cls, *args, **options):
        model, info = load(cls, *args, **options)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
        return model, info

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(altered))


def saved_in_half_precision(monkeypatch):
    """Weights are rounded when they are saved."""
    from transformers import LlamaForCausalLM

    save = LlamaForCausalLM.save_pretrained

    def halved(self, *args, **options):
        state = {n: t.half() for n, t in self.state_dict().items() if n != "lm_head.weight"}
        return save(self, *args, state_dict=state, **options)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", halved)


def late_steps(monkeypatch):
    """A step with a cache takes the position of the next one."""
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    @functools.wraps(forward)
    def late(self, *args, past_key_values=None, **options):
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        if seen:
            rows = options["input_ids"]
            options["position_ids"] = torch.full_like(rows, seen + 1)
        return forward(self, *args, past_key_values=past_key_values, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", late)


def wider_eager(monkeypatch):
    """Eager attention has a scale of its own."""
    from transformers.models.llama import modeling_llama

    eager = modeling_llama.eager_attention_forward

    def wider(*args, scaling, **options):
        return eager(*args, scaling=scaling * 1.001, **options)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", wider)


def d(name: str, says: str, told: str, patch, *words: str) -> Defect:
    """A defect of the library under Llama."""
    return defect(f"library-{name}", says, ASSISTANT, told, words=words, patch=patch)


DEFECTS = [
    d(
        "overwrites-a-weight",
        "The library changes one weight while it loads.",
        "SLM-IFC-004 values-differ",
        loaded_otherwise,
        "1 tensors differ: model.layers.1.mlp.up_proj.weight",
    ),
    d(
        "saves-in-half-precision",
        "The library saves weights in float16.",
        "SLM-IFC-009 reload-differs",
        saved_in_half_precision,
        "logits[",
        "is not saved",
    ),
    d(
        "steps-late",
        "The library gives a step with a cache the position of the next one.",
        "SLM-INV-008 cache-differs",
        late_steps,
        "a step with the cache",
    ),
    d(
        "scales-eager-attention",
        "The library scales eager attention by 1.001.",
        "SLM-INV-009 attention-differs",
        wider_eager,
        "one implementation",
    ),
]
