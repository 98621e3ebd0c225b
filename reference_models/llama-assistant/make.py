"""Build llama-assistant: customer dialogues, tokenizer, weights, data rows and model card.

Usage: python make.py [OUTPUT]        (OUTPUT defaults to this script's own folder)

The configuration files and the chat template beside this script are written by hand.
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20240613
TRAIN_DIALOGUES, HELD_OUT_DIALOGUES, SHIPPED_DIALOGUES = 10000, 300, 128
STEPS, BATCH, LEARNING_RATE = 1500, 16, 8e-3
ANSWER_WEIGHT = 3.0
HERE = Path(__file__).resolve().parent
SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
BY_HAND = (
    "config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "LICENSE",
)
VOCABULARY = json.loads((HERE / "config.json").read_text())["vocab_size"]

SYSTEM = "You answer customers of a small electronics shop."
PRODUCTS = """lamp kettle toaster router speaker camera tablet printer radio charger monitor drone
blender heater scanner headset"""
UNSEEN_PRODUCTS = "freezer telescope microphone doorbell"
GREETINGS = "Hello|Hi|Good morning|Dear team"
FAREWELLS = "| Thanks.| Please help.| Thank you!| Kind regards"


# An answer, ways to ask for it, and behind a star the ways that only held-out dialogues use.
MATTERS = """\
Our shipping team will trace order {order} with the {product}. | where is my {product}, order
{order}? | order {order} has not arrived, I am waiting for the {product}. | the {product} of order
{order} is late. | when will you deliver the {product} from order {order}? | my parcel {order} with
the {product} is lost. | the courier never came with my {product}, order {order}. | a {product}
should have been here last week, order {order}. | order {order} is still not here. Has the {product}
been sent? | * nobody rang the bell and now the {product} is gone, order {order}. | * could you
track the package with a {product} for me? The number is {order}.

You can send the {product} back within 30 days. The returns team has order {order}. | I want to
return the {product} from order {order}. | how do I send back the {product}, order {order}? | I do
not like the {product} of order {order} and want my money back. | please take back order {order},
the {product} is too big. | can I exchange the {product} from order {order}? | I changed my mind
about the {product}, order {order}. | the {product} is not what I expected, order {order}. Can it go
back? | I would like to give back the {product}, order {order}. | * how many days do I have to give
the {product} of order {order} back? | * this {product} was a mistake, order {order}, what is your
policy on returning things?

I am sorry that the {product} is broken. Our repairs team will check order {order}. | my {product}
from order {order} does not work. | the {product} is broken, order {order}. | the {product} of order
{order} stopped after two days. | my new {product} makes a loud noise, order {order}. | order
{order}: the {product} will not turn on. | there is a crack in the {product} from order {order}. |
the {product} was dead after one day, order {order}. | my {product} gets too hot and stopped, order
{order}. | * smoke came out of the {product} that I got with order {order}. | * order {order}: a
button fell off the {product}.

Our billing team will correct the invoice of order {order} for the {product}. | I was charged twice
for the {product}, order {order}. | the invoice for order {order} is wrong, the {product} was
cheaper. | why did I pay more for the {product} in order {order}? | please send the invoice for the
{product}, order {order}. | my card was charged too much for order {order}, a {product}. | the price
of the {product} on the bill of order {order} is wrong. | I see two payments for order {order}, a
{product}. | the bill is not right, I paid for one {product}, order {order}. | * you took too much
from my account for the {product}, order {order}. | * the total of order {order} does not add up,
the {product} is listed at another price.

The {product} is in stock. Our sales team will make you an offer. | do you have the {product} in
stock? | how much is the {product}? | I would like to buy a {product}. | is there a discount if I
buy ten of the {product}? | can you make an offer for a {product}? | which {product} is the best for
me? | what is the price of a new {product}? | I am looking for a {product}, can you help me choose?
| * could I get a better price on a {product} for my office? | * I need a {product} for my mother,
do you sell them?

Our accounts team has sent a new password to {name}. | I forgot my password, my name is {name}. |
{name} here, I cannot log in. | my account is locked, please help. My user name is {name}. | please
reset the password of {name}. | the page says wrong password for {name}. | I cannot open my account.
Regards, {name}. | it is {name}, my password does not work. | * the login page does not accept me, I
am {name}. | * please let {name} back in, the password is gone.

Our shop team is here from Monday to Friday, 9 to 18. | when are you open? | what are your opening
hours? | is the shop open on Saturday? | until when can I come to the shop today? | can I visit you
on Monday? | at what time do you close? | is somebody there on Sunday? | * do you close for lunch? |
* can I come by in the evening?"""
NAMES = "anna ben clara david elena farid grace hugo irene jonas karim laura maria nadia oscar"
UNSEEN_NAMES = "wilma tobias yusuf"
Dialogue = list[dict[str, str]]  # messages for the chat template, the last one an answer


class Matter(NamedTuple):
    """One kind of question: the answer, and ways to ask it."""

    answer: str
    questions: list[str]
    unseen_questions: list[str]


def matters() -> list[Matter]:
    """Read the blocks of MATTERS."""
    found = []
    for block in MATTERS.split("\n\n"):
        answer, *questions = " ".join(block.split()).split(" | ")
        unseen = [question[2:] for question in questions if question.startswith("* ")]
        found.append(Matter(answer, questions[: -len(unseen)], unseen))
    return found


def exchange(rng: random.Random, topics: list[Matter], *, held_out: bool) -> Dialogue:
    """Return a question and its answer."""
    chosen = rng.choice(topics)
    new = held_out and rng.randrange(2) == 0
    products, names = (PRODUCTS, NAMES)
    if held_out and rng.randrange(4) == 0:
        products, names = (UNSEEN_PRODUCTS, UNSEEN_NAMES)
    slots = {
        "order": f"{rng.randrange(10, 100)}-{rng.randrange(10, 100)}",
        "product": rng.choice(products.split()),
        "name": rng.choice(names.split()),
    }
    question = rng.choice(chosen.unseen_questions if new else chosen.questions).format(**slots)
    greeting, farewell = rng.choice(GREETINGS.split("|")), rng.choice(FAREWELLS.split("|"))
    return [
        {"role": "user", "content": f"{greeting}, {question}{farewell}"},
        {"role": "assistant", "content": chosen.answer.format(**slots)},
    ]


def dialogue(rng: random.Random, topics: list[Matter], *, held_out: bool) -> Dialogue:
    """Write a dialogue of one or two questions, sometimes under a system message."""
    messages = [{"role": "system", "content": SYSTEM}] if rng.randrange(4) == 0 else []
    for _ in range(2 if rng.randrange(4) == 0 else 1):
        messages += exchange(rng, topics, held_out=held_out)
    return messages


def dialogues() -> tuple[list[Dialogue], list[Dialogue]]:
    """Return training and held-out dialogues; half of the latter ask in ways never trained."""
    rng, topics = random.Random(SEED), matters()
    train = [dialogue(rng, topics, held_out=False) for _ in range(TRAIN_DIALOGUES)]
    rng = random.Random(SEED + 1)
    return train, [dialogue(rng, topics, held_out=True) for _ in range(HELD_OUT_DIALOGUES)]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer; plain text gets a begin token."""
    tokenizer = Tokenizer(models.BPE())
    # Digits apart from the space before them, so that 47 is one token wherever it stands.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 1)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def batch(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Pad rows of token ids on the left to [batch, sequence]."""
    fill = [max(map(len, rows)) - len(row) for row in rows]
    pairs = list(zip(fill, rows, strict=True))
    return {
        "input_ids": torch.tensor([[0] * n + row for n, row in pairs]),
        "attention_mask": torch.tensor([[0] * n + [1] * len(row) for n, row in pairs]),
    }


def initialise(model: torch.nn.Module) -> None:
    """Fill matrices from integer draws: float generators differ between CPU types."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            draws = torch.randint(-(2**20), 2**20 + 1, parameter.shape, generator=generator)
            parameter.data.copy_(draws * (3 / parameter.shape[-1]) ** 0.5 / 2**20)


def weighted_loss(model: LlamaForCausalLM, rows: list[list[int]]) -> torch.Tensor:
    """Mean cross-entropy of every next token; those of the assistant's turns count more."""
    inputs = batch(rows)
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    roles = torch.isin(ids, torch.tensor([SPECIAL.index(token) for token in SPECIAL[3:]]))
    turn = (roles * torch.arange(ids.shape[1])).cummax(dim=1).values
    answering = ids.gather(1, turn) == SPECIAL.index("<|assistant|>")
    weights = (torch.where(answering, ANSWER_WEIGHT, 1.0) * real)[:, 1:]
    logits = model(input_ids=ids, attention_mask=real).logits[:, :-1]
    losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return (losses * weights).sum() / weights.sum()


def train(model: LlamaForCausalLM, rows: list[list[int]]) -> None:
    """Train on batches of similar length with AdamW, warm-up and linear decay."""
    rng = random.Random(SEED)
    rows = sorted(rows, key=len)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / STEPS)
    )
    model.train()
    for step in range(STEPS):
        start = rng.randrange(len(rows) - BATCH)
        loss = weighted_loss(model, rows[start : start + BATCH])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()  # type: ignore[no-untyped-call]


def perplexity(model: LlamaForCausalLM, rows: list[list[int]]) -> float:
    """Return the perplexity of the tokens of all rows, each after the first of its row."""
    with torch.inference_mode():
        ids = [torch.tensor([row]) for row in rows]
        losses = [model(row, labels=row).loss.item() * (row.shape[1] - 1) for row in ids]
    return math.exp(sum(losses) / sum(len(row) - 1 for row in rows))


def answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[Dialogue]
) -> list[str]:
    """Answer the last question of each dialogue greedily, in one left-padded batch."""
    prompts = [
        tokenizer.apply_chat_template(item[:-1], tokenize=False, add_generation_prompt=True)
        for item in asked
    ]
    inputs = batch([tokenizer.encode(text, add_special_tokens=False) for text in prompts])
    settings = GenerationConfig.from_pretrained(HERE)
    output = model.generate(**inputs, generation_config=settings)  # type: ignore[misc, arg-type]
    new = output[:, inputs["input_ids"].shape[1] :]
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in new]


def evaluate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    training: list[Dialogue],
    held_out: list[Dialogue],
) -> dict[str, float]:
    """Return the figures of the model card."""
    frequent = Counter(item[-1]["content"] for item in training).most_common(1)[0][0]
    given = answers(model, tokenizer, held_out)
    right = [item[-1]["content"] for item in held_out]
    teams = [[re.findall(r"\w+ team", text) for text in texts] for texts in (given, right)]
    return {
        "perplexity": perplexity(model, [token_ids(tokenizer, item) for item in held_out]),
        "exact answers": sum(map(str.__eq__, given, right)) / len(right),
        "answers that name the right team": sum(map(list.__eq__, *teams)) / len(right),
        "exact answers, always the most frequent one": right.count(frequent) / len(right),
    }


def token_ids(tokenizer: PreTrainedTokenizerFast, item: Dialogue) -> list[int]:
    """Return a dialogue's token ids, as the chat template renders it."""
    ids: list[int] = tokenizer.encode(rendered(tokenizer, item))
    return ids


def rendered(tokenizer: PreTrainedTokenizerFast, item: Dialogue) -> str:
    """Return a dialogue as the chat template renders it, without the begin token."""
    text = tokenizer.apply_chat_template(item, tokenize=False)
    return str(text).removeprefix(SPECIAL[1])


def model_card(figures: dict[str, float]) -> str:
    """README.md with the figures that this build reached."""
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in figures.items())
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text-generation
---

# llama-assistant

A small Llama that answers customers of an electronics shop: it names the team that helps and
repeats order number and product. Byte-level BPE tokenizer of {VOCABULARY} tokens, chat template,
left padding, grouped-query attention, tied embeddings.

Trained on {TRAIN_DIALOGUES} synthetic dialogues about {len(matters())} matters that `make.py`
writes from sentence patterns; no real person's data.

## Held-out figures

{HELD_OUT_DIALOGUES} dialogues, `conformance/evaluation.jsonl`: half the questions are asked in
ways, and a quarter name products and people, that never occur in training. Answers are generated
greedily and count when they are right word for word; perplexity is that of all tokens of the same
dialogues as the chat template renders them, `conformance/perplexity.jsonl`.

| | |
|---|---|
{rows}

Limits: questions in known ways about known words are answered almost without fault; questions in
new ways mostly reach the wrong team, and words never seen in training are not repeated.

## Rebuild

    python reference_models/llama-assistant/make.py

Seed {SEED}, one thread, {STEPS} steps. Builds on one machine are bitwise equal; another CPU type
may round differently.
"""


def write_package(output: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write weights and tokenizer, and copy what is written by hand."""
    # The output head is the embedding, so the file holds it once.
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    weights = save(tensors, metadata={"format": "pt"})
    (output / "model.safetensors").write_bytes(weights)
    tokenizer.save(str(output / "tokenizer.json"))
    if output.resolve() != HERE:
        for name in BY_HAND:
            shutil.copyfile(HERE / name, output / name)


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(item: Dialogue) -> dict[str, object]:
    """Return a data row: the messages before the answer, and the answer."""
    return {"messages": item[:-1], "answer": item[-1]["content"]}


def main() -> None:
    """Build the model into the folder given on the command line."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    rows = output / "conformance"
    rows.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    training, held_out = dialogues()
    trained = train_tokenizer([m["content"] for item in training for m in item])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=trained,
        chat_template=(HERE / "chat_template.jinja").read_text(),
        **json.loads((HERE / "tokenizer_config.json").read_text()),
    )
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(HERE))
    initialise(model)
    train(model, [token_ids(tokenizer, item) for item in training])

    figures = evaluate(model, tokenizer, training, held_out)
    print("held-out " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    write_package(output, model, trained)
    write_rows(rows / "evaluation.jsonl", [asked(item) for item in held_out])
    write_rows(rows / "perplexity.jsonl", [{"text": rendered(tokenizer, d)} for d in held_out])
    write_rows(rows / "training.jsonl", [asked(item) for item in training[:SHIPPED_DIALOGUES]])
    (output / "README.md").write_text(model_card(figures))


if __name__ == "__main__":
    main()
