"""The 95 % bootstrap interval of a metric: percentiles over resampled examples.

Examples are drawn with replacement (Efron, Tibshirani 1993, chapter 13), tokens with the example
that they belong to. The draws come from numpy's frozen ``RandomState``, whose integers are the
same in every version; each metric is recomputed from counts, which the libraries' values are
functions of, so that a thousand resamples cost about as much as one call of a library.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slmconform.measure.metrics import (
    Answers,
    Array,
    Classes,
    Likelihoods,
    Numbers,
    Rankings,
    Texts,
    by_query,
    count_of,
    first_places,
    library,
)

RESAMPLES = 1000
FEWER = 500  # for files of many examples
MANY = 20_000
SEED = 20
Statistic = Callable[[Array], float]  # of how often each example was drawn, (examples,)


def interval(metric: str, answers: Answers, k: int | None = None) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a metric over resamples; its value alone for one example.

    Resamples in which the metric is undefined, such as a constant ranking, are left out.
    """
    statistic, count = _statistic(metric, answers, k), count_of(answers)
    random = np.random.RandomState(SEED)
    draws = RESAMPLES if count <= MANY else FEWER
    seen = np.empty(draws)
    with np.errstate(all="ignore"):
        for at in range(draws):
            drawn = np.bincount(random.randint(0, count, count), minlength=count)
            seen[at] = statistic(drawn)
    kept = seen[np.isfinite(seen)]
    if not kept.size:
        whole = statistic_of(metric, answers, k)
        return whole, whole
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)


def statistic_of(metric: str, answers: Answers, k: int | None = None) -> float:
    """The metric of all examples as the resamples compute it."""
    return _statistic(metric, answers, k)(np.ones(count_of(answers), dtype=np.int64))


def _statistic(metric: str, answers: Answers, k: int | None) -> Statistic:
    if isinstance(answers, Numbers):
        return _correlation(answers)
    if isinstance(answers, Likelihoods):
        loss = np.array(answers.loss)
        tokens = np.array([len(row) for row in answers.tokens])
        return lambda drawn: float(np.exp(drawn @ loss / (drawn @ tokens)))
    if isinstance(answers, Texts):
        return _mean(np.array(answers.right, dtype=np.float64))
    if isinstance(answers, Rankings):
        if metric == "accuracy":
            return _mean(np.array(first_places(answers), dtype=np.float64))
        return _mean(by_query(metric, answers, k or 1))
    return _spans(answers) if metric == "seqeval-f1" else _classes(metric, answers)


def _mean(values: Array) -> Statistic:
    return lambda drawn: float(drawn @ values / drawn.sum())


def _correlation(answers: Numbers) -> Statistic:
    with library("scipy"):
        from scipy.stats import rankdata

        want, got = np.array(answers.want), np.array(answers.got)

        def statistic(drawn: Array) -> float:
            first, second = (rankdata(np.repeat(side, drawn)) for side in (want, got))
            return float(np.corrcoef(first, second)[0, 1])

        return statistic


def _classes(metric: str, answers: Classes) -> Statistic:
    want, got = answers.flat("want"), answers.flat("got")
    if answers.several:
        return _several(metric, want, got)
    _, codes = np.unique(np.concatenate([want, got]), return_inverse=True)
    true, guess, size = codes[: len(want)], codes[len(want) :], int(codes.max()) + 1
    owner = np.repeat(np.arange(len(answers.want)), [len(row) for row in answers.want])
    right = true == guess

    def statistic(drawn: Array) -> float:
        weight = drawn[owner].astype(np.float64)
        wanted = np.bincount(true, weight, size)
        given = np.bincount(guess, weight, size)
        return _score(metric, np.bincount(true[right], weight[right], size), wanted, given)

    return statistic


def _score(metric: str, hits: Array, wanted: Array, given: Array) -> float:
    """A metric from the counts by class: right, wanted and given."""
    total = wanted.sum()
    if metric == "matthews":  # Gorodkin 2004
        covariance = hits.sum() * total - wanted @ given
        spread = (total**2 - given @ given) * (total**2 - wanted @ wanted)
        return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0
    if metric == "macro-f1":
        there = wanted + given > 0
        return float((2 * hits[there] / (wanted + given)[there]).mean())
    return float(hits.sum() / total)  # of one label an example micro F1 is accuracy


def _several(metric: str, want: Array, got: Array) -> Statistic:
    whole = (want == got).all(axis=1).astype(np.float64)
    hits = want * got

    def statistic(drawn: Array) -> float:
        if metric == "accuracy":
            return float(drawn @ whole / drawn.sum())
        right, sums = drawn @ hits, drawn @ want + drawn @ got
        if metric == "micro-f1":
            return float(2 * right.sum() / sums.sum()) if sums.sum() else 0.0
        shares = np.divide(2 * right, sums, out=np.zeros(len(sums)), where=sums > 0)
        return float(shares.mean())

    return statistic


def _spans(answers: Classes) -> Statistic:
    with library("sklearn", "seqeval"):
        from seqeval.metrics.sequence_labeling import get_entities

        counts = []
        for want, got in zip(answers.tags("want"), answers.tags("got"), strict=True):
            wanted, given = set(get_entities(want)), set(get_entities(got))
            counts.append((len(wanted & given), len(wanted) + len(given)))
    hits, sums = np.array(counts).T

    def statistic(drawn: Array) -> float:
        both = drawn @ sums
        return float(2 * (drawn @ hits) / both) if both else 0.0

    return statistic
