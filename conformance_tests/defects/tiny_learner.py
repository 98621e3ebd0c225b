"""A small transformer that computes its own loss: a tagger, a causal writer or a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """Attention and a feed-forward block, each behind a norm."""

    def __init__(self, hidden: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.mix = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.wide = nn.Linear(hidden, 2 * hidden)
        self.narrow = nn.Linear(2 * hidden, hidden)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        """(batch, sequence, hidden), (batch, 1, query, key) -> (batch, sequence, hidden)."""
        rows, length, hidden = states.shape
        split = self.mix(self.norm(states)).view(rows, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * 0.3
        weights = scores.masked_fill(~allowed, -1e30).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(rows, length, hidden)
        states = states + self.out(mixed)
        return states + self.narrow(functional.gelu(self.wide(states)))


class Model(nn.Module):
    """Tokens to one row of numbers each, or one row for all of them."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden = config["hidden"]
        self.kind = config["kind"]
        self.tokens = nn.Embedding(config["vocab_size"], hidden)
        self.places = nn.Embedding(config["length"], hidden)
        self.layers = nn.ModuleList(Layer(hidden, config["heads"], config["eps"]) for _ in range(1))
        self.norm = nn.LayerNorm(hidden, eps=config["eps"])
        self.head = nn.Linear(hidden, config["outputs"])
        if self.kind == "writer":
            self.head.weight = self.tokens.weight

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> dict:
        """(batch, sequence) -> logits, (batch, sequence, outputs) or (batch, outputs); and loss."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        real = attention_mask.bool()
        length = input_ids.shape[1]
        places = (real.cumsum(1) - 1).clamp(min=0)
        states = self.tokens(input_ids) + self.places(places)
        allowed = real[:, None, None, :].expand(-1, 1, length, length)
        if self.kind == "writer":
            allowed = allowed & torch.ones(length, length, device=real.device).tril().bool()
        for layer in self.layers:
            states = layer(states, allowed)
        if self.kind == "classifier":
            weights = real.to(states).unsqueeze(-1)
            states = (states * weights).sum(1) / weights.sum(1)
        logits = self.head(self.norm(states))
        if labels is None:
            return {"logits": logits}
        return {"logits": logits, "loss": self.loss(logits, labels)}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over counted labels."""
        if self.kind == "classifier":
            return functional.binary_cross_entropy_with_logits(logits, labels)
        if self.kind == "writer":
            logits, labels = logits[:, :-1], labels[:, 1:]
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def build(config: dict) -> nn.Module:
    """The module, with weights to be filled in."""
    return Model(config)
