"""Tiny packages of plain torch code behind an entry point, well behaved or not."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from package_builders import make_package

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """\
spec = "1.0"
profile = "reproducible"

[model]
name = "tiny-linear"
version = "1.0.0"
task = "tensor"
license = "MIT"

[loader]
kind = "torch"
entry = "modeling.py:build"
dtype = "float32"

[dependencies]
python = ">=3.11"
requires = ["torch>=2.10"]

[[interface.inputs]]
name = "x"
dtype = "float32"
axes = ["batch", 4]
range = [-1.0, 1.0]

[[interface.outputs]]
name = "y"
dtype = "float32"
axes = ["batch", 3]
"""

CODE = """\
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
{forward}
        return {{"y": self.inner(x)}}


def build(config):
{build}
    return Model()
"""


def own_code(folder: Path, *, build: str = "", forward: str = "") -> Path:
    """A conforming package whose ``build`` and ``forward`` first do what they are told."""
    code = CODE.format(
        build=textwrap.indent(build or "pass", " " * 4),
        forward=textwrap.indent(forward or "pass", " " * 8),
    )
    rng = np.random.default_rng(0)
    tensors = {
        "inner.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "inner.bias": rng.normal(size=3).astype(np.float32),
    }
    make_package(folder, manifest=MANIFEST, tensors=tensors, files={"modeling.py": code})
    (folder / "config.json").unlink()
    return folder
