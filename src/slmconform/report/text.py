"""The report as a person reads it, at 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from slmconform.engine.command import cache_option, command
from slmconform.engine.summary import LEFT_OUT
from slmconform.harmless import printable
from slmconform.package.problem import PackageProblem
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import (
    BROKEN_WAIVERS,
    NOT_JUDGED,
    UNDECIDED,
    Finding,
    Outcome,
    Report,
    Result,
    Verdict,
    WaiverState,
    WaiverUse,
)

WIDTH = 80
SHOWN = {
    Outcome.PASS: "PASS",
    Outcome.WARN: "WARN",
    Outcome.WAIVED: "WAIVED",
    Outcome.BLOCKED: "BLOCKED",
    Outcome.FAIL: "FAIL",
    Outcome.ERROR: "ERROR",
    Outcome.INCONCLUSIVE: "UNSURE",
    Outcome.NO_REFERENCE: "no record",
    Outcome.NOT_EXAMINED: "not asked",
    Outcome.NOT_APPLICABLE: "n/a",
}
TOLD = (Outcome.FAIL, Outcome.ERROR, Outcome.WAIVED, Outcome.WARN)
COLOURS = {
    Outcome.PASS: "32",
    Outcome.WARN: "33",
    Outcome.WAIVED: "33",
    Outcome.FAIL: "1;31",
    Outcome.ERROR: "1;31",
    Outcome.INCONCLUSIVE: "33",
}
COLONS = "\\x3a:"  # two of them where a line begins
LOG_LINES = 8
CRASH = "Fatal Python error"  # of faulthandler


@dataclass(frozen=True)
class View:
    """How much is shown: ``quiet`` only what is wrong and the verdict, ``verbose`` every id."""

    quiet: bool = False
    verbose: bool = False
    timings: bool = False
    colour: bool = False


def render(report: Report, view: View) -> str:
    """The whole report, in lines of at most 80 columns; only commands may be longer."""
    blocks: list[Iterable[str]] = []
    quiet, colour = view.quiet, view.colour
    if not quiet:
        rows = _lines if view.verbose else _areas
        blocks += [_head(report), rows(report, colour=colour)]
    blocks += [finding(r, report, colour=colour) for r in report.results if r.outcome in TOLD]
    blocks += [unapplied(report.waivers)]
    if not quiet or report.verdict is Verdict.INCONCLUSIVE:
        blocks += [unanswered(report.results)]
    if report.log.strip() and report.failures:
        blocks += [printed(report.log)]
    if view.timings:
        blocks += [_timings(report)]
    blocks += [_foot(report, colour=colour)]
    texts = ("\n".join(block) for block in blocks)
    return "\n\n".join(text for text in texts if text)


def paint(text: str, code: str | None, *, colour: bool) -> str:
    """The text in a colour of the terminal, given by its SGR code."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def _head(report: Report) -> Iterator[str]:
    subject, setting = report.subject, report.setting
    standard = f"SLM {report.spec} ({report.status})"
    if subject.name:
        yield from wrap(f"slmconform: {subject.name} {subject.version}, {standard}", "", "  ")
    else:
        yield f"slmconform: {printable(subject.path)}, {standard}"
    versions = [
        f"{name} {setting.environment[name]}"
        for name in ("torch", "transformers")
        if setting.environment.get(name)
    ]
    if setting.device:
        yield from wrap(f"on {', '.join([setting.device, *versions])}", "", "  ")
    if setting.unconfined:
        missing = ", ".join(f"{name} ({why})" for name, why in setting.unconfined.items())
        yield from wrap(f"sandbox incomplete, without {missing}", "", "  ")
    elif setting.isolation:
        yield "in a sandbox: " + ", ".join(setting.isolation[1:])
    yield from self_tested(report)
    if setting.code:
        yield from wrap(f"ran own code: {', '.join(row['path'] for row in setting.code)}", "", "  ")


def self_tested(report: Report) -> Iterator[str]:
    """How many of the defects that were put into the model itself were told, and which were not."""
    tried = [one for one in report.self_test if one.found is not None]
    if report.self_test:
        told = sum(bool(one.found) for one in tried)
        yield f"self-test: {told} of {len(tried)} defects put into this model were told"
    for one in report.self_test:
        if one.found is None:
            yield from wrap(f"not tried: {one.defect} ({one.id}): {one.detail}", "  ", "  ")


def _areas(report: Report, *, colour: bool) -> Iterator[str]:
    """One line an area: how many of its requirements came out in which way."""
    rows: dict[str, Counter[Outcome]] = {}
    for result in report.results:
        if left_out(result):
            continue
        rows.setdefault(result.id.split("-")[1], Counter())[result.outcome] += 1
    for code, title in catalogue(report.spec).areas.items():
        if not (counts := rows.get(code)):
            continue
        worst = next((o for o in TOLD if counts[o]), Outcome.PASS if counts[Outcome.PASS] else None)
        word = f"{code}  {title:<20}"
        painted = paint(word, COLOURS.get(worst) if worst else None, colour=colour)
        yield painted + _tally(counts)


def _tally(counts: dict[Outcome, int]) -> str:
    """Such as ``4 pass, 1 not asked``."""
    return ", ".join(f"{counts[o]} {SHOWN[o].lower()}" for o in SHOWN if counts.get(o))


def _lines(report: Report, *, colour: bool) -> Iterator[str]:
    """Two lines a requirement: what it asks, and what was seen."""
    for result in report.results:
        painted = paint(f"{SHOWN[result.outcome]:<9}", COLOURS.get(result.outcome), colour=colour)
        yield f"{painted} {result.id}  {result.title}"
        yield from wrap(reason_of(result), " " * 23)


def reason_of(result: Result) -> str:
    """What was seen, or why there is no answer."""
    return f"waits for {result.blocked_by}" if result.blocked_by else result.detail


def wrap(text: str, indent: str, hanging: str = "") -> list[str]:
    """A candidate's words in lines; none begins with ``::``, a command to some CI systems."""
    safe = printable(text)
    lines = textwrap.wrap(
        safe,
        WIDTH - (len(COLONS) - 2 if "::" in safe else 0),
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_on_hyphens=False,
    )
    return [
        line.replace("::", COLONS, 1) if line.lstrip().startswith("::") else line for line in lines
    ]


def finding(result: Result, report: Report, *, colour: bool) -> Iterator[str]:
    """What is wrong, what would be right, and the command that asks again."""
    word = f"{SHOWN[result.outcome]:<5}"
    said = f" {result.id}  {result.title}"
    origin = f"{result.keyword}, {result.profile}"
    painted = paint(word, COLOURS[result.outcome], colour=colour)
    room = WIDTH - len(word) - len(said) - len(origin)
    yield f"{painted}{said}{' ' * room}{origin}" if room >= 2 else f"{painted}{said}"
    if room < 2:
        yield f"      {origin}"
    if result.finding is not None:
        yield from evidence(result.finding)
    for text in excuses(result, report):
        yield from wrap(text, " " * 6, " " * 7)
    yield f"      again  {result.again}"


def evidence(found: Finding | PackageProblem) -> Iterator[str]:
    """The lines of a finding that it has something to say on."""
    for label in ("got", "want", "where", "why", "fix"):
        value = getattr(found, label)
        if value.strip():
            yield from wrap(f"{label:<6} {value}", " " * 6, " " * 7)


def excuses(result: Result, report: Report) -> list[str]:
    """Why and until when a failure is accepted, for each waiver of it that applies."""
    return [
        f"waived until {use.expires}: {use.reason} ({use.issue})"
        for use in report.waivers
        if use.id == result.id and use.state is WaiverState.APPLIED
    ]


def unapplied(waivers: Iterable[WaiverUse]) -> Iterator[str]:
    """The waivers that make the run fail, and those that were not needed here."""
    for use in waivers:
        if use.state is not WaiverState.APPLIED:
            yield from wrap(
                f"waiver of {use.id} {use.code}: {use.state.value}: {use.detail}", "", "  "
            )
        if use.state in BROKEN_WAIVERS:
            yield "  fix    remove the waiver, or correct it and the model"


def unanswered(results: Iterable[Result]) -> Iterator[str]:
    """What has no answer, grouped by its reason; what does not concern the model has one.

    What waits for one that waits itself is grouped by the first of them. What falls away because
    nobody knows is shown too, so that it is not taken for a pass.
    """
    results = list(results)
    waiting = {one.id: one.blocked_by for one in results if one.blocked_by}
    groups: dict[tuple[Outcome, str], list[str]] = {}
    for result in results:
        falls_away = result.outcome is Outcome.NOT_APPLICABLE
        if falls_away and not result.detail.startswith(NOT_JUDGED):
            continue
        if result.outcome not in (Outcome.PASS, *TOLD):
            reason = (
                f"waits for {_first(result.id, waiting)}" if result.blocked_by else result.detail
            )
            groups.setdefault((result.outcome, reason), []).append(result.id)
    if groups:
        yield "Not answered, and why:"
    for (outcome, reason), ids in sorted(groups.items(), key=lambda g: _place(g[0][0])):
        names = ", ".join(one.removeprefix("SLM-") for one in ids)
        if reason.startswith(LEFT_OUT):
            names = f"{len(ids)} requirements" if len(ids) > 1 else names
        yield from wrap(f"{SHOWN[outcome].lower()}: {names}", "  ", "  ")
        yield from wrap(reason, " " * 6)


def _first(one: str, waiting: Mapping[str, str]) -> str:
    """What a requirement waits for in the end."""
    while one in waiting:
        one = waiting[one]
    return one


def left_out(result: Result) -> bool:
    """Whether the caller did not want it asked."""
    return result.outcome is Outcome.NOT_EXAMINED and result.detail.startswith(LEFT_OUT)


def _place(outcome: Outcome) -> int:
    return list(SHOWN).index(outcome)


def printed(log: str) -> Iterator[str]:
    """The last lines, or the first of a crash: there the innermost call comes first."""
    lines = [line for line in log.splitlines() if line.strip()]
    crash = next((at for at, line in enumerate(lines) if line.startswith(CRASH)), None)
    start = max(0, len(lines) - LOG_LINES) if crash is None else crash
    yield "The model's process printed:"
    for line in lines[start : start + LOG_LINES]:
        yield f"  | {printable(line, WIDTH - 4)}"


def _timings(report: Report) -> Iterator[str]:
    yield f"{'measurement':<48}{'forward passes':>16}{'seconds':>12}"
    rows = sorted(report.timings, key=lambda row: -row.seconds)
    for row in rows:
        yield f"{printable(row.measurement, 47):<48}{row.forwards:>16}{row.seconds:>12.3f}"
    passes, seconds = sum(r.forwards for r in rows), sum(r.seconds for r in rows)
    yield f"{f'{len(rows)} measurements':<48}{passes:>16}{seconds:>12.3f}"
    yield f"{'whole check':<48}{'':>16}{report.seconds:>12.3f}"
    if report.peak_bytes is not None:
        mebibytes = f"{report.peak_bytes / 2**20:,.0f} MiB"
        yield f"{'peak memory of the model, its libraries included':<60}{mebibytes:>16}"


def score(report: Report) -> str:
    """How many of the applicable requirements pass, and what became of the others."""
    counts = dict(report.counts)
    passed = counts.pop(Outcome.PASS, 0)
    rest = f" ({_tally(counts)})" if counts else ""
    return f"{passed} of {report.applicable} applicable requirements pass{rest}"


def _foot(report: Report, *, colour: bool) -> Iterator[str]:
    yield from wrap(score(report), "")
    good = {Verdict.CONFORMANT: "32", Verdict.NOT_CONFORMANT: "1;31"}
    words = paint(_words(report), good.get(report.verdict, "33"), colour=colour)
    yield f"{'provisional ' * report.provisional}verdict: {words}"
    yield f"profile {report.profile}, exit status {report.exit_status}"
    yield from _next(report)


def _words(report: Report) -> str:
    """The verdict, and what makes it other than plain."""
    if report.verdict is Verdict.INCONCLUSIVE:
        if all(left_out(r) for r in report.results if r.outcome in UNDECIDED):
            return "inconclusive: what was asked holds, and the rest was left out"
        return "inconclusive: nothing failed, but not everything is answered"
    if report.provisional and report.verdict is Verdict.CONFORMANT:
        return "nothing that could be asked failed"
    if any(use.state in BROKEN_WAIVERS for use in report.waivers) and not report.failures:
        return "not conformant: a waiver has to be removed or corrected"
    if report.strict and report.provisional and not report.failures:
        return "not conformant: --strict, and not all could be asked"
    return str(report.verdict.value)


def _next(report: Report) -> Iterator[str]:
    """The command that answers what is open, where there is one."""
    words = [report.subject.path, *cache_option(report.subject.hub_cache)]
    left = {r.outcome for r in report.results} & {*UNDECIDED}
    if report.failures:
        return
    if report.provisional:
        yield f"next: {command('slmconform', 'init', *words)}, then record: the rest can be asked"
    elif left == {Outcome.NO_REFERENCE} and not report.subject.evidence:
        yield f"next: {command('slmconform', 'record', *words)}"
