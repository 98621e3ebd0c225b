"""Running checks over a subject: one result a requirement, whatever happens."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from slmconform.engine.registry import (
    BlockedBy,
    Check,
    Inconclusive,
    Nonconformance,
    NoReference,
    NotApplicable,
    NotExamined,
    Unanswered,
)
from slmconform.standard.catalogue import Catalogue, Requirement
from slmconform.standard.report import Finding, Outcome, Result, severity

BLOCKING = (Outcome.FAIL, Outcome.ERROR, Outcome.BLOCKED)

OUTCOME_OF: dict[type[Unanswered], Outcome] = {
    NotApplicable: Outcome.NOT_APPLICABLE,
    NotExamined: Outcome.NOT_EXAMINED,
    NoReference: Outcome.NO_REFERENCE,
    Inconclusive: Outcome.INCONCLUSIVE,
}


class Documented(Protocol):
    """What the engine asks of a package before it runs a check that reads its documents."""

    @property
    def has_manifest(self) -> bool:
        """Whether ``slm.toml`` exists, valid or not."""

    @property
    def has_evidence(self) -> bool:
        """Whether ``conformance/evidence.json`` exists, valid or not."""


def unasked(requirement: Requirement, package: Documented) -> Result | None:
    """The result of a requirement that only an absent manifest or recording can answer."""
    if requirement.source != "files" and not package.has_manifest:
        reason = "there is no slm.toml; `slmconform init` writes one"
        return result(requirement, Outcome.NOT_EXAMINED, detail=reason)
    if requirement.source == "evidence" and not package.has_evidence:
        reason = "nothing is recorded; `slmconform record` writes the evidence"
        return result(requirement, Outcome.NO_REFERENCE, detail=reason)
    return None


def result(requirement: Requirement, outcome: Outcome, **fields: Any) -> Result:
    """A result with what the catalogue knows of its requirement filled in."""
    return Result(
        id=requirement.id,
        title=requirement.title,
        keyword=requirement.keyword,
        profile=requirement.profile,
        outcome=severity(requirement, outcome),
        **fields,
    )


def run_checks(
    checks: Iterable[Check],
    subject: Any,
    package: Documented,
    catalogue: Catalogue,
    outcomes: dict[str, Outcome],
    begin: Callable[[str], None] = lambda _: None,
    excuse: Callable[[Result], Result] = lambda one: one,
) -> Iterator[Result]:
    """Run checks in order; ``outcomes`` holds what is already known and is extended.

    ``excuse`` turns a failure that is waived into that outcome. What needs a waived requirement is
    asked all the same, and has to hold or be waived by itself.
    """
    for check in checks:
        begin(check.id)
        requirement = catalogue.requirements[check.id]
        blockers = [need for need in check.needs if outcomes.get(need) in BLOCKING]
        if blockers:
            one = result(requirement, Outcome.BLOCKED, blocked_by=blockers[0])
        else:
            one = unasked(requirement, package) or excuse(_judge(check, requirement, subject))
        outcomes[check.id] = one.outcome
        yield one


def _judge(check: Check, requirement: Requirement, subject: Any) -> Result:
    start = time.perf_counter()

    def seconds() -> float:
        return round(time.perf_counter() - start, 6)

    try:
        detail = check.function(subject)
    except Nonconformance as n:
        finding = Finding(code=n.code, got=n.got, want=n.want, where=n.where, why=n.why, fix=n.fix)
        outcome = Outcome.FAIL
        if _ran_out_of_memory(n):  # says nothing about the model
            outcome = Outcome.ERROR
            finding = finding.model_copy(update={"code": "out-of-memory"})
        return result(requirement, outcome, finding=finding, seconds=seconds())
    except BlockedBy as signal:
        return result(requirement, Outcome.BLOCKED, blocked_by=signal.id, seconds=seconds())
    except Unanswered as signal:
        outcome = OUTCOME_OF[type(signal)]
        return result(requirement, outcome, detail=signal.reason, seconds=seconds())
    except Exception as error:
        finding = Finding(
            code="exception",
            got=f"{type(error).__name__}: {str(error)[:2000]}",
            want="a check that reaches an answer",
            where=_innermost(error),
            why=getattr(error, "phase", "") and f"while: {getattr(error, 'phase', '')}",
        )
        return result(requirement, Outcome.ERROR, finding=finding, seconds=seconds())
    return result(requirement, Outcome.PASS, detail=detail, seconds=seconds())


def _ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception or one that caused it says that memory ran out."""
    from slmconform.isolation.child import is_out_of_memory

    cause: BaseException | None = error
    while cause is not None:
        if is_out_of_memory(cause):
            return True
        cause = cause.__cause__
    return False


def _innermost(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
