"""From outcomes to a verdict and an exit status."""

from __future__ import annotations

from collections.abc import Sequence

from slmconform.standard.report import UNDECIDED, Outcome, Result, Verdict

EXIT = {Verdict.CONFORMANT: 0, Verdict.NOT_CONFORMANT: 1, Verdict.INCONCLUSIVE: 3}
COULD_NOT_RUN = 2
INTERRUPTED = 130


def verdict(results: Sequence[Result], *, unasked: frozenset[str]) -> Verdict:
    """The verdict over every requirement of a profile.

    ``unasked`` are the ids that only a manifest or evidence can answer where there is none: a
    provisional verdict leaves them out, and the report lists them.
    """
    mandatory = [r for r in results if r.keyword in ("MUST", "MUST NOT")]
    asked = [r for r in mandatory if r.id not in unasked]
    if any(r.outcome in (Outcome.FAIL, Outcome.ERROR) for r in asked):
        return Verdict.NOT_CONFORMANT
    if any(r.outcome in UNDECIDED for r in asked):
        return Verdict.INCONCLUSIVE
    if not any(r.outcome is Outcome.PASS for r in asked):
        return Verdict.INCONCLUSIVE
    return Verdict.CONFORMANT
