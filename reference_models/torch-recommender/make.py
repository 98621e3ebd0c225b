"""Build torch-recommender: viewing histories, weights, data rows and model card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import torch
from modeling import SequentialRecommender, build
from safetensors.torch import save
from torch.nn.functional import cross_entropy

SEED = 20240611
TRAIN_USERS, HELD_OUT_USERS, SHIPPED_USERS = 3000, 300, 128
STEPS, BATCH, LEARNING_RATE = 1500, 48, 3e-3
GENRES, SERIES = 8, 25
CUTOFF = 10
HERE = Path(__file__).resolve().parent
CONFIG: dict[str, float] = {
    "items": GENRES * SERIES,
    "max_length": 32,
    "hidden": 32,
    "heads": 2,
    "intermediate": 64,
    "layers": 2,
    "dropout": 0.1,
}


def skewed(rng: random.Random, count: int) -> int:
    """Draw from range(count), small numbers more often."""
    return min(rng.randrange(count), rng.randrange(count), rng.randrange(count))


def history(rng: random.Random) -> list[int]:
    """One user's items. Genre g is the series of items g * SERIES ... (g + 1) * SERIES - 1.

    A user likes three genres, mostly watches a series in order, sometimes jumps to a popular
    item of the same genre, and changes genre along a fixed chain or back to a liked one.
    """
    liked = [skewed(rng, GENRES), rng.randrange(GENRES), rng.randrange(GENRES)]
    genre = rng.choice(liked)
    episode = skewed(rng, SERIES)
    items = []
    for _ in range(rng.randrange(6, int(CONFIG["max_length"]))):
        items.append(genre * SERIES + episode)
        turn = rng.randrange(100)
        if turn < 60:
            episode = (episode + 1) % SERIES
        elif turn < 75:
            episode = skewed(rng, SERIES)
        else:
            genre = (genre + 3) % GENRES if turn < 85 else rng.choice(liked)
            episode = skewed(rng, SERIES)
    return items


def histories() -> tuple[list[list[int]], list[list[int]]]:
    """Return the training users' and the held-out users' histories."""
    rng = random.Random(SEED)
    users = [history(rng) for _ in range(TRAIN_USERS + HELD_OUT_USERS)]
    return users[:TRAIN_USERS], users[TRAIN_USERS:]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return item ids and attention mask, both [batch, sequence], padded on the right."""
    length = max(map(len, rows))
    item_ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return item_ids, mask


def initialise(model: torch.nn.Module) -> None:
    """Zero the biases and draw matrices as integers: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            scale = math.sqrt(3 / parameter.shape[-1]) / 2**20
            parameter.data.copy_(draws * scale)
        elif name.endswith("bias"):
            parameter.data.zero_()


def train(model: SequentialRecommender, users: list[list[int]]) -> None:
    """Predict each next item of each history."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / STEPS)
    )
    model.train()
    for step in range(STEPS):
        item_ids, mask = padded(rng.sample(users, BATCH))
        states = model.encode(item_ids[:, :-1], mask[:, :-1].bool())
        scores = states @ model.item_embedding.weight.T + model.item_bias
        counted = mask[:, 1:].bool()
        loss = cross_entropy(scores[counted], item_ids[:, 1:][counted])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()


def ranking_figures(ranking: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Return recall and NDCG at the cutoff for rankings [users, CUTOFF] of item ids."""
    hits = (ranking == targets[:, None]).double()
    discounts = 1 / torch.arange(2, CUTOFF + 2, dtype=torch.float64).log2()
    return hits.sum(1).mean().item(), (hits * discounts).sum(1).mean().item()


def evaluate(model: torch.nn.Module, users: list[list[int]]) -> tuple[float, float]:
    """Recall and NDCG of held-out users' last items given all items before."""
    item_ids, mask = padded([row[:-1] for row in users])
    with torch.inference_mode():
        scores = model(item_ids, mask)["scores"]
    return ranking_figures(scores.topk(CUTOFF).indices, torch.tensor([row[-1] for row in users]))


def popularity(users: list[list[int]], held_out: list[list[int]]) -> tuple[float, float]:
    """Return the same figures when everybody gets the most frequent training items."""
    top = [item for item, _ in Counter(i for row in users for i in row).most_common(CUTOFF)]
    ranking = torch.tensor([top]).expand(len(held_out), -1)
    return ranking_figures(ranking, torch.tensor([row[-1] for row in held_out]))


def model_card(reached: tuple[float, float], baseline: tuple[float, float]) -> str:
    """README.md with the figures that this build reached."""
    return f"""---
license: apache-2.0
language: en
task: sequence-scoring
tags: [recommendation, sequence-scoring]
---

# torch-recommender

A sequential recommender in plain torch: causal self-attention over a user's item history scores
every item as the next one. `modeling.py:build` makes the module from `config.json`; the weights
are `model.safetensors`. It shows how a model of one's own code is packaged.

    scores = model(item_ids, attention_mask)["scores"]    # [batch, {CONFIG["items"]}]

Padding may stand on either side and hold any item id; the mask alone marks it.

## Training data

{TRAIN_USERS} synthetic viewing histories of 6 to {CONFIG["max_length"] - 1} items, made by
`make.py`: {GENRES} genres of {SERIES} items each, users with lasting tastes who mostly follow a
series in order and change genre along a fixed chain. No real person's data.

## Held-out figures

The last item of {HELD_OUT_USERS} users who are not in the training data, ranked among all
{CONFIG["items"]} items. The rows are `conformance/evaluation.jsonl`: the items before, and the last
one as target; the mask follows from their number.

| | recall@{CUTOFF} | NDCG@{CUTOFF} |
|---|---|---|
| torch-recommender | {reached[0]:.4f} | {reached[1]:.4f} |
| most popular items | {baseline[0]:.4f} | {baseline[1]:.4f} |

## Rebuild

    python reference_models/torch-recommender/make.py

Seed {SEED}, one thread, {STEPS} AdamW steps. Two builds on one machine are bitwise equal;
another CPU type may round differently, which is why the weights are shipped.
"""


def write_rows(path: Path, users: list[list[int]]) -> None:
    """Write histories as JSON lines: all items but the last, and the last as target."""
    rows = [{"inputs": {"item_ids": items[:-1]}, "target": items[-1]} for items in users]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (output / "conformance").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    users, held_out = histories()
    model = cast("SequentialRecommender", build(CONFIG))
    initialise(model)
    train(model, users)
    reached, baseline = evaluate(model, held_out), popularity(users, held_out)
    print(f"held-out recall@{CUTOFF} {reached[0]:.4f}, NDCG@{CUTOFF} {reached[1]:.4f}")
    print(f"popularity baseline {baseline[0]:.4f}, {baseline[1]:.4f}")

    weights = save(model.state_dict(), metadata={"format": "pt"})
    (output / "model.safetensors").write_bytes(weights)
    (output / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    write_rows(output / "conformance" / "evaluation.jsonl", held_out)
    write_rows(output / "conformance" / "training.jsonl", users[:SHIPPED_USERS])
    (output / "README.md").write_text(model_card(reached, baseline))
    if output.resolve() != HERE:
        for name in ("LICENSE", "modeling.py"):
            shutil.copyfile(HERE / name, output / name)


if __name__ == "__main__":
    main()
