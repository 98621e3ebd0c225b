"""The floor of a full check: import, load, and the same number of bare forward passes.

Usage: floor.py MODEL CLASS NATIVE DOUBLE. Native passes run on a typical batch, but for one on
the smallest and one on the largest input; double passes run on ``model.double()``. One thread,
as in a check. Nothing is compared, hashed or written.
"""

from __future__ import annotations

import os
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import torch
import transformers


def main(folder: str, class_name: str, native: int, double: int) -> None:
    """Load once and run."""
    torch.set_num_threads(1)
    cls = getattr(transformers, class_name)
    model = cls.from_pretrained(folder, dtype=torch.float32).eval()
    longest = min(512, model.config.max_position_embeddings)
    typical = torch.ones(4, 12, dtype=torch.int64)
    with torch.no_grad():
        model(input_ids=typical[:1, :1])
        model(input_ids=torch.ones(1, longest, dtype=torch.int64))
        for _ in range(native - 2):
            model(input_ids=typical)
        model.double()
        for _ in range(double):
            model(input_ids=typical)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
