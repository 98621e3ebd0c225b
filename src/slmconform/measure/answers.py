"""What a model answers to the rows of a data file: classes, numbers, texts, likelihoods, ranks."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slmconform.engine.registry import Inconclusive
from slmconform.measure.bench import Bench
from slmconform.measure.dataset import Item
from slmconform.measure.decoding import written
from slmconform.measure.encoding import row_problem
from slmconform.measure.metrics import (
    Answers,
    Array,
    Classes,
    Likelihoods,
    Numbers,
    Ranked,
    Rankings,
    Texts,
    ranked,
)
from slmconform.measure.prediction import Rows, Seen, run, sequences_of
from slmconform.package.dataset import label_names
from slmconform.package.labels import IGNORED, answer_size

BLOCK = 2**24  # cosines at a time
SPAN = 30  # tokens: the longest answer that the scripts of SQuAD look for
ARTICLES = frozenset({"a", "an", "the"})
SPACES = str.maketrans("", "", string.punctuation)


def answers_of(bench: Bench, rows: Rows, kind: str) -> Answers:
    """The answers to all rows; ``kind`` is what `kind_of` says of task and metric."""
    found: Answers = KINDS[kind](bench, rows)
    return found


def kind_of(task: str, metric: str) -> str:
    """Which answers a metric is computed from: metrics of one kind share the passes."""
    if task == "sentence-embedding":
        return "similarities" if metric == "spearman" else "retrieval"
    if task == "sequence-scoring":
        return "rankings"
    if metric == "exact-match":
        return "spans" if task == "question-answering" else "texts"
    by_task = "tokens" if task in ("token-classification", "masked-lm") else "classes"
    return {"spearman": "numbers", "perplexity": "likelihoods"}.get(metric, by_task)


def _classes(bench: Bench, rows: Rows) -> Classes:
    """One class a row, or for several labels whether each is more likely than not."""
    sequences = sequences_of(bench, rows)
    labels = [one.labels["labels"] for one in sequences]
    several = labels[0].numel() > 1
    want = [[int(v) for v in label.flatten()] for label in labels]
    got = run(bench, sequences, _positive if several else _best)
    if several:
        return Classes([[row] for row in want], [[row] for row in got], _names(bench))
    return Classes(want, got, _names(bench))


def _best(seen: Seen) -> list[int]:
    """The best class; of a single logit whether it is positive."""
    logits = seen.answer.flatten()
    _require_below(seen, seen.item.labels["labels"], max(logits.numel(), 2))
    return [int(logits[0] > 0) if logits.numel() == 1 else int(logits.argmax())]


def _positive(seen: Seen) -> list[int]:
    logits, labels = seen.answer.flatten(), seen.item.labels["labels"]
    if logits.numel() != labels.numel():
        got, want = f"{labels.numel()} labels", f"{logits.numel()}, as many as outputs"
        raise row_problem("label-shape", seen.item.where, got, want)
    return [int(one) for one in logits > 0]


def _require_below(seen: Seen, labels: Tensor, size: int) -> None:
    """Raise `PackageProblem` for a label beyond an output whose size only the model knows."""
    if labels.numel() and int(labels.max()) >= size:
        got, want = f"label {int(labels.max())}", f"labels below {size}"
        raise row_problem("label-range", seen.item.where, got, want)


def _names(bench: Bench) -> dict[int, str]:
    """Label names by index; a single logit has none, for its classes are no and yes."""
    named = bench.task in ("text-classification", "token-classification")
    if not named or answer_size(bench.interface) == 1:
        return {}
    return {at: name for name, at in label_names(bench.package).items()}


def _tokens(bench: Bench, rows: Rows) -> Classes:
    """The class of every place that carries a label: a word's first token, or a mask."""

    def chosen(seen: Seen) -> list[int]:
        return [int(one) for one in seen.answer[_labelled(seen.item) + seen.moved].argmax(-1)]

    sequences = sequences_of(bench, rows)
    want = [[int(v) for v in s.labels["labels"][_labelled(s)]] for s in sequences]
    return Classes(want, run(bench, sequences, chosen), _names(bench))


def _labelled(item: Item) -> Tensor:
    """The places with a label, before padding."""
    return (item.labels["labels"] != IGNORED).nonzero().flatten()


def _numbers(bench: Bench, rows: Rows) -> Numbers:
    sequences = sequences_of(bench, rows)
    got = run(bench, sequences, lambda seen: _listed(seen.answer))
    want = [_listed(one.labels["labels"]) for one in sequences]
    if any(len(row) != 1 for row in (*want, *got)):
        raise Inconclusive("a rank correlation needs one number a row")
    return Numbers([row[0] for row in want], [row[0] for row in got])


def _listed(value: Tensor) -> list[float]:
    return [float(one) for one in value.double().flatten()]


def _likelihoods(bench: Bench, rows: Rows) -> Likelihoods:
    """-log p of each token that has another before it."""

    def loss(seen: Seen) -> tuple[float, list[int]]:
        labels = seen.item.labels["labels"][1:]
        kept = (labels != IGNORED).nonzero().flatten()
        logits = seen.output("logits")[kept + seen.moved].double()
        _require_below(seen, labels, logits.shape[-1])
        chosen = labels[kept].to(logits.device)
        log_p = logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1))
        return -float(log_p.sum()), [int(token) for token in chosen]

    found = run(bench, sequences_of(bench, rows), loss)
    return Likelihoods([one[0] for one in found], [one[1] for one in found])


def _texts(bench: Bench, rows: Rows) -> Texts:
    """Whether each text is the wanted one; the constant answer is the most frequent, or a copy."""
    key = "target" if bench.task == "seq2seq-lm" else "answer"
    want = [row[key].strip() for row in rows]
    right = [a == b.strip() for a, b in zip(want, written(bench, rows, want), strict=True)]
    copies = [row.get("source", "").strip() == text for row, text in zip(rows, want, strict=True)]
    return Texts(right, max(sum(copies), *Counter(want).values()) / len(want))


def _spans(bench: Bench, rows: Rows) -> Texts:
    """Whether each answer is one of those wanted, as SQuAD compares them."""
    found = run(bench, sequences_of(bench, rows), _span)
    accepted, right = [], []
    for row, (low, high) in zip(rows, found, strict=True):
        if "inputs" in row:
            accepted.append({str(row["label"])})
            right.append([low, high] == row["label"])
        else:
            accepted.append({_normal(one) for one in row["answers"]})
            right.append(_normal(row["context"][low:high]) in accepted[-1])
    usual = Counter(one for answers in accepted for one in answers)
    return Texts(right, max(usual.values()) / len(right))


def _span(seen: Seen) -> tuple[int, int]:
    """The best span: its characters in the context, or its tokens where there is no text."""
    first, last = (seen.output(name) for name in ("start_logits", "end_logits"))
    example = seen.item.example
    offsets = example.offsets if example else []
    length = len(offsets) or max(len(one) for one in seen.item.inputs.values())
    start, end = (one[seen.moved : seen.moved + length].double() for one in (first, last))
    inside = torch.tensor([low >= 0 for low, _ in offsets] or [True] * length)
    scores = start.cpu().unsqueeze(1) + end.cpu().unsqueeze(0)
    legal = torch.ones(length, length, dtype=torch.bool).triu().tril(SPAN - 1)
    legal &= inside.unsqueeze(1) & inside.unsqueeze(0)
    best = int(scores.masked_fill(~legal, -torch.inf).argmax())
    low, high = divmod(best, length)
    return (offsets[low][0], offsets[high][1]) if offsets else (low, high)


def _normal(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces (Rajpurkar et al. 2016)."""
    words = text.lower().translate(SPACES).split()
    return " ".join(word for word in words if word not in ARTICLES)


def _similarities(bench: Bench, rows: Rows) -> Numbers:
    vectors = np.array(run(bench, sequences_of(bench, rows), _direction))
    got = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    return Numbers([float(row["score"]) for row in rows], [float(one) for one in got])


def _direction(seen: Seen) -> Array:
    """The embedding of length one, in float64."""
    vector = seen.output("sentence_embedding").double()
    return np.asarray((vector / vector.norm().clamp(min=1e-300)).cpu())


def _retrieval(bench: Bench, rows: Rows) -> Rankings:
    """Every text of the corpus ranked by its cosine to each query."""
    vectors = np.array(run(bench, sequences_of(bench, rows), _direction))
    corpus = [at for at, row in enumerate(rows) if "id" in row]
    place = {rows[at]["id"]: number for number, at in enumerate(corpus)}
    queries = [at for at, row in enumerate(rows) if "query" in row]
    texts, step = vectors[corpus].T, max(1, BLOCK // len(corpus))
    found = []
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        for at, scores in zip(block, vectors[block] @ texts, strict=True):
            found.append(ranked(scores, [place[one] for one in rows[at]["positives"]]))
    return Rankings(found)


def _rankings(bench: Bench, rows: Rows) -> Rankings:
    def places(seen: Seen) -> Ranked:
        target, scores = seen.item.labels["labels"], np.array(_listed(seen.answer))
        _require_below(seen, target, len(scores))
        return ranked(scores, [int(target)])

    return Rankings(run(bench, sequences_of(bench, rows), places))


KINDS: Mapping[str, Callable[[Bench, Rows], Any]] = {
    "classes": _classes,
    "tokens": _tokens,
    "numbers": _numbers,
    "likelihoods": _likelihoods,
    "texts": _texts,
    "spans": _spans,
    "similarities": _similarities,
    "retrieval": _retrieval,
    "rankings": _rankings,
}
