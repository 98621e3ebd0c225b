"""What the families of real models ship as their tokenizer, cut down to sixteen rows."""

from __future__ import annotations

from typing import Any

from tokenizer_builders import TOKENS, added, fast, roles, sentencepiece_model, template

LLAMA = roles(bos="<s>", eos="</s>", unk="<unk>", pad=None)
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision|>", *"abcdefgh"]

# name -> (files, keys of config.json)
LEGAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama-2": (
        {
            "tokenizer.json": fast(processor=template(("<s>", 1))),
            "tokenizer_config.json": LLAMA,
            "special_tokens_map.json": {
                "bos_token": {"content": "<s>", "lstrip": False, "normalized": False},
                "eos_token": {"content": "</s>", "rstrip": False},
                "unk_token": "<unk>",
            },
            "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        },
        {"pad_token_id": -1},
    ),
    "llama-3-chat": (
        {
            "tokenizer.json": fast(
                [*"abcdefghijkl"],
                added(("<|begin|>", 12), ("<|end|>", 13), ("<|eot|>", 14), ("<|eom|>", 15)),
                processor={"type": "Sequence", "processors": [template(("<|begin|>", 12))]},
            ),
            "tokenizer_config.json": roles(bos="<|begin|>", eos="<|eot|>"),
            "generation_config.json": {"bos_token_id": 12, "eos_token_id": [13, 14, 15]},
        },
        {"bos_token_id": 12, "eos_token_id": [13, 14, 15]},
    ),
    "chat tuned, configuration of the base": (
        {
            "tokenizer.json": fast(CHAT),
            "tokenizer_config.json": roles(bos=None, eos="<|im_end|>", pad="<|endoftext|>"),
            "generation_config.json": {"pad_token_id": 0, "eos_token_id": [2, 0]},
        },
        {"bos_token_id": 0, "eos_token_id": 0},
    ),
    "phi: bos, eos and unk are one": (
        {
            "tokenizer.json": fast(["<|e|>", *"abcdefghij"], added(("<|e|>", 0), ("  ", 11))),
            "tokenizer_config.json": roles(bos="<|e|>", eos="<|e|>", unk="<|e|>"),
            "added_tokens.json": {"  ": 11},
        },
        {"bos_token_id": 0, "eos_token_id": 0},
    ),
    "bert": (
        {
            "tokenizer.json": fast(
                ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijk"],
                kind="WordPiece",
                processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            ),
            "vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijk"]),
            "tokenizer_config.json": roles(pad="[PAD]", cls="[CLS]", sep="[SEP]", mask="[MASK]"),
        },
        {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None},
    ),
    "roberta": (
        {
            "vocab.json": {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *"abcd"])},
            "merges.txt": "#version: 0.2\n",
            "added_tokens.json": {"<mask>": 8},
            "tokenizer_config.json": roles(bos="<s>", cls="<s>", eos="</s>", sep="</s>")
            | {"added_tokens_decoder": {"8": {"content": "<mask>"}, "0": {"content": "<s>"}}},
        },
        {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    ),
    "t5": (
        {
            "tokenizer.json": fast(
                ["<pad>", "</s>", "<unk>", *"abcdefghi"],
                added(("<extra_id_0>", 12)),
                kind="Unigram",
            ),
            "tokenizer_config.json": roles(pad="<pad>", eos="</s>", unk="<unk>"),
        },
        {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "decoder_start_token_id": 0},
    ),
    "gemma": (
        {
            "tokenizer.json": fast(
                ["<pad>", "<eos>", "<bos>", "<unk>", *"abcdefghij", "\n", "\n\n"]
            ),
            "tokenizer_config.json": roles(bos="<bos>", eos="<eos>", pad="<pad>"),
            "generation_config.json": {"eos_token_id": [1, 5], "bos_token_id": 2},
        },
        {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
    ),
    "opt: bos is eos": (
        {
            "tokenizer.json": fast(["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"]),
            "tokenizer_config.json": roles(bos="</s>", eos="</s>", pad="<pad>"),
        },
        {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1},
    ),
    "added tokens far above the others": (
        {
            "tokenizer.json": fast([*"abcdefghi"], added(("<pad>", 12), ("<end>", 15))),
        },
        {},
    ),
    "a row reserved among the others": (
        {"tokenizer.json": fast({t: i for i, t in enumerate([*TOKENS[:9], "", *TOKENS[9:15]])})},
        {},
    ),
    "a row that only the configuration names": (
        {"vocab.json": {c: 1 + i for i, c in enumerate("abcdefghi")}},
        {"pad_token_id": 0},
    ),
    "an unreachable empty entry in BPE": (
        {"tokenizer.json": fast({t: i for i, t in enumerate([*TOKENS[:15], ""])})},
        {},
    ),
    "tokens that only look empty": (
        {
            "vocab.txt": "\n".join(
                [*TOKENS[:10], " ", "\u3000", "\u2028", "\u00a0", "\x1c", "\u200b"]
            )
        },
        {},
    ),
    "vocab.txt from another system": ({"vocab.txt": "\r\n".join(TOKENS) + "\r\n\r\n"}, {}),
    "fairseq dictionary": (
        {
            "vocab.txt": "\n".join(f"{c} {100 - i}" for i, c in enumerate("abcdefghij")),
            "bpe.codes": "",
            "added_tokens.json": {"<mask>": 14},
        },
        {},
    ),
    "sentencepiece, shifted by the tokenizer": (
        {
            "sentencepiece.bpe.model": sentencepiece_model([*TOKENS, "y"]),
            "tokenizer_config.json": roles(bos="<s>", eos="</s>")
            | {"added_tokens_decoder": {"0": {"content": "<s>"}, "15": {"content": "<mask>"}}},
        },
        {"bos_token_id": 0},
    ),
    "ranks of tiktoken": (
        {"qwen.tiktoken": "\n".join(f"{c * 4} {i}" for i, c in enumerate("abcdefghijkl"))},
        {},
    ),
    "fewer tokens than padded rows": ({"tokenizer.json": fast(TOKENS[:8])}, {}),
    "tokenizer names no role": ({"tokenizer.json": fast(), "tokenizer_config.json": {}}, {}),
}
