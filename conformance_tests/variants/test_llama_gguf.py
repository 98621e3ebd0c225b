"""A decoder written as llama.cpp writes it, read back through transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import variant_packages as made
from package_builders import MIT
from safetensors.torch import load_file

from slmconform.recording.init import InitOptions, init

gguf = pytest.importorskip("gguf", reason="gguf, which writes the file, is not installed")
pytest.importorskip("accelerate", reason="accelerate, which transformers needs, is not installed")

HEADS, HIDDEN = 4, 32
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def llama(folder, server):
    """A Llama folder with a manifest."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        max_position_embeddings=64,
        rope_theta=10000.0,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "LICENSE").write_text(MIT, "utf-8")
    init(folder, InitOptions(name="llama", license="MIT"), server=server)
    return folder


def llama_cpp_name(name):
    """``model.layers.1.self_attn.q_proj.weight`` -> ``blk.1.attn_q.weight``."""
    top = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in top:
        return top[name]
    _, _, layer, *inner, leaf = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(inner)]}.{leaf}"


def interleaved(value):
    """Rows of query and key as llama.cpp orders them for its rotation."""
    return value.reshape(HEADS, 2, -1, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)


def write(path, tensors):
    """A Q8_0 file with the metadata of this architecture."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(96)
    for name, tensor in tensors.items():
        value = tensor.numpy().astype(np.float32)
        if "q_proj" in name or "k_proj" in name:
            value = interleaved(value)
        if value.ndim == 1:
            writer.add_tensor(llama_cpp_name(name), value)
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        data = gguf.quantize(np.ascontiguousarray(value), kind)
        writer.add_tensor(llama_cpp_name(name), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, server):
    return llama(tmp_path_factory.mktemp("llama") / "llama", server)


@pytest.mark.parametrize("defect", [False, True], ids=["as llama.cpp writes it", "rows not moved"])
def test_read_back(folder, defect, monkeypatch):
    if defect:
        monkeypatch.setattr(f"{__name__}.interleaved", lambda value: value)
    write(folder / "llama-q8.gguf", load_file(folder / "model.safetensors"))
    manifest = (folder / "slm.toml").read_text("utf-8")
    if "variants" not in manifest:
        made.declare(folder, "q8", "gguf", "llama-q8.gguf", "max_kl = 0.01")
    bad, results = made.outcomes(folder)
    assert bad == ({"SLM-VAR-002": "kl-exceeded"} if defect else {}), results["SLM-VAR-002"]
