"""Whether the loaded parameters hold what the files hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import bits

# Names that the library rewrites on loading: old checkpoints, and prefixes of the inner model.
LEGACY = ((".gamma", ".weight"), (".beta", ".bias"))


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
    these the sorted values of all together must agree, which no rearrangement changes.
    """
    own = bench.model.tensors()
    unmatched: dict[str, Tensor] = {}
    met: set[str] = set()
    different: list[str] = []
    for name, tensor in _file_tensors(bench):
        target = _target(name, tensor, own, _prefix(bench))
        if target is None:
            unmatched[name] = tensor
            continue
        met.add(target)
        if not _same(tensor, own[target]):
            different.append(name)
    loaded = {n for n in _distinct(own) if n not in met and not _alias(n, met, own)}
    ignored = set(_ignored(unmatched, bench)) if not loaded else set()
    pool = {n: t for n, t in unmatched.items() if n not in ignored}
    agree = _sorted_bits(pool, own, loaded)
    return Comparison(
        named=len(met),
        rearranged=len(pool) if agree else 0,
        different=tuple(different),
        unaccounted=() if agree else tuple(sorted({*pool, *loaded})),
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


def _distinct(own: dict[str, Tensor]) -> list[str]:
    first: dict[int, str] = {}
    for name, tensor in own.items():
        first.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), name)
    return list(first.values())


def _alias(name: str, met: set[str], own: dict[str, Tensor]) -> bool:
    return any(own[other].data_ptr() == own[name].data_ptr() for other in met)


def _ignored(unmatched: dict[str, Tensor], bench: Bench) -> list[str]:
    """File tensors that the class itself declares superfluous (old buffers, for instance)."""
    import re

    patterns = getattr(bench.model.module, "_keys_to_ignore_on_load_unexpected", None) or ()
    buffers = {name.rpartition(".")[2] for name, _ in bench.model.module.named_buffers()}
    return [
        name
        for name in unmatched
        if any(re.search(p, name) for p in patterns) or name.rpartition(".")[2] in buffers
    ]


def _sorted_bits(pool: dict[str, Tensor], own: dict[str, Tensor], loaded: set[str]) -> bool:
    if not pool and not loaded:
        return True
    if not pool or not loaded:
        return False
    dtype = own[next(iter(loaded))].dtype
    files = torch.cat([bits(t.to(dtype)).flatten() for t in pool.values()])
    model = torch.cat([bits(own[n]).flatten().cpu() for n in loaded])
    if files.numel() != model.numel():
        return False
    return bool(torch.equal(files.sort().values, model.sort().values))
