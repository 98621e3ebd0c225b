"""The configuration that a loaded model really uses, in keys that library versions share."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any

from slmconform.measure.bench import Bench, measurement

# Bookkeeping: says where a model came from or how to call it, not what it computes.
BOOKKEEPING = frozenset(
    [
        "transformers_version",
        "_name_or_path",
        "name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "torch_dtype",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_experts_implementation",
        "use_cache",
        "return_dict",
        "output_hidden_states",
        "output_attentions",
        "torchscript",
        "use_bfloat16",
        "pruned_heads",
        "finetuning_task",
        "task_specific_params",
        "prefix",
        "gradient_checkpointing",
        "model_type",
        "tokenizer_class",
        "problem_type",
    ]
)

ABSENT = object()

# Kinds of layers that version 5 of transformers calls otherwise than version 4.
LAYER_KINDS = {"mamba": "linear_attention", "attention": "full_attention"}
INFINITE = "__float__"  # as version 5 writes {"__float__": "Infinity"}
LISTS_OF_KINDS = ("layer_types", "layers_block_type", "block_types")
# Version 5 holds this to be true for these, whatever the file says: the head is tied or not by
# what the file holds, and SLM-IFC-001 compares the ties themselves.
ALWAYS_TIED = frozenset(["t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano"])

Flat = dict[str, Any]


@measurement
def effective(bench: Bench) -> Flat:
    """Flat keys and values; own code is configured by ``config.json`` as it stands."""
    config = bench.model.config
    if not hasattr(config, "to_dict"):
        return flatten(bench.package.config or {})
    import transformers

    table = config.to_dict()
    return flatten(_without_gathered(table) if transformers.__version__ < "5" else table)


def _without_gathered(table: Mapping[str, Any]) -> dict[str, Any]:
    """What version 4 reads: it carries ``rope_parameters`` along and goes by ``rope_theta``."""
    return {
        key: _without_gathered(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if key != "rope_parameters"
    }


def flatten(table: Mapping[str, Any], prefix: str = "") -> Flat:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``, bookkeeping left out; only JSON values."""
    flat: Flat = {}
    always_tied = table.get("model_type") in ALWAYS_TIED
    for key, value in (table if prefix.endswith("rope.") else _rotary(table)).items():
        name = f"{prefix}{key}"
        if key in BOOKKEEPING or (always_tied and key == "tie_word_embeddings"):
            continue
        if isinstance(value, Mapping) and INFINITE not in value:
            flat.update(flatten(value, f"{name}."))
        elif key in LISTS_OF_KINDS and isinstance(value, (list, tuple)):
            flat[name] = [LAYER_KINDS.get(str(kind), kind) for kind in value]
        else:
            flat[name] = _plain(value)
    return dict(sorted(flat.items()))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping) and INFINITE in value:
        return str(value[INFINITE])
    if isinstance(value, float) and not isfinite(value):  # which strict JSON cannot say
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return str(value)


def _rotary(table: Mapping[str, Any]) -> dict[str, Any]:
    """One spelling of the rotary settings: transformers 4 spreads them, 5 gathers them."""
    rest = dict(table)
    scaling = rest.pop("rope_scaling", None)
    gathered = rest.pop("rope_parameters", None)
    rope: dict[str, Any] = {}
    if isinstance(gathered, Mapping):
        rope = dict(gathered)
    elif "rope_theta" in rest:
        rope = dict(scaling) if isinstance(scaling, Mapping) else {}
        rope.setdefault("rope_type", rope.pop("type", "default"))
    for key in ("rope_theta", "partial_rotary_factor"):
        spread = rest.pop(key, None)
        if rope and spread is not None:
            rope.setdefault(key, spread)
    if rope.get("partial_rotary_factor") == 1.0:  # the default, which one version writes out
        del rope["partial_rotary_factor"]
    return {**rest, "rope": rope} if rope else rest


def changed(recorded: Flat, used: Flat, *, exact: bool = False) -> dict[str, tuple[Any, Any]]:
    """Keys that both name with different values: {key: (recorded, used)}.

    A key that only one side names, or that is null on one side, is a default which the other
    version of the library does not write out; what it does to the outputs is judged on them. No
    library writes the configuration of own code: ``exact`` counts these too, with `ABSENT` in
    place of a value.
    """
    keys = recorded.keys() | used.keys() if exact else recorded.keys() & used.keys()
    pairs = {key: (recorded.get(key, ABSENT), used.get(key, ABSENT)) for key in sorted(keys)}
    return {
        key: pair
        for key, pair in pairs.items()
        if pair[0] != pair[1] and (exact or None not in pair)
    }
