"""What outcomes add up to: one by one, without the engine that makes them."""

from __future__ import annotations

from itertools import product

import pytest

from slmconform.engine.verdict import EXIT, verdict
from slmconform.standard.report import Outcome, Result, Verdict

OPEN = {Outcome.BLOCKED, Outcome.INCONCLUSIVE, Outcome.NO_REFERENCE, Outcome.NOT_EXAMINED}


def results(*outcomes, keyword="MUST"):
    return [
        Result(id=f"SLM-ABC-{at:03}", title="", keyword=keyword, profile="", outcome=outcome)
        for at, outcome in enumerate(outcomes, 1)
    ]


def test_exit_statuses_are_those_of_the_standard():
    assert EXIT == {
        Verdict.CONFORMANT: 0,
        Verdict.WITH_WAIVERS: 0,
        Verdict.NOT_CONFORMANT: 1,
        Verdict.INCONCLUSIVE: 3,
    }


@pytest.mark.parametrize("keyword", ["MUST", "MUST NOT"])
@pytest.mark.parametrize("pair", [*product(Outcome, Outcome)])
def test_a_failure_decides_then_a_doubt_then_a_pass(keyword, pair):
    reached = verdict(results(*pair, keyword=keyword))
    if {Outcome.FAIL, Outcome.ERROR} & {*pair}:
        assert reached is Verdict.NOT_CONFORMANT
    elif OPEN & {*pair} or Outcome.PASS not in pair:
        assert reached is Verdict.INCONCLUSIVE
    elif Outcome.WAIVED in pair:
        assert reached is Verdict.WITH_WAIVERS
    else:
        assert reached is Verdict.CONFORMANT


@pytest.mark.parametrize("keyword", ["SHOULD", "SHOULD NOT", "MAY"])
@pytest.mark.parametrize("outcome", Outcome)
def test_of_a_recommendation_only_a_crash_counts(keyword, outcome):
    wanted = Verdict.NOT_CONFORMANT if outcome is Outcome.ERROR else None
    some = results(outcome, keyword=keyword)
    assert verdict(some) is (wanted or Verdict.INCONCLUSIVE)
    assert verdict(results(Outcome.PASS) + some) is (wanted or Verdict.CONFORMANT)


@pytest.mark.parametrize("outcome", Outcome)
def test_what_was_not_asked_is_left_out_unless_it_crashed(outcome):
    some = results(Outcome.PASS, outcome)
    wanted = Verdict.NOT_CONFORMANT if outcome is Outcome.ERROR else Verdict.CONFORMANT
    assert verdict(some, unasked=frozenset({"SLM-ABC-002"})) is wanted
    other = verdict(some, unasked=frozenset({"SLM-ABC-001"}))
    assert other is verdict(results(outcome))
    everything = frozenset({"SLM-ABC-001", "SLM-ABC-002"})
    assert verdict(some, unasked=everything) is not Verdict.CONFORMANT


def test_nothing_is_no_conformance():
    assert verdict([]) is Verdict.INCONCLUSIVE
