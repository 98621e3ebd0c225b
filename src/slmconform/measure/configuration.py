"""The configuration that a loaded model really uses, in keys that library versions share."""

from __future__ import annotations

from collections.abc import Mapping
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

Flat = dict[str, Any]


@measurement
def effective(bench: Bench) -> Flat:
    """Flat keys and values; own code is configured by ``config.json`` as it stands."""
    config = bench.model.config
    table = config.to_dict() if hasattr(config, "to_dict") else bench.package.config or {}
    return flatten(_rotary(table))


def flatten(table: Mapping[str, Any], prefix: str = "") -> Flat:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``, bookkeeping left out; only JSON values."""
    flat: Flat = {}
    for key, value in table.items():
        if str(key) in BOOKKEEPING:
            continue
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(_rotary(value), f"{name}."))
        elif isinstance(value, (list, tuple)):
            flat[name] = [_plain(item) for item in value]
        else:
            flat[name] = _plain(value)
    return dict(sorted(flat.items()))


def _plain(value: Any) -> Any:
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


def changed(recorded: Flat, used: Flat) -> dict[str, tuple[Any, Any]]:
    """Keys that both name with different values: {key: (recorded, used)}.

    A key that only one side names is a default which the other version of the library does not
    write out; what it does to the outputs is judged on the outputs.
    """
    return {
        key: (recorded[key], used[key])
        for key in sorted(recorded.keys() & used.keys())
        if recorded[key] != used[key]
    }
