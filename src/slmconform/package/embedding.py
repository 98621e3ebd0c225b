"""How many token ids a model can look up: the rows of its input embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slmconform.package.tensors import TensorEntry

# Last parts of the names of input embeddings, the surest first.
EMBEDDINGS = (
    "word_embeddings.weight",
    "embed_tokens.weight",
    "wte.weight",
    "shared.weight",
    "tok_embeddings.weight",
    "word_embedding.weight",
    "embed_in.weight",
    "token_embedding.weight",
    "token_embeddings.weight",
    "tokens_embed.weight",
    "input_embedding.weight",
    "w.weight",
    "embeddings.weight",
    "embedding.weight",
)
_SECTIONS = ("text_config", "llm_config", "language_config", "decoder")


@dataclass(frozen=True, slots=True)
class Embedding:
    """The number of rows, and the tensor or key that says so."""

    rows: int
    where: str


def input_embedding(
    tensors: Mapping[str, TensorEntry], config: Mapping[str, object] | None
) -> Embedding | None:
    """The input embedding among the tensors, else the vocabulary size of the configuration."""
    for suffix in EMBEDDINGS:
        found = [
            tensor
            for name, tensor in tensors.items()
            if len(tensor.shape) == 2 and (name == suffix or name.endswith("." + suffix))
        ]
        if found:
            largest = max(found, key=lambda tensor: tensor.shape[0])
            return Embedding(largest.shape[0], f"{largest.file}: {largest.name}")
    return _configured(config or {})


def _configured(config: Mapping[str, object]) -> Embedding | None:
    for section in ("", *_SECTIONS):
        table = config.get(section) if section else config
        size = table.get("vocab_size") if isinstance(table, Mapping) else None
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return Embedding(size, f"config.json: {section + '.' if section else ''}vocab_size")
    return None
