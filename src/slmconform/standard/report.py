"""The report: one object behind every output format."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from slmconform.standard.catalogue import Requirement


class Outcome(StrEnum):
    """What became of one requirement."""

    PASS = "pass"  # noqa: S105 - an outcome
    WARN = "warn"
    WAIVED = "waived"
    BLOCKED = "blocked"
    FAIL = "fail"
    ERROR = "error"
    INCONCLUSIVE = "inconclusive"
    NO_REFERENCE = "no-reference"
    NOT_APPLICABLE = "not-applicable"
    NOT_EXAMINED = "not-examined"


class Verdict(StrEnum):
    """What the outcomes of a profile add up to."""

    CONFORMANT = "conformant"
    WITH_WAIVERS = "conformant with waivers"
    NOT_CONFORMANT = "not conformant"
    INCONCLUSIVE = "inconclusive"


class WaiverState(StrEnum):
    """What became of one waiver; the last three make a run fail."""

    APPLIED = "applied"
    OUT_OF_SCOPE = "out of scope"
    UNDECIDED = "not decided"
    EXPIRED = "expired"
    STALE = "stale"
    UNLIKE = "fails otherwise"


BROKEN_WAIVERS = (WaiverState.EXPIRED, WaiverState.STALE, WaiverState.UNLIKE)


def json_safe(value: Any) -> Any:
    """Texts without lone surrogates, and words for the numbers that JSON does not have."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {json_safe(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, list):
        return [json_safe(each) for each in value]
    return value


class Part(BaseModel):
    """A part of the report: closed, immutable, and always writable as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _as_json_can_say(cls, value: Any) -> Any:
        return json_safe(value)


class Finding(Part):
    """Why a requirement does not hold, in the lines that are printed."""

    code: str
    got: str
    want: str
    where: str = ""
    why: str = ""
    fix: str = ""


class Result(Part):
    """The outcome of one requirement. ``seconds`` is wall time; ``again`` repeats it alone."""

    id: str
    title: str
    keyword: str
    profile: str
    outcome: Outcome
    detail: str = ""
    finding: Finding | None = None
    blocked_by: str = ""
    seconds: float = 0.0
    again: str = ""


class Subject(Part):
    """What was checked."""

    path: str
    name: str = ""
    version: str = ""
    task: str = ""
    weights_digest: str = ""
    manifest: bool = False
    evidence: bool = False
    hub_cache: bool = False


class Setting(Part):
    """Where and how it was checked: device class, versions, flags, isolation.

    ``isolation`` names the layers that confined the model's process, ``unconfined`` says of each
    other why not; ``code`` is what was executed of the package.
    """

    device: str = ""
    dtype: str = ""
    environment: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    isolation: list[str] = []
    unconfined: dict[str, str] = {}
    code: list[dict[str, str]] = []


class Timing(Part):
    """One measurement, taken once: wall seconds and the forward passes it made."""

    measurement: str
    seconds: float
    forwards: int


class WaiverUse(Part):
    """One waiver of the adopter's file and what became of it. ``expires`` is an ISO 8601 date."""

    id: str
    code: str
    reason: str
    issue: str
    expires: str
    state: WaiverState
    detail: str = ""


class SelfTest(Part):
    """A known defect put into the candidate itself, and whether a requirement told it.

    ``found`` is None where it could not be put in or nothing was there to tell it: ``detail``
    says why.
    """

    defect: str
    id: str
    found: bool | None
    detail: str


class Report(Part):
    """The whole of one check. The denominator is the frozen list of the profile.

    ``peak_bytes`` is the peak memory of the model's process, None where nobody could tell.
    """

    spec: str
    status: str
    tool: str
    subject: Subject
    profile: str
    profile_digest: str
    verdict: Verdict
    provisional: bool
    strict: bool = False
    exit_status: int
    counts: dict[Outcome, int]
    applicable: int
    results: list[Result]
    waivers: list[WaiverUse] = []
    self_test: list[SelfTest] = []
    setting: Setting
    timings: list[Timing] = []
    peak_bytes: int | None = None
    log: str = ""
    seconds: float = 0.0

    @property
    def failures(self) -> list[Result]:
        """Requirements that are broken, or whose check ended in an error."""
        return [r for r in self.results if r.outcome in (Outcome.FAIL, Outcome.ERROR)]


# How the reason begins where a requirement falls away because nobody knows, and not because it does
# not concern the model: such a reason is always shown.
NOT_JUDGED = "not judged"

UNDECIDED = (
    Outcome.BLOCKED,
    Outcome.INCONCLUSIVE,
    Outcome.NO_REFERENCE,
    Outcome.NOT_EXAMINED,
)


def severity(requirement: Requirement, outcome: Outcome) -> Outcome:
    """A broken SHOULD or MAY is a warning: the keyword decides, not the check."""
    if outcome is Outcome.FAIL and not requirement.mandatory:
        return Outcome.WARN
    return outcome
