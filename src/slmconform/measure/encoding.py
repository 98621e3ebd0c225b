"""One row of a data file as tensors: what the model reads and what it should answer.

Texts go through the tokenizer of the package with the special tokens that it adds. Words that are
split already keep their label on their first token, prompts and padding carry no label, and
nothing is cut off unless the caller asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from slmconform.engine.registry import NotExamined
from slmconform.measure.bench import Bench
from slmconform.measure.tokenizing import render, tokenizer
from slmconform.model import probes
from slmconform.package.dataset import label_names
from slmconform.package.labels import IGNORED, answer_size
from slmconform.package.problem import PackageProblem, shown

MASK = "[MASK]"


@dataclass(frozen=True)
class Example:
    """One row; ids are by role, labels by name.

    ``aligned`` is the axis that ``labels`` runs along where it has one value a token.
    ``offsets`` and ``place`` keep what an answer has to be found by again: the span of each token
    in the context (-1 outside), and the position of the mask or of each word's first token.
    """

    where: str
    tokens: list[Any]
    segments: list[Any] | None = None
    target: list[int] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    aligned: str | None = None
    offsets: list[tuple[int, int]] = field(default_factory=list)
    place: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Room:
    """The longest legal sequence and target; longer rows are cut if ``cut``, else refused."""

    sequence: int | None
    target: int | None
    cut: bool = False

    @classmethod
    def of(cls, bench: Bench, width: int | None = None, *, cut: bool = False) -> Room:
        """What the declared axes leave, and no more than ``width``."""
        axes = bench.interface.axes
        limits: dict[str, int | None] = {}
        for name in ("sequence", "target"):
            bounds = [axes[name].max] if name in axes else []
            limits[name] = min([*bounds, *([width] if width else [])], default=None)
        return cls(limits["sequence"], limits["target"], cut)

    def options(self, truncation: str) -> dict[str, Any]:
        """What the tokenizer is told: to cut by a rule, or not at all."""
        if not self.cut or self.sequence is None:
            return {"truncation": False}
        return {"truncation": truncation, "max_length": self.sequence}

    def require(self, where: str, length: int, axis: str = "sequence") -> None:
        """Raise `PackageProblem` where a row is longer than the axis allows."""
        limit = self.sequence if axis == "sequence" else self.target
        if limit is not None and length > limit and not self.cut:
            raise row_problem(
                "row-too-long", where, f"{length} tokens", f"at most {limit} ({axis})"
            )


def row_problem(code: str, where: str, got: str, want: str) -> PackageProblem:
    """What is wrong with one row when it meets the tokenizer and the interface."""
    return PackageProblem(code, where, got, want, "shorten, mend or remove this row")


def encode(bench: Bench, row: Mapping[str, Any], number: int, room: Room) -> list[Example]:
    """The sequences that a row of text gives: one, or two for a pair of sentences.

    ``number`` names a row that comes from no file. Raises `PackageProblem`.
    """
    where = place_of(row, number)
    coder = _Coder(bench, tokenizer(bench), room, where)
    found = _WAYS[bench.task](coder, row)
    for one in found:
        if not one.tokens or [] in one.tokens or one.target == []:
            raise row_problem("row-empty", where, "no tokens", "a text of one token or more")
    return found


def place_of(row: Mapping[str, Any], number: int) -> str:
    """The file and the line of a row, else its number."""
    return str(getattr(row, "where", "")) or f"row {number}"


@contextmanager
def tokenizing(where: str) -> Iterator[None]:
    """Whatever a tokenizer or a chat template raises over a row is a problem of that row."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {str(error)[:200]}"
        want = "a row that the tokenizer can encode"
        raise row_problem("row-not-encoded", where, got, want) from error


@dataclass(frozen=True)
class _Coder:
    """Tokenizer and limits for one row."""

    bench: Bench
    tok: Any
    room: Room
    where: str

    def ids(self, *texts: Any, truncation: str = "longest_first", **options: Any) -> Any:
        """What the tokenizer makes of a text or a pair, not longer than there is room."""
        chosen = {**self.room.options(truncation), **options}
        if probes.by_role(self.bench.interface, "segments"):
            chosen["return_token_type_ids"] = True
        with tokenizing(self.where):
            found = self.tok(*texts, **chosen)
        self.room.require(self.where, len(found["input_ids"]))
        return found

    def plain(self, text: str) -> list[int]:
        """Ids without special tokens."""
        with tokenizing(self.where):
            return [int(i) for i in self.tok(text, add_special_tokens=False)["input_ids"]]

    def example(self, found: Any, **fields: Any) -> Example:
        """An example of what the tokenizer returned."""
        segments = found.get("token_type_ids")
        return Example(self.where, list(found["input_ids"]), segments, **fields)

    def fast(self) -> None:
        """Places of words and characters are known to tokenizers of the tokenizers library only."""
        if not getattr(self.tok, "is_fast", False):
            raise NotExamined(
                f"{type(self.tok).__name__} does not tell where a token stands in the text; "
                "ship a tokenizer.json"
            )

    def final(self) -> int | None:
        """The id that ends a text: the tokenizer's, else the configuration's."""
        own = getattr(self.tok, "eos_token_id", None)
        named = getattr(self.bench.model.config, "eos_token_id", None)
        found = own if isinstance(own, int) else named
        return found if isinstance(found, int) else None


def _classified(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    pair = [row["text_pair"]] if row.get("text_pair") is not None else []
    found = coder.ids(row["text"], *pair)
    labels = {} if "label" not in row else {"labels": class_label(coder.bench, row["label"])}
    return [coder.example(found, labels=labels)]


def class_label(bench: Bench, label: Any) -> Tensor:
    """Index -> () int64; one logit, regression or several labels -> (logits,) float32."""
    if isinstance(label, str):
        label = label_names(bench.package)[label]
    if isinstance(label, list):
        return torch.tensor(label, dtype=torch.float32)
    if answer_size(bench.interface) == 1 or isinstance(label, float):
        return torch.tensor([float(label)], dtype=torch.float32)
    return torch.tensor(label, dtype=torch.int64)


def _tagged(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    coder.fast()
    words = row["tokens"]
    found, owner = _split_words(coder, words)
    first = [owner.index(word) if word in owner else -1 for word in range(len(words))]
    labels = torch.full((len(owner),), IGNORED)
    for word, tag in enumerate(row["tags"]):
        if first[word] >= 0:
            labels[first[word]] = label_names(coder.bench.package)[tag]
    empty = next((w for w, at in enumerate(first) if at < 0), None)
    if empty is not None and not coder.room.cut:
        raise row_problem(
            "word-lost", coder.where, f"no token for {shown(words[empty])}", "a token"
        )
    return [coder.example(found, labels={"labels": labels}, aligned="sequence", place=first)]


def _split_words(coder: _Coder, words: list[str]) -> tuple[Any, list[int | None]]:
    """Encoding and the word of each token.

    Byte-level tokenizers that put no space before the first word refuse words that are split;
    the same text with spaces gives the same tokens.
    """
    try:
        found = coder.ids(words, is_split_into_words=True)
        return found, found.word_ids()
    except PackageProblem as problem:
        if not isinstance(problem.__cause__, AssertionError):
            raise
        found = coder.ids(" ".join(words), return_offsets_mapping=True)
    ends, at = [], 0
    for word in words:
        ends.append((at, at + len(word)))
        at += len(word) + 1
    owner = [
        next((w for w, (low, high) in enumerate(ends) if start < high and end > low), None)
        for start, end in found["offset_mapping"]
    ]
    return found, owner


def _asked(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    coder.fast()
    question, context = row["question"], row["context"]
    found = coder.ids(question, context, truncation="only_second", return_offsets_mapping=True)
    spans = [
        (start, end) if part == 1 and end > start else (-1, -1)
        for part, (start, end) in zip(found.sequence_ids(), found["offset_mapping"], strict=True)
    ]
    answer = next((a for a in row.get("answers", ()) if a in context), None)
    labels = {}
    if answer is not None:
        low = context.index(answer)
        inside = [i for i, (s, e) in enumerate(spans) if s < low + len(answer) and e > low]
        whole = inside and spans[inside[-1]][1] >= low + len(answer)
        first, last = (inside[0], inside[-1]) if whole else (0, 0)  # cut off: the first token
        labels = {"start_positions": torch.tensor(first), "end_positions": torch.tensor(last)}
    return [coder.example(found, labels=labels, offsets=spans)]


def _chosen(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    found = [coder.ids(row["prompt"], choice) for choice in row["choices"]]
    tokens = [list(one["input_ids"]) for one in found]
    kinds = [one.get("token_type_ids") for one in found]
    segments = None if None in kinds else [list(kind) for kind in kinds]
    labels = {"labels": torch.tensor(row["label"])} if "label" in row else {}
    return [Example(coder.where, tokens, segments, labels=labels)]


def _written(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    if "text" in row:
        found = coder.ids(row["text"])
        tokens = [int(i) for i in found["input_ids"]]
        return [coder.example(found, labels={"labels": torch.tensor(tokens)}, aligned="sequence")]
    prompt = prompt_ids(coder.tok, row, coder.final(), coder.where)
    end = coder.final()
    answer = coder.plain(row["answer"]) + ([end] if end is not None else [])
    tokens = prompt + answer
    coder.room.require(coder.where, len(tokens))
    limit = coder.room.sequence or len(tokens)
    answer = answer[:limit]
    prompt = prompt[max(0, len(tokens) - limit) :] if len(tokens) > limit else prompt
    labels = torch.tensor([IGNORED] * len(prompt) + answer)
    return [Example(coder.where, prompt + answer, labels={"labels": labels}, aligned="sequence")]


def prompt_ids(tok: Any, row: Mapping[str, Any], end: int | None, where: str) -> list[int]:
    """What the model is prompted with: the rendered conversation, or the text and its specials."""
    with tokenizing(where):
        if "messages" in row:
            text = render(tok, [dict(message) for message in row["messages"]])
            return [int(i) for i in tok(text, add_special_tokens=False)["input_ids"]]
        ids = [int(i) for i in tok(row["prompt"])["input_ids"]]
    while ids and ids[-1] == end:  # some tokenizers end every text
        ids.pop()
    return ids


def _masked(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    mask, text = coder.tok.mask_token, row["text"]
    if mask is None:
        raise NotExamined("the tokenizer has no mask token")
    if mask not in text:
        text = text.replace(MASK, mask)
    found = coder.ids(text)
    tokens = list(found["input_ids"])
    places = [at for at, token in enumerate(tokens) if token == coder.tok.mask_token_id]
    if len(places) != 1 and not coder.room.cut:
        raise row_problem("mask-count", coder.where, f"{len(places)} masks", "one mask")
    labels = torch.full((len(tokens),), IGNORED)
    if places:
        spaced = text[: text.index(mask)].endswith(" ")
        labels[places[0]] = _one_token(coder, row["answer"], spaced=spaced)
    return [coder.example(found, labels={"labels": labels}, aligned="sequence", place=places)]


def _one_token(coder: _Coder, answer: str, *, spaced: bool) -> int:
    """The id of an answer; byte-level vocabularies hold the space before a word with it."""
    unknown = coder.tok.unk_token_id
    for text in (f" {answer}", answer) if spaced else (answer,):
        ids = coder.plain(text)
        if len(ids) == 1 and ids[0] != unknown:
            return ids[0]
    got = f"{shown(answer)} is {len(coder.plain(answer))} tokens, or unknown"
    raise row_problem("answer-tokens", coder.where, got, "an answer of one token")


def _rewritten(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    found = coder.ids(row["source"])
    with tokenizing(coder.where):
        target = [int(i) for i in coder.tok(text_target=row["target"])["input_ids"]]
    end = coder.final()
    if end is not None and end not in target[-1:]:
        target.append(end)
    coder.room.require(coder.where, len(target), "target")
    target = target[: coder.room.target]
    labels = {"labels": torch.tensor(target)}
    return [coder.example(found, labels=labels, aligned="target", target=target)]


def _embedded(coder: _Coder, row: Mapping[str, Any]) -> list[Example]:
    texts = [row[key] for key in ("text", "text_pair", "query") if key in row]
    return [coder.example(coder.ids(text)) for text in texts]


def shifted(example: Example, start: int) -> Example:
    """The decoder's input: the targets one place later, behind the start token."""
    if example.target is None:
        return example
    return replace(example, target=[start, *example.target[:-1]])


_WAYS: dict[str, Callable[[_Coder, Mapping[str, Any]], list[Example]]] = {
    "text-classification": _classified,
    "token-classification": _tagged,
    "question-answering": _asked,
    "multiple-choice": _chosen,
    "causal-lm": _written,
    "masked-lm": _masked,
    "seq2seq-lm": _rewritten,
    "sentence-embedding": _embedded,
}
