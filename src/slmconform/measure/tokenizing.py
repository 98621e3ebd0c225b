"""The tokenizer of a package at work on fixed texts."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from slmconform.engine.registry import NotApplicable
from slmconform.measure.bench import Bench, measurement
from slmconform.model.transformers_loader import load_tokenizer
from slmconform.standard.evidence import TokenizerRecord

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Hello, world! How are you today?",
    "hello world",
    "  leading and   multiple spaces ",
    "tabs\tand\nnew lines\r\n",
    "It's a well-known fact; isn't it?",
    "3.14159 1,000,000 2026-11-23 50% $9.99",
    "CamelCase snake_case kebab-case https://example.org/a?b=c#d",
    "def f(x): return x ** 2  # comment",
    "Grüße aus Köln, château à Orléans, mañana",
    "Привет, мир! Как дела?",
    "你好，世界。今天天气很好。",
    "こんにちは世界、元気ですか",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "Γειά σου Κόσμε",
    "emoji 😀👩‍👩‍👧🇩🇪 and ½ ™ ∑",
    "café cafe\u0301 ﬁne Ａ",
    "a" * 60,
    "",
)
RUNS = ("a", " ", "1", "\n")  # characters that are encoded in long runs
AFTER_A_RUN = f"!{string.printable}"  # breaks a match, and holds what the pattern may ask for
LONGEST_RUN = 20_000  # characters
SECONDS_OF_A_TEXT = 0.25  # of the processor; the longest run takes a tenth of it
SECONDS_OF_A_CHARACTER = 50e-6
IDS_OF_A_TEXT = 1000  # that may come from special tokens and prompts around it
IDS_OF_A_BYTE = 32


@measurement
def tokenizer(bench: Bench) -> Any:
    """The loaded tokenizer; not applicable where the package has no tokenizer files."""
    if not bench.package.tokenizer.files:
        raise NotApplicable("the package has no tokenizer files")
    return load_tokenizer(bench.package.root)


def encode(tok: Any, text: str) -> list[int]:
    """Ids with the special tokens that the tokenizer adds."""
    return [int(i) for i in tok(text)["input_ids"]]


def probes() -> Iterator[str]:
    """The texts that every tokenizer has to encode: the fixed ones, then longer and longer runs.

    A pattern that goes back again and again shows at a run before the one that would not end.
    """
    yield from TEXTS
    length = 8
    while length < LONGEST_RUN:
        length = min(length * 3 // 2, LONGEST_RUN)
        yield from (character * length + AFTER_A_RUN for character in RUNS)


def decode(tok: Any, ids: list[int]) -> str:
    """The text of ids, special tokens included, no cosmetic clean-up."""
    return str(tok.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@measurement
def encodings(bench: Bench) -> TokenizerRecord:
    """What the tokenizer makes of the fixed texts."""
    tok = tokenizer(bench)
    ids = [encode(tok, text) for text in TEXTS]
    return TokenizerRecord(
        texts=list(TEXTS), ids=ids, decoded=[decode(tok, row) for row in ids], size=len(tok)
    )


def render(tok: Any, messages: list[dict[str, Any]], **given: Any) -> str:
    """A conversation as the text that the model is prompted with."""
    return str(
        tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    )
