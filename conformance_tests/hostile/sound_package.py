"""The package that the rows break: nothing is wrong with it, and nothing is missing in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from package_builders import CONFIG, make_package

WORDS = ["<unk>", "<s>", "</s>", "<pad>", *"abcdefghijkl"]
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, token in enumerate(WORDS[:4])
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {token: number for number, token in enumerate(WORDS)},
        "unk_token": "<unk>",
    },
}
ROLES = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
}


def sound(folder: Path, *, files: dict[str, str | bytes] | None = None, **options: Any) -> Path:
    """`make_package` with a tokenizer of whole words; ``files`` are written last."""
    tokenizer: dict[str, str | bytes] = {
        "tokenizer.json": json.dumps(TOKENIZER),
        "tokenizer_config.json": json.dumps(ROLES),
    }
    return make_package(folder, files=tokenizer | (files or {}), **options)


__all__ = ["CONFIG", "ROLES", "TOKENIZER", "WORDS", "sound"]
