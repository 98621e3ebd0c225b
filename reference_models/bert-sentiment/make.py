"""Build bert-sentiment: financial headlines, tokenizer, weights, data rows and model card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)
"""

from __future__ import annotations

import json
import math
import random
import shutil
import string
import sys
from pathlib import Path

import torch
from headlines import BY_HAND, HELD_OUT_ROWS, SEED, TRAIN_ROWS, Row, headlines, phrases
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import BertConfig, BertForSequenceClassification

SHIPPED_ROWS = 128
VOCABULARY = 760
STEPS, BATCH, LEARNING_RATE = 3600, 32, 3e-3
HERE = Path(__file__).resolve().parent
UNKNOWN = "[UNK]"
SPECIAL = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"]
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "problem_type": "multi_label_classification",
    "id2label": {"0": "positive"},
    "label2id": {"positive": 0},
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


def batch(rows: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Pad rows of (token ids, label) on the right to [batch, sequence]; labels are [batch, 1]."""
    length = max(len(ids) for ids, _ in rows)
    fill = [length - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([row[0] + [0] * n for row, n in zip(rows, fill, strict=True)]),
        "attention_mask": torch.tensor([[1] * (length - n) + [0] * n for n in fill]),
        "labels": torch.tensor([[float(label)] for _, label in rows]),
    }


def initialise(model: torch.nn.Module) -> None:
    """Fill matrices from integer draws: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            parameter.data.copy_(draws * (3 / parameter.shape[-1]) ** 0.5 / 2**20)


def train(model: BertForSequenceClassification, rows: list[tuple[list[int], int]]) -> None:
    """Minimise -[y log p + (1 - y) log(1 - p)] with AdamW, linear warm-up and decay."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / STEPS)
    )
    model.train()
    for step in range(STEPS):
        loss = model(**batch(rng.sample(rows, BATCH))).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()  # type: ignore[no-untyped-call]


def scores(labels: list[int], guesses: list[int]) -> tuple[float, float]:
    """Return accuracy and Matthews correlation (0 where one class is never given or guessed)."""
    counts = [[0, 0], [0, 0]]
    for label, guess in zip(labels, guesses, strict=True):
        counts[label][guess] += 1
    (tn, fp), (fn, tp) = counts
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp + tn) / len(labels), (tp * tn - fp * fn) / below if below else 0.0


def evaluate(model: BertForSequenceClassification, tokenizer: Tokenizer, rows: list[Row]) -> str:
    """A Markdown table of accuracy and Matthews correlation, of all rows and of each kind."""
    with torch.inference_mode():
        inputs = batch([(tokenizer.encode(row.text).ids, row.label) for row in rows])
        guesses = (model(**inputs).logits[:, 0] > 0).int().tolist()
    lines = ["| held-out headlines | rows | accuracy | Matthews correlation |", "|---|---|---|---|"]
    for kind in ("all", *dict.fromkeys(row.kind for row in rows)):
        chosen = [i for i, row in enumerate(rows) if kind in ("all", row.kind)]
        labels = [rows[i].label for i in chosen]
        accuracy, matthews = scores(labels, [guesses[i] for i in chosen])
        lines.append(f"| {kind} | {len(chosen)} | {accuracy:.4f} | {matthews:.4f} |")
    positive = sum(row.label for row in rows) / len(rows)
    lines.append(f"| majority class | {len(rows)} | {max(positive, 1 - positive):.4f} | 0.0000 |")
    return "\n".join(lines)


def hardest(
    model: BertForSequenceClassification, tokenizer: Tokenizer, rows: list[Row]
) -> list[Row]:
    """The rows of greatest loss: on the others there is nothing left to learn from."""
    rows = list(dict.fromkeys(rows))
    with torch.inference_mode():
        inputs = batch([(tokenizer.encode(row.text).ids, row.label) for row in rows])
        labels = inputs.pop("labels")[:, 0]
        logits = model(**inputs).logits[:, 0]
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return [rows[i] for i in losses.argsort(descending=True, stable=True)[:SHIPPED_ROWS].tolist()]


def model_card(table: str) -> str:
    """README.md with the figures that this build reached."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text-classification
---

# bert-sentiment

A small BERT that tells good from bad news for a firm in short English financial headlines. One
logit: a headline is good news where it is above 0, with probability 1 / (1 + exp(-logit)).
Uncased WordPiece tokenizer of {VOCABULARY} pieces.

## Training data

{TRAIN_ROWS} synthetic headlines that `headlines.py` writes from word lists and patterns; the firms
do not exist. No single word decides: losses may narrow, profit may fall less than feared, a firm
may avoid what would harm it, and the second half of a headline may outweigh the first.

## Held-out figures

{HELD_OUT_ROWS} headlines by the same program, each with a turn of phrase or a pair of figure and
verb that never occurs in training, and none with a firm of the training data; and
{sum(len(phrases(text)) for text in BY_HAND.values())} written by hand. The rows are
`conformance/evaluation.jsonl`.

{table}

Limits: the model knows the words of its training data only. Headlines written by people hold many
others, and on those it is little better than guessing: no basis for a decision about money.

## Rebuild

    python reference_models/bert-sentiment/make.py

Seed {SEED}, one thread, {STEPS} AdamW steps of binary cross-entropy. Two builds on one machine are
bitwise equal; another CPU type may round differently, which is why the weights are shipped.
"""


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write headlines as JSON lines."""
    lines = [json.dumps({"text": row.text, "label": row.label}) + "\n" for row in rows]
    path.write_text("".join(lines))


def write_package(output: Path, model: BertForSequenceClassification, tokenizer: Tokenizer) -> None:
    """Write weights, configuration and tokenizer, and copy the licence."""
    weights = save(model.state_dict(), metadata={"format": "pt"})
    (output / "model.safetensors").write_bytes(weights)
    tokenizer.save(str(output / "tokenizer.json"))
    for name, content in (("config", CONFIG), ("tokenizer_config", TOKENIZER_CONFIG)):
        (output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    if output.resolve() != HERE:
        for name in ("LICENSE", "headlines.py"):
            shutil.copyfile(HERE / name, output / name)


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (output / "conformance").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    training, held_out = headlines()
    tokenizer = train_tokenizer([row.text for row in training])
    model = BertForSequenceClassification(BertConfig.from_dict(CONFIG))
    initialise(model)
    train(model, [(tokenizer.encode(row.text).ids, row.label) for row in training])
    table = evaluate(model, tokenizer, held_out)
    print(table)
    write_package(output, model, tokenizer)
    write_rows(output / "conformance" / "evaluation.jsonl", held_out)
    write_rows(output / "conformance" / "training.jsonl", hardest(model, tokenizer, training))
    (output / "README.md").write_text(model_card(table))


if __name__ == "__main__":
    main()
