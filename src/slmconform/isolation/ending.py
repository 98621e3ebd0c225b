"""How a job ended: what the parent saw of it, and the one sentence that says it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from enum import StrEnum

from slmconform.harmless import escaped, quoted
from slmconform.isolation.events import SIGNAL, TAMPER, Event
from slmconform.isolation.output import Output
from slmconform.isolation.protocol import (
    Footer,
    Json,
    ProtocolError,
    RecordReader,
    WrongNonce,
    WrongSequence,
)
from slmconform.isolation.seal import BROKEN, MARK

LOG_TAIL = 4096
# What own code does to the process that judges it, rather than to the world outside.
_SABOTAGE = {
    TAMPER: "own code reaches for the checks that judge it",
    SIGNAL: "the candidate sends a signal to another process",
}


class Kind(StrEnum):
    """The ways in which a job can end."""

    COMPLETE = "complete"
    RAISED = "raised"
    EXITED = "exited"
    CRASHED = "crashed"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    FORGED = "forged"
    UNREADABLE = "unreadable"
    TAMPERED = "tampered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one job.

    ``detail`` is one sentence, safe to print. ``log_tail`` is the last 4 KiB of what the process
    printed, in its own words: escape it. ``peak_bytes`` is None unless the process lived to say it.
    ``layers`` of the sandbox held, ``missing`` did not and why; ``events`` are what it reached for.
    """

    kind: Kind
    detail: str
    log_tail: str
    wall_s: float
    peak_bytes: int | None
    layers: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


@dataclass(slots=True)
class Course:
    """What the parent sees of a job while it runs; times are of ``time.monotonic``."""

    reader: RecordReader
    started: float
    timeout: float
    output: Output = field(default_factory=Output)
    phase: str = "its start"
    phase_at: float = 0.0
    seen: int = 0
    judged: tuple[Kind, str] | None = None
    """Set when the parent ended the job itself, with the reason."""

    def note(self, record: Json, now: float) -> None:
        """Remember where the job stands: its last ``phase``, or the number of its last record."""
        self.seen += 1
        if isinstance(phase := record.get("phase"), str):
            self.phase, self.phase_at = f"'{escaped(phase, 80)}'", now
        elif not self.phase.startswith("'"):
            self.phase, self.phase_at = f"record {self.seen}", now

    def when(self, now: float) -> str:
        """Such as ``0.4 s after 'load'``."""
        return f"{now - (self.phase_at or self.started):.1f} s after {self.phase}"

    def judge_output(self) -> None:
        """Condemn a job that printed a line that poses as a result."""
        if self.output.forged is not None and self.judged is None:
            line = quoted(self.output.forged)
            self.judged = (
                Kind.FORGED,
                f"the candidate printed a line that poses as a result: {line}",
            )

    def judge_results(self, error: ProtocolError) -> None:
        """Condemn a job whose result pipe carried what its writer does not write."""
        if self.judged is None:
            foreign = isinstance(error, WrongNonce | WrongSequence)
            kind = Kind.FORGED if foreign else Kind.UNREADABLE
            self.judged = kind, f"the candidate's results cannot be trusted: {error}"

    def judge_time(self, now: float) -> None:
        """Condemn a job that reached its wall limit."""
        if self.judged is None:
            limit = f"the wall limit of {self.timeout:g} s"
            self.judged = Kind.TIMED_OUT, f"{limit} was reached {self.when(now)}; it was killed"


def conclude(course: Course, status: int | None, ended: float) -> Ending:
    """Judge a job whose process is gone; ``status`` is its wait status, None where unknown."""
    course.output.finish()
    course.judge_output()
    footer = course.reader.footer
    if footer is not None and course.judged is None:
        try:
            course.reader.finish()
        except ProtocolError as error:
            course.judge_results(error)
    kind, detail = (
        _sabotage(course, status) or course.judged or _natural_end(course, footer, status, ended)
    )
    layers, missing = course.reader.layers or ([], {})
    return Ending(
        kind=kind,
        detail=detail,
        log_tail=course.output.tail(LOG_TAIL),
        wall_s=ended - course.started,
        peak_bytes=footer.peak_bytes if footer else None,
        layers=tuple(layers),
        missing=missing,
        events=tuple(course.reader.events),
    )


def _sabotage(course: Course, status: int | None) -> tuple[Kind, str] | None:
    """Whether own code turned against its judge, whatever else it did after that."""
    for event in course.reader.events:
        if event.kind in _SABOTAGE:
            place = f" at {escaped(event.where)}" if event.where else ""
            return Kind.TAMPERED, f"{_SABOTAGE[event.kind]}: {escaped(event.what)}{place}"
    if status is not None and os.waitstatus_to_exitcode(status) == BROKEN:
        said = course.output.tail(LOG_TAIL).rpartition(MARK)[2].partition("\n")[0]
        return Kind.TAMPERED, f"own code changed what judges it: {escaped(said)}"
    return None


def _natural_end(
    course: Course, footer: Footer | None, status: int | None, ended: float
) -> tuple[Kind, str]:
    when = course.when(ended)
    code = 0 if status is None else os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return Kind.OUT_OF_MEMORY, (
            f"the candidate's process was killed by SIGKILL {when}, and not by this runner: "
            "most likely memory ran out"
        )
    if code < 0:
        name = signal_name(-code)
        return Kind.CRASHED, f"the candidate's process was killed by {name} {when}"
    if footer is None or code:
        return Kind.EXITED, (
            f"the candidate's process left early, with exit status {code} {when}, "
            "without finishing its results"
        )
    reason = escaped(footer.reason, 2000)
    match footer.ending:
        case "complete":
            wall = f"{ended - course.started:.1f} s"
            return Kind.COMPLETE, f"completed in {wall} with {footer.records} records"
        case "exited":
            return Kind.EXITED, f"the candidate left early by {reason} {when}"
        case "out-of-memory":
            return Kind.OUT_OF_MEMORY, f"memory ran out {when}: {reason}"
        case "refused":
            return Kind.REFUSED, reason
        case "raised":
            return Kind.RAISED, f"the candidate's process raised {reason} {when}"
    return Kind.UNREADABLE, f"the footer names no known ending: {quoted(footer.ending)}"


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
