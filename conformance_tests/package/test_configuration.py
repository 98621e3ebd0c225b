"""Configurations: bounds, remote code, agreement with tensors, and no false alarm on real ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from package_builders import CONFIG, llama_tensors

from slmconform.package.configuration import (
    agreement_problems,
    dimension_problems,
    remote_code_problems,
)
from slmconform.package.tensors import TensorEntry

# Architectures of every kind of text model, and some that hold several configurations.
MODEL_TYPES = """
    albert bart bert big_bird bloom canine clip ctrl deberta-v2 deepseek_v3 distilbert electra
    esm falcon flaubert fnet funnel gemma gemma3 glm4_moe gpt2 gpt_neo gpt_neox jamba led llama
    longt5 m2m_100 mamba marian mixtral mobilebert modernbert mpt nemotron olmoe openai-gpt opt
    perceiver phi3 prophetnet qwen2_moe qwen2_vl qwen3 reformer rwkv squeezebert t5
    whisper xlm xlnet
""".split()  # noqa: SIM905 - a list of words


def entries(shapes: dict[str, tuple[int, ...]], dtype: str = "F32") -> dict[str, TensorEntry]:
    return {n: TensorEntry(n, dtype, s, 0, 0, "model.safetensors") for n, s in shapes.items()}


def llama() -> dict[str, TensorEntry]:
    return entries({name: tensor.shape for name, tensor in llama_tensors().items()})


BAD_DIMENSIONS: list[dict[str, Any]] = [
    {"vocab_size": 10**12},
    {"num_hidden_layers": 10**6},
    {"hidden_size": 2**40},
    {"hidden_size": -8},
    {"hidden_size": 0},
    {"hidden_size": "8"},
    {"hidden_size": 8.0},
    {"hidden_size": True},
    {"num_attention_heads": 0},
    {"num_key_value_heads": -1},
    {"head_dim": -2},
    {"intermediate_size": [12, "12"]},
    {"max_position_embeddings": 2**40},
    {"max_position_embeddings": 1.5},
    {"text_config": {"model_type": "llama", "vocab_size": -1}},
    {"vision_config": {"hidden_size": 10**9}},
    {"made_up_dim": 2**50},
    {"made_up_size": -(2**50)},
]


@pytest.mark.parametrize("change", BAD_DIMENSIONS, ids=str)
def test_dimension_out_of_bounds(change: dict[str, Any]) -> None:
    problems = dimension_problems(CONFIG | change, "config.json")
    assert [p.code for p in problems] == ["dimension"]
    assert next(iter(change)) in problems[0].where


def test_heads_have_to_divide() -> None:
    problems = dimension_problems(CONFIG | {"num_attention_heads": 3}, "config.json")
    assert [p.code for p in problems] == ["heads-divide"]
    assert "3 heads for a hidden_size of 8" in problems[0].got


LEGAL_DIMENSIONS: list[dict[str, Any]] = [
    {},
    {"num_attention_heads": 3, "head_dim": 4},
    {"num_attention_heads": 3, "d_kv": 4},
    {"num_key_value_heads": None, "head_dim": None, "n_inner": None},
    {"type_vocab_size": 0, "num_experts": 0},
    {"num_hash": 0, "pad_token_id": -1, "dim": 1},
    {"intermediate_size": [12, 0, None]},
    {"num_attention_heads": [2, 4]},
    {"max_position_embeddings": 10_485_760},
    {"max_position_embeddings": 1200.0},
    {"id2label": {"0": "size"}, "label2id": {"vocab_size": -1}},
    {"rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192}},
    {"quantization_config": {"model_type": "x", "dim": "all"}},
    {"image_size": [224, 224], "summary_use_proj": True},
]


@pytest.mark.parametrize("change", LEGAL_DIMENSIONS, ids=str)
def test_dimension_in_bounds(change: dict[str, Any]) -> None:
    assert dimension_problems(CONFIG | change, "config.json") == []


def test_an_axis_called_dim_is_no_width() -> None:
    assert dimension_problems({"dim": -1}, "config.json") == []
    assert dimension_problems({"dim": -1, "model_type": "distilbert"}, "config.json")


REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"auto_map": {"AutoModel": "modeling.X"}}, "auto_map"),
    ({"auto_map": {"AutoModel": "someone/else--modeling.X"}}, "auto_map"),
    ({"model_type": "llama", "auto_map": {"AutoConfig": "c.C"}}, "auto_map"),
    ({"text_config": {"auto_map": {"AutoModel": "m.X"}}}, "text_config.auto_map"),
    ({"trust_remote_code": True}, "trust_remote_code"),
    ({"_attn_implementation": "someone/kernel"}, "_attn_implementation"),
    ({"_attn_implementation_internal": "a/b:c"}, "_attn_implementation_internal"),
    ({"attn_implementation": {"text": "eager", "vision": "a/b"}}, "attn_implementation"),
    ({"custom_pipelines": {"x": {"impl": "pipe.P"}}}, "custom_pipelines"),
    ({"list": [{"trust_remote_code": 1}]}, "list[0].trust_remote_code"),
]


@pytest.mark.parametrize(("config", "place"), REQUESTS)
def test_remote_code(config: dict[str, Any], place: str) -> None:
    problems = remote_code_problems(config, "config.json")
    assert [p.where for p in problems] == [f"config.json: {place}"]


@pytest.mark.parametrize(
    "config",
    [
        {"trust_remote_code": False, "auto_map": {}, "custom_pipelines": None},
        {"_attn_implementation": "sdpa", "attn_implementation": {"text": "flash_attention_2"}},
        {"_name_or_path": "someone/model", "note": "a/b"},
        [],
    ],
)
def test_no_remote_code(config: object) -> None:
    assert remote_code_problems(config, "config.json") == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"vocab_size": 17}, "vocab_size"),
        ({"vocab_size": 15}, "vocab_size"),
        ({"hidden_size": 6}, "hidden_size"),
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
        ({"num_hidden_layers": 1}, "num_hidden_layers"),
    ],
)
def test_configuration_of_other_weights(change: dict[str, Any], key: str) -> None:
    problems = agreement_problems(CONFIG | change, llama(), "config.json")
    assert [p.where for p in problems] == [f"config.json: {key}"]


def test_configuration_of_these_weights() -> None:
    assert agreement_problems(CONFIG, llama(), "config.json") == []
    inside = {"model_type": "x", "text_config": CONFIG}
    assert agreement_problems(inside, llama(), "config.json") == []


def test_width_without_a_known_embedding() -> None:
    tensors = entries({"net.0.weight": (8, 4), "net.0.bias": (8,)})
    assert agreement_problems({"vocab_size": 9, "hidden_size": 8}, tensors, "c") == []
    problems = agreement_problems({"vocab_size": 9, "hidden_size": 6}, tensors, "c")
    assert [p.where for p in problems] == ["c: hidden_size"]


def test_sides_of_an_encoder_decoder() -> None:
    tensors = entries(
        {
            "model.shared.weight": (9, 8),
            "model.encoder.layers.0.fc1.weight": (4, 8),
            "model.encoder.layers.1.fc1.weight": (4, 8),
            "model.decoder.layers.0.fc1.weight": (4, 8),
        }
    )
    config = {"vocab_size": 9, "d_model": 8, "encoder_layers": 2, "decoder_layers": 1}
    assert agreement_problems(config | {"num_hidden_layers": 2}, tensors, "c") == []
    problems = agreement_problems(config | {"decoder_layers": 2}, tensors, "c")
    assert [p.where for p in problems] == ["c: decoder_layers"]


def test_legal_irregularities() -> None:
    factorised = entries(
        {"albert.embeddings.word_embeddings.weight": (9, 4), "albert.up.weight": (8, 4)}
    )
    albert = {"vocab_size": 9, "embedding_size": 4, "hidden_size": 8, "num_hidden_layers": 12}
    assert agreement_problems(albert, factorised, "c") == []
    predicting = CONFIG | {"num_hidden_layers": 1, "num_nextn_predict_layers": 1}
    assert agreement_problems(predicting, llama(), "c") == []
    assert agreement_problems({"model_type": "convnext", "hidden_size": 3}, llama(), "c") == []
    blocks_of_two = CONFIG | {"num_hidden_layers": 4, "num_layers": 2}  # LongCat-Flash
    assert agreement_problems(blocks_of_two, llama(), "c") == []
    packed = entries({"embed_tokens.weight": (2, 8)}, "U8")
    assert agreement_problems({"vocab_size": 16, "hidden_size": 8}, packed, "c") == []


@pytest.mark.slow
def test_no_false_alarm_on_the_defaults_of_transformers() -> None:
    from transformers import CONFIG_MAPPING

    seen = 0
    for model_type in MODEL_TYPES:
        if model_type not in CONFIG_MAPPING:
            continue
        seen += 1
        for use_diff in (True, False):
            text = CONFIG_MAPPING[model_type]().to_json_string(use_diff=use_diff)
            config = json.loads(text)
            assert dimension_problems(config, model_type) == []
            assert remote_code_problems(config, model_type) == []
    assert seen > 45
