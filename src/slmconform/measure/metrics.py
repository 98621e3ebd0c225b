"""The metrics of 1.0, by the libraries that the field reports them with.

scikit-learn gives accuracy, F1, Matthews and NDCG, scipy the rank correlation, seqeval the F1 of
spans. seqeval has had no release since 2020 and comes as a source archive; it is taken all the
same, for a claimed "seqeval F1" means the numbers of that code: its reading of ill-formed tags is
not that of its maintained successors. torchmetrics would repeat scikit-learn for a hundred times
its weight. Exact match, perplexity and recall at k are one line each and stand here.

The libraries are the extra ``slmconform[evaluation]``; without them there is no answer.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np

from slmconform.engine.registry import Inconclusive, NoReference

Array = np.ndarray[Any, np.dtype[Any]]
Report = dict[str, dict[str, float]]
NAMES = {"sklearn": "scikit-learn", "scipy": "scipy", "seqeval": "seqeval"}


@dataclass(frozen=True)
class Classes:
    """Classes of each example: one, or one a token; several labels are rows of 0 and 1.

    ``want`` and ``got`` are one list an example; ``names`` are label names by index.
    """

    want: list[list[Any]]
    got: list[list[Any]]
    names: dict[int, str] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether an example has several labels at once."""
        return bool(self.want) and bool(self.want[0]) and isinstance(self.want[0][0], list)

    def flat(self, side: str) -> Array:
        """All classes of one side, (tokens,) or (examples, labels)."""
        return np.array(list(chain.from_iterable(getattr(self, side))))

    def tags(self, side: str) -> list[list[str]]:
        """Label names of one side, a list an example."""
        return [[self.names[one] for one in row] for row in getattr(self, side)]


@dataclass(frozen=True)
class Numbers:
    """One wanted and one given number an example."""

    want: list[float]
    got: list[float]


@dataclass(frozen=True)
class Texts:
    """Whether each example was answered exactly, and how often the best constant would be."""

    right: list[bool]
    constant: float


@dataclass(frozen=True)
class Likelihoods:
    """Sum of -log p in nats and the predicted tokens, by example."""

    loss: list[float]
    tokens: list[list[int]]


@dataclass(frozen=True)
class Ranked:
    """Where the right items of one query stand among ``items``: all that a ranking is scored by.

    ``better`` is how many items score higher than each right one, ``equal`` how many score as it
    does, itself among them; ``best`` is the first of the best items.
    """

    right: Array
    better: Array
    equal: Array
    best: int
    items: int


@dataclass(frozen=True, eq=False)
class Rankings:
    """The right items of each query."""

    queries: list[Ranked]


def ranked(scores: Array, right: Sequence[int]) -> Ranked:
    """The places of the right items, given by index, among items with scores (items,)."""
    chosen = np.unique(np.array(right, dtype=np.int64))
    better = np.array([int((scores > scores[at]).sum()) for at in chosen])
    equal = np.array([int((scores == scores[at]).sum()) for at in chosen])
    return Ranked(chosen, better, equal, int(scores.argmax()), len(scores))


Answers = Classes | Numbers | Texts | Likelihoods | Rankings


def count_of(answers: Answers) -> int:
    """How many examples were answered; of a retrieval its queries."""
    if isinstance(answers, Rankings):
        return len(answers.queries)
    if isinstance(answers, Likelihoods):
        return len(answers.loss)
    return len(answers.right) if isinstance(answers, Texts) else len(answers.want)


@dataclass(frozen=True)
class Value:
    """A metric on all examples: its value, that of the trivial answer, and each class's."""

    value: float
    baseline: float | None = None
    report: Report = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)


@contextmanager
def library(*modules: str) -> Iterator[dict[str, str]]:
    """Names and versions of the libraries, quiet about empty classes; no reference without them."""
    try:
        for module in modules:
            __import__(module)
    except ImportError as error:
        missing = NAMES.get((error.name or "").partition(".")[0], error.name)
        raise NoReference(
            f"{missing} is not installed: pip install 'slmconform[evaluation]'"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield {NAMES[module]: version(NAMES[module]) for module in modules}


def value_of(metric: str, answers: Answers, k: int | None = None) -> Value:
    """A metric of the answers; `NoReference` where its library is missing.

    Inconclusive where it is undefined, such as a correlation with a constant.
    """
    if isinstance(answers, Classes):
        found = _spans(answers) if metric == "seqeval-f1" else _classes(metric, answers)
    elif isinstance(answers, Numbers):
        found = _correlation(answers)
    elif isinstance(answers, Texts):
        share = sum(answers.right) / len(answers.right)
        found = Value(share, answers.constant)
    elif isinstance(answers, Likelihoods):
        found = _perplexity(answers)
    else:
        found = _ranking(metric, answers, k or 1)
    if not math.isfinite(found.value):
        raise Inconclusive(f"{metric} of these answers is {found.value}")
    return found


def _classes(metric: str, answers: Classes) -> Value:
    with library("sklearn") as libraries:
        from sklearn.metrics import classification_report

        if metric == "matthews" and answers.several:
            raise Inconclusive("the Matthews coefficient is not defined for several labels")
        want, got = answers.flat("want"), answers.flat("got")
        report = {}
        if metric.endswith("f1"):
            table = classification_report(want, got, output_dict=True, zero_division=0)
            report = _report(table, answers.names)
        value = _of_classes(metric, want, got)
        baseline = _of_classes(metric, want, _majority(want))
    return Value(value, baseline, report, libraries)


def _of_classes(metric: str, want: Array, got: Array) -> float:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if metric == "accuracy":
        return float(accuracy_score(want, got))
    if metric == "matthews":
        return float(matthews_corrcoef(want, got))
    average = metric.removesuffix("-f1")
    return float(f1_score(want, got, average=average, zero_division=0))


def _majority(want: Array) -> Array:
    """The most frequent class everywhere, the smaller of equals; by column for several labels."""
    if want.ndim == 2:
        return np.tile((want.mean(axis=0) > 0.5).astype(want.dtype), (len(want), 1))
    classes, counts = np.unique(want, return_counts=True)
    return np.full_like(want, classes[counts.argmax()])


def _spans(answers: Classes) -> Value:
    with library("sklearn", "seqeval") as libraries:
        from seqeval.metrics import classification_report, f1_score

        want, got = answers.tags("want"), answers.tags("got")
        counts = Counter(chain.from_iterable(want))
        usual = max(sorted(counts), key=counts.__getitem__)
        trivial = [[usual] * len(row) for row in want]
        return Value(
            float(f1_score(want, got, zero_division=0)),
            float(f1_score(want, trivial, zero_division=0)),
            _report(_span_report(classification_report, want, got), {}),
            libraries,
        )


def _span_report(make: Any, want: list[list[str]], got: list[list[str]]) -> dict[str, Any]:
    """The report of seqeval; it has none where there is not one span."""
    if all(tag == "O" for row in (*want, *got) for tag in row):
        return {}
    table: dict[str, Any] = make(want, got, output_dict=True, zero_division=0)
    return table


def _report(table: dict[str, Any], names: dict[int, str]) -> Report:
    """The rows of a classification report under the names of the labels."""
    return {
        names.get(int(key), key) if key.isdecimal() else key: {
            column: float(number) for column, number in row.items()
        }
        for key, row in table.items()
        if isinstance(row, dict)
    }


def _correlation(answers: Numbers) -> Value:
    with library("scipy") as libraries:
        from scipy.stats import spearmanr

        return Value(float(spearmanr(answers.want, answers.got).statistic), 0.0, {}, libraries)


def _perplexity(answers: Likelihoods) -> Value:
    tokens = Counter(chain.from_iterable(answers.tokens))
    count = tokens.total()
    if not count:
        raise Inconclusive("no token has another before it")
    unigram = -sum(n * math.log(n / count) for n in tokens.values()) / count
    mean = math.fsum(answers.loss) / count
    return Value(math.exp(mean) if mean < 700 else math.inf, math.exp(unigram))


def _ranking(metric: str, answers: Rankings, k: int) -> Value:
    if metric == "accuracy":
        return _first(answers)
    libraries: dict[str, str] = {}
    if metric == "ndcg":
        with library("sklearn") as libraries:
            pass
    usual = _popular(answers)
    value, baseline = (float(np.mean(by_query(metric, one, k))) for one in (answers, usual))
    return Value(value, baseline, {}, libraries)


def _popular(answers: Rankings) -> Rankings:
    """Items ranked by how often they are right; all alike where each query has its own items."""
    sizes = {one.items for one in answers.queries}
    if len(sizes) > 1:
        return Rankings(
            [
                Ranked(q.right, np.zeros_like(q.better), np.full_like(q.equal, q.items), 0, q.items)
                for q in answers.queries
            ]
        )
    size = sizes.pop()
    often = np.bincount(np.concatenate([one.right for one in answers.queries]), minlength=size)
    ordered, best = np.sort(often), int(often.argmax())
    first, last = (np.searchsorted(ordered, often, side) for side in ("left", "right"))
    return Rankings(
        [
            Ranked(q.right, size - last[q.right], (last - first)[q.right], best, size)
            for q in answers.queries
        ]
    )


def first_places(answers: Rankings) -> list[bool]:
    """Whether the best item of each query is right."""
    return [one.best in one.right for one in answers.queries]


def _first(answers: Rankings) -> Value:
    """Accuracy of the best item where one item is right."""
    want = [[int(one.right[0])] for one in answers.queries]
    got = [[one.best] for one in answers.queries]
    return _classes("accuracy", Classes(want, got))


@lru_cache(maxsize=4)
def by_query(metric: str, answers: Rankings, k: int) -> Array:
    """NDCG or recall at k of each query, (queries,); ties are averaged over their orders."""
    if metric == "recall":
        return np.array([_recall(one, k) for one in answers.queries])
    with library("sklearn"):
        from sklearn.metrics import ndcg_score

        shortened = (_shortened(one, k) for one in answers.queries)
        return np.array([float(ndcg_score([right], [scores], k=k)) for right, scores in shortened])


def _shortened(one: Ranked, k: int) -> tuple[Array, Array]:
    """Marks and scores of fewer items with the same NDCG at k.

    Only the first k places, ties that reach into them, and the number of right items count.
    """
    among = one.better < k
    size = max(k, 2, *(one.better + one.equal)[among])
    behind = int((~among).sum())
    scores, marks = -np.arange(float(size + behind)), np.zeros(size + behind)
    marks[size:] = 1.0
    for first, count in Counter(one.better[among].tolist()).items():
        equal = int(one.equal[one.better == first][0])
        scores[first : first + equal] = -first
        marks[first : first + count] = 1.0
    return marks, scores


def _recall(one: Ranked, k: int) -> float:
    """The share of right items among the k best."""
    return float(np.clip((k - one.better) / one.equal, 0.0, 1.0).mean())
