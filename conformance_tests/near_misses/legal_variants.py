"""Legal variants that stand beside no one defect: what looks like a change and is none."""

from __future__ import annotations

from changes import config, gone, manifest, tensors, unrecorded, written
from defect_record import NearMiss


def old_names_of_norms(every) -> None:
    """The names that BERT's norms had once."""
    for name in [n for n in every if "LayerNorm" in n]:
        old = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        every[old] = every.pop(name)


def one(name: str, says: str, package: str, *changes, profile="reproducible", sealed=True):
    """A variant of a reference model."""
    return NearMiss(name, says, package, changes, profile=profile, sealed=sealed)


NEAR_MISSES = [
    one(
        "old-names-of-norms",
        "The weights were saved under the names that the library once had.",
        "bert-ner",
        tensors(old_names_of_norms),
        unrecorded,
    ),
    one(
        "version-in-the-configuration",
        "The configuration says by which version of the library it was written.",
        "t5-rewrite",
        config(transformers_version="4.30.0"),
    ),
    one(
        "another-attention",
        "Another implementation of attention is declared.",
        "llama-assistant",
        manifest('attention = "sdpa"', 'attention = "eager"'),
    ),
    one(
        "a-comment-in-the-manifest",
        "The manifest has a comment and another summary.",
        "bert-sentiment",
        manifest("summary = ", "# Read the card.\nsummary = "),
    ),
    one(
        "no-card",
        "The package has no model card.",
        "minilm-retrieval",
        gone("README.md"),
    ),
    one(
        "a-folder-of-version-control",
        "The package lies in a repository.",
        "torch-recommender",
        written(".gitignore", "*.log\n"),
    ),
    one(
        "fewer-claims",
        "The recommender is declared for a lower profile.",
        "torch-recommender",
        manifest('profile = "evaluated"', 'profile = "runnable"'),
    ),
    one(
        "narrower-lengths",
        "Shorter sequences are declared than the model takes.",
        "t5-rewrite",
        manifest(
            "[interface.axes.sequence]\nmin = 1\nmax = 80",
            "[interface.axes.sequence]\nmin = 2\nmax = 40",
        ),
    ),
]
