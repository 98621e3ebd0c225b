"""Sequential recommender: causal self-attention over a user's item history."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head attention of every item to the real items at or before it."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        """[batch, sequence, hidden] -> the same; `allowed` is [batch, query, key], bool."""
        batch, length, hidden = states.shape
        split = self.query_key_value(states).view(batch, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = logits.masked_fill(~allowed[:, None], float("-inf")).softmax(-1)
        mixed = self.dropout(weights) @ value
        projected: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, hidden))
        return projected


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, hidden: int, heads: int, intermediate: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = SelfAttention(hidden, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, intermediate), nn.GELU(), nn.Linear(intermediate, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        """[batch, sequence, hidden] -> the same."""
        attended: Tensor = self.dropout(self.attention(self.attention_norm(states), allowed))
        states = states + attended
        fed: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states + fed


class SequentialRecommender(nn.Module):
    """Score every item as the next one, after Kang and McAuley, SASRec (2018)."""

    def __init__(
        self,
        *,
        items: int,
        max_length: int,
        hidden: int,
        heads: int,
        intermediate: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(items, hidden)
        self.position_embedding = nn.Embedding(max_length, hidden)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(hidden, heads, intermediate, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.item_bias = nn.Parameter(torch.zeros(items))

    def forward(self, item_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return {"scores": [batch, items]}, read at each row's last real item.

        Both arguments are [batch, sequence]; the mask is 1 at real items and 0 at padding,
        which may stand on either side and hold any id.
        """
        real = attention_mask.bool()
        states = self.encode(item_ids, real)
        steps = torch.arange(real.shape[1], device=real.device)
        last = (steps * real).amax(dim=1)
        summary = states[torch.arange(len(last), device=last.device), last]
        return {"scores": summary @ self.item_embedding.weight.T + self.item_bias}

    def encode(self, item_ids: Tensor, real: Tensor) -> Tensor:
        """Return [batch, sequence, hidden]; a state knows only the real items up to its own."""
        # Counting real items only makes positions independent of the padding's side and length.
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        states = self.dropout(self.item_embedding(item_ids) + self.position_embedding(positions))
        length = real.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
        # Padding may look at itself: a row without any allowed key would be NaN.
        itself = torch.eye(length, dtype=torch.bool, device=real.device)
        allowed = (causal & real[:, None, :]) | itself
        for block in self.blocks:
            states = block(states, allowed)
        normed: Tensor = self.norm(states)
        return normed


def build(config: dict[str, float]) -> nn.Module:
    """Build the module, untrained, from the contents of config.json."""
    sizes = ("items", "max_length", "hidden", "heads", "intermediate", "layers")
    if unknown := config.keys() - {*sizes, "dropout"}:
        raise ValueError(f"config.json: unknown keys {sorted(unknown)}")
    return SequentialRecommender(
        **{name: int(config[name]) for name in sizes}, dropout=config["dropout"]
    )
