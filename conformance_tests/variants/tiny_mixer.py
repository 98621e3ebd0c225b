"""Own code small enough to be written a second time in ONNX: tokens that hear their mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixer(nn.Module):
    """Embedding, the mean of the row added, two linear layers."""

    def __init__(self, tokens: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, hidden)
        self.inner = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """(batch, sequence) twice -> logits (batch, sequence, outputs) and what they are of."""
        states = self.embed(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        real = attention_mask.to(states.dtype).unsqueeze(-1)
        mean = (states * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
        hidden = torch.relu(self.inner(states + mean))
        return {"logits": self.head(hidden), "hidden": hidden}


def build(config: dict) -> nn.Module:
    """The module, with weights to be filled in."""
    return Mixer(config["tokens"], config["hidden"], config["outputs"])
