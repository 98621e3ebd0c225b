"""A tagger of own code that claims a score and two variants, recorded by the highest profile."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from packages import WEIGHTS, edit
from safetensors.torch import load_file, save_file
from training_packages import learner, rerecorded

from slmconform.isolation.client import ForkServer
from slmconform.measure.opening import opened
from slmconform.measure.prediction import run, sequences_of

DATA = "conformance/evaluation.jsonl"
HALF = "variants/half/model.safetensors"
CLAIMS = f"""
[[evaluation]]
metric = "accuracy"
data = "{DATA}"
value = 0.857
tolerance = 0.001

[[variants]]
name = "half"
kind = "safetensors"
path = "{HALF}"
max_kl = 0.02
top1_agreement = 0.9

[[variants]]
name = "int8"
kind = "dynamic-int8"
min_cosine = 0.99
"""


def recorded(folder: Path, server: ForkServer) -> Path:
    """Build and record it."""
    learner(folder, "tagger")
    edit(folder, "slm.toml", 'profile = "trainable"', 'profile = "evaluated"')
    (folder / "conformance").mkdir()
    write_rows(folder, answered(folder))
    save_half(folder, load_file(folder / WEIGHTS))
    with (folder / "slm.toml").open("a", encoding="utf-8") as file:
        file.write(CLAIMS)
    return rerecorded(folder, server)


def answered(folder: Path) -> list[dict]:
    """Rows with the labels that the model itself gives, every seventh excepted."""
    rows = []
    for at in range(42):
        tokens = [1 + (7 * at + 5 * n + at * n) % 39 for n in range(4)]
        rows.append({"inputs": {"input_ids": tokens}, "label": [0] * 4})
    arguments = {"package": str(folder), "device": "cpu", "scratch": str(folder.parent)}
    with opened(arguments) as (bench, _):
        best = run(bench, sequences_of(bench, rows), lambda seen: seen.answer.argmax(-1))
    for at, (row, classes) in enumerate(zip(rows, best, strict=True)):
        row["label"] = [(int(c) + (at % 7 == 0)) % 5 for c in classes]
    return rows


def write_rows(folder: Path, rows: list[dict]) -> None:
    """The data of the claim."""
    (folder / DATA).write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def save_half(folder: Path, tensors: dict[str, torch.Tensor], dtype: str = "float16") -> None:
    """The variant with these weights."""
    (folder / HALF).parent.mkdir(parents=True, exist_ok=True)
    kept = {name: one.to(getattr(torch, dtype)) for name, one in tensors.items()}
    save_file(kept, folder / HALF, {"format": "pt"})
