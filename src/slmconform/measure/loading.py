"""Whether the loaded parameters hold what the files hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import bits, mixed
from slmconform.model.loaded import places

# Names that the library rewrites on loading: old checkpoints, and prefixes of the inner model.
LEGACY = ((".gamma", ".weight"), (".beta", ".bias"))
CHUNK = 2**20  # values hashed at a time


@dataclass(frozen=True)
class Comparison:
    """Names compared one to one, names compared as a whole, and those that differ."""

    named: int
    rearranged: int
    different: tuple[str, ...]
    unaccounted: tuple[str, ...]


@measurement
def compared(bench: Bench) -> Comparison:
    """Every tensor of the files against the loaded model, bit for bit after the cast.

    Tensors that the library fuses, splits or transposes on loading cannot be met by name; of
    these all values together must agree in whatever order, which no rearrangement changes.
    """
    own = bench.model.tensors()
    unmatched: dict[str, Tensor] = {}
    met: set[str] = set()
    different: list[str] = []
    # Own code may hand out tensors that it does not compute with.
    registered = places(bench.model.module) if bench.loader.kind == "torch" else set()
    untraced: set[str] = set()
    for name, tensor in _file_tensors(bench):
        target = _target(name, tensor, own, _prefix(bench))
        if target is None:
            unmatched[name] = tensor
            continue
        met.add(target)
        if registered and own[target].untyped_storage().data_ptr() not in registered:
            untraced.add(name)
        if not _same(tensor, own[target]):
            different.append(name)
    loaded = _unmet(own, met) - _computed(own, bench)
    ignored = set(_ignored(unmatched, bench)) if not loaded else set()
    pool = {n: t for n, t in unmatched.items() if n not in ignored}
    agree = _same_values(pool, {name: own[name] for name in loaded})
    return Comparison(
        named=len(met),
        rearranged=len(pool) if agree else 0,
        different=tuple(different),
        unaccounted=tuple(sorted(untraced if agree else {*untraced, *pool, *loaded})),
    )


def _file_tensors(bench: Bench) -> Iterator[tuple[str, Tensor]]:
    for file in sorted({entry.file for entry in bench.package.weights.tensors.values()}):
        with safe_open(str(bench.package.root / file), framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a mapping
                yield name, shard.get_tensor(name)


def _prefix(bench: Bench) -> str:
    return str(getattr(bench.model.module, "base_model_prefix", "") or "")


def _target(name: str, tensor: Tensor, own: dict[str, Tensor], prefix: str) -> str | None:
    candidates = [name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")]
    for old, new in LEGACY:
        candidates += [c.removesuffix(old) + new for c in candidates[:3] if c.endswith(old)]
    return next((c for c in candidates if c in own and own[c].shape == tensor.shape), None)


def _same(tensor: Tensor, loaded: Tensor) -> bool:
    cast = tensor.to(loaded.dtype)
    return bool(torch.equal(bits(cast), bits(loaded).cpu()))


def _unmet(own: dict[str, Tensor], met: set[str]) -> set[str]:
    """Tensors of the model that no file tensor was met by, each under its first name."""
    seen = {_place(own[name]) for name in met}
    names = set()
    for name, tensor in own.items():
        if _place(tensor) not in seen:
            seen.add(_place(tensor))
            names.add(name)
    return names


def _place(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.numel() else id(tensor)


def _computed(own: dict[str, Tensor], bench: Bench) -> set[str]:
    """Tensors that the class declares to compute by itself, such as sinusoidal positions.

    That they come out the same each time is SLM-DET-002.
    """
    patterns = getattr(bench.model.module, "_keys_to_ignore_on_load_missing", None) or ()
    return {name for name in own if any(re.search(p, name) for p in patterns)}


def _ignored(unmatched: dict[str, Tensor], bench: Bench) -> list[str]:
    """File tensors that the class itself declares superfluous (old buffers, for instance)."""
    patterns = getattr(bench.model.module, "_keys_to_ignore_on_load_unexpected", None) or ()
    buffers = {name.rpartition(".")[2] for name, _ in bench.model.module.named_buffers()}
    return [
        name
        for name in unmatched
        if any(re.search(p, name) for p in patterns) or name.rpartition(".")[2] in buffers
    ]


def _same_values(pool: dict[str, Tensor], loaded: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors hold the same values, in whatever order."""
    if not pool and not loaded:
        return True
    if not pool or not loaded:
        return False
    dtype = next(iter(loaded.values())).dtype
    return _multiset(pool, dtype) == _multiset(loaded, dtype)


def _multiset(tensors: dict[str, Tensor], dtype: torch.dtype) -> tuple[int, int]:
    """The number of values, and the sum of a hash of each: no order matters, no copy is made."""
    count = total = 0
    for tensor in tensors.values():
        for part in torch.split(tensor.detach().flatten(), CHUNK):
            values = bits(part.to(dtype)).cpu().long()
            count, total = count + values.numel(), total + int(mixed(values).sum())
    return count, total % 2**64
