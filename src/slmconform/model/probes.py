"""Probe inputs: small integer batches that exercise every declared axis.

All randomness is Python's Mersenne Twister over integers: the same on every machine. A probe is
a dict of tensors, (batch, sequence, ...) as the manifest's axes say.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from slmconform.model.loaded import DTYPES
from slmconform.standard.manifest import InputSpec, InterfaceSection

BATCH = 4
TYPICAL = 12
ROLE_OF_NAME = {
    "input_ids": "tokens",
    "decoder_input_ids": "decoder-tokens",
    "attention_mask": "mask",
    "token_type_ids": "segments",
    "position_ids": "positions",
}
SEQUENCE = "sequence"

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class TokenRules:
    """What random tokens have to respect.

    ``avoid``: special ids, which would mean something. ``pad``: the id at masked places.
    ``final``: an id that each row has to end with (encoder-decoder classifiers read there).
    ``fixed``: ids that have to stand at places of each row.
    """

    avoid: frozenset[int] = frozenset()
    pad: int = 0
    final: int | None = None
    fixed: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: object, task: str) -> TokenRules:
        """Read the special ids of a transformers configuration."""
        if config is None:
            return cls()
        own: Mapping[str, object] = config.to_dict() if hasattr(config, "to_dict") else {}
        inner = text_config(config)
        pad, eos = (
            next((v for c in (config, inner) if isinstance(v := getattr(c, key, None), int)), None)
            for key in ("pad_token_id", "eos_token_id")
        )
        final = None
        if own.get("is_encoder_decoder") and task == "text-classification":
            final = eos
        legal_pad = pad if pad is not None and pad >= 0 else 0
        return cls(_special(own), legal_pad, final, _fixed(own, task))


def text_config(config: Any, *, decoder: bool = False) -> Any:
    """The configuration of the part that reads text; the whole where it has no such part."""
    if decoder and hasattr(getattr(config, "decoder", None), "vocab_size"):
        return config.decoder
    try:
        return config.get_text_config(decoder=decoder)
    except (AttributeError, TypeError, ValueError):  # not transformers, or several such parts
        return config


def _special(own: Mapping[str, object]) -> frozenset[int]:
    found: set[int] = set()
    for key, value in own.items():
        if isinstance(value, Mapping):
            found |= _special(value)
        elif str(key).endswith(("token_id", "token_ids", "token_index")):
            values = value if isinstance(value, list) else [value]
            found.update(v for v in values if isinstance(v, int) and v >= 0)
    return frozenset(found)


def _fixed(own: Mapping[str, object], task: str) -> dict[int, int]:
    """Where a question ends, for the architectures that refuse a row which does not say it."""
    if task not in ("question-answering", "multiple-choice"):
        return {}
    separator, question = own.get("sep_token_id"), own.get("question_token_id")
    if own.get("model_type") == "longformer" and isinstance(separator, int):
        return dict.fromkeys((1, 2, 3), separator)
    if own.get("model_type") == "splinter" and isinstance(question, int):
        return {1: question}
    return {}


def role(spec: InputSpec) -> str:
    """What an input is for: declared, or by the name that transformers gives it."""
    return spec.role or ROLE_OF_NAME.get(spec.name, "values")


def by_role(interface: InterfaceSection, wanted: str) -> InputSpec | None:
    """The first input with a role."""
    return next((spec for spec in interface.inputs if role(spec) == wanted), None)


def sizes(interface: InterfaceSection, which: str) -> dict[str, int]:
    """Sizes of every named axis: "smallest", "typical" or "largest"."""
    chosen: dict[str, int] = {}
    for name, axis in interface.axes.items():
        usual = BATCH if name == "batch" else TYPICAL if axis.max > 8 else 3
        middle = min(max(usual, axis.min), axis.max)
        chosen[name] = {"smallest": axis.min, "typical": middle, "largest": axis.max}[which]
    batch = interface.axes.get("batch")
    if which == "typical":
        chosen.setdefault("batch", BATCH)
    else:
        # the largest sequence with the smallest batch: one long row shows what many would
        chosen["batch"] = batch.min if batch else 1
    return chosen


def build(
    interface: InterfaceSection, axes: Mapping[str, int], rules: TokenRules, seed: int = 20
) -> Inputs:
    """Random legal values for every input; masks are all ones."""
    return {
        spec.name: _values(spec, axes, rules, random.Random(f"{seed}:{spec.name}"))  # noqa: S311
        for spec in interface.inputs
    }


def _values(
    spec: InputSpec, axes: Mapping[str, int], rules: TokenRules, rng: random.Random
) -> Tensor:
    shape = [axis if isinstance(axis, int) else axes[axis] for axis in spec.axes]
    dtype, kind = DTYPES[spec.dtype], role(spec)
    if kind == "mask":
        return torch.ones(shape, dtype=dtype)
    if kind == "positions":
        return torch.arange(shape[-1], dtype=dtype).expand(shape).clone()
    low, high = spec.range or (0, 1)
    count = prod(shape)
    if dtype.is_floating_point:
        steps = 2**16
        unit = [rng.randrange(steps + 1) / steps for _ in range(count)]
        values = [low + (high - low) * u for u in unit]
        return torch.tensor(values, dtype=torch.float64).reshape(shape).to(dtype)
    avoid = rules.avoid if kind in ("tokens", "decoder-tokens") else frozenset()
    legal = _draw(rng, int(low), int(high), avoid, count)
    tokens = torch.tensor(legal, dtype=dtype).reshape(shape)
    if kind == "tokens":
        for place, token in rules.fixed.items():
            tokens[..., place : place + 1] = token
        if rules.final is not None:
            tokens[..., -1] = rules.final
    return tokens


def _draw(rng: random.Random, low: int, high: int, avoid: Iterable[int], count: int) -> list[int]:
    """``count`` integers in [low, high] outside ``avoid``, unless nothing else is left."""
    banned = {v for v in avoid if low <= v <= high}
    if len(banned) > high - low:
        banned = set()
    drawn: list[int] = []
    while len(drawn) < count:
        value = rng.randint(low, high)
        if value not in banned:
            drawn.append(value)
    return drawn


def rows(inputs: Inputs, index: slice | list[int]) -> Inputs:
    """Some rows of every input."""
    return {name: value[index] for name, value in inputs.items()}


def at(inputs: Inputs, index: int) -> Inputs:
    """One entry of every input along its first axis, which is dropped."""
    return {name: value[index] for name, value in inputs.items()}


def sequence_axis(interface: InterfaceSection, name: str) -> int | None:
    """The position of the sequence axis of an input or output, None where it has none."""
    for spec in (*interface.inputs, *interface.outputs):
        if spec.name == name:
            return spec.axes.index(SEQUENCE) if SEQUENCE in spec.axes else None
    return None


def cut(interface: InterfaceSection, inputs: Inputs, length: int, rules: TokenRules) -> Inputs:
    """The first ``length`` tokens along the sequence axis of every input that has one."""
    short: Inputs = {}
    for spec in interface.inputs:
        value, axis = inputs[spec.name], sequence_axis(interface, spec.name)
        if axis is not None:
            value = value.narrow(axis, 0, length).clone()
            if rules.final is not None and role(spec) == "tokens":
                value[..., -1] = rules.final
        short[spec.name] = value
    return short


def padded(
    interface: InterfaceSection, singles: list[Inputs], width: int, side: str, rules: TokenRules
) -> Inputs:
    """Rows of different lengths as one batch of ``width``, padded on ``side`` and masked."""
    batch: Inputs = {}
    for spec in interface.inputs:
        axis = sequence_axis(interface, spec.name)
        values = [single[spec.name] for single in singles]
        if axis is not None:
            fill = rules.pad if role(spec) == "tokens" else 0
            values = [_pad(value, axis, width, side, fill) for value in values]
        batch[spec.name] = torch.cat(values)
    return batch


def _pad(value: Tensor, axis: int, width: int, side: str, fill: int) -> Tensor:
    missing = list(value.shape)
    missing[axis] = width - value.shape[axis]
    blank = torch.full(missing, fill, dtype=value.dtype)
    return torch.cat([value, blank] if side == "right" else [blank, value], dim=axis)


def positions_of(mask: Tensor) -> Tensor:
    """Position ids that count real tokens only, as text generation passes for left padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
