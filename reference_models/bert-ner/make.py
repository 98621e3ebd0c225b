"""Build bert-ner: customer mails with named entities, tokenizer, weights, data rows and card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)
"""

from __future__ import annotations

import json
import random
import re
import shutil
import string
import sys
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForTokenClassification

SEED = 20240612
TRAIN_MAILS, HELD_OUT_MAILS, SHIPPED_MAILS = 8000, 200, 128
VOCABULARY = 720
STEPS, BATCH, LEARNING_RATE = 1600, 16, 4e-3
IGNORED = -100
HERE = Path(__file__).resolve().parent
UNKNOWN = "[UNK]"
SPECIAL = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"]
LABELS = ["O", *(f"{p}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for p in "BI")]
CONFIG = {
    "architectures": ["BertForTokenClassification"],
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 96,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.05,
    "attention_probs_dropout_prob": 0.05,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "id2label": {str(i): label for i, label in enumerate(LABELS)},
    "label2id": {label: i for i, label in enumerate(LABELS)},
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

# Names are put together from these parts, so that people, towns and firms share many of them.
STEMS = """Ash Hol Lind Berg Nor Hal West Oak Stan Brad Carl Wind Rose Mill Lang Stein Falk Ek Hart
Kirk Mar Thorn Wal Black Ham Rud Sand Vik Silver Dal Haver Bel Mont Fair Green Ald Whit Rams"""
FIRST = """Anna Ben Clara David Elena Farid Grace Hugo Irene Jonas Karim Laura Maria Nadia Oscar
Paula Rosa Samir Tara Victor Wanda Yusuf Zoe Peter Ivan Lucy Emma Noah Mia Amir Priya Chen Jordan
Florence Austin Sofia Tom Olga Ravi Ines"""
SURNAME_ENDS = "son man er berg strom well mann ley field sen"
TOWN_ENDS = "ton ford ville burg ham field well stad bridge mouth"
FIRM_ENDS = "tek ware line corp ix soft berg"
FIRM_WORDS = "Bank Logistics Media Group Energy Foods Ltd Insurance"
PRODUCTS = """Aurora Zeta Comet Pixel Nimbus Orion Vega Luna Atlas Echo Delta Prisma Quartz Nova
Titan"""
DEMONYMS = "German French Dutch Swedish Polish Italian Danish Irish Greek Swiss"
OPENINGS = "Dear {ORG} team,|Hello {PER},|Hi,|Dear Sir or Madam,|Good morning,||"
CLOSINGS = "Regards, {PER}|Thank you, {PER}|Best wishes from {LOC}, {PER}|Thanks in advance||"
SENTENCES = """My parcel from {ORG} never arrived in {LOC}.
I ordered the {MISC} last week but {PER} says it is out of stock.
Please send the invoice to {PER} at {ORG}.
The {MISC} I bought in {LOC} stopped working after two days.
I spoke to {PER} on the phone and nobody called back.
We moved from {LOC} to {LOC} and need a new contract.
Could {PER} from your {LOC} office call me?
My card was charged twice by {ORG} on Monday.
The {MISC} manual is missing, can you help?
Our company {ORG} wants forty more units of the {MISC}.
I live near {LOC} and the driver could not find the house.
{PER} promised me a refund for the {MISC}.
Is the {MISC} sold in your shop in {LOC}?
I am a customer of {ORG} since 2019 and very unhappy.
My colleague {PER} in {LOC} has the same problem.
{ORG} sent the wrong colour again.
The train to {LOC} was late, so I missed the delivery.
Does {ORG} still offer the {MISC} with a discount?
The order was placed by {PER} and paid by my husband.
The box was left in the rain in {LOC} and {PER} saw it.
Since the last update the {MISC} is slow and loud.
{ORG} returned my money, but somebody at {ORG} kept the fee.
I have heard nothing from {ANY} for a week.
Why does {ANY} not answer?
I only want a refund and no new device, according to the rules.
When will the order arrive? The number on the label is 4711.
The battery gets hot, the screen stays dark and the button is broken.
Nobody could tell us yesterday whether the gift was collected."""
UNSEEN_SENTENCES = """Our flat in {LOC} has no signal since the {MISC} was installed.
The salesman at {ORG}, a certain {PER}, was rude to us.
You can reach my neighbour {PER} under the same address.
Is there a repair service for {MISC} anywhere around {LOC}?
We cancelled with {ORG} because the {MISC} is too expensive.
{ANY} should have settled this months ago."""


class Mail(NamedTuple):
    """The words of a mail, punctuation marks among them, and the BIO tag of each."""

    tokens: list[str]
    tags: list[str]


def name_pool(rng: random.Random) -> dict[str, tuple[list[str], list[str]]]:
    """Return for each kind the names for training and those that only held-out mails use."""
    stems, first, products = STEMS.split(), FIRST.split(), PRODUCTS.split()
    surnames = [stem + end for stem in stems for end in SURNAME_ENDS.split()]
    towns = [stem + end for stem in stems for end in TOWN_ENDS.split()]
    firms = [stem + end for stem in stems for end in FIRM_ENDS.split()]
    pools = {
        "PER": [f"{rng.choice(first)} {name}" for name in surnames] + first,
        "LOC": towns + [f"{word} {rng.choice(towns)}" for word in ("New", "Port", "Bad") * 20],
        "ORG": firms
        + [f"{rng.choice(surnames)} {w}" for w in FIRM_WORDS.split() for _ in "x" * 20],
        "MISC": products
        + [f"{word} {n}00" for word in products for n in rng.sample(range(1, 10), 3)]
        + [f"{word} {p}" for word in DEMONYMS.split() for p in rng.sample(products, 3)],
    }
    split = {}
    for kind, found in pools.items():
        names = sorted(set(found))
        rng.shuffle(names)
        split[kind] = (names[len(names) // 4 :], names[: len(names) // 4])
    return split


def write_mail(rng: random.Random, sentences: list[str], names: dict[str, list[str]]) -> Mail:
    """Fill one to three sentences, with an opening and a closing; some mails lack capitals."""
    body = rng.sample(sentences, rng.randrange(1, 4))
    frame = rng.choice(OPENINGS.split("|")), rng.choice(CLOSINGS.split("|"))
    pattern = " ".join([frame[0], *body, frame[1]]).strip()
    tokens, tags = [], []
    for piece in re.split(r"({[A-Z]+})", pattern):
        kind = rng.choice(sorted(names)) if piece == "{ANY}" else piece.strip("{}")
        text = rng.choice(names[kind]) if piece.startswith("{") else piece
        words = re.findall(r"\w+|[^\w\s]", text)
        tokens += words
        tags += [f"{'BI'[i > 0]}-{kind}" if text != piece else "O" for i in range(len(words))]
    return Mail([word.lower() for word in tokens] if rng.randrange(100) < 15 else tokens, tags)


def mails() -> tuple[list[Mail], list[Mail]]:
    """Return training mails, and held-out mails where half the names and some sentences are new."""
    rng = random.Random(SEED)
    pool = name_pool(rng)
    seen = {kind: names[0] for kind, names in pool.items()}
    mixed = {kind: rng.sample(names[0], len(names[1])) + names[1] for kind, names in pool.items()}
    held_out_rng = random.Random(SEED + 1)
    known, new = SENTENCES.split("\n"), UNSEEN_SENTENCES.split("\n")
    train = [write_mail(rng, known, seen) for _ in range(TRAIN_MAILS)]
    return train, [write_mail(held_out_rng, known + new, mixed) for _ in range(HELD_OUT_MAILS)]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a cased WordPiece tokenizer.

    The trainer numbers "##" pieces in the order of a randomly seeded hash map, which also breaks
    ties between merges; naming every single-character piece beforehand makes it repeatable.
    """
    characters = sorted(string.ascii_letters + string.digits + string.punctuation)
    letters = [c for c in characters if c.isalnum()]
    first = [*SPECIAL, *characters, *(f"##{c}" for c in letters)]
    trained = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=first, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    # A fresh tokenizer with this vocabulary, so that only the real special tokens count as such.
    tokenizer = Tokenizer(models.WordPiece(vocab=trained.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def encode(tokenizer: Tokenizer, mail: Mail) -> tuple[list[int], list[int]]:
    """Return token ids and label ids; only the first piece of a word carries a label."""
    encoding = tokenizer.encode(mail.tokens, is_pretokenized=True)
    labels = [
        IGNORED if word is None or word == before else LABELS.index(mail.tags[word])
        for before, word in pairwise([None, *encoding.word_ids])
    ]
    return encoding.ids, labels


def batch(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Pad rows of (token ids, label ids) on the right to [batch, sequence]."""
    length = max(len(ids) for ids, _ in rows)
    fill = [(length - len(ids)) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([row[0] + [0] * n for row, n in zip(rows, fill, strict=True)]),
        "attention_mask": torch.tensor([[1] * (length - n) + [0] * n for n in fill]),
        "labels": torch.tensor([row[1] + [IGNORED] * n for row, n in zip(rows, fill, strict=True)]),
    }


def initialise(model: torch.nn.Module) -> None:
    """Fill matrices from integer draws: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            parameter.data.copy_(draws * (3 / parameter.shape[-1]) ** 0.5 / 2**20)


def train(model: BertForTokenClassification, rows: list[tuple[list[int], list[int]]]) -> None:
    """Fine-tune with AdamW, linear warm-up and decay."""
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


def predict(
    model: BertForTokenClassification, rows: list[tuple[list[int], list[int]]]
) -> tuple[list[list[str]], list[list[str]]]:
    """Return true and predicted labels of the counted positions, one list a mail."""
    inputs = batch(rows)
    labels = inputs.pop("labels")
    with torch.inference_mode():
        predicted = model(**inputs).logits.argmax(-1)
    true_rows, predicted_rows = [], []
    for true, guess in zip(labels, predicted, strict=True):
        counted = true != IGNORED
        true_rows.append([LABELS[i] for i in true[counted].tolist()])
        predicted_rows.append([LABELS[i] for i in guess[counted].tolist()])
    return true_rows, predicted_rows


def entities(labels: list[str]) -> set[tuple[int, int, str]]:
    """Return (start, end, kind) of a mail's entities; a stray "I-" begins one, as in seqeval."""
    found, start = set(), 0
    for i, (before, label) in enumerate(pairwise(["O", *labels, "O"])):
        if label.startswith("I-") and label[2:] == before[2:]:
            continue
        if before != "O":
            found.add((start, i, before[2:]))
        start = i
    return found


def scores(right: int, guessed: int, real: int) -> tuple[float, float, float]:
    """Return precision, recall and F1 from counts; an empty denominator gives 0."""
    return right / max(guessed, 1), right / max(real, 1), 2 * right / max(guessed + real, 1)


def classification_report(true_rows: list[list[str]], predicted_rows: list[list[str]]) -> str:
    """Per-token precision, recall, F1 and support of each label, as a Markdown table."""
    pairs = Counter(
        pair
        for true, guess in zip(true_rows, predicted_rows, strict=True)
        for pair in zip(true, guess, strict=True)
    )
    lines = ["| label | precision | recall | F1 | tokens |", "|---|---|---|---|---|"]
    for label in LABELS:
        real = sum(n for (true, _), n in pairs.items() if true == label)
        guessed = sum(n for (_, guess), n in pairs.items() if guess == label)
        figures = scores(pairs[label, label], guessed, real)
        lines.append(f"| {label} | " + " | ".join(f"{x:.3f}" for x in figures) + f" | {real} |")
    return "\n".join(lines)


def evaluate(true_rows: list[list[str]], predicted_rows: list[list[str]]) -> dict[str, float]:
    """Return entity F1, token accuracy and the accuracy of always answering "O"."""
    true_entities = [entities(row) for row in true_rows]
    guesses = [entities(row) for row in predicted_rows]
    right = sum(len(a & b) for a, b in zip(true_entities, guesses, strict=True))
    true, predicted = list(chain(*true_rows)), list(chain(*predicted_rows))
    return {
        "entity F1": scores(right, sum(map(len, guesses)), sum(map(len, true_entities)))[2],
        "token accuracy": sum(map(str.__eq__, true, predicted)) / len(true),
        "majority accuracy": true.count("O") / len(true),
    }


def model_card(figures: dict[str, float], report: str) -> str:
    """README.md with the figures that this build reached."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: token-classification
---

# bert-ner

A small BERT that finds persons (PER), firms (ORG), places (LOC) and products (MISC) in English
customer mails, in BIO labels. Cased WordPiece tokenizer of {VOCABULARY} pieces; the
first piece of a word carries its label.

## Training data

{TRAIN_MAILS} synthetic mails that `make.py` writes from sentence patterns and name parts. No real
person's data. Mails without capitals (15 %) and names shared by people, towns and firms are meant
to be hard.

## Held-out figures

{HELD_OUT_MAILS} mails, `conformance/evaluation.jsonl`: half the names never occur in training, and
neither do {len(UNSEEN_SENTENCES.splitlines())} of the sentence patterns.

| | entity F1 | token accuracy |
|---|---|---|
| bert-ner | {figures["entity F1"]:.4f} | {figures["token accuracy"]:.4f} |
| majority class, always O | 0.0000 | {figures["majority accuracy"]:.4f} |

Entity F1 counts an entity only with exact bounds and kind, and reads labels as seqeval does: an
I- label that continues nothing begins an entity. Per token:

{report}

## Rebuild

    python reference_models/bert-ner/make.py

Seed {SEED}, one thread, {STEPS} AdamW steps. Two builds on one machine are bitwise equal; another
CPU type may round differently, which is why the weights are shipped.
"""


def write_package(output: Path, model: BertForTokenClassification, tokenizer: Tokenizer) -> None:
    """Write weights, configuration and tokenizer, and copy the licence."""
    weights = save(model.state_dict(), metadata={"format": "pt"})
    (output / "model.safetensors").write_bytes(weights)
    tokenizer.save(str(output / "tokenizer.json"))
    for name, content in (("config", CONFIG), ("tokenizer_config", TOKENIZER_CONFIG)):
        (output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    if output.resolve() != HERE:
        shutil.copyfile(HERE / "LICENSE", output / "LICENSE")


def write_rows(path: Path, rows: list[Mail]) -> None:
    """Write mails as JSON lines."""
    lines = [json.dumps(row._asdict(), separators=(",", ":")) + "\n" for row in rows]
    path.write_text("".join(lines))


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (output / "conformance").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    training, held_out = mails()
    tokenizer = train_tokenizer([" ".join(mail.tokens) for mail in training])
    model = BertForTokenClassification(BertConfig.from_dict(CONFIG))
    initialise(model)
    train(model, [encode(tokenizer, mail) for mail in training])

    true_rows, predicted_rows = predict(model, [encode(tokenizer, mail) for mail in held_out])
    figures = evaluate(true_rows, predicted_rows)
    report = classification_report(true_rows, predicted_rows)
    print("held-out " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    print(report)
    write_package(output, model, tokenizer)
    write_rows(output / "conformance" / "evaluation.jsonl", held_out)
    write_rows(output / "conformance" / "training.jsonl", training[:SHIPPED_MAILS])
    (output / "README.md").write_text(model_card(figures, report))


if __name__ == "__main__":
    main()
