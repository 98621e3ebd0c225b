"""Interfaces, libraries and tokenizers that behave badly, and what is legal beside them."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from judging import assert_conformant, assert_fails, assert_patched_fails, assert_warns, judged
from packages import MIT, edit, edit_json, edit_weights, forget

from slmconform.measure.loading import compared
from slmconform.measure.opening import opened
from slmconform.recording.init import InitOptions, init
from slmconform.standard.report import Outcome


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"sequence", 5]', '"sequence", 6]', ("shape [1, 1, 5]", "output logits")),
        ("max = 32", "max = 64", ("IndexError", "sequence 64")),
        (
            'name = "logits"\ndtype = "float32"',
            'name = "logits"\ndtype = "float64"',
            ("float32", "float64", "output logits"),
        ),
    ],
    ids=["shape", "size", "dtype"],
)
def test_an_interface_that_is_not_the_declared_one(package, old, new, words):
    folder = package("tagger")
    edit(folder, "slm.toml", old, new)
    assert_fails(folder, "SLM-IFC-005", *words)


def test_a_declared_output_that_is_not_returned(package):
    folder = package("tagger")
    hidden = '[[interface.outputs]]\nname = "hidden"\ndtype = "float32"\n'
    axes = 'axes = ["batch", "sequence", 16]\n\n[interface.axes]'
    edit(folder, "slm.toml", "[interface.axes]", hidden + axes)
    assert_fails(folder, "SLM-MAN-005", "logits", "hidden")
    forget(folder)
    assert_fails(folder, "SLM-IFC-005", "outputs logits", "an output named hidden")


def test_twin_a_narrower_interface(package):
    folder = package("tagger")
    edit(folder, "slm.toml", "min = 1, max = 32", "min = 2, max = 16")
    assert_conformant(folder)


@pytest.mark.parametrize("declared", [False, True])
def test_a_label_that_is_ruled_out_by_negative_infinity(package, declared):
    folder = package("tagger")
    ruled_out = "self.head(self.norm(states)).index_fill(-1, torch.tensor([3]), -torch.inf)"
    edit(folder, "modeling.py", "self.head(self.norm(states))", ruled_out)
    forget(folder)
    if declared:
        line = 'axes = ["batch", "sequence", 5]\n'
        edit(folder, "slm.toml", line, f"{line}negative_infinity = true\n")
        assert judged(folder).failures == []
    else:
        assert_fails(folder, "SLM-IFC-006", "logits[0, 0, 3]", "finite values")


def test_a_cache_that_is_not_declared(package):
    folder = package("llama")
    edit(folder, "slm.toml", "kv_cache = true", "kv_cache = false")
    assert_fails(folder, "SLM-IFC-010", "a cache is returned", "kv_cache = false")


def test_a_cache_that_is_declared_and_missing(tmp_path, server):
    """The first GPT keeps no keys and values."""
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    torch.manual_seed(1)
    config = OpenAIGPTConfig(vocab_size=40, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    OpenAIGPTLMHeadModel(config).save_pretrained(tmp_path)
    (tmp_path / "LICENSE").write_text(MIT, "utf-8")
    init(tmp_path, InitOptions(name="gpt", license="MIT"), server=server)
    assert judged(tmp_path).failures == []
    edit(tmp_path, "slm.toml", "kv_cache = false", "kv_cache = true")
    assert_fails(tmp_path, "SLM-IFC-010", "no cache is returned", "kv_cache = true")


def test_a_cache_of_own_code_is_not_examined(package):
    folder = package("writer")
    edit(folder, "slm.toml", "kv_cache = false", "kv_cache = true")
    found = {r.id: r.outcome for r in judged(folder).results}
    assert found["SLM-IFC-010"] is found["SLM-INV-008"] is Outcome.NOT_EXAMINED


# Defects of the library itself, put into the running process.


def test_weights_overwritten_by_the_library(package, monkeypatch):
    from transformers import LlamaForCausalLM

    load = LlamaForCausalLM.from_pretrained.__func__

    def altered(cls, *args, **options):
        model, info = load(cls, *args, **options)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
        return model, info

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(altered))
    words = ("1 tensors differ: model.layers.1.mlp.up_proj.weight",)
    assert_patched_fails(package("llama"), "SLM-IFC-004", *words)


def test_weights_saved_in_half_precision_by_the_library(package, monkeypatch):
    from transformers import LlamaForCausalLM

    save = LlamaForCausalLM.save_pretrained

    def halved(self, *args, **options):
        state = {n: t.half() for n, t in self.state_dict().items() if n != "lm_head.weight"}
        return save(self, *args, state_dict=state, **options)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", halved)
    assert_patched_fails(package("llama"), "SLM-IFC-009", "logits[", "is not saved")


def test_a_cached_step_at_the_wrong_position(package, monkeypatch):
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
    assert_patched_fails(package("llama"), "SLM-INV-008", "a step with the cache")


def test_eager_attention_with_another_scale(package, monkeypatch):
    from transformers.models.llama import modeling_llama

    eager = modeling_llama.eager_attention_forward

    def wider(*args, scaling, **options):
        return eager(*args, scaling=scaling * 1.001, **options)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", wider)
    assert_patched_fails(package("llama"), "SLM-INV-009", "one implementation")


def test_twin_of_the_patched_models(package):
    assert_patched_fails(package("llama"), None)


# The tokenizer as it loads and works.


def test_a_tokenizer_that_the_library_cannot_build(package):
    folder = package("llama")
    edit_json(folder, "tokenizer.json", lambda t: t.update(normalizer={"type": "Nothing"}))
    assert_fails(folder, "SLM-TOK-005", "AutoTokenizer")


def test_a_tokenizer_whose_pattern_makes_the_library_panic(package):
    folder = package("llama")
    where = {"pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
    edit_json(folder, "tokenizer.json", lambda t: t.update(pre_tokenizer={"type": "Split"} | where))
    assert_fails(folder, "SLM-TOK-011", "PanicException", "text of")


def test_a_tokenizer_that_lowers_its_text(package):
    folder = package("llama")
    edit_json(folder, "tokenizer.json", lambda t: t.update(normalizer={"type": "Lowercase"}))
    assert_fails(folder, "SLM-TOK-006", "text 'The quick brown fox")


def test_a_tokenizer_without_its_decoder(package):
    folder = package("llama")
    edit_json(folder, "tokenizer.json", lambda t: t.update(decoder=None))
    assert_fails(folder, "SLM-TOK-007", "The quick brown fox", "Ġ")


def test_a_chat_template_that_renders_otherwise(package):
    folder = package("llama")
    edit(folder, "chat_template.jinja", "m['role'] }}>", "m['role'] }}:")
    assert_fails(folder, "SLM-TOK-008", "<user>", "<user:")


def test_a_chat_template_that_refuses_the_recorded_conversation(package):
    folder = package("llama")
    refused = (
        "{% if messages|length > 1 %}{{ raise_exception('only one turn') }}{% endif %}{% for m"
    )
    edit(folder, "chat_template.jinja", "{% for m", refused)
    assert_fails(folder, "SLM-TOK-008", "only one turn")


def test_a_chat_template_that_refuses_every_conversation(package):
    folder = package("llama")
    edit(folder, "chat_template.jinja", "{% for m", "{{ raise_exception('never') }}{% for m")
    assert_fails(folder, "SLM-TOK-014", "never")


def test_a_chat_template_that_does_not_end(package):
    folder = package("llama")
    loops = "".join(f"{{% for {x} in range(99999) %}}" for x in "abc") + "{% endfor %}" * 3
    edit(folder, "chat_template.jinja", "{% for m", loops + "{% for m")
    forget(folder)
    assert_fails(folder, "SLM-TOK-014", "no end after 5 s")


def test_a_chat_template_that_drops_a_message(package):
    folder = package("llama")
    edit(folder, "chat_template.jinja", "in messages %}", "in messages[-1:] %}")
    forget(folder)
    assert_warns(folder, "SLM-TOK-015")


def test_a_chat_template_removed(package):
    folder = package("llama")
    (folder / "chat_template.jinja").unlink()
    assert_fails(folder, "SLM-TOK-008", "no chat template")


def test_a_chat_template_added(package):
    folder = package("bert")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}", "utf-8"
    )
    assert_fails(folder, "SLM-TOK-008", "a chat template", "none, as recorded")


def test_twin_tokenizer_saved_again(package):
    from transformers import AutoTokenizer

    folder = package("bert")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert_conformant(folder)


# Loading.


def test_a_tensor_that_no_parameter_takes(package):
    folder = package("bert")
    edit_weights(folder, lambda t: t.update({"bert.extra.weight": torch.ones(3)}))
    forget(folder, manifest=True)
    assert_fails(folder, "SLM-IFC-002", "1 unexpected: bert.extra.weight", "ignores")


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_configuration_of_a_far_larger_model(package, name):
    folder = package(name)
    edit_json(folder, "config.json", lambda c: c.update(intermediate_size=2**18))
    forget(folder)
    assert_fails(folder, "SLM-CFG-006", "parameters of at least", "weights of", "at most 4,194,304")


def test_a_head_of_another_size(package):
    folder = package("bert")
    labels = {str(n): f"L{n}" for n in range(7)}
    change = {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}
    edit_json(folder, "config.json", lambda c: c.update(change))
    assert_fails(folder, "SLM-IFC-002", "2 mismatched", "classifier.weight")


def test_a_class_that_does_not_exist(package):
    folder = package("bert")
    edit(folder, "slm.toml", "BertForTokenClassification", "BertForNothing")
    assert_fails(folder, "SLM-IFC-002", "no class 'BertForNothing'")


def test_own_code_that_does_not_build(package):
    folder = package("tagger")
    edit(folder, "modeling.py", "return Model(config)", "return Model(config['model'])")
    assert_fails(folder, "SLM-IFC-002", "KeyError", "'model'")


def test_twin_old_names_of_norms(package):
    folder = package("bert")

    def age(tensors):
        for name in [n for n in tensors if "LayerNorm" in n]:
            old = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensors[old] = tensors.pop(name)

    edit_weights(folder, age)
    forget(folder)
    assert judged(folder).failures == []


def test_experts_that_the_library_fuses(tmp_path):
    """Names that meet nothing are compared by their values, in whatever order."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(2)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=40, **shape, **heads))
    model.save_pretrained(tmp_path / "package")
    arguments = {"package": tmp_path / "package", "device": "cpu", "scratch": tmp_path}
    with opened(arguments) as (bench, _):
        found = compared(bench)
        assert not found.different
        assert not found.unaccounted
        expert = next(t for n, t in bench.model.tensors().items() if "experts" in n)
        with torch.no_grad():
            flat = expert.view(-1)
            flat[7] = torch.nextafter(flat[7], torch.tensor(9.0))
        found = compared.__wrapped__(bench)
        assert found.different or found.unaccounted


# Where there is no reference.


def test_another_class_of_device_is_no_reference(package):
    folder = package("writer")
    evidence = folder / "conformance/evidence.json"
    table = json.loads(evidence.read_text("utf-8"))
    table["devices"] = {"cuda sm_90": table["devices"]["cpu"]}
    evidence.write_text(json.dumps(table), "utf-8")
    report = judged(folder)
    found = {r.id: r for r in report.results}
    assert found["SLM-REF-001"].outcome is Outcome.PASS
    for one in ("SLM-REF-002", "SLM-REF-004"):
        assert found[one].outcome is Outcome.NO_REFERENCE
        assert "cuda sm_90" in found[one].detail
    assert report.exit_status == 3


@pytest.mark.parametrize("name", ["llama", "tagger"])
def test_another_dtype_than_the_declared(package, name):
    report = judged(package(name), dtype="bfloat16")
    assert report.failures == []
    found = {r.id: r for r in report.results}
    assert found["SLM-REF-001"].outcome is Outcome.PASS
    assert found["SLM-REF-003"].outcome is Outcome.NO_REFERENCE


def test_one_requirement_alone(package):
    folder = package("tagger")
    edit(folder, "modeling.py", "real = attention_mask.bool()", "real = input_ids >= 0")
    assert [r.id for r in judged(folder, only=["SLM-INV-004"]).failures] == ["SLM-INV-004"]
    assert judged(folder, only=["SLM-INV-001"]).failures == []
