"""The dynamic part of a check, seen from outside: the model's process is asked, not trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slmconform.engine import self_test
from slmconform.engine.confinement import confinement
from slmconform.engine.options import CouldNotRun
from slmconform.engine.registry import Check, Stage
from slmconform.engine.run import BLOCKING, result, run_checks, unasked
from slmconform.engine.state import Run
from slmconform.harmless import escaped
from slmconform.isolation.client import ForkServer, Job, ServerUnavailable, shared_server
from slmconform.isolation.ending import Ending, Kind
from slmconform.isolation.events import EXECUTED
from slmconform.isolation.scratch import scratch_folder
from slmconform.standard.report import Finding, Outcome, Result, SelfTest, Setting, Timing

WANT = "an answer to every requirement from the model's process"
FIXES = {
    Kind.RAISED: "mend what raises; it happens when the model is loaded by hand, too",
    Kind.EXITED: "remove the call that ends the process, such as sys.exit()",
    Kind.CRASHED: "load and run the model by hand; the crash happens there, too",
    Kind.TIMED_OUT: "make the model answer sooner, or allow more seconds with --timeout",
    Kind.OUT_OF_MEMORY: "use a smaller model or a larger machine; --memory sets another limit",
    Kind.FORGED: "remove what prints or sends the lines of a report",
    Kind.UNREADABLE: "remove what writes into descriptors that it did not open",
    Kind.TAMPERED: "remove the code that reaches for the process which judges the model",
}
DISTRUSTED = (Kind.FORGED, Kind.UNREADABLE, Kind.TAMPERED)
# What scores are computed with.
METRICS = (
    *("sklearn.metrics", "sklearn.metrics._classification", "sklearn.metrics._ranking"),
    *("scipy.stats", "seqeval.metrics", "seqeval.metrics.sequence_labeling"),
)
WHOLE = "SLM-IFC-001"  # what nearly all others need: where a model fails as a whole
UNTRUSTED_CODE = "is the package's own code: read it, then run it with --trust-code"


@dataclass(frozen=True)
class Cause:
    """Why answers are missing; the answers that came are void where ``void`` is set."""

    kind: Kind
    detail: str
    void: bool


class Answers:
    """What the process sends, taken only as far as it was asked.

    Own code shares its process with the checks and can send what it likes: a record that no check
    sends makes all of them void.
    """

    def __init__(self, run: Run, checks: list[Check]) -> None:
        self._run, self._asked = run, {check.id for check in checks}
        self._received: set[str] = set()
        self.phase = ""
        self.unavailable = ""
        self.distrust = ""

    def receive(self, record: dict[str, Any]) -> None:
        """Take one record of the result pipe."""
        if self.distrust:
            return
        try:
            self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            self.distrust = f"the model's process sent what no check sends: {escaped(reason)}"

    def _take(self, record: dict[str, Any]) -> None:
        if "phase" in record:
            self.phase = self._known(record["phase"])
            self._run.watch(self.phase)
        elif "result" in record:
            self._take_result(Result.model_validate(record["result"]))
        elif "setting" in record:
            self._run.setting = Setting.model_validate(record["setting"])
            self._run.timings = [Timing.model_validate(row) for row in record["timings"]]
        elif "self_test" in record:
            rows = [SelfTest.model_validate(row) for row in record["self_test"]]
            self_test.require_all(rows)
            for row in rows:
                self_test.take(self._run, row)
        else:
            self.unavailable = str(record["unavailable"])

    def _take_result(self, one: Result) -> None:
        """Take outcome and words; what the catalogue knows comes from the catalogue."""
        if self._known(one.id) in self._received:
            raise ValueError(f"{one.id} is answered twice")
        if one.outcome is Outcome.WAIVED and not any(e.fits(one) for e in self._run.excuses):
            raise ValueError(f"{one.id} is waived by nothing")
        self._received.add(one.id)
        kept = {"detail", "finding", "blocked_by", "seconds"}
        requirement = self._run.catalogue.requirements[one.id]
        self._run.add(result(requirement, one.outcome, **one.model_dump(include=kept)))

    def _known(self, one: object) -> str:
        if one not in self._asked:
            raise ValueError(f"{one!r:.60} was not asked")
        return str(one)


def ask_model(run: Run, checks: list[Check], server: ForkServer | None) -> None:
    """Add a result for each check that is dynamic or observed.

    Raises `CouldNotRun` where the device is not there or a layer of the sandbox is missing that
    is required, and `ServerUnavailable`.
    """
    if run.own_code and not run.options.trust_code:
        for check in checks:
            requirement = run.catalogue.requirements[check.id]
            reason = f"{run.own_code} {UNTRUSTED_CODE}"
            run.add(result(requirement, Outcome.NOT_EXAMINED, detail=reason))
        return
    asked = [check for check in checks if check.stage is Stage.DYNAMIC]
    if not _need_model(run, asked):
        for one in run_checks(checks, None, run.package, run.catalogue, run.outcomes):
            run.add(one)
        return
    answers = Answers(run, asked)
    with scratch_folder() as scratch:
        job = _job(run, asked, scratch)
        ending = _ending(run, server or shared_server(), job, answers)
    if answers.unavailable or ending.kind is Kind.REFUSED:
        raise CouldNotRun(answers.unavailable or ending.detail)
    run.log, run.peak_bytes = ending.log_tail, ending.peak_bytes
    run.setting = run.setting.model_copy(
        update={
            "isolation": ["process", *ending.layers],
            "unconfined": ending.missing,
            "code": _executed(run, ending),
        }
    )
    if cause := _cause(run, asked, answers, ending):
        _blame(run, asked, answers.phase, cause)
    observed = [check for check in checks if check.stage is Stage.OBSERVED]
    for one in run_checks(
        observed, ending, run.package, run.catalogue, run.outcomes, excuse=run.excuse
    ):
        run.add(one)


def _need_model(run: Run, checks: list[Check]) -> bool:
    """Whether any check is neither blocked by what is known nor without a source."""
    blocked = {one for one, outcome in run.outcomes.items() if outcome in BLOCKING}
    for check in checks:
        if blocked.intersection(check.needs):
            blocked.add(check.id)
        elif unasked(run.catalogue.requirements[check.id], run.package) is None:
            return True
    return False


def _job(run: Run, checks: list[Check], scratch: str) -> Job:
    ids = [check.id for check in checks]
    scored = any(one.startswith("SLM-EVL") for one in ids)
    return Job(
        "slmconform.engine.child:examine",
        {
            "package": str(run.package.root),
            "ids": ids,
            "outcomes": {one: outcome.value for one, outcome in run.outcomes.items()},
            "device": run.options.device,
            "dtype": run.options.dtype,
            "scratch": scratch,
            "replay": "SLM-DET-002" in ids,
            "ignore": list(run.options.ignore),
            "self_test": run.options.self_test,
            "excuses": [[one.id, one.code, one.device] for one in run.excuses],
            "hub_cache": run.package.hub_cache,
        },
        confinement(run.package, run.options, scratch, METRICS if scored else ()),
    )


def _ending(run: Run, server: ForkServer, job: Job, answers: Answers) -> Ending:
    """Run the job; a server that dies after the model was begun died by the model's hand."""
    try:
        return server.run(job, timeout=run.options.timeout, on_record=answers.receive)
    except ServerUnavailable as error:
        if not answers.phase:
            raise
        return Ending(Kind.CRASHED, escaped(str(error), 1000), "", 0.0, None)


def _executed(run: Run, ending: Ending) -> list[dict[str, str]]:
    """The files of the package whose code was run, in the order in which that began."""
    folder = run.package.folder
    told = dict.fromkeys(event.what for event in ending.events if event.kind == EXECUTED)
    return [
        {"path": one, "sha256": folder.sha256(one)}
        for one in told
        if one in folder.entries and folder.entries[one].kind == "file"
    ]


def _cause(run: Run, checks: list[Check], answers: Answers, ending: Ending) -> Cause | None:
    """What went wrong with the process; None where it answered everything and ended well."""
    if answers.distrust:
        return Cause(Kind.FORGED, answers.distrust, void=True)
    if ending.kind is not Kind.COMPLETE:
        return Cause(ending.kind, ending.detail, ending.kind in DISTRUSTED)
    missing = sum(check.id not in run.results for check in checks)
    if missing or (run.options.self_test and not run.self_test):
        what = f"{missing} of {len(checks)} answers" if missing else "the answers of the self-test"
        detail = f"the process ended as if complete, without {what}"
        return Cause(Kind.FORGED, detail, void=True)
    return None


def _blame(run: Run, checks: list[Check], phase: str, cause: Cause) -> None:
    """The requirement at which the process ended is an error; those after it are blocked.

    Void answers say nothing about where: the model is then blamed as a whole.
    """
    if cause.void:
        for check in checks:
            run.take_back(check.id)
    # One that answered everything and then went wrong goes wrong at its last requirement.
    left = [c.id for c in checks if c.id not in run.results] or [checks[-1].id]
    whole = WHOLE if WHOLE in left else left[0]
    guilty = phase if phase in left and not cause.void else whole
    for one in left:
        requirement = run.catalogue.requirements[one]
        if one == guilty:
            finding = Finding(
                code=cause.kind.value, got=cause.detail, want=WANT, fix=FIXES.get(cause.kind, "")
            )
            run.add(result(requirement, Outcome.ERROR, finding=finding))
        else:
            blocked = result(requirement, Outcome.BLOCKED, blocked_by=guilty)
            run.add(unasked(requirement, run.package) or blocked)
