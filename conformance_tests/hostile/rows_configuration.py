"""C: what config.json and the JSON files beside it can say, and what a reader is not to swallow.

C08, C10 and C15 have rows that only the built model tells: those stand in `rows_description`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_row import Row
from sound_package import CONFIG, ROLES, sound

STRICT = "SLM-CFG-001"
BOUNDS = "SLM-CFG-002"
REMOTE = "SLM-CFG-003"
AGREES = "SLM-CFG-004"
HUNDRED_MB = 100_000_000

Build = Callable[[Path], object]


def config(**changes: Any) -> Build:
    """A package whose configuration has these keys changed."""
    return lambda folder: sound(folder, config=changes)


def text(content: str | bytes, name: str = "config.json") -> Build:
    """A package in which one file has this content."""
    return lambda folder: sound(folder, files={name: content})


def spelled(old: str, new: str | bytes) -> Build:
    """A package whose configuration has one piece of its text written otherwise."""
    whole = json.dumps(CONFIG)
    assert whole.count(old) == 1, old
    before, after = whole.encode().split(old.encode())
    return text(before + (new if isinstance(new, bytes) else new.encode()) + after)


def added(more: str) -> Build:
    """A package whose configuration has one more piece of text at its end."""
    return text(json.dumps(CONFIG)[:-1] + f", {more}}}")


def padded(folder: Path, name: str, size: int) -> Path:
    """A package in which one file is a blank JSON object of ``size`` bytes."""
    sound(folder)
    with (folder / name).open("wb") as file:
        file.write(b"{")
        file.truncate(size)  # a hole, which takes no place on a disk
    return folder


def nested(opening: str, closing: str, depth: int) -> str:
    """A value inside many others."""
    return '"x": ' + opening * depth + "1" + closing * depth


def strict(name: str, says: str, code: str, build: Build, twin: Build | None = None) -> Row:
    """A row of JSON that is not strict."""
    return Row(name, says, build, STRICT, code, twin=twin)


def bounds(name: str, says: str, twin: Build | None = None, /, **changes: Any) -> Row:
    """A row of a dimension that is out of bounds."""
    return Row(name, says, config(**changes), BOUNDS, "dimension", twin=twin)


def remote(name: str, says: str, build: Build, twin: Build | None = None) -> Row:
    """A row of a configuration that asks for code."""
    return Row(name, says, build, REMOTE, "remote-code", twin=twin)


def agrees(name: str, says: str, twin: Build | None = None, /, **changes: Any) -> Row:
    """A row of a configuration of other weights."""
    return Row(name, says, config(**changes), AGREES, "config-weights", twin=twin)


AUTO_MAP = {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
ELSEWHERE = {"AutoModelForCausalLM": "someone/else--modeling_own.OwnForCausalLM"}

ROWS = [
    # Duplicate keys: the first value for some readers, the last for others.
    strict(
        "C01-top",
        "vocab_size stands twice",
        "duplicate-key",
        added('"vocab_size": 17'),
        added('"vocab size": 17'),
    ),
    strict(
        "C01-equal", "a key stands twice with one value", "duplicate-key", added('"vocab_size": 16')
    ),
    strict(
        "C01-inner",
        "a key stands twice in an inner object",
        "duplicate-key",
        added('"x": {"type": "linear", "type": "yarn"}'),
        added('"x": {"type": "linear"}, "y": {"type": "yarn"}'),
    ),
    strict(
        "C01-escaped",
        "one key is spelled in two ways",
        "duplicate-key",
        added('"vocab\\u005fsize": 17'),
        added('"\\u0078": 17'),
    ),
    strict(
        "C01-generation",
        "a key stands twice in generation_config.json",
        "duplicate-key",
        text('{"eos_token_id": 2, "eos_token_id": 3}', "generation_config.json"),
        text('{"eos_token_id": 2, "bos_token_id": 1}', "generation_config.json"),
    ),
    # Byte order marks and other encodings.
    strict(
        "C02-utf8",
        "a byte order mark before UTF-8",
        "byte-order-mark",
        text(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()),
        text(b"\n " + json.dumps(CONFIG).encode() + b"\n"),
    ),
    *(
        strict(
            f"C02-{encoding}",
            f"the file is {encoding}",
            "byte-order-mark",
            text(json.dumps(CONFIG).encode(encoding)),
        )
        for encoding in ("utf-16", "utf-32")
    ),
    strict(
        "C02-latin-1",
        "a byte that is not UTF-8",
        "not-utf8",
        spelled('"llama"', b'"llama", "x": "caf\xe9"'),
        spelled('"llama"', '"llama", "x": "café"'),
    ),
    strict(
        "C02-surrogate",
        "half a character in UTF-8",
        "not-utf8",
        spelled('"llama"', b'"llama", "x": "\xed\xa0\x80"'),
        spelled('"llama"', '"llama", "x": "\\ud83d\\ude00"'),
    ),
    # Numbers that JSON does not have.
    *(
        strict(
            f"C03-{name}",
            f"rms_norm_eps is {value:.9}",
            "not-finite",
            spelled("1e-06", value),
            spelled("1e-06", twin),
        )
        for name, value, twin in (
            ("nan", "NaN", "1e-6"),
            ("infinity", "Infinity", "1E-06"),
            ("minus-infinity", "-Infinity", "1e-300"),
            ("exponent", "1e999", "1e-5"),
            ("digits", "1" * 400 + ".5", "0.00001" + "1" * 400),
        )
    ),
    strict(
        "C03-inner",
        "NaN in a list of lists",
        "not-finite",
        added('"x": [[0.5, NaN]]'),
        added('"x": ["NaN"]'),
    ),
    # Depth.
    strict(
        "C04-lists",
        "100,000 lists in each other",
        "too-deep",
        added(nested("[", "]", 100_000)),
        added(nested("[", "]", 60)),
    ),
    strict(
        "C04-objects",
        "100,000 objects in each other",
        "too-deep",
        added(nested('{"a": ', "}", 100_000)),
        added(nested('{"a": ', "}", 60)),
    ),
    strict("C04-open", "100,000 lists that never end", "too-deep", text("[" * 100_000)),
    strict(
        "C04-just",
        "65 levels",
        "too-deep",
        added(nested("[", "]", 64)),
        added(nested("[", "]", 63)),
    ),
    # Digits.
    strict(
        "C05-5000",
        "an integer of 5000 digits",
        "too-many-digits",
        added(f'"x": {"9" * 5000}'),
        added(f'"x": "{"9" * 5000}"'),
    ),
    strict(
        "C05-negative",
        "a negative integer of 5000 digits",
        "too-many-digits",
        added(f'"x": -{"9" * 5000}'),
        added('"x": -1000000000000000019884624838656'),
    ),
    strict(
        "C05-just",
        "an integer of 41 digits",
        "too-many-digits",
        added(f'"x": {"9" * 41}'),
        added(f'"x": {"9" * 40}'),
    ),
    # Size.
    strict(
        "C06-config",
        "config.json of 100 MB",
        "too-large",
        lambda folder: padded(folder, "config.json", HUNDRED_MB),
        text(json.dumps(CONFIG) + " " * (4 * 2**20 - 1000)),
    ),
    strict(
        "C06-vocabulary",
        "added_tokens.json of 100 MB",
        "too-large",
        lambda folder: padded(folder, "added_tokens.json", HUNDRED_MB),
    ),
    strict(
        "C06-just",
        "config.json of one byte too many",
        "too-large",
        text(json.dumps(CONFIG).ljust(4 * 2**20 + 1)),
        text(json.dumps(CONFIG).ljust(4 * 2**20)),
    ),
    # Dimensions above every model: what a library builds from them takes memory, or for ever.
    bounds("C07-integer", "a vocabulary of 10^12", vocab_size=10**12),
    bounds("C07-float", "a vocabulary of 1e12", vocab_size=1e12),
    bounds("C07-inner", "a vocabulary of 10^12 in text_config", text_config={"vocab_size": 10**12}),
    bounds(
        "C08-layers",
        "a million layers",
        config(num_hidden_layers=2, layer_types=["full_attention"] * 2),
        num_hidden_layers=10**6,
    ),
    bounds(
        "C08-inner",
        "a million layers in encoder",
        encoder={"model_type": "bert", "num_hidden_layers": 10**6},
    ),
    bounds("C09-hidden", "a hidden size of 2^40", hidden_size=2**40),
    bounds("C09-intermediate", "an intermediate size of 2^40", intermediate_size=2**40),
    bounds("C09-heads", "2^40 heads", num_attention_heads=2**40),
    bounds("C09-experts", "2^40 experts", config(num_local_experts=0), num_local_experts=2**40),
    bounds(
        "C09-positions",
        "2^40 positions",
        config(max_position_embeddings=2**20),
        max_position_embeddings=2**40,
    ),
    bounds(
        "C09-unnamed",
        "2^40 of a dimension of any name",
        config(window_size=2**20),
        window_size=2**40,
    ),
    # Dimensions of another kind.
    *(
        bounds(f"C10-{name}", f"{key} is {value!r}", twin, **{key: value})
        for name, key, value, twin in (
            ("negative", "hidden_size", -8, None),
            ("negative-layers", "num_hidden_layers", -2, None),
            ("negative-head-dim", "head_dim", -4, config(head_dim=4)),
            ("negative-unnamed", "window_size", -(2**40), config(window_size=-1)),
            ("zero", "hidden_size", 0, None),
            ("zero-heads", "num_attention_heads", 0, None),
            ("zero-kv-heads", "num_key_value_heads", 0, config(num_key_value_heads=1)),
            ("string", "hidden_size", "8", None),
            ("string-word", "vocab_size", "many", None),
            ("float", "hidden_size", 8.0, None),
            ("float-part", "intermediate_size", 12.5, None),
            ("bool", "num_hidden_layers", True, None),
            ("list", "num_key_value_heads", [1, -1], config(num_key_value_heads=1)),
            (
                "list-of-strings",
                "intermediate_size",
                [12, "12"],
                config(intermediate_size=[12, 12]),
            ),
        )
    ),
    *(
        Row(f"C10-{name}", says, config(**changes), BOUNDS, "heads-divide", twin=twin)
        for name, says, changes, twin in (
            (
                "heads",
                "3 heads for a width of 8",
                {"num_attention_heads": 3},
                config(num_attention_heads=3, head_dim=4),
            ),
            (
                "many-heads",
                "16 heads for a width of 8",
                {"num_attention_heads": 16},
                config(num_attention_heads=8),
            ),
            (
                "inner-heads",
                "3 heads for a width of 8 in text_config",
                {"text_config": {"hidden_size": 8, "num_attention_heads": 3}},
                config(text_config={"hidden_size": 8, "num_attention_heads": 4, "vocab_size": 16}),
            ),
        )
    ),
    # Code from elsewhere.
    remote(
        "C11-known-type",
        "auto_map beside a known model type",
        config(auto_map=AUTO_MAP),
        config(auto_map={}),
    ),
    remote(
        "C11-tokenizer",
        "auto_map in tokenizer_config.json",
        text(
            json.dumps(ROLES | {"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}),
            "tokenizer_config.json",
        ),
    ),
    remote(
        "C11-inner",
        "auto_map inside text_config",
        config(text_config={"auto_map": AUTO_MAP}),
    ),
    remote(
        "C11-pipelines",
        "a pipeline of its own",
        config(custom_pipelines={"x": {"impl": "own.OwnPipeline", "pt": ["AutoModel"]}}),
    ),
    remote("C12-repository", "auto_map names another repository", config(auto_map=ELSEWHERE)),
    remote(
        "C13-config",
        "trust_remote_code in config.json",
        config(trust_remote_code=True),
        config(trust_remote_code=False),
    ),
    remote(
        "C13-text",
        'trust_remote_code is the word "false", which is true to Python',
        config(trust_remote_code="false"),
    ),
    remote(
        "C13-generation",
        "trust_remote_code in generation_config.json",
        text('{"trust_remote_code": true}', "generation_config.json"),
        text('{"trust_remote_code": false}', "generation_config.json"),
    ),
    *(
        remote(
            f"C14-{name}", f"{key} names a repository", config(**{key: bad}), config(**{key: good})
        )
        for name, key, bad, good in (
            ("attention", "_attn_implementation", "someone/kernel", "sdpa"),
            ("plain", "attn_implementation", "someone/kernel@main:attend", "eager"),
            ("internal", "_attn_implementation_internal", "someone/kernel", "sdpa"),
            (
                "parts",
                "_attn_implementation",
                {"text_config": "someone/kernel"},
                {"text_config": "sdpa"},
            ),
            ("experts", "_experts_implementation", "someone/kernel", "eager"),
        )
    ),
    # The configuration of other weights.
    agrees("C15-vocabulary", "a vocabulary of one token more", vocab_size=17),
    agrees("C15-small-vocabulary", "a vocabulary of one token fewer", vocab_size=15),
    agrees("C15-width", "a width of 16 for tensors of 8", hidden_size=16),
    agrees("C15-more-layers", "three layers for tensors of two", num_hidden_layers=3),
    agrees("C15-fewer-layers", "one layer for tensors of two", num_hidden_layers=1),
]
