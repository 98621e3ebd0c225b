"""What a check of the checks puts into a candidate, and how its answers are taken."""

from __future__ import annotations

from collections.abc import Sequence

from slmconform.engine.run import result
from slmconform.engine.state import Run
from slmconform.standard.report import Finding, Outcome, SelfTest

WEIGHTS, REFERENCE, GRADIENT = "SLM-IFC-004", "SLM-REF-001", "SLM-GRD-001"
SCRAMBLED, WIDER_EPS, ZEROED = "head scrambled", "norm eps times 10", "one gradient zeroed"
# Each known defect, and the requirement that has to tell it.
DEFECTS = (
    (SCRAMBLED, WEIGHTS),
    (SCRAMBLED, REFERENCE),
    (WIDER_EPS, REFERENCE),
    (ZEROED, GRADIENT),
)


def require_all(rows: Sequence[SelfTest]) -> None:
    """Raise ValueError unless each defect was tried once; own code shares the process."""
    if sorted((row.defect, row.id) for row in rows) != sorted(DEFECTS):
        raise ValueError("not every defect of the self-test was tried once")


def not_run() -> list[SelfTest]:
    """The answer where no model was run."""
    return [SelfTest(defect=d, id=i, found=None, detail="no model was run") for d, i in DEFECTS]


def take(run: Run, row: SelfTest) -> None:
    """Note an answer; a requirement that lets its defect pass ends in an error."""
    run.self_test.append(row)
    if row.found is False:
        finding = Finding(
            code="self-test",
            got=row.detail,
            want=f"a failure: {row.defect} was put into this very model",
            why="the answer does not depend on what it should: the model may answer from memory,"
            " or this check does not judge it",
            fix="look how the model computes its outputs; if it is sound, report this as a mistake"
            " of slmconform",
        )
        run.add(result(run.catalogue.requirements[row.id], Outcome.ERROR, finding=finding))
