"""The metrics are the libraries' own numbers, and the bootstrap recomputes the same ones."""

from __future__ import annotations

import builtins
import itertools
import math
import random
import time
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn
from sklearn.dummy import DummyClassifier

from slmconform.engine.registry import Inconclusive, NoReference
from slmconform.measure.interval import interval, statistic_of
from slmconform.measure.metrics import (
    Classes,
    Likelihoods,
    Numbers,
    Rankings,
    Texts,
    count_of,
    first_places,
    ranked,
    value_of,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*ill-defined", "ignore:.*is constant", "ignore:A single label"
)
TAGS = ("O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG")
BY_CLASS = {
    "accuracy": sklearn.accuracy_score,
    "macro-f1": lambda a, b: sklearn.f1_score(a, b, average="macro", zero_division=0),
    "micro-f1": lambda a, b: sklearn.f1_score(a, b, average="micro", zero_division=0),
    "matthews": sklearn.matthews_corrcoef,
}


def classes(seed, count=60, size=5, tokens=1, right=0.6):
    """Random classes, right with a probability; the highest is absent from what is wanted."""
    draw = random.Random(seed)
    want = [[draw.randrange(max(size - 1, 1)) for _ in range(tokens)] for _ in range(count)]
    got = [[v if draw.random() < right else draw.randrange(size) for v in row] for row in want]
    return Classes(want, got)


def several(seed, count=40, size=4):
    draw = random.Random(seed)
    sides = [[[[draw.randrange(2) for _ in range(size)]] for _ in range(count)] for _ in range(2)]
    for row in sides[0]:
        row[0][size - 1] = 0  # a label that nobody wants
    return Classes(*sides)


def drawn(seed, queries=20, items=15, right=2, *, ties=False):
    """Scores and marks of all items, (queries, items)."""
    draw = random.Random(seed)
    scores, marks = [], []
    for _ in range(queries):
        levels = 4 if ties else 10**9
        scores.append(np.array([float(draw.randrange(levels)) for _ in range(items)]))
        marks.append(np.zeros(items))
        marks[-1][draw.sample(range(items), right)] = 1.0
    return np.array(scores), np.array(marks)


def rankings(scores, marks):
    pairs = zip(scores, marks, strict=True)
    return Rankings([ranked(np.array(s), np.flatnonzero(m)) for s, m in pairs])


CASES = {
    "usual": classes(1),
    "tokens": classes(2, tokens=7),
    "two": classes(3, size=2),
    "one class only": Classes([[0]] * 9, [[0]] * 9),
    "one class wanted": Classes([[1]] * 9, [[1], [0], [1]] * 3),
    "all wrong": Classes([[0], [1]] * 5, [[1], [0]] * 5),
    "one row": Classes([[2]], [[2]]),
    "absent in between": Classes([[0], [7], [7]], [[0], [3], [7]]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("metric", BY_CLASS)
def test_classes_equal_scikit_learn(metric, case):
    answers = CASES[case]
    want, got = answers.flat("want"), answers.flat("got")
    found = value_of(metric, answers)
    assert found.value == BY_CLASS[metric](want, got)
    assert statistic_of(metric, answers) == pytest.approx(found.value, abs=1e-12)
    trivial = DummyClassifier(strategy="most_frequent").fit(want[:, None], want)
    assert found.baseline == BY_CLASS[metric](want, trivial.predict(want[:, None]))


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "micro-f1"])
@pytest.mark.parametrize("seed", range(3))
def test_several_labels_equal_scikit_learn(metric, seed):
    answers = several(seed)
    want, got = answers.flat("want"), answers.flat("got")
    found = value_of(metric, answers)
    assert found.value == BY_CLASS[metric](want, got)
    assert statistic_of(metric, answers) == pytest.approx(found.value, abs=1e-12)
    trivial = DummyClassifier(strategy="most_frequent").fit(want, want).predict(want)
    assert found.baseline == BY_CLASS[metric](want, trivial)


def test_the_report_is_that_of_scikit_learn():
    answers = classes(1)
    table = sklearn.classification_report(
        answers.flat("want"), answers.flat("got"), output_dict=True, zero_division=0
    )
    report = value_of("macro-f1", answers).report
    assert report == {key: row for key, row in table.items() if isinstance(row, dict)}
    named = Classes(answers.want, answers.got, {0: "late", 1: "lost"})
    assert value_of("macro-f1", named).report["late"] == table["0"]


def tagged(want, got):
    table = {tag: at for at, tag in enumerate(dict.fromkeys(TAGS))}
    sides = [[[table[tag] for tag in row] for row in side] for side in (want, got)]
    return Classes(*sides, {at: tag for tag, at in table.items()})


def random_tags(seed, count=40, right=0.7):
    draw = random.Random(seed)
    want = [[draw.choice(TAGS) for _ in range(draw.randrange(1, 12))] for _ in range(count)]
    got = [[t if draw.random() < right else draw.choice(TAGS) for t in row] for row in want]
    return want, got


SPANS = {
    **{f"random {seed}": random_tags(seed) for seed in range(4)},
    "no span": ([["O", "O"], ["O"]], [["O", "O"], ["O"]]),
    "none found": ([["B-PER", "I-PER"]], [["O", "O"]]),
    "none wanted": ([["O", "O"]], [["B-LOC", "O"]]),
    "ill-formed": ([["I-PER", "I-LOC", "O"]], [["I-PER", "B-LOC", "I-LOC"]]),
    "touching": ([["B-PER", "B-PER"], ["I-PER"]], [["B-PER", "I-PER"], ["I-PER"]]),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("case", SPANS)
def test_spans_equal_seqeval(case):
    want, got = SPANS[case]
    answers = tagged(want, got)
    found = value_of("seqeval-f1", answers)
    assert found.value == seqeval.f1_score(want, got)
    assert statistic_of("seqeval-f1", answers) == pytest.approx(found.value, abs=1e-12)
    usual = Counter(tag for row in want for tag in row).most_common(1)[0][0]
    if usual == "O":
        assert found.baseline == 0.0
    assert found.baseline == seqeval.f1_score(want, [[usual] * len(row) for row in want])
    if case.startswith("random"):
        assert found.report == seqeval.classification_report(
            want, got, output_dict=True, zero_division=0
        )
    assert found.libraries.keys() == {"seqeval", "scikit-learn"}


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_equals_scipy(ties):
    draw = random.Random(4)
    levels = 3 if ties else 10**9
    want = [float(draw.randrange(levels)) for _ in range(50)]
    got = [v + draw.randrange(levels) for v in want]
    found = value_of("spearman", Numbers(want, got))
    assert found.value == stats.spearmanr(want, got).statistic
    assert statistic_of("spearman", Numbers(want, got)) == pytest.approx(found.value, abs=1e-12)


def test_a_rank_correlation_with_a_constant_is_undefined():
    with pytest.raises(Inconclusive, match="spearman of these answers is nan"):
        value_of("spearman", Numbers([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]))


@pytest.mark.parametrize("k", [1, 3, 10, 50])
@pytest.mark.parametrize("ties", [False, True])
def test_ranking_equals_scikit_learn(k, ties):
    scores, marks = drawn(5, ties=ties)
    found = value_of("ndcg", rankings(scores, marks), k)
    assert found.value == pytest.approx(sklearn.ndcg_score(marks, scores, k=k), abs=1e-12)
    popular = np.tile(marks.sum(axis=0), (20, 1))
    assert found.baseline == pytest.approx(sklearn.ndcg_score(marks, popular, k=k), abs=1e-12)
    if ties:
        return
    best = np.zeros((20, 15), dtype=int)
    for row, one in enumerate(scores):
        best[row, np.argsort(-one)[:k]] = 1
    share = sklearn.recall_score(marks, best, average="samples")
    assert value_of("recall", rankings(scores, marks), k).value == pytest.approx(share, abs=1e-12)
    scores, marks = drawn(6, right=1)
    single, targets = rankings(scores, marks), marks.argmax(axis=1)
    top = sklearn.top_k_accuracy_score(targets, scores, k=min(k, 14), labels=range(15))
    assert value_of("recall", single, min(k, 14)).value == pytest.approx(top, abs=1e-12)
    first = sklearn.accuracy_score(targets, scores.argmax(axis=1))
    assert value_of("accuracy", single).value == first == np.mean(first_places(single))


@pytest.mark.parametrize("right", [1, 5, 15])
@pytest.mark.parametrize("levels", [1, 2, 40])
def test_few_places_are_enough_for_a_ranking(levels, right):
    """What is kept of a query gives the NDCG of all its items, however many of them tie."""
    draw = random.Random(levels)
    scores = np.array([[float(draw.randrange(levels)) for _ in range(40)] for _ in range(30)])
    marks = np.zeros_like(scores)
    for row in marks:
        row[draw.sample(range(40), right)] = 1.0
    for k in (1, 2, 7, 40, 60):
        want = sklearn.ndcg_score(marks, scores, k=k)
        found = value_of("ndcg", rankings(scores, marks), k).value
        assert found == pytest.approx(want, abs=1e-12)


def test_ties_are_averaged_over_their_orders():
    scores, right = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    found = [
        right[list(order[:2])].sum() / 2
        for order in itertools.permutations(range(5))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    assert value_of("recall", rankings([scores], [right]), 2).value == pytest.approx(np.mean(found))
    alike = rankings([np.zeros(5)], [right])
    assert value_of("recall", alike, 2).value == pytest.approx(2 / 5)


def test_items_that_are_ruled_out_rank_last():
    ruled_out = np.array([3.0, -np.inf, 1.0, -np.inf])
    answers = rankings([ruled_out], [np.array([0.0, 0.0, 1.0, 0.0])])
    assert value_of("recall", answers, 2).value == 1.0
    assert value_of("ndcg", answers, 2).value == pytest.approx(1 / math.log2(3))


def test_the_trivial_ranking_is_by_popularity():
    right = [np.eye(4)[at] for at in (2, 2, 2, 0)]
    answers = rankings([np.array([4.0, 3.0, 2.0, 1.0])] * 4, right)
    assert value_of("recall", answers, 1).baseline == 0.75
    unlike = rankings([np.arange(4.0), np.arange(2.0)], [np.eye(4)[1], np.eye(2)[1]])
    assert value_of("recall", unlike, 1).baseline == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_perplexity_and_its_unigram():
    answers = Likelihoods([2.0, 4.0], [[7, 7], [7, 8]])
    found = value_of("perplexity", answers)
    assert found.value == pytest.approx(math.exp(6.0 / 4), abs=1e-12)
    entropy = stats.entropy([3, 1])
    assert found.baseline == pytest.approx(math.exp(entropy), abs=1e-12)
    with pytest.raises(Inconclusive):
        value_of("perplexity", Likelihoods([0.0], [[]]))
    with pytest.raises(Inconclusive):
        value_of("perplexity", Likelihoods([1e5], [[1]]))


def test_exact_match_is_a_share():
    answers = Texts([True, False, True, True], 0.25)
    found = value_of("exact-match", answers)
    assert (found.value, found.baseline, found.libraries) == (0.75, 0.25, {})


def test_the_interval_covers_as_often_as_it_says():
    """Of 200 samples with a true accuracy of 0.7, about 95 % give an interval that holds it."""
    draw, held = random.Random(1), 0
    for _ in range(200):
        right = [draw.random() < 0.7 for _ in range(100)]
        low, high = interval("exact-match", Texts(right, 0.0))
        held += low <= 0.7 <= high
    assert 0.9 <= held / 200 <= 0.99


def test_the_interval_agrees_with_scipy():
    right = [at % 4 > 0 for at in range(120)]
    low, high = interval("exact-match", Texts(right, 0.0))
    other = stats.bootstrap(
        (np.array(right, dtype=float),), np.mean, method="percentile", n_resamples=5000, rng=1
    ).confidence_interval
    assert low == pytest.approx(other.low, abs=0.01)
    assert high == pytest.approx(other.high, abs=0.01)
    assert interval("exact-match", Texts(right, 0.0)) == (low, high)


def test_tokens_are_drawn_with_their_example():
    """Rows that are wrong as a whole: the interval is that of rows, wider than that of tokens."""
    rows = Classes([[1] * 20] * 40, [[1] * 20] * 30 + [[0] * 20] * 10)
    tokens = Classes([[1]] * 800, [[1]] * 600 + [[0]] * 200)
    wide, narrow = (np.ptp(interval("accuracy", one)) for one in (rows, tokens))
    assert wide > 3 * narrow
    assert count_of(rows) == 40


@pytest.mark.parametrize(
    "answers", [Classes([[1]] * 5, [[1]] * 5), Numbers([1.0, 2.0], [1.0, 2.0])]
)
def test_an_interval_may_be_a_point(answers):
    metric = "accuracy" if isinstance(answers, Classes) else "spearman"
    assert interval(metric, answers) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_a_thousand_resamples_are_fast():
    answers = classes(9, count=2000, tokens=10)
    start = time.perf_counter()
    interval("macro-f1", answers)
    assert time.perf_counter() - start < 10.0


@pytest.mark.parametrize(
    ("module", "package", "metric", "answers"),
    [
        ("sklearn", "scikit-learn", "accuracy", classes(1)),
        ("seqeval", "seqeval", "seqeval-f1", tagged([["O"]], [["O"]])),
        ("scipy", "scipy", "spearman", Numbers([1.0, 2.0], [2.0, 1.0])),
        ("sklearn", "scikit-learn", "ndcg", rankings(*drawn(1))),
    ],
)
def test_a_missing_library_is_no_reference(monkeypatch, module, package, metric, answers):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NoReference) as caught:
        value_of(metric, answers, 3)
    assert caught.value.reason == (
        f"{package} is not installed: pip install 'slmconform[evaluation]'"
    )
