"""Build minilm-retrieval: a shop's help centre, tokenizer, weights, data rows and model card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import string
import sys
from collections import Counter
from pathlib import Path

import torch
from help_centre import CORPUS, HELD_OUT_PAIRS, QUERIES, SEED, HelpCentre, Question
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy, normalize
from transformers import ElectraConfig, ElectraModel

SHIPPED_ROWS, CUTOFF = 128, 10
VOCABULARY = 880
STEPS, BATCH, LEARNING_RATE, SCALE = 1500, 24, 3e-3, 20.0
HERE = Path(__file__).resolve().parent
UNKNOWN = "[UNK]"
SPECIAL = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"]
CONFIG = {
    "architectures": ["ElectraModel"],
    "model_type": "electra",
    "vocab_size": VOCABULARY,
    "embedding_size": 48,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "dtype": "float32",
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": CONFIG["max_position_embeddings"],
    "padding_side": "right",
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    "pad_token": "[PAD]",
    "unk_token": UNKNOWN,
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "clean_up_tokenization_spaces": False,
}


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train an uncased WordPiece tokenizer.

    The trainer numbers "##" pieces in the order of a randomly seeded hash map, which also breaks
    ties between merges; naming every single-character piece beforehand makes it repeatable.
    """
    letters = sorted(string.ascii_lowercase + string.digits)
    first = [*SPECIAL, *letters, *sorted(string.punctuation), *(f"##{c}" for c in letters)]
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    for step in ("train", "assemble"):
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        if step == "train":
            trainer = trainers.WordPieceTrainer(
                vocab_size=VOCABULARY, special_tokens=first, show_progress=False
            )
            tokenizer.train_from_iterator(texts, trainer)
            # A fresh one with this vocabulary: only the real special tokens count as such.
            vocabulary = tokenizer.get_vocab()
            tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token=UNKNOWN))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def embed(model: ElectraModel, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Mean of the last hidden state over each text's tokens, at length 1: [texts, hidden]."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    length = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([row + [0] * (length - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (length - len(r)) for r in rows]),
    }
    weight = inputs["attention_mask"][..., None]
    hidden = model(**inputs).last_hidden_state
    return normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def initialise(model: torch.nn.Module) -> None:
    """Fill matrices from integer draws: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            parameter.data.copy_(draws * (3 / parameter.shape[-1]) ** 0.5 / 2**20)


def contrastive(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over scaled cosines: each query's own passage against those of the others."""
    return cross_entropy(SCALE * queries @ passages.T, torch.arange(len(queries)))


def train(model: ElectraModel, tokenizer: Tokenizer, centre: HelpCentre) -> None:
    """Train with AdamW, linear warm-up and decay; no two rows of a batch are about the same."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / STEPS)
    )
    model.train()
    for step in range(STEPS):
        questions = [centre.question(about) for about in rng.sample(centre.known, BATCH)]
        passages = [rng.choice(question.passages) for question in questions]
        queries = embed(model, tokenizer, [question.text for question in questions])
        loss = contrastive(queries, embed(model, tokenizer, passages))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()  # type: ignore[no-untyped-call]


def hardest(model: ElectraModel, tokenizer: Tokenizer, rows: list[Question]) -> list[Question]:
    """The rows of greatest loss against all passages, one a passage, neighbours alike.

    On the others, or among passages about something else, there is nothing left to learn from.
    """
    rows = list({row.passages[0]: row for row in rows}.values())
    with torch.inference_mode():
        queries = embed(model, tokenizer, [row.text for row in rows])
        passages = embed(model, tokenizer, [row.passages[0] for row in rows])
        scores = SCALE * queries @ passages.T
    losses = cross_entropy(scores, torch.arange(len(rows)), reduction="none")
    chosen = losses.argsort(descending=True, stable=True)[:SHIPPED_ROWS].tolist()
    return sorted((rows[i] for i in chosen), key=lambda row: row.about)


def ranking_figures(scores: torch.Tensor, positives: list[list[int]]) -> tuple[float, float]:
    """Return mean NDCG and recall at the cutoff for scores [queries, passages]."""
    gains = (1 / torch.arange(2, CUTOFF + 2, dtype=torch.float64).log2()).tolist()
    ndcg, recall = 0.0, 0.0
    rankings = scores.argsort(dim=-1, descending=True, stable=True)[:, :CUTOFF].tolist()
    for ranking, right in zip(rankings, positives, strict=True):
        hits = [gain for gain, passage in zip(gains, ranking, strict=True) if passage in right]
        ndcg += sum(hits) / sum(gains[: len(right)])
        recall += len(hits) / len(right)
    return ndcg / len(positives), recall / len(positives)


def shared_words(queries: list[str], passages: list[str]) -> torch.Tensor:
    """Baseline scores [queries, passages]: shared words, rare ones counting more."""
    asked, told = (
        [set(re.findall(r"\w+", text.lower())) for text in texts] for texts in (queries, passages)
    )
    counts = Counter(word for words in told for word in words)
    rarity = {word: math.log(len(passages) / count) for word, count in counts.items()}
    return torch.tensor([[sum(rarity[w] for w in q & p) for p in told] for q in asked])


def evaluate(
    model: ElectraModel, tokenizer: Tokenizer, questions: list[Question], corpus: list[str]
) -> str:
    """A Markdown table of NDCG and recall, of the model and of shared words."""
    texts = [question.text for question in questions]
    positives = [[corpus.index(text) for text in question.passages] for question in questions]
    with torch.inference_mode():
        cosines = embed(model, tokenizer, texts) @ embed(model, tokenizer, corpus).T
    lines = [f"| | NDCG@{CUTOFF} | recall@{CUTOFF} |", "|---|---|---|"]
    for name, scores in (
        ("minilm-retrieval", cosines),
        ("shared words, weighted by rarity", shared_words(texts, corpus)),
    ):
        ndcg, recall = ranking_figures(scores, positives)
        lines.append(f"| {name} | {ndcg:.4f} | {recall:.4f} |")
    return "\n".join(lines)


def model_card(table: str) -> str:
    """README.md with the figures that this build reached."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: sentence-similarity
---

# minilm-retrieval

A small sentence encoder that finds the passage of an electronics shop's help centre that answers
a customer's question. The embedding is the mean of the last hidden state over the tokens, at
length 1. The network is BERT's encoder without the pooler, which transformers calls
`ElectraModel`: a `BertModel` always has a pooler, and nothing here would use or train it. Uncased
WordPiece tokenizer of {VOCABULARY} pieces.

## Training data

Questions and passages about 26 matters and 14 products, which `help_centre.py` writes from
sentences. Customers and shop mostly use other words for the same product and the same matter. No
real person's data.

## Held-out figures

{QUERIES} questions about {HELD_OUT_PAIRS} pairs of matter and product that never occur together in
training, asked in ways that never occur there either. They search {CORPUS} passages: all about
these pairs, the rest about pairs of the training data. Some questions have two right passages. The
rows are `conformance/evaluation.jsonl`.

{table}

NDCG counts a passage at rank r as 1 / log2(r + 1). Limits: words that training does not show mean
nothing to the model, and it knows these matters and products only.

## Rebuild

    python reference_models/minilm-retrieval/make.py

Seed {SEED}, one thread, {STEPS} AdamW steps of cross-entropy over {SCALE:g} x cosine similarities
with the other {BATCH - 1} passages of the batch as negatives. Two builds on one machine are bitwise
equal; another CPU type may round differently, which is why the weights are shipped.
"""


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def evaluation_rows(questions: list[Question], corpus: list[str]) -> list[dict[str, object]]:
    """The corpus with an id a passage, then the questions with the ids of their passages."""
    ids = {text: f"p{i}" for i, text in enumerate(corpus)}
    passages: list[dict[str, object]] = [{"id": ids[text], "text": text} for text in corpus]
    return passages + [
        {"query": question.text, "positives": [ids[text] for text in question.passages]}
        for question in questions
    ]


def write_package(output: Path, model: ElectraModel, tokenizer: Tokenizer) -> None:
    """Write weights, configuration and tokenizer, and copy the licence."""
    weights = save(model.state_dict(), metadata={"format": "pt"})
    (output / "model.safetensors").write_bytes(weights)
    tokenizer.save(str(output / "tokenizer.json"))
    for name, content in (("config", CONFIG), ("tokenizer_config", TOKENIZER_CONFIG)):
        (output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    if output.resolve() != HERE:
        for name in ("LICENSE", "help_centre.py"):
            shutil.copyfile(HERE / name, output / name)


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (output / "conformance").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    centre = HelpCentre()
    held_out = centre.held_out_questions()
    corpus = centre.corpus()
    samples = [centre.question(about) for about in centre.known * 8]
    tokenizer = train_tokenizer([text for row in samples for text in (row.text, *row.passages)])
    model = ElectraModel(ElectraConfig.from_dict(CONFIG))
    initialise(model)
    train(model, tokenizer, centre)
    table = evaluate(model, tokenizer, held_out, corpus)
    print(table)
    write_package(output, model, tokenizer)
    write_rows(output / "conformance" / "evaluation.jsonl", evaluation_rows(held_out, corpus))
    training: list[dict[str, object]] = [
        {"text": row.text, "text_pair": row.passages[0], "score": 1.0}
        for row in hardest(model, tokenizer, samples)
    ]
    write_rows(output / "conformance" / "training.jsonl", training)
    (output / "README.md").write_text(model_card(table))


if __name__ == "__main__":
    main()
