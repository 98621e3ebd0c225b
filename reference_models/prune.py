"""Prune a reference model by magnitude into ``variants/pruned/model.safetensors``.

    python reference_models/prune.py reference_models/bert-sentiment --share 0.3
    python reference_models/prune.py reference_models/bert-sentiment --pattern 2:4

Of every matrix but the embeddings the values nearest to zero become zero: a share of the whole
matrix (Han et al. 2015), or N of each M neighbours in a row, the pattern that sparse tensor cores
multiply (Mishra et al. 2021). Everything is stored in float16, so that the variant takes half the
bytes of a float32 base. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save

EMBEDDINGS = ("embed", "shared.weight")
VARIANT = "variants/pruned/model.safetensors"


def share(weight: torch.Tensor, part: float) -> torch.Tensor:
    """Which values of a matrix stay when ``part`` of them, the smallest, become zero."""
    order = weight.abs().flatten().argsort(stable=True)
    keep = torch.ones(weight.numel(), dtype=torch.bool)
    keep[order[: int(part * weight.numel())]] = False
    return keep.reshape(weight.shape)


def pattern(weight: torch.Tensor, zeros: int, group: int) -> torch.Tensor:
    """Which values of a matrix (out, in) stay when ``zeros`` of each ``group`` become zero."""
    rows = weight.abs().reshape(weight.shape[0], -1, group)
    order = rows.argsort(dim=-1, stable=True)
    keep = torch.ones_like(rows, dtype=torch.bool)
    return keep.scatter(-1, order[..., :zeros], value=False).reshape(weight.shape)


def pruned(
    tensors: dict[str, torch.Tensor], part: float, groups: tuple[int, int] | None
) -> dict[str, torch.Tensor]:
    """The tensors in float16, their matrices pruned; integers and vectors as they are."""
    result = {}
    for name, tensor in sorted(tensors.items()):
        prunable = tensor.dim() == 2 and not any(word in name for word in EMBEDDINGS)
        if prunable and groups and tensor.shape[1] % groups[1] == 0:
            tensor = tensor * pattern(tensor, *groups)  # noqa: PLW2901
        elif prunable and not groups:
            tensor = tensor * share(tensor, part)  # noqa: PLW2901
        result[name] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
    return result


def groups_of(text: str) -> tuple[int, int]:
    """``2:4`` as two numbers, the smaller first."""
    zeros, group = (int(part) for part in text.split(":"))
    if not 0 < zeros < group:
        raise argparse.ArgumentTypeError(f"{text} is no pattern N:M with 0 < N < M")
    return zeros, group


def main() -> None:
    """Write the variant and say how many values became zero."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the folder of the reference model")
    parser.add_argument("--share", type=float, default=0.3, help="share of each matrix")
    parser.add_argument("--pattern", type=groups_of, help="N:M, in place of a share")
    chosen = parser.parse_args()
    tensors = load_file(chosen.model / "model.safetensors")
    result = pruned(tensors, chosen.share, chosen.pattern)
    target = chosen.model / VARIANT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(save(result, metadata={"format": "pt"}))
    total = sum(t.numel() for t in result.values())
    zeros = sum(int((t == 0).sum()) for t in result.values())
    print(f"{target}: {zeros} of {total} values are zero, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
