"""Tiny models of many architectures, made by transformers from a configuration and a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import nn

VOCABULARY = 99
POSITIONS = 48
LABELS = 3

CAUSAL = "causal-lm"
MASKED = "masked-lm"
SEQ2SEQ = "seq2seq-lm"
TEXT = "text-classification"
TOKEN = "token-classification"
ANSWER = "question-answering"
CHOICE = "multiple-choice"
EMBEDDING = "sentence-embedding"

HEAD = {
    MASKED: "ForMaskedLM",
    CAUSAL: "ForCausalLM",
    SEQ2SEQ: "ForConditionalGeneration",
    TEXT: "ForSequenceClassification",
    TOKEN: "ForTokenClassification",
    ANSWER: "ForQuestionAnswering",
    CHOICE: "ForMultipleChoice",
    EMBEDDING: "Model",
}

COMMON = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}
ENCODER = {**BASE, "intermediate_size": 48}
DECODER = {**ENCODER, "num_key_value_heads": 2, "head_dim": 8}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
DISTILBERT = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": POSITIONS,
}
FUNNEL = {
    "block_sizes": [1, 1],
    "block_repeats": [1, 1],
    "num_decoder_layers": 1,
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 48,
}
PAIR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": POSITIONS,
}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}


@dataclass(frozen=True)
class Architecture:
    """A stem of class names, tiny settings, and the classes whose names are no usual ones."""

    stem: str
    settings: dict[str, Any]
    classes: dict[str, str] = field(default_factory=dict)

    def class_of(self, task: str) -> str:
        """The name of the transformers class of a task."""
        return self.classes.get(task, self.stem + HEAD[task])


def _encoder(stem: str, **settings: Any) -> Architecture:
    return Architecture(stem, {**ENCODER, **settings})


def _roberta(stem: str) -> Architecture:
    return _encoder(stem, pad_token_id=1, bos_token_id=0)  # positions start behind the padding id


def _decoder(stem: str, **settings: Any) -> Architecture:
    return Architecture(stem, {**DECODER, **settings})


def _pair(stem: str, classes: dict[str, str] | None = None, **settings: Any) -> Architecture:
    return Architecture(stem, {**PAIR, "decoder_start_token_id": 2, **settings}, classes or {})


def _own(stem: str, classes: dict[str, str] | None = None, **settings: Any) -> Architecture:
    return Architecture(stem, settings, classes or {})


ARCHITECTURES: dict[str, Architecture] = {
    # decoders
    "llama": _decoder("Llama"),
    "mistral": _decoder("Mistral", sliding_window=6),
    "qwen2": _decoder("Qwen2"),
    "qwen3": _decoder("Qwen3"),
    "phi": _encoder("Phi", partial_rotary_factor=0.5),
    "gemma": _decoder("Gemma"),
    "gemma2": _decoder("Gemma2", sliding_window=6, query_pre_attn_scalar=8),
    "olmo2": _decoder("Olmo2"),
    "granite": _decoder("Granite", attention_multiplier=0.3, logits_scaling=2.0),
    "cohere": _decoder("Cohere"),
    "stablelm": _decoder("StableLm"),
    "gpt2": _own("GPT2", {CAUSAL: "GPT2LMHeadModel"}, **GPT2),
    "gptj": _own("GPTJ", **GPT2, rotary_dim=4),
    "gpt-neox": _encoder("GPTNeoX"),
    "opt": _own("OPT", **{**BASE, "activation_function": "relu", "ffn_dim": 48}),
    "bloom": _own("Bloom", hidden_size=32, n_layer=2, n_head=4),  # ALiBi
    "falcon": _own("Falcon", **BASE, alibi=False),
    "mamba": _own("Mamba", hidden_size=32, num_hidden_layers=2, state_size=8, time_step_rank=4),
    # mixtures of experts
    "mixtral": _decoder("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "qwen2-moe": _decoder("Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=24),
    "qwen3-moe": _decoder("Qwen3Moe", **EXPERTS, norm_topk_prob=True),
    "olmoe": _decoder("Olmoe", num_experts=4, num_experts_per_tok=2),
    "deepseek-v3": _encoder("DeepseekV3", **DEEPSEEK),
    # encoders
    "bert": _encoder("Bert"),
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    "mpnet": _roberta("MPNet"),
    "electra": _encoder("Electra", embedding_size=16),
    "albert": _encoder("Albert", embedding_size=16),
    "distilbert": _own("DistilBert", **DISTILBERT),
    "deberta-v2": _encoder(
        "DebertaV2",
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        pooler_hidden_size=32,
    ),
    "roformer": _encoder("RoFormer", embedding_size=32),
    "convbert": _encoder("ConvBert", embedding_size=16, head_ratio=2, conv_kernel_size=3),
    "squeezebert": _encoder("SqueezeBert", embedding_size=32),
    "mobilebert": _encoder(
        "MobileBert", embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16
    ),
    "fnet": _encoder("FNet"),
    "longformer": _encoder("Longformer", attention_window=4, sep_token_id=2),
    "big-bird": _encoder("BigBird", block_size=2, num_random_blocks=1),
    "xlnet": _own(
        "XLNet", {CAUSAL: "XLNetLMHeadModel"}, d_model=32, n_layer=2, n_head=4, d_inner=48
    ),
    "funnel": _own("Funnel", **FUNNEL),
    "splinter": _encoder("Splinter", question_token_id=3),
    # encoder-decoders
    "bart": _pair("Bart", activation_function="relu"),
    "mbart": _pair("MBart"),
    "marian": _pair("Marian", {SEQ2SEQ: "MarianMTModel"}, activation_function="relu"),
    "pegasus": _pair("Pegasus", activation_function="relu"),
    "t5": _own("T5", {EMBEDDING: "T5EncoderModel"}, **T5),
    "mt5": _own("MT5", **T5),
}


def missing(name: str, task: str) -> str:
    """Why this version of transformers cannot build the pair; empty where it can."""
    known = ARCHITECTURES[name]
    wanted = (f"{known.stem}Config", known.class_of(task))
    absent = [cls for cls in wanted if not hasattr(transformers, cls)]
    return f"transformers {transformers.__version__} has no {absent[0]}" if absent else ""


def build(
    name: str, task: str, folder: Path, *, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """Save a seeded tiny model of an architecture for a task, and return its folder.

    Weights are moved off their initial values, so that no norm, bias or tie is trivial.
    """
    known = ARCHITECTURES[name]
    settings = {**COMMON, **known.settings, **changes}
    if task in (TEXT, TOKEN):
        settings["num_labels"] = LABELS
    config = getattr(transformers, f"{known.stem}Config")(**settings)
    torch.manual_seed(11)
    model = getattr(transformers, known.class_of(task))(config).eval()
    noise = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # sinusoidal positions are no weights
                parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.1)
        for part in model.modules():
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx] = 0.0  # Funnel in transformers 5 zeroes it anyway
    model.to(dtype).save_pretrained(folder)
    return folder


def add_tokenizer(folder: Path) -> None:
    """Save a tokenizer of whole words, with the special ids of the configuration beside it."""
    config = json.loads((folder / "config.json").read_text())
    special = {
        config[f"{role}_token_id"]: f"<{role}>"
        for role in ("pad", "bos", "eos")
        if config.get(f"{role}_token_id") is not None
    }
    unknown = VOCABULARY - 1
    tokens = {special.get(i, f"word{i}"): i for i in range(unknown)} | {"<unk>": unknown}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(tokens, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    named = {f"{token[1:-1]}_token": token for token in special.values()}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **named)
    made.save_pretrained(folder)
