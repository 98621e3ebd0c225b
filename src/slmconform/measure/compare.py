"""Comparing outputs, in the order in which a difference can hide.

NaN and infinity masks, then dtype and shape, then integers exactly, then the numeric rule: a NaN
never counts as "not greater".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from slmconform.engine.registry import Nonconformance
from slmconform.model.loaded import Outputs

SEMANTIC = 1e-10  # of max(1, max |y|): float64 noise is 4.7e-15, one float32 ulp 6.6e-7


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference in an output, where it was, and how large the output is."""

    max_abs: float
    scale: float
    where: str

    @property
    def bound(self) -> float:
        """What a float64 comparison allows."""
        return SEMANTIC * max(1.0, self.scale)

    @property
    def share(self) -> float:
        """How much of the bound it takes."""
        return self.max_abs / self.bound

    def __str__(self) -> str:
        return f"max |difference| {self.max_abs:.1e} (bound {self.bound:.1e} in float64)"


def place(name: str, flat: int, shape: torch.Size) -> str:
    """``logits[2, 5, 17]`` for a flat index."""
    index = []
    for size in reversed(shape):
        index.append(flat % size)
        flat //= size
    return f"{name}[{', '.join(str(i) for i in reversed(index))}]"


def bitwise(got: Outputs, want: Outputs) -> str:
    """The first place where two sets of outputs differ in a bit, "" where none does."""
    for name, expected in want.items():
        if name not in got:
            return f"{name} is missing"
        actual = got[name]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            return f"{name}: {describe(actual)} against {describe(expected)}"
        same = bits(actual) == bits(expected)
        if not bool(same.all()):
            flat = int((~same).int().argmax())
            one, other = actual.flatten()[flat].item(), expected.flatten()[flat].item()
            many = int((~same).sum())
            at = place(name, flat, expected.shape)
            return f"{at}: {one!r} against {other!r} ({many} of {same.numel()} values differ)"
    return ""


def bits(tensor: Tensor) -> Tensor:
    """The same memory as integers, so that NaN equals NaN and 0 differs from -0."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    plain = tensor.detach()
    if plain.is_complex():
        plain = torch.view_as_real(plain.resolve_conj())
    if plain.is_floating_point():
        return plain.view(whole[plain.element_size()])
    return plain


def digest(tensor: Tensor) -> str:
    """Sha256 of the bytes of a tensor: faster on a cpu than a sum, and it misses nothing."""
    return hashlib.sha256(bits(tensor).contiguous().cpu().numpy().data).hexdigest()


def mixed(values: Tensor) -> Tensor:
    """A hash of each int64: the splitmix64 finaliser (Steele, Lea, Flood 2014), wrapping."""
    z = values * -7046029254386353131
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    return (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685


def describe(tensor: Tensor) -> str:
    """``float32 (4, 12, 64)``."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def difference(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> Difference:
    """The largest difference; infinite where shapes, NaNs or infinities differ."""
    return worst(_one(name, got[name], expected) for name, expected in want.items())


def worst(found: Iterable[Difference]) -> Difference:
    """The one that takes most of its own bound: a large output excuses no other."""
    return max(found, key=lambda one: one.share, default=Difference(0.0, 0.0, ""))


def largest(value: Tensor) -> float:
    """The largest finite magnitude, 0 where nothing is finite."""
    finite = value[value.isfinite()].double().abs()
    return float(finite.max()) if finite.numel() else 0.0


def _one(name: str, got: Tensor, want: Tensor) -> Difference:
    if got.shape != want.shape:
        return Difference(float("inf"), 0.0, f"{name}: {describe(got)} against {describe(want)}")
    if want.numel() == 0:
        return Difference(0.0, 0.0, name)
    a, b = got.detach().cpu().double(), want.detach().cpu().double()
    unlike = (a.isnan() != b.isnan()) | (a.isinf() != b.isinf()) | (a.isinf() & (a != b))
    if bool(unlike.any()):
        return Difference(float("inf"), 0.0, place(name, int(unlike.int().argmax()), b.shape))
    gap = torch.where(b.isfinite(), (a - b).abs(), 0.0)
    scale = largest(b)
    if not (got.is_floating_point() or want.is_floating_point()):
        # Integers are the same or not, also those that float64 cannot tell apart.
        gap, scale = torch.where(got.cpu() != want.cpu(), gap.clamp(min=1.0), 0.0), 0.0
    flat = int(gap.argmax())
    return Difference(float(gap.flatten()[flat]), scale, place(name, flat, b.shape))


def require(found: Difference, *, code: str, why: str = "", fix: str = "") -> str:
    """Pass with the figures, or raise `Nonconformance` with the place of the difference."""
    if found.max_abs <= found.bound:
        return str(found)
    raise Nonconformance(
        code=code,
        got=f"max |difference| {found.max_abs:.3g} at {found.where}",
        want=f"<= {found.bound:.1e} in float64",
        why=why,
        fix=fix,
    )
