"""What is not asked, not examined or has no reference, and what a record cannot hold."""

from __future__ import annotations

import json

import pytest
import torch
from judging import assert_fails, judged
from packages import MIT, edit

from slmconform.measure.loading import compared
from slmconform.measure.opening import opened
from slmconform.recording.init import InitOptions, init
from slmconform.standard.report import Outcome


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


@pytest.mark.parametrize("name", ["llama-assistant", "tagger"])
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


def test_a_vocabulary_that_the_library_does_not_read(tmp_path):
    """ALBERT beside a ``vocab.txt``: transformers 5 makes 5 tokens of it, 4 gives up."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.manual_seed(3)
    shape = {"hidden_size": 16, "embedding_size": 8, "intermediate_size": 16}
    config = AlbertConfig(vocab_size=591, num_attention_heads=2, **shape)
    AlbertForMaskedLM(config).save_pretrained(tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = special + [f"C{number}" for number in range(586)]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    finding = assert_fails(tmp_path, "SLM-TOK-005")
    if finding.code == "tokenizer-incomplete":
        assert finding.got == "5 tokens after loading"
        assert "591" in finding.want
