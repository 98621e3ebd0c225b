"""Build t5-rewrite: dictated customer messages, tokenizer, weights, data rows and model card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import torch
from dictation import HELD_OUT_ROWS, SEED, TRAIN_ROWS, Row, messages
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

SHIPPED_ROWS = 128
VOCABULARY = 512
STEPS, BATCH, LEARNING_RATE = 3000, 32, 5e-3
IGNORED = -100
HERE = Path(__file__).resolve().parent
SPECIAL = ["<pad>", "</s>"]
PAD, END = range(2)
LONGEST = 80
CONFIG = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 24,
    "relative_attention_max_distance": 48,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
    "layer_norm_epsilon": 1e-6,
    "tie_word_embeddings": True,
    "use_cache": True,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "decoder_start_token_id": PAD,
    "dtype": "float32",
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": LONGEST,
    "padding_side": "right",
    "model_input_names": ["input_ids", "attention_mask"],
    "pad_token": SPECIAL[PAD],
    "eos_token": SPECIAL[END],
    "clean_up_tokenization_spaces": False,
}
GENERATION_CONFIG = {
    "pad_token_id": PAD,
    "eos_token_id": END,
    "decoder_start_token_id": PAD,
    "do_sample": False,
    "max_new_tokens": LONGEST - 1,
}


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer with single digits; a text gets an end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    """Pad rows of token ids on the right to [batch, sequence]."""
    length = max(map(len, rows))
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])


def initialise(model: T5ForConditionalGeneration) -> None:
    """Fill matrices from integer draws: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            deviation = 1.0 if name == "shared.weight" else parameter.shape[1] ** -0.5
            if name.endswith(".q.weight"):  # T5 does not divide its attention scores
                deviation *= model.config.d_kv**-0.5
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            parameter.data.copy_(draws * (deviation * 3**0.5 / 2**20))


def train(model: T5ForConditionalGeneration, rows: list[tuple[list[int], list[int]]]) -> None:
    """Train on batches of similar length with AdamW, warm-up and linear decay."""
    rng = random.Random(SEED)
    rows = sorted(rows, key=lambda row: len(row[0]))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / STEPS)
    )
    model.train()
    for step in range(STEPS):
        start = rng.randrange(len(rows) - BATCH)
        chosen = rows[start : start + BATCH]
        ids = padded([source for source, _ in chosen], PAD)
        labels = padded([target for _, target in chosen], IGNORED)
        loss = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()  # type: ignore[no-untyped-call]


def rewrite(model: T5ForConditionalGeneration, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Write dictated messages out by greedy decoding, in one right-padded batch."""
    ids = padded([tokenizer.encode(text).ids for text in texts], PAD)
    settings = GenerationConfig(**GENERATION_CONFIG)  # type: ignore[no-untyped-call]
    written = model.generate(  # type: ignore[misc]
        input_ids=ids, attention_mask=(ids != PAD).long(), generation_config=settings
    )
    return [str(tokenizer.decode(row.tolist())) for row in written]


def evaluate(written: list[str], rows: list[Row], news: list[str]) -> str:
    """Shares of exact matches by what is new in a row, as a Markdown table."""
    copied = [f"{row.source[0].upper()}{row.source[1:]}." for row in rows]
    lines = ["| new in the row | rows | t5-rewrite | spoken form |", "|---|---|---|---|"]
    for new in (*dict.fromkeys(news), ""):
        chosen = [i for i, found in enumerate(news) if new in ("", found)]
        shares = [
            sum(texts[i] == rows[i].target for i in chosen) / len(chosen)
            for texts in (written, copied)
        ]
        figures = " | ".join(f"{share:.4f}" for share in shares)
        lines.append(f"| {new or 'all rows'} | {len(chosen)} | {figures} |")
    return "\n".join(lines)


def model_card(table: str) -> str:
    """README.md with the figures that this build reached."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text2text-generation
---

# t5-rewrite

A small T5 that turns a customer's dictated message into its standard written form: 24-hour times,
days before months, sums in EUR, order numbers in digits, product names capitalised, no
contractions, no fillers, and of a correction only what was meant. Byte-level BPE tokenizer of
{VOCABULARY} tokens with single digits; encoder, decoder and output head share one embedding.

    i've not received order double one four five no sorry double one four six
    I have not received order 1146.

## Training data

{TRAIN_ROWS} synthetic messages that `dictation.py` writes in both forms; no real person's data.

## Held-out figures

Exact matches under greedy decoding, with full stop and capitals, on {HELD_OUT_ROWS} messages that
are not in the training data (`conformance/evaluation.jsonl`). "values": every number, time, date,
sum and product is one that never occurs in training; "combination": beginning and end of the
message never occur together there; "words": the sentence is none of the training data's. The
baseline is the spoken form with a capital and a full stop.

{table}

Limits: it writes out what it knows. Sentences of other words than those of its training data are
mostly bent into one of them, so the figures say nothing about free dictation.

## Rebuild

    python reference_models/t5-rewrite/make.py

Seed {SEED}, one thread, {STEPS} AdamW steps, about two minutes. Two builds on one machine with the
same libraries are bitwise equal; another CPU type or version of transformers may round differently,
which is why the weights are shipped.
"""


def write_package(output: Path, model: T5ForConditionalGeneration, tokenizer: Tokenizer) -> None:
    """Write weights, configuration and tokenizer, and copy the licence."""
    # Both embeddings and the output head are the shared matrix, so the file holds it once.
    same = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    tensors = {k: v for k, v in model.state_dict().items() if k not in same}
    (output / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    tokenizer.save(str(output / "tokenizer.json"))
    for name, content in (
        ("config", CONFIG),
        ("tokenizer_config", TOKENIZER_CONFIG),
        ("generation_config", GENERATION_CONFIG),
    ):
        (output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    if output.resolve() != HERE:
        for name in ("LICENSE", "dictation.py"):
            shutil.copyfile(HERE / name, output / name)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (output / "conformance").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    training, held_out, news = messages()
    tokenizer = train_tokenizer([text for row in training for text in row])
    model = T5ForConditionalGeneration(T5Config.from_dict(CONFIG))
    initialise(model)
    encode = tokenizer.encode
    train(model, [(encode(row.source).ids, encode(row.target).ids) for row in training])

    table = evaluate(rewrite(model, tokenizer, [row.source for row in held_out]), held_out, news)
    print(table)
    write_package(output, model, tokenizer)
    write_rows(output / "conformance" / "evaluation.jsonl", held_out)
    write_rows(output / "conformance" / "training.jsonl", training[:SHIPPED_ROWS])
    (output / "README.md").write_text(model_card(table))


if __name__ == "__main__":
    main()
