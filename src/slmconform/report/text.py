"""The report as a person reads it, at 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome, Report, Result, Verdict

WIDTH = 80
SHOWN = {
    Outcome.PASS: "PASS",
    Outcome.WARN: "WARN",
    Outcome.BLOCKED: "BLOCKED",
    Outcome.FAIL: "FAIL",
    Outcome.ERROR: "ERROR",
    Outcome.INCONCLUSIVE: "UNSURE",
    Outcome.NO_REFERENCE: "NO REF",
    Outcome.NOT_APPLICABLE: "n/a",
    Outcome.NOT_EXAMINED: "not asked",
}
TOLD = (Outcome.FAIL, Outcome.ERROR, Outcome.WARN)
COLOURS = {
    Outcome.PASS: "32",
    Outcome.WARN: "33",
    Outcome.FAIL: "1;31",
    Outcome.ERROR: "1;31",
    Outcome.INCONCLUSIVE: "33",
}


@dataclass(frozen=True)
class View:
    """How much is shown: ``quiet`` only what is wrong and the verdict, ``verbose`` every id."""

    quiet: bool = False
    verbose: bool = False
    timings: bool = False
    colour: bool = False


def printable(text: str, limit: int = 600) -> str:
    """A candidate's words made harmless: no control, format or line-breaking characters."""
    safe = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    return safe if len(safe) <= limit else f"{safe[: limit - 3]}..."


def render(report: Report, view: View) -> str:
    """The whole report, in lines of at most 80 columns where the words allow it."""
    parts: list[str] = []
    quiet, colour = view.quiet, view.colour
    if not quiet:
        rows = _lines if view.verbose else _areas
        parts += [*_head(report), "", *rows(report, colour=colour)]
    for result in report.results:
        if result.outcome in TOLD:
            parts += ["", *_finding(result, colour=colour)]
    if not quiet:
        parts += [*_unasked(report.results)]
    if report.log and report.failures:
        parts += ["", "the model printed (last lines):"]
        parts += [f"  | {printable(line, 76)}" for line in report.log.splitlines()[-8:]]
    if view.timings:
        parts += ["", *_timings(report)]
    parts += ["", *_foot(report, colour=colour)]
    return "\n".join(parts) + "\n"


def _paint(text: str, code: str | None, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def _head(report: Report) -> Iterator[str]:
    subject, setting = report.subject, report.setting
    name = f"{subject.name} {subject.version}".strip() or subject.path
    yield f"slmconform: {printable(name)}, SLM {report.spec} ({report.status})"
    versions = [
        f"{name} {setting.environment[name]}"
        for name in ("torch", "transformers")
        if setting.environment.get(name)
    ]
    if setting.device:
        yield f"on {', '.join([setting.device, *versions])}"


def _areas(report: Report, *, colour: bool) -> Iterator[str]:
    """One line an area: how many of its requirements came out in which way."""
    titles = catalogue(report.spec).areas
    rows: dict[str, Counter[Outcome]] = {}
    for result in report.results:
        rows.setdefault(result.id.split("-")[1], Counter())[result.outcome] += 1
    for code, counts in rows.items():
        worst = next((o for o in TOLD if counts[o]), Outcome.PASS if counts[Outcome.PASS] else None)
        parts = [f"{counts[o]} {SHOWN[o].lower()}" for o in SHOWN if counts[o]]
        word = f"{code}  {titles.get(code, ''):<18}"
        yield _paint(word, COLOURS.get(worst) if worst else None, colour=colour) + ", ".join(parts)


def _lines(report: Report, *, colour: bool) -> Iterator[str]:
    """Two lines a requirement: what it asks, and what was seen."""
    for result in report.results:
        painted = _paint(f"{SHOWN[result.outcome]:<9}", COLOURS.get(result.outcome), colour=colour)
        yield f"{painted} {result.id}  {result.title}"
        if result.outcome is Outcome.PASS and result.detail:
            yield from _wrap(result.detail, " " * 23)
        elif result.blocked_by:
            yield f"{' ' * 23}by {result.blocked_by}"


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _finding(result: Result, *, colour: bool) -> Iterator[str]:
    word = _paint(f"{SHOWN[result.outcome]:<5}", COLOURS[result.outcome], colour=colour)
    yield f"{word} {result.id}  {result.title}"
    yield f"      {result.keyword}, {result.profile}"
    if result.finding is None:
        return
    for label in ("got", "want", "where", "why", "fix"):
        value = getattr(result.finding, label)
        if value:
            first, *rest = _wrap(value, " " * 13)
            yield f"      {label:<7}{first.strip()}"
            yield from rest
    yield f"      again  {result.again}"


def _unasked(results: Iterable[Result]) -> Iterator[str]:
    """What was not answered, grouped by its reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.detail and result.outcome is not Outcome.PASS:
            key = (SHOWN[result.outcome], result.detail)
            reasons.setdefault(key, []).append(result.id.removeprefix("SLM-"))
    if not reasons:
        return
    yield ""
    yield "Not answered, and why:"
    for (word, reason), ids in reasons.items():
        yield from textwrap.wrap(
            f"{word}: {', '.join(ids)}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
        yield from _wrap(reason, "      ")


def _timings(report: Report) -> Iterator[str]:
    yield f"{'measurement':<48}{'forward passes':>16}{'seconds':>12}"
    rows = sorted(report.timings, key=lambda row: -row.seconds)
    for row in rows:
        yield f"{printable(row.measurement, 47):<48}{row.forwards:>16}{row.seconds:>12.3f}"
    passes, seconds = sum(r.forwards for r in rows), sum(r.seconds for r in rows)
    yield f"{f'{len(rows)} measurements':<48}{passes:>16}{seconds:>12.3f}"
    yield f"{'whole check':<48}{'':>16}{report.seconds:>12.3f}"


def _foot(report: Report, *, colour: bool) -> Iterator[str]:
    tally = [f"{n} {outcome.value}" for outcome, n in report.counts.items()]
    passed = report.counts.get(Outcome.PASS, 0)
    yield f"{passed} of {report.applicable} applicable requirements pass ({', '.join(tally)})"
    kind = "provisional verdict" if report.provisional else "verdict"
    good = {Verdict.CONFORMANT: "32", Verdict.NOT_CONFORMANT: "1;31"}
    words = str(report.verdict.value)
    if report.provisional and report.verdict is Verdict.CONFORMANT:
        words = "nothing that could be asked failed"
    painted = _paint(words, good.get(report.verdict, "33"), colour=colour)
    yield f"{kind}: {painted} (profile {report.profile}, exit status {report.exit_status})"
    if report.provisional:
        yield "`slmconform init` and `slmconform record` make the rest answerable."
