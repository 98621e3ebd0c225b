"""The statistic of the bootstrap from its definition, and its percentiles where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from slmconform.measure.interval import interval, statistic_of
from slmconform.measure.metrics import Classes, Likelihoods, Rankings, Texts, ranked

# Two queries: the right item is third in the first, and first in the second.
PLACES = Rankings([ranked(np.array([3.0, 2.0, 1.0, 0.0]), [2]), ranked(np.array([3.0, 1.0]), [0])])


def test_perplexity_is_of_all_tokens_and_not_of_rows():
    answers = Likelihoods(loss=[1.0, 7.0], tokens=[[1], [1, 2, 3]])
    assert statistic_of("perplexity", answers) == pytest.approx(math.exp(8 / 4), rel=1e-15)


@pytest.mark.parametrize(("k", "recall"), [(1, 0.5), (2, 0.5), (3, 1.0)])
def test_recall_counts_the_first_k_places(k, recall):
    assert statistic_of("recall", PLACES, k) == recall
    ndcg = (1.0 + (0.5 if k == 3 else 0.0)) / 2  # 1 / log2(1 + 3) at the third place
    assert statistic_of("ndcg", PLACES, k) == pytest.approx(ndcg, rel=1e-12)


def test_accuracy_of_a_ranking_is_that_of_its_first_place():
    assert statistic_of("accuracy", PLACES, 3) == 0.5


def test_the_percentiles_are_those_of_the_binomial_distribution():
    """Resampled, the number of right answers of 400 is binomial; so are 2.5 % and 97.5 % of it."""
    texts = Texts([True] * 280 + [False] * 120, 0.0)
    low, high = interval("exact-match", texts)
    for found, share in ((low, 0.025), (high, 0.975)):
        assert found == pytest.approx(binom.ppf(share, 400, 0.7) / 400, abs=0.004)


def test_every_example_is_drawn():
    assert interval("exact-match", Texts([True, False], 0.0)) == (0.0, 1.0)
    assert interval("exact-match", Texts([False, True], 0.0)) == (0.0, 1.0)


def test_a_class_that_no_example_has_does_not_count():
    """F1 of class 0 is 2/3 and of class 2 is 0; class 1 stands only in resamples of its row."""
    answers = Classes(want=[[0], [0], [1]], got=[[0], [2], [1]])
    two_of_three = (2 / 3 + 1 + 0) / 3
    assert statistic_of("macro-f1", answers) == pytest.approx(two_of_three, rel=1e-12)
    low, high = interval("macro-f1", answers)
    assert (low, high) == (0.0, 1.0)  # the second row alone, the first or the third alone
