"""Texts that a model writes: greedy decoding of many prompts by full passes.

Full passes rather than a cache: they are what every architecture has and what the recorded
outputs vouch for. Rows that have ended, or can no longer be what is wanted, leave the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from slmconform.measure.bench import Bench
from slmconform.measure.dataset import Item, from_text, start_token
from slmconform.measure.encoding import Example, Room, encode, prompt_ids, row_problem
from slmconform.measure.prediction import Rows, Seen, run
from slmconform.measure.tokenizing import tokenizer

MARGIN = 8  # tokens: an answer may be written in more tokens than the wanted one


def written(bench: Bench, rows: Rows, wanted: Sequence[str]) -> list[str]:
    """The text that the model answers to each row, as far as it agrees with the wanted one."""
    states = [_prompted(bench, row, number) for number, row in enumerate(rows, 1)]
    running = [at for at, state in enumerate(states) if not state.done]
    ends, tok = _ends(bench), tokenizer(bench)
    while running:
        chosen = run(bench, [states[at].item(bench) for at in running], _next)
        for at, token in zip(running, chosen, strict=True):
            states[at].take(token, ends)
            states[at].done |= not _begins(wanted[at], _decoded(tok, states[at].new))
        running = [at for at in running if not states[at].done]
    return [_decoded(tok, state.new) for state in states]


def _decoded(tok: Any, tokens: list[int]) -> str:
    return str(tok.decode(tokens, skip_special_tokens=True))


def _begins(wanted: str, text: str) -> bool:
    """Whether a text can still become the wanted one: spaces may move, a character be cut."""
    return "".join(wanted.split()).startswith("".join(text.rstrip("\ufffd").split()))


class _State:
    """One row being answered: what stands so far, and how much may follow."""

    def __init__(self, example: Example, most: int, *, target: bool) -> None:
        self.example, self.most, self.target = example, most, target
        self.new: list[int] = []
        self.done = most <= 0

    def item(self, bench: Bench) -> Item:
        """The row with what was written behind it."""
        own = self.example
        if self.target:
            grown = replace(own, target=[start_token(bench), *self.new], labels={}, aligned=None)
        else:
            grown = replace(own, tokens=[*own.tokens, *self.new])
        return from_text(bench, grown)

    def take(self, token: int, ends: frozenset[int]) -> None:
        """One more token, which may be the last."""
        if token in ends:
            self.done = True
            return
        self.new.append(token)
        self.done = len(self.new) >= self.most


def _prompted(bench: Bench, row: Mapping[str, Any], number: int) -> _State:
    room = Room.of(bench)
    whole = encode(bench, row, number, room)[0]
    if bench.task == "seq2seq-lm":
        longest = len(whole.target or ()) + MARGIN
        most = min(longest, room.target or longest)
        return _State(replace(whole, target=None), most, target=True)
    tok = tokenizer(bench)
    prompt = prompt_ids(tok, row, getattr(tok, "eos_token_id", None), whole.where)
    if not prompt:
        raise row_problem("row-empty", whole.where, "a prompt without tokens", "one or more")
    longest = len(whole.tokens) - len(prompt) + MARGIN
    most = min(longest, (room.sequence or len(prompt) + longest) - len(prompt))
    return _State(Example(whole.where, prompt), most, target=False)


def _next(seen: Seen) -> int:
    """The best token after the last one that is no padding; decoders of an encoder have none."""
    logits = seen.output("logits")
    if seen.item.example is not None and seen.item.example.target is not None:
        return int(logits[len(seen.item.example.target) - 1].argmax())
    length = len(seen.item.example.tokens) if seen.item.example else logits.shape[0]
    return int(logits[seen.moved + length - 1].argmax())


def _ends(bench: Bench) -> frozenset[int]:
    """The tokens that end a text, from tokenizer and configurations."""
    module = bench.model.module
    sources = (tokenizer(bench), bench.model.config, getattr(module, "generation_config", None))
    found: set[int] = set()
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        values = value if isinstance(value, (list, tuple)) else [value]
        found.update(int(one) for one in values if isinstance(one, (int, torch.Tensor)))
    return frozenset(found)
