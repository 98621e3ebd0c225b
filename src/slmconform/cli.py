"""The command line: a thin front. Exit status 0 conformant, 1 not, 2 could not run, 3 unsure."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slmconform.arguments import parser
from slmconform.harmless import printable
from slmconform.report.streams import mend, say, tell

COULD_NOT_RUN = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; every foreseeable mishap is one sentence and an exit status."""
    mend()
    chosen = parser().parse_args(arguments)
    verb = VERBS[chosen.verb]
    if arguments is None:  # as a program, not called by one
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return verb(chosen)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would only disturb the clearing up
        tell("slmconform: interrupted; nothing was written")
        return INTERRUPTED
    except Exception as error:
        from slmconform.mishaps import foreseen

        message = foreseen(error)
        if message is None:
            import traceback

            tell("".join(traceback.format_exception(error)))
            message = "this is a mistake in slmconform; please report it with the lines above"
        tell(f"slmconform: {message}")
        return COULD_NOT_RUN


def _terminated(number: int, _: object) -> None:
    """End as after an exception, so that scratch folders and processes are cleared away."""
    raise SystemExit(128 + number)


def _process(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options of `ProcessOptions` that a verb has."""
    names = ("device", "trust_code", "timeout", "memory", "require_sandbox", "hub_cache")
    return {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}


def _standing_waivers(package: Path) -> Path | None:
    """The file of waivers of the repository that one stands in, where there is one.

    That of a package is not read unless it is named: it may be a stranger's.
    """
    from slmconform.standard.files import WAIVERS

    path = Path(WAIVERS)
    if not path.exists():
        return None
    if Path.cwd().is_relative_to(package.resolve()):
        tell(f"slmconform: {WAIVERS} lies in the package and is not read; --waivers names it")
        return None
    return path


def _check(chosen: argparse.Namespace) -> int:
    from slmconform.engine.examine import CheckOptions, examine
    from slmconform.engine.options import in_ci
    from slmconform.report.last import keep
    from slmconform.report.progress import progress
    from slmconform.report.streams import colours
    from slmconform.report.writing import require_writable, write_file

    options = CheckOptions(
        profile=chosen.profile,
        only=tuple(chosen.only),
        skip=tuple(chosen.skip),
        dtype=chosen.dtype,
        strict=chosen.strict,
        waivers=chosen.waivers or _standing_waivers(chosen.path),
        self_test=in_ci() if chosen.self_test is None else chosen.self_test,
        **_process(chosen),
    )
    if chosen.output is not None:
        require_writable(chosen.output)
    with progress(quiet=chosen.quiet) as watch:
        report = examine(chosen.path, options, watch=watch)
    keep(report)
    from slmconform.report.json_text import as_json
    from slmconform.report.text import View, render

    if chosen.format == "json":
        text = as_json(report)
    else:
        colour = chosen.output is None and colours(sys.stdout)
        text = render(report, View(chosen.quiet, chosen.verbose, chosen.timings, colour))
    if chosen.output is None:
        say(text)
    else:
        write_file(chosen.output, f"{text}\n".encode())
    return report.exit_status


def _init(chosen: argparse.Namespace) -> int:
    from slmconform.recording.init import InitOptions, init
    from slmconform.report.progress import progress

    options = InitOptions(
        name=chosen.name,
        license=chosen.license,
        force=chosen.force,
        profile=chosen.profile,
        **_process(chosen),
    )
    with progress(quiet=chosen.quiet) as watch:
        written = init(chosen.path, options, watch=watch)
    say("\n".join(written.lines))
    return 0


def _record(chosen: argparse.Namespace) -> int:
    from slmconform.recording.record import RecordingRefused, RecordOptions, record
    from slmconform.report.progress import progress
    from slmconform.report.text import View, render

    options = RecordOptions(time_budget=chosen.time_budget, **_process(chosen))
    try:
        with progress(quiet=chosen.quiet) as watch:
            recorded = record(chosen.path, options, watch=watch)
    except RecordingRefused as refused:
        if refused.report is not None:
            say(render(refused.report, View(quiet=True)))
        tell(f"slmconform: nothing recorded: {printable(str(refused), 2000)}")
        return refused.exit_status
    say("\n".join(recorded.lines))
    return 0


def _train(chosen: argparse.Namespace) -> int:
    from slmconform.recording.train import TrainingRefused, TrainOptions, train
    from slmconform.report import training
    from slmconform.report.curve import content, require_place
    from slmconform.report.plot import glyphs
    from slmconform.report.streams import colours
    from slmconform.report.writing import write_file

    if chosen.output is not None:
        require_place(chosen.output, chosen.path)
    options = TrainOptions(steps=chosen.steps, **_process(chosen))
    marks, quiet = glyphs(sys.stdout), chosen.quiet
    try:
        with training.following(marks, quiet=quiet) as follower:
            curve = train(chosen.path, options, follower)
    except TrainingRefused as refused:
        tell(f"slmconform: not trained: {printable(str(refused), 2000)}")
        return refused.exit_status
    view = training.View(marks, quiet=quiet, colour=colours(sys.stdout))
    say("\n".join(training.summary(curve, view)))
    if chosen.output is not None:
        write_file(chosen.output, content(curve, chosen.output))
        say(f"wrote {printable(str(chosen.output), 4096)}")
    elif not quiet:
        say(training.keeping(curve, chosen.path, options))
    return curve.exit_status


def _waive(chosen: argparse.Namespace) -> int:
    from slmconform.recording.waive import waive
    from slmconform.report.last import load

    report = load(chosen.report)
    written = waive(
        report,
        chosen.id,
        chosen.waivers,
        reason=chosen.reason,
        issue=chosen.issue,
        expires=chosen.expires,
    )
    say(printable(written))
    return 0


def _explain(chosen: argparse.Namespace) -> int:
    from slmconform.report.explain import explain

    say(explain(chosen.id))
    return 0


def _list(chosen: argparse.Namespace) -> int:
    from slmconform.report.explain import listing

    say(listing(chosen.profile))
    return 0


def _schema(chosen: argparse.Namespace) -> int:
    from slmconform.standard.schema import schema_text, violations

    if chosen.validate is None:
        say(schema_text(chosen.name).rstrip("\n"))
        return 0
    found = violations(chosen.name, chosen.validate)
    for line in found:
        say(printable(line))
    if not found:
        say(printable(f"{chosen.validate} is a valid {chosen.name}"))
    return 1 if found else 0


def _upgrade(chosen: argparse.Namespace) -> int:
    from slmconform.standard.upgrade import upgrade

    say(printable(upgrade(chosen.path)))
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": _check,
    "init": _init,
    "record": _record,
    "train": _train,
    "waive": _waive,
    "explain": _explain,
    "list": _list,
    "schema": _schema,
    "upgrade": _upgrade,
}

if __name__ == "__main__":
    sys.exit(main())
