"""``config.json`` judged by its text: dimensions in bounds, no remote code, the tensors it implies.

Only keys whose meaning is the same in every architecture are judged; what an architecture does
with the others shows when it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from slmconform.package.problem import PackageProblem, shown

if TYPE_CHECKING:
    from slmconform.package.tensors import TensorEntry

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """The greatest value of a kind of dimension, and whether zero stands for "none"."""

    ceiling: int
    zero: bool = False


VOCABULARY = Bound(2**24)
WIDTH = Bound(2**20)
LAYERS = Bound(2**12)
HEADS = Bound(2**14)
POSITIONS = Bound(2**31)
OPTIONAL = Bound(2**20, zero=True)
ANYTHING = 2**31  # for every other integer whose key ends like a dimension

DIMENSIONS: dict[str, Bound] = {
    **dict.fromkeys(("vocab_size", "src_vocab_size", "tgt_vocab_size"), VOCABULARY),
    **dict.fromkeys(
        (
            *("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim"),
            *("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"),
            *("d_ff", "n_inner", "d_kv", "moe_intermediate_size", "word_embed_proj_dim"),
        ),
        WIDTH,
    ),
    **dict.fromkeys(
        (
            *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
            *("encoder_layers", "decoder_layers", "num_decoder_layers"),
        ),
        LAYERS,
    ),
    **dict.fromkeys(
        (
            *("num_attention_heads", "n_head", "n_heads", "num_heads"),
            *("encoder_attention_heads", "decoder_attention_heads", "num_key_value_heads"),
        ),
        HEADS,
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), POSITIONS),
    **dict.fromkeys(("head_dim", "type_vocab_size", "num_experts", "num_local_experts"), OPTIONAL),
}
# Elsewhere than in a transformers configuration these name an axis rather than a size.
AMBIGUOUS = frozenset({"dim"})
DIMENSION_LIKE = re.compile(r"(size|dim|layers?|heads?|embeddings|experts|positions|blocks)$")

HEAD_PAIRS = (
    ("hidden_size", "num_attention_heads"),
    ("hidden_size", "n_head"),
    ("n_embd", "n_head"),
    ("n_embd", "num_attention_heads"),
    ("d_model", "n_heads"),
    ("d_model", "encoder_attention_heads"),
    ("d_model", "decoder_attention_heads"),
    ("dim", "n_heads"),
)
# These take the whole part of the quotient as head dimension, and project to it and back.
ROUNDED_HEADS = re.compile(r"^(glm4_moe|glm4v_moe|qwen3_omni_moe)")
HEAD_DIMENSION = re.compile(r"(head_dim|head_size|^d_kv|^d_head|^dim_head|^kv_channels)$")


def scopes(config: Config, place: str = "") -> Iterator[tuple[str, Config]]:
    """The configuration and every configuration inside it, each with its dotted place."""
    yield place, config
    for key, value in config.items():
        inner = isinstance(value, dict) and (key.endswith("_config") or "model_type" in value)
        if inner and key != "quantization_config":
            yield from scopes(value, f"{place}{key}.")


def dimension_problems(config: Config, where: str) -> list[PackageProblem]:
    """Every dimension that is not a positive integer below its ceiling."""
    problems = []
    typed = "model_type" in config
    for place, scope in scopes(config):
        for key, value in scope.items():
            bound = DIMENSIONS.get(key) if typed or key not in AMBIGUOUS else None
            if bound:
                want = _wanted(value, bound)
            else:
                large = type(value) is int and abs(value) > ANYTHING
                want = "at most 2^31" if large and DIMENSION_LIKE.search(key) else ""
            if want:
                problems.append(
                    PackageProblem(
                        "dimension",
                        f"{where}: {place}{key}",
                        shown(value if isinstance(value, int) else repr(value)),
                        want,
                        "write the dimension that the weights have",
                    )
                )
        if not problems:
            problems += _head_problems(scope, f"{where}: {place}")
    return problems


def _wanted(value: object, bound: Bound) -> str:
    """What the value of a dimension should have been; empty where it is right."""
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        bound = Bound(bound.ceiling, zero=True)
        return next((w for one in value if (w := _wanted(one, bound))), "")
    if bound is POSITIONS and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0 or (value == 0 and not bound.zero):
        return "a positive integer"
    return f"at most {bound.ceiling}" if value > bound.ceiling else ""


def _head_problems(scope: Config, where: str) -> Iterator[PackageProblem]:
    if any(HEAD_DIMENSION.search(key) and value for key, value in scope.items()):
        return
    if ROUNDED_HEADS.search(str(scope.get("model_type", ""))):
        return
    for width, heads in HEAD_PAIRS:
        size, count = scope.get(width), scope.get(heads)
        if type(size) is int and type(count) is int and size % count:
            yield PackageProblem(
                "heads-divide",
                f"{where}{heads}",
                f"{count} heads for a {width} of {size}",
                f"a number of heads that divides {size}, or a head_dim",
                f"correct {heads} or {width}",
            )


def remote_code_problems(value: object, where: str) -> list[PackageProblem]:
    """Every place of a configuration file that asks for code from elsewhere."""
    return [
        PackageProblem(
            "remote-code",
            f"{where}: {place}",
            got,
            "a configuration that asks for no code",
            "remove the key; ship own code with loader kind `torch` and an entry point",
        )
        for place, got in _requests(value, "")
    ]


def _requests(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for at, one in enumerate(value):
            yield from _requests(one, f"{place}[{at}]")
    if not isinstance(value, dict):
        return
    for key, one in value.items():
        here = f"{place}.{key}" if place else key
        if key in ("auto_map", "custom_pipelines") and one:
            yield here, f"{key} names code: {shown(repr(one))}"
        elif key == "trust_remote_code" and one:
            yield here, "trust_remote_code is set"
        elif "_implementation" in key and any("/" in name for name in _texts(one)):
            yield here, f"an implementation from a repository: {shown(repr(one))}"
        else:
            yield from _requests(one, here)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)


# --- the tensors that a configuration implies ------------------------------------------------

WIDTH_KEYS = ("hidden_size", "d_model", "n_embd", "dim", "emb_dim")
EMBEDDING_WIDTH_KEYS = (
    *WIDTH_KEYS,
    "embedding_size",
    "word_embed_proj_dim",
    "input_embedding_size",
)
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
SIDE_LAYERS = {
    "encoder_layers": re.compile(r"^(model\.)?encoder\.layers$"),
    "decoder_layers": re.compile(r"^(model\.)?decoder\.layers$"),
}
# These keep more embedding rows than their vocabulary, or run one stack several times.
IRREGULAR = re.compile(r"^(csm|hrm_text|kyutai|mllama|molmo2|moshi|neomme)")
EMBEDDING = re.compile(
    r"(^|\.)(word_embeddings|embed_tokens|tok_embeddings|wte|shared|embed_in|word_embedding)\.weight$"
)
STACKS = frozenset({"layer", "layers", "h", "block", "blocks"})


def agreement_problems(
    config: Config, tensors: Mapping[str, TensorEntry], where: str
) -> list[PackageProblem]:
    """Where vocabulary, width or depth of a text model are not those of the tensors."""
    inner = config.get("text_config")
    scope, place = (
        (cast("Config", inner), f"{where}: text_config.")
        if isinstance(inner, dict)
        else (config, f"{where}: ")
    )
    types = (config.get("model_type"), scope.get("model_type"))
    if type(scope.get("vocab_size")) is not int or any(IRREGULAR.match(str(t)) for t in types):
        return []
    found = (
        _vocabulary_problem(scope, tensors, place),
        _width_problem(scope, tensors, place),
        *_depth_problems(scope, tensors, place),
    )
    return [problem for problem in found if problem]


def _vocabulary_problem(
    scope: Config, tensors: Mapping[str, TensorEntry], place: str
) -> PackageProblem | None:
    size = scope.get("vocab_size")
    rows = {e.name: e.shape[0] for e in _embeddings(tensors)}
    if type(size) is not int or not rows or size in rows.values():
        return None
    name, count = max(rows.items(), key=lambda row: row[1])
    return _disagreement(f"{place}vocab_size", size, f"{count} rows in {name}")


def _width_problem(
    scope: Config, tensors: Mapping[str, TensorEntry], place: str
) -> PackageProblem | None:
    key = next((k for k in WIDTH_KEYS if type(scope.get(k)) is int), "")
    if not key:
        return None
    columns = {e.name: e.shape[1] for e in _embeddings(tensors)}
    known = {scope[k] for k in EMBEDDING_WIDTH_KEYS if type(scope.get(k)) is int}
    if columns and known.isdisjoint(columns.values()):
        name, count = next(iter(columns.items()))
        return _disagreement(f"{place}{key}", scope[key], f"{count} columns in {name}")
    if any(scope[key] in entry.shape for entry in tensors.values()):
        return None
    return _disagreement(f"{place}{key}", scope[key], "no tensor with an axis of that size")


def _depth_problems(
    scope: Config, tensors: Mapping[str, TensorEntry], place: str
) -> Iterator[PackageProblem]:
    stacks = _stacks(tensors)
    extra = scope.get("num_nextn_predict_layers")
    spare = extra if type(extra) is int else 0
    main = next((k for k in LAYER_KEYS if type(scope.get(k)) is int), "")
    sides = {
        key: {name: count for name, count in stacks.items() if pattern.search(name)}
        for key, pattern in SIDE_LAYERS.items()
    }
    for key, concerned in {main: stacks, **sides}.items():
        depth = scope.get(key)
        if type(depth) is not int or not concerned:
            continue
        # A causal model cut out of an encoder-decoder has the depth of that side alone.
        # LongCat-Flash counts its blocks under one key, and the two layers of each under another.
        others = () if key in SIDE_LAYERS else (*SIDE_LAYERS, *LAYER_KEYS)
        allowed = {depth, depth + spare, *(scope.get(other) for other in others)}
        if allowed.isdisjoint(concerned.values()):
            name, count = max(concerned.items(), key=lambda stack: stack[1])
            yield _disagreement(f"{place}{key}", depth, f"{count} layers in {name}")


def _embeddings(tensors: Mapping[str, TensorEntry]) -> list[TensorEntry]:
    return [
        entry
        for name, entry in tensors.items()
        if entry.floating and len(entry.shape) == 2 and EMBEDDING.search(name)
    ]


def _stacks(names: Iterable[str]) -> dict[str, int]:
    """Outermost numbered stack of layers -> how many layers the names show."""
    stacks: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdecimal()), 0)
        if at and parts[at - 1] in STACKS:
            stacks.setdefault(".".join(parts[:at]), set()).add(parts[at])
    return {prefix: len(numbers) for prefix, numbers in stacks.items()}


def _disagreement(where: str, declared: int, seen: str) -> PackageProblem:
    return PackageProblem(
        "config-weights",
        where,
        f"{declared}, but the weights have {seen}",
        "the dimension of the tensors",
        "restore the configuration that belongs to these weights",
    )
