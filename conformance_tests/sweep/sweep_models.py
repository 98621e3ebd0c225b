"""One tiny seeded model of an architecture for a task, saved as a folder without a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from sweep_data import table
from sweep_pairs import Pair
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LABELS = 3
VOCABULARY = 99
LARGEST = 3_000_000  # parameters; what is above is not tiny, and no rule has reached it
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


class NotBuilt(Exception):
    """No tiny model can be made; the message says why."""


def build(pair: Pair, folder: Path, dtype: torch.dtype = torch.float32) -> int:
    """Save a model with moved weights in ``folder``; the number of its parameters.

    Weights are moved off their initial values, so that no norm, bias or tie is trivial.
    """
    try:
        cls = getattr(transformers, pair.cls)
        config = tiny(pair, cls)
        _refuse_large(cls, config)
        torch.manual_seed(11)
        model = cls(config).eval()
        noise = torch.Generator().manual_seed(12)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.is_floating_point():
                    parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.1)
        model.to(dtype).save_pretrained(folder)
    except NotBuilt:
        raise
    except Exception as error:
        raise NotBuilt(_said(error)) from error
    return sum(parameter.numel() for parameter in model.parameters())


def tiny(pair: Pair, cls: Any) -> Any:
    """The configuration: the default one of its type, made small by the tables."""
    made = getattr(cls, "config_class", None) or CONFIG_MAPPING[pair.type]
    default = made()
    odd = table("exceptions.toml")
    settings = shrunk(default) | odd.get(pair.name, odd.get(pair.type, {}))
    if pair.task in ("text-classification", "token-classification"):
        settings["num_labels"] = LABELS
    if pair.task == "causal-lm" and pair.type in table("sizes.toml")["decoders"]["types"]:
        settings["is_decoder"] = True
    return made(**settings)


def shrunk(default: Any) -> dict[str, Any]:
    """The settings that make a default configuration small."""
    rules, known = table("sizes.toml"), default.to_dict()
    small = {
        key: size
        for key, size in rules["sizes"].items()
        if _number(known.get(key)) and known[key] > 0
    }
    small |= {
        key: min(most, known[key])
        for key, most in rules["at_most"].items()
        if _number(known.get(key))
    }
    for key, heads in rules["shared_heads"].items():
        if _number(known.get(key)) and heads in small:
            small[key] = small[heads] if known[key] == known[heads] else min(2, known[key])
    return small | _layer_kinds(known, small) | _token_ids(default, known)


def _layer_kinds(known: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    """One layer of each kind, at least two, where the default names a kind for each layer."""
    count = known.get("num_hidden_layers")
    kinds = {
        key: list(dict.fromkeys(value))
        for key, value in known.items()
        if isinstance(value, list) and len(value) == count and isinstance(value[0], str)
    }
    if not kinds:
        return {}
    layers = max(2, *(len(each) for each in kinds.values()))
    made: dict[str, Any] = {
        key: [each[i % len(each)] for i in range(layers)] for key, each in kinds.items()
    }
    return made | {"num_hidden_layers": layers}


def _token_ids(default: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Special ids inside the vocabulary: those of the default, where it has legal ones."""
    legal: dict[str, Any] = {}
    free = iter(range(3, VOCABULARY))
    for key in dict.fromkeys([*IDS, *known]):
        if not key.endswith("_token_id"):
            continue
        value = getattr(default, key, None)
        if isinstance(value, int) and 0 <= value < VOCABULARY:
            continue
        if value is None and key != "pad_token_id":
            continue
        legal[key] = IDS[key] if key in IDS else next(free)
    if known.get("is_encoder_decoder") and known.get("decoder_start_token_id") is None:
        legal["decoder_start_token_id"] = 0
    return legal


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_large(cls: Any, config: Any) -> None:
    """Count parameters before memory is taken; some models can only be made for real."""
    try:
        with torch.device("meta"):
            model = cls(config)
    except Exception:
        return
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > LARGEST:
        largest = max(model.named_parameters(), key=lambda row: row[1].numel())
        shape = list(largest[1].shape)
        raise NotBuilt(f"{count} parameters are not tiny; {largest[0]} has the shape {shape}")


def _said(error: Exception) -> str:
    """An exception in one line without places of this machine."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
