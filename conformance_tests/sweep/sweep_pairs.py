"""Every pair of a text architecture and a task that the installed transformers names."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import transformers
from sweep_data import table
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from slmconform.model.architecture import MAPPINGS


@dataclass(frozen=True, order=True)
class Pair:
    """A model type, a task of the standard, and the class that does it."""

    type: str
    task: str
    cls: str

    @property
    def name(self) -> str:
        """How data files and reports call it."""
        return f"{self.type}/{self.task}"


def named() -> dict[str, Pair]:
    """Every pair of the library's mappings by its name, text or not; imports no model."""
    pairs: dict[str, Pair] = {}
    for task, mapping in MAPPINGS.items():
        for model_type, names in getattr(modeling_auto, mapping).items():
            first = names[0] if isinstance(names, (tuple, list)) else names
            pair = Pair(model_type, task, str(first))
            pairs[pair.name] = pair
    return pairs


def enumerated() -> tuple[list[Pair], dict[str, str]]:
    """The pairs to be built, and of each other pair the reason why it is left out."""
    pairs: list[Pair] = []
    left_out: dict[str, str] = {}
    first_task: dict[tuple[str, str], str] = {}  # a class in two mappings is what the first says
    for pair in named().values():
        known = first_task.setdefault((pair.type, pair.cls), pair.task)
        if known != pair.task:
            left_out[pair.name] = f"its class is that of {known}"
        elif reason := _left_out(pair):
            left_out[pair.name] = reason
        else:
            pairs.append(pair)
    return sorted(pairs), left_out


def _left_out(pair: Pair) -> str:
    """Why a pair is none of a text model; empty where it is one."""
    rules = table("left_out.toml")
    for row in rules["listed"]:
        if pair.type in row["types"]:
            return str(row["reason"])
    if pair.type not in CONFIG_MAPPING_NAMES:
        return "transformers has no configuration of this model type"
    try:
        config, cls = CONFIG_MAPPING[pair.type], getattr(transformers, pair.cls)
        main = getattr(cls, "main_input_name", "input_ids")
    except (AttributeError, ImportError, RuntimeError) as error:
        return f"it cannot be imported: {str(error).strip().splitlines()[0]}"
    accepted = inspect.signature(cls.forward).parameters
    if main != "input_ids" or "input_ids" not in accepted:
        return str(rules["no_tokens"])
    for row in rules["argument"]:
        if not accepted.keys().isdisjoint(row["names"]):
            return str(row["reason"])
    parts = getattr(config, "sub_configs", None) or {}
    if isinstance(parts, dict) and parts.keys() - set(rules["text_parts"]):
        return str(rules["composite"])
    return ""


def shard_of(pairs: list[Pair], shard: str) -> list[Pair]:
    """Every n-th pair, from the i-th on, of ``i/n``: neighbours are alike and fall apart."""
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"a shard is i/n with 1 <= i <= n, such as 2/8, and not {shard!r}")
    return pairs[int(index) - 1 :: int(count)]
