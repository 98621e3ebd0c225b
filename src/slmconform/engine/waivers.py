"""Waivers: read, applied to failures, and held strictly in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import NoReturn, Self

from slmconform.engine.plan import unknown
from slmconform.package import strict_toml
from slmconform.package.problem import PackageProblem
from slmconform.package.validated import validated
from slmconform.standard.catalogue import Catalogue
from slmconform.standard.report import Outcome, Result, WaiverState, WaiverUse
from slmconform.standard.waivers import Scope, Waiver, Waivers

LONGEST = timedelta(days=366)
LIMIT = 2**20  # bytes
HOLDS = (Outcome.PASS, Outcome.NOT_APPLICABLE)
FAILS = (Outcome.FAIL, Outcome.ERROR, Outcome.WAIVED)


@dataclass(frozen=True)
class Excuse:
    """What a waiver that is in force excuses; ``device`` is empty where it holds on any."""

    id: str
    code: str
    device: str = ""

    @classmethod
    def of(cls, row: Waiver) -> Self:
        """What a waiver excuses."""
        return cls(row.id, row.code, row.scope.device or "")

    def fits(self, one: Result) -> bool:
        """Whether this is the failure that is waived."""
        return one.id == self.id and one.finding is not None and one.finding.code == self.code

    def on(self, device: str) -> bool:
        """Whether it holds on a class of devices, such as ``cuda sm_90``."""
        return not self.device or device == self.device or device.startswith(f"{self.device} ")


def excused(one: Result, excuses: Sequence[Excuse], device: str) -> Result:
    """The result, waived where it is a failure that one of the excuses fits."""
    if one.outcome is Outcome.FAIL and any(e.fits(one) and e.on(device) for e in excuses):
        return one.model_copy(update={"outcome": Outcome.WAIVED})
    return one


def read_waivers(path: Path, known: Catalogue) -> tuple[Waiver, ...]:
    """The waivers of a file; raises `PackageProblem` for the first wrong thing, or OSError."""
    with path.open("rb") as stream:
        return parse_waivers(stream.read(LIMIT + 1), str(path), known)


def parse_waivers(data: bytes, name: str, known: Catalogue) -> tuple[Waiver, ...]:
    """The waivers that a file of this name and content holds; raises `PackageProblem`."""
    if len(data) > LIMIT:
        got = f"more than {LIMIT} bytes"
        raise PackageProblem("too-large", name, got, "a list of waivers", "shorten it")
    rows = validated(Waivers, strict_toml.loads(data, name), name).waiver
    today = now()
    for place, row in enumerate(rows):
        where = f"{name}: waiver[{place}]"
        _judge_id(row, where, known)
        _judge_ranges(row.scope, where)
        if row.expires > today + LONGEST:
            want = f"a day until {today + LONGEST}: at most a year from now"
            _refuse(f"{where}.expires", str(row.expires), want, "waive for less, then look again")
        if any((row.id, row.code, row.scope) == (o.id, o.code, o.scope) for o in rows[:place]):
            got = f"{row.id} with {row.code} is waived twice in the same scope"
            _refuse(where, got, "one waiver for one failure", "remove one")
    return tuple(rows)


def now() -> date:
    """Today in UTC, the clock by which waivers expire."""
    return datetime.now(UTC).date()


def _judge_id(row: Waiver, where: str, known: Catalogue) -> None:
    requirement = known.requirements.get(row.id)
    if requirement is None:
        _refuse(f"{where}.id", unknown(known, row.id), "an id of the standard", "correct the id")
    if reason := unwaivable(row.id, known):
        _refuse(f"{where}.id", reason, "a MUST of a higher profile", "remove the waiver")


def unwaivable(one: str, known: Catalogue) -> str:
    """Why a requirement cannot be waived; empty where it can."""
    requirement = known.requirements[one]
    if requirement.profile == "packaged":
        return f"{one} belongs to the profile packaged, of which nothing can be waived"
    if not requirement.mandatory:
        return f"{one} is a {requirement.keyword}: it warns and needs no waiver"
    return ""


def _judge_ranges(scope: Scope, where: str) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for name in ("torch", "transformers"):
        try:
            SpecifierSet(getattr(scope, name) or "")
        except InvalidSpecifier:
            got = repr(getattr(scope, name))
            _refuse(f"{where}.scope.{name}", got, "a PEP 440 range such as >=2.10,<2.14")


def _refuse(where: str, got: str, want: str, fix: str = "correct the value") -> NoReturn:
    raise PackageProblem("wrong-waiver", where, got, want, fix)


def excuses(waivers: Sequence[Waiver], model: str) -> tuple[Excuse, ...]:
    """What the waivers excuse in this environment today, for the model of this name."""
    return tuple(
        Excuse.of(row) for row in waivers if row.expires >= now() and not _outside(row.scope, model)
    )


def _outside(scope: Scope, model: str) -> str:
    """In which respect a scope leaves this model and environment out; empty where it does not."""
    from packaging.specifiers import SpecifierSet

    if scope.model is not None and scope.model != model:
        return f"it is for the model {scope.model}"
    for name in ("torch", "transformers"):
        versions, installed = getattr(scope, name), metadata.version(name)
        if versions and not SpecifierSet(versions).contains(installed, prereleases=True):
            return f"it is for {name} {versions}, and {installed} is installed"
    return ""


def settled(
    waivers: Sequence[Waiver], results: dict[str, Result], model: str, device: str
) -> list[WaiverUse]:
    """What became of each waiver. One that is expired, stale or does not fit makes a run fail."""
    uses = []
    for row in waivers:
        state, detail = _state(row, results.get(row.id), model, device)
        kept = row.model_dump(mode="json", include={"id", "code", "reason", "issue", "expires"})
        uses.append(WaiverUse(**kept, state=state, detail=detail))
    return uses


def _state(row: Waiver, one: Result | None, model: str, device: str) -> tuple[WaiverState, str]:
    if row.expires < now():
        return WaiverState.EXPIRED, f"it held until {row.expires}"
    if outside := _outside(row.scope, model):
        return WaiverState.OUT_OF_SCOPE, outside
    if one is None or one.outcome not in (*HOLDS, *FAILS):
        return WaiverState.UNDECIDED, one.detail if one else "the requirement was not asked"
    excuse = Excuse.of(row)
    if not excuse.on(device):
        here = f"this is {device}" if device else "no model was run"
        return WaiverState.OUT_OF_SCOPE, f"it is for {excuse.device}, and {here}"
    if one.outcome in HOLDS or one.finding is None:
        return WaiverState.STALE, "the requirement holds"
    if one.outcome is Outcome.WAIVED and excuse.fits(one):
        return WaiverState.APPLIED, ""
    error = "an error, which is no answer and cannot be waived"
    way = error if one.outcome is Outcome.ERROR else one.finding.code
    return WaiverState.UNLIKE, f"the failure is {way}"
