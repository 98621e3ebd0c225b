"""The floor of a full check: import, load, and the same number of bare passes and steps.

Usage: floor.py MODEL CLASS NATIVE DOUBLE DERIVATIVES DOUBLE_STEPS NATIVE_STEPS. Native passes run
on a typical batch, but for one on the smallest and one on the largest input; double ones on
``model.double()``. A step is a forward and a backward pass over the 8 rows (or pairs) of a training
batch, without an optimiser. One thread, as in a check. Nothing is compared, hashed or written.
"""

from __future__ import annotations

import os
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import torch
import transformers


def main(folder: str, class_name: str, counts: list[int]) -> None:
    """Load once and run."""
    native, double, derivatives, double_steps, native_steps = counts
    torch.set_num_threads(1)
    cls = getattr(transformers, class_name)
    model = cls.from_pretrained(folder, dtype=torch.float32).eval()
    longest = min(512, model.config.max_position_embeddings)
    typical = torch.ones(4, 12, dtype=torch.int64)
    rows = torch.ones(16 if class_name.endswith("Model") else 8, 12, dtype=torch.int64)
    with torch.no_grad():
        model(input_ids=typical[:1, :1])
        model(input_ids=torch.ones(1, longest, dtype=torch.int64))
        for _ in range(native - 2):
            model(input_ids=typical)
    steps(model, rows, native_steps)
    model.double()
    with torch.no_grad():
        for _ in range(double + derivatives):
            model(input_ids=typical)
    steps(model, rows, double_steps)


def steps(model: torch.nn.Module, rows: torch.Tensor, count: int) -> None:
    """Forward and backward passes of the mean square of the first output."""
    for _ in range(count):
        model.zero_grad(set_to_none=True)
        model(input_ids=rows)[0].square().mean().backward()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(count) for count in sys.argv[3:]])
