"""What is measured between the outputs of a variant and those of its base, and the bounds on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from slmconform.engine.registry import Nonconformance
from slmconform.standard.manifest import VariantSection


@dataclass(frozen=True)
class Distance:
    """An output of a variant against that of its base, on the inputs that ``on`` names.

    ``kl``: mean KL(base || variant) in nats; ``agreeing``: of ``positions`` those with the same
    arg-max; vectors and quantities have neither. ``cosine`` and ``mean_cosine``: least and mean
    cosine of ``vectors`` output vectors.
    """

    output: str
    on: str
    cosine: float
    mean_cosine: float
    vectors: int
    kl: float | None = None
    agreeing: int = 0
    positions: int = 0

    @property
    def top1(self) -> float | None:
        """The share of positions with the same arg-max."""
        return self.agreeing / self.positions if self.positions else None


@dataclass(frozen=True)
class Worst:
    """The worst of each measure over all outputs and inputs; None where no output has it."""

    kl: float | None
    top1: float | None
    cosine: float

    @classmethod
    def of(cls, found: Sequence[Distance]) -> Worst:
        """Over at least one distance."""
        kl = [one.kl for one in found if one.kl is not None]
        top1 = [one.top1 for one in found if one.top1 is not None]
        return cls(max(kl, default=None), min(top1, default=None), min(d.cosine for d in found))


def alternatives(base: Tensor, got: Tensor, *, binary: bool) -> tuple[float, int, int]:
    """Mean divergence of scores, (positions, alternatives); how many agree, and of how many."""
    if binary or base.shape[-1] == 1:
        real = base.isfinite()
        base, got = _two_classes(base[real]), _two_classes(got[real])
    best = base.amax(-1, keepdim=True)
    agree = base.gather(-1, got.argmax(-1, keepdim=True)) == best  # ties agree
    return float(divergence(base, got).mean()), int(agree.sum()), agree.numel()


def _two_classes(logits: Tensor) -> Tensor:
    """(n,) -> (n, 2): scores of no and yes whose softmax is the sigmoid."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def divergence(base: Tensor, got: Tensor) -> Tensor:
    """KL(softmax(base) || softmax(got)) in nats of each row, (rows, classes) -> (rows,)."""
    p, q = functional.log_softmax(base, -1), functional.log_softmax(got, -1)
    terms = torch.where(p.isneginf(), 0.0, p.exp() * (p - q))
    return terms.sum(-1).clamp(min=0.0)


def cosines_of(base: Tensor, got: Tensor) -> Tensor:
    """The cosine of each row; of one value a position, that of the whole column."""
    one, other = (torch.where(t.isfinite(), t, 0.0) for t in (base, got))
    if base.shape[-1] == 1:
        one, other = one.T, other.T
    dot = (one * other).sum(-1)
    norms = one.norm(dim=-1) * other.norm(dim=-1)
    same = (one == 0).all(-1) & (other == 0).all(-1)  # nothing against nothing
    return torch.where(norms > 0, dot / norms, same).clamp(-1.0, 1.0)


def broken(variant: VariantSection, found: Sequence[Distance]) -> Iterator[Nonconformance]:
    """Every declared bound that a variant is outside of, on the recorded inputs first."""
    for one in found:
        for key, got, bound, code in (
            ("max_kl", one.kl, variant.max_kl, "kl-exceeded"),
            ("top1_agreement", one.top1, variant.top1_agreement, "top1-below"),
            ("min_cosine", one.cosine, variant.min_cosine, "cosine-below"),
        ):
            if bound is None or got is None:
                continue
            if got <= bound if key == "max_kl" else got >= bound:
                continue
            yield Nonconformance(
                code=code,
                got=f"{one.output}: {_words(key, got, one)}",
                want=f"<= {bound:g}" if key == "max_kl" else f">= {bound:g}",
                where=f"slm.toml: variants: {variant.name}: {key}",
                why=f"the outputs of {variant.path or variant.kind} on {one.on} are further "
                "from those of the base than declared",
                fix="make the variant of this base, or declare what was measured",
            )


def _words(key: str, got: float, found: Distance) -> str:
    if key == "max_kl":
        return f"mean KL {got:.4g} nats over {found.positions} positions"
    if key == "top1_agreement":
        return f"the same top choice at {found.agreeing} of {found.positions} positions"
    return f"least cosine {got:.6f} of {found.vectors} vectors (mean {found.mean_cosine:.6f})"
