"""What people do to a recorded package by accident, and the one requirement that tells them."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from judging import assert_conformant, assert_fails
from packages import WEIGHTS, edit, edit_json, edit_weights, forget
from safetensors.torch import load_file, save_file


def bumped(tensor):
    """The next larger float32 of every value."""
    return torch.nextafter(tensor, torch.full_like(tensor, torch.inf))


@pytest.mark.parametrize(
    "name", ["llama", "bert", "gpt2", "tagger", "writer", "halved"], ids=lambda n: n
)
def test_the_packages_themselves_are_conformant(package, name):
    assert_conformant(package(name))


def test_one_weight_moved_by_one_ulp(package):
    folder = package("bert")
    name = "bert.encoder.layer.1.attention.self.query.weight"

    def move(tensors):
        tensors[name][3, 5] = bumped(tensors[name][3, 5])

    edit_weights(folder, move)
    assert_fails(folder, "SLM-WGT-006", "1 of 39 tensors", name)


def test_layer_norm_eps_ten_times_larger(package):
    folder = package("bert")
    edit_json(folder, "config.json", lambda c: c.update(layer_norm_eps=1e-11))
    assert_fails(folder, "SLM-DET-003", "layer_norm_eps = 1e-11", "layer_norm_eps = 1e-12")


def test_layer_norm_eps_changed_in_own_code(package):
    folder = package("tagger")
    edit(folder, "modeling.py", "nn.LayerNorm(hidden, eps=eps)", "nn.LayerNorm(hidden, eps=1e-4)")
    assert_fails(folder, "SLM-REF-001", "logits[", "the code computes otherwise")


def test_rms_norm_eps_ten_times_larger(package):
    folder = package("llama")
    edit_json(folder, "config.json", lambda c: c.update(rms_norm_eps=1e-5))
    assert_fails(folder, "SLM-DET-003", "rms_norm_eps = 1e-05", "rms_norm_eps = 1e-06")


def test_rotary_theta_from_10000_to_10001(package):
    folder = package("llama")

    def move(config):
        rope = config.get("rope_parameters", config)
        assert rope["rope_theta"] == 10000.0
        rope["rope_theta"] = 10001.0

    edit_json(folder, "config.json", move)
    assert_fails(folder, "SLM-DET-003", "rope_theta = 10001.0", "rope_theta = 10000.0")


def test_a_key_of_own_code_removed_from_its_configuration(package):
    folder = package("tagger")
    edit(folder, "modeling.py", 'config["eps"]', 'config.get("eps", 1e-5)')
    edit_json(folder, "config.json", lambda c: c.pop("eps"))
    assert_fails(folder, "SLM-DET-003", "no eps", "eps = 1e-05")


def test_tie_broken(package):
    folder = package("llama")
    edit_json(folder, "config.json", lambda c: c.update(tie_word_embeddings=False))
    assert_fails(folder, "SLM-IFC-001", "no ties", "lm_head.weight = model.embed_tokens.weight")


def test_tie_broken_with_a_head_of_its_own(package):
    folder = package("llama")
    edit_json(folder, "config.json", lambda c: c.update(tie_word_embeddings=False))

    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 0.5

    edit_weights(folder, add)
    assert_fails(folder, "SLM-WGT-005", "lm_head.weight added")


def test_head_removed(package):
    folder = package("bert")
    edit_weights(folder, lambda tensors: tensors.pop("classifier.weight"))
    assert_fails(folder, "SLM-WGT-005", "classifier.weight missing")


@pytest.mark.parametrize("manifest", [True, False], ids=["hub folder", "not yet recorded"])
def test_head_removed_before_anything_was_recorded(package, manifest):
    folder = package("bert")
    edit_weights(folder, lambda tensors: tensors.pop("classifier.weight"))
    if not manifest:
        edit(folder, "slm.toml", "parameters = 20965\n", "")
    forget(folder, manifest=manifest)
    assert_fails(folder, "SLM-IFC-002", "1 missing: classifier.weight", "random values")


def test_attention_mask_ignored(package):
    folder = package("tagger")
    edit(folder, "modeling.py", "real = attention_mask.bool()", "real = input_ids >= 0")
    finding = assert_fails(
        folder, "SLM-INV-004", "the attention mask is ignored", "real tokens of the row"
    )
    assert finding.code == "mask-ignored"


def test_dropout_left_on(package):
    folder = package("tagger")
    head = "self.head(functional.dropout(self.norm(states), 0.1, training=True))"
    edit(folder, "modeling.py", "self.head(self.norm(states))", head)
    assert_fails(folder, "SLM-DET-001", "against", "dropout left on")


def test_nan_in_a_weight(package):
    folder = package("bert")

    def spoil(tensors):
        tensors["classifier.weight"][2, 7] = torch.nan

    edit_weights(folder, spoil)
    assert_fails(folder, "SLM-WGT-003", "classifier.weight[2, 7]", "1 of 160 values not finite")


def test_a_buffer_left_uninitialised(package):
    folder = package("tagger")
    made = "0.5 ** torch.arange(heads).reshape(heads, 1, 1)"
    edit(folder, "modeling.py", made, "torch.empty(heads, 1, 1)")
    assert_fails(folder, "SLM-IFC-003", "layers.0.slopes", "garbage")


def only_a_vocabulary(folder, tokens):
    """Leave no other file of the tokenizer than a ``vocab.txt``."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")


def test_a_vocabulary_of_5_for_113_rows(package):
    folder = package("bert")
    only_a_vocabulary(folder, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    assert_fails(folder, "SLM-TOK-004", "5 tokens for 113 rows", "57 tokens")


def test_a_vocabulary_that_the_library_does_not_read(tmp_path):
    """ALBERT beside a ``vocab.txt``: transformers 5 makes 5 tokens of it, 4 gives up."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.manual_seed(3)
    shape = {"hidden_size": 16, "embedding_size": 8, "intermediate_size": 16}
    config = AlbertConfig(vocab_size=591, num_attention_heads=2, **shape)
    AlbertForMaskedLM(config).save_pretrained(tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    only_a_vocabulary(tmp_path, special + [f"C{number}" for number in range(586)])
    finding = assert_fails(tmp_path, "SLM-TOK-005")
    if finding.code == "tokenizer-incomplete":
        assert finding.got == "5 tokens after loading"
        assert "591" in finding.want


def sharded(folder):
    """Spread the weights over two files with an index, as the library does."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / WEIGHTS).unlink()


def test_a_shard_outside_the_package(package):
    folder = package("bert")
    sharded(folder)
    first = "model-00001-of-00002.safetensors"
    shutil.move(folder / first, folder.parent / first)
    edit(folder, "model.safetensors.index.json", first, f"../{first}")
    assert_fails(folder, "SLM-PKG-001", f"../{first}", "model.safetensors.index.json")


def test_a_pickle_beside_the_weights(package):
    folder = package("bert")
    (folder / "training_args.bin").write_bytes(pickle.dumps({"lr": 1e-3}))
    assert_fails(folder, "SLM-PKG-003", "training_args.bin", "pickle")


def test_a_licence_without_its_text(package):
    folder = package("bert")
    (folder / "LICENSE").unlink()
    assert_fails(folder, "SLM-LIC-002", "MIT")


def test_a_range_that_the_environment_is_outside_of(package):
    folder = package("bert")
    manifest = (folder / "slm.toml").read_text("utf-8").splitlines()
    requires = 'requires = ["torch>=2.10", "transformers<4"]'
    lines = [requires if line.startswith("requires") else line for line in manifest]
    (folder / "slm.toml").write_text("\n".join(lines), "utf-8")
    assert_fails(folder, "SLM-DEP-003", "transformers<4", "transformers")


# What looks like a change and is none.


def test_twin_weights_in_shards(package):
    folder = package("bert")
    sharded(folder)
    assert_conformant(folder)


def test_twin_tensors_in_another_order_with_other_metadata(package):
    folder = package("llama")
    tensors = load_file(folder / WEIGHTS)
    renewed = {name: tensors[name] for name in sorted(tensors, reverse=True)}
    save_file(renewed, folder / WEIGHTS, {"format": "pt", "note": "saved again"})
    assert_conformant(folder)


def test_twin_version_in_the_configuration(package):
    folder = package("gpt2")
    edit_json(folder, "config.json", lambda c: c.update(transformers_version="4.30.0"))
    assert_conformant(folder)


def test_twin_configuration_and_tokenizer_saved_again(package):
    from transformers import AutoConfig, AutoTokenizer

    folder = package("llama")
    AutoConfig.from_pretrained(folder).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert_conformant(folder)


def test_twin_other_attention_declared(package):
    folder = package("llama")
    edit(folder, "slm.toml", 'attention = "sdpa"', 'attention = "eager"')
    assert_conformant(folder)


def test_twin_card_and_licence_rewritten(package):
    folder = package("bert")
    card = "---\nlicense: mit\n---\n# A tagger\n\nBetter words.\n"
    (folder / "README.md").write_text(card, "utf-8")
    text = (folder / "LICENSE").read_text("utf-8")
    (folder / "LICENSE").write_text(text.replace("2026 The authors", "2027 Others"), "utf-8")
    assert_conformant(folder)


def test_twin_own_code_reformatted(package):
    folder = package("tagger")
    edit(folder, "modeling.py", "self.slopes\n", "self.slopes  # a head's own width\n")
    assert_conformant(folder)
