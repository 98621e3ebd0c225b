"""From outcomes to a verdict and an exit status."""

from __future__ import annotations

from collections.abc import Sequence

from slmconform.standard.report import UNDECIDED, Outcome, Result, Verdict

EXIT = {
    Verdict.CONFORMANT: 0,
    Verdict.WITH_WAIVERS: 0,
    Verdict.NOT_CONFORMANT: 1,
    Verdict.INCONCLUSIVE: 3,
}


def verdict(results: Sequence[Result], *, unasked: frozenset[str] = frozenset()) -> Verdict:
    """The verdict over every requirement of a profile.

    ``unasked`` are the ids that only a manifest or evidence can answer where there is none: a
    provisional verdict leaves them out, and the report lists them. An error counts whatever the
    keyword of its requirement: what crashed was the model or its check, not the recommendation.
    """
    if any(r.outcome is Outcome.ERROR for r in results):
        return Verdict.NOT_CONFORMANT
    mandatory = [r for r in results if r.keyword in ("MUST", "MUST NOT")]
    asked = [r for r in mandatory if r.id not in unasked]
    if any(r.outcome is Outcome.FAIL for r in asked):
        return Verdict.NOT_CONFORMANT
    if any(r.outcome in UNDECIDED for r in asked):
        return Verdict.INCONCLUSIVE
    if not any(r.outcome is Outcome.PASS for r in asked):
        return Verdict.INCONCLUSIVE
    waived = any(r.outcome is Outcome.WAIVED for r in asked)
    return Verdict.WITH_WAIVERS if waived else Verdict.CONFORMANT
