"""The command line: a thin front. Exit status 0 conformant, 1 not, 2 could not run, 3 unsure."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from slmconform import __version__
from slmconform.harmless import printable
from slmconform.report.streams import mend, say, tell

COULD_NOT_RUN = 2
INTERRUPTED = 130
EPILOG = """\
exit status:
  0    conformant; without a manifest: nothing that could be asked failed
  1    not conformant
  2    could not run: wrong usage, no readable package, no such device
  3    inconclusive: something was left out, not recorded, or not decided
  130  interrupted (143 where the process was told to end)
"""
TRAIN_EPILOG = """\
exit status:
  0    every step is within the recorded envelope
  1    a step is outside it, or the recipe is not the recorded one
  2    could not run: wrong usage, no recipe, no such device, a model that fails
  3    nothing to compare with: not recorded, or not for this class of device
  130  interrupted (143 where the process was told to end)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; every foreseeable mishap is one sentence and an exit status."""
    mend()
    chosen = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = chosen.verb
    if arguments is None:  # as a program, not called by one
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return verb(chosen)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would only disturb the clearing up
        tell("slmconform: interrupted; nothing was written")
        return INTERRUPTED
    except Exception as error:
        message = _foreseen(error)
        if message is None:
            import traceback

            tell("".join(traceback.format_exception(error)))
            message = "this is a mistake in slmconform; please report it with the lines above"
        tell(f"slmconform: {message}")
        return COULD_NOT_RUN


def _terminated(number: int, _: object) -> None:
    """End as after an exception, so that scratch folders and processes are cleared away."""
    raise SystemExit(128 + number)


def _foreseen(error: Exception) -> str | None:
    """The sentence of an error that a caller can bring about; None for a mistake of ours."""
    from slmconform.engine.examine import CouldNotRun
    from slmconform.engine.plan import UnknownRequirement
    from slmconform.isolation.client import ServerUnavailable
    from slmconform.package.folder import UnreadablePackage
    from slmconform.package.problem import PackageProblem
    from slmconform.report.writing import Unwritable

    ours = (CouldNotRun, UnknownRequirement, UnreadablePackage, ServerUnavailable, Unwritable)
    if isinstance(error, PackageProblem):
        return printable(f"{error.where}: {error.got} (want {error.want}); {error.fix}", 2000)
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return printable(": ".join([*names, error.strerror]), 2000)
    if isinstance(error, (*ours, OSError)):
        return printable(str(error), 2000)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slmconform",
        description="Prove that a shared language model is what it says it is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"slmconform {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _check_parser(verbs)
    _init_parser(verbs)
    _record_parser(verbs)
    _train_parser(verbs)
    explain = verbs.add_parser("explain", help="say what a requirement asks and why")
    explain.add_argument("id", metavar="ID")
    explain.set_defaults(verb=_explain)
    listing = verbs.add_parser("list", help="list the requirements")
    listing.add_argument("--profile", help="only those of a profile")
    listing.set_defaults(verb=_list)
    schema = verbs.add_parser("schema", help="print a JSON Schema, or validate a file against it")
    schema.add_argument("name", choices=["manifest", "evidence", "report"])
    schema.add_argument("--validate", type=Path, metavar="FILE", help="a TOML or JSON file")
    schema.set_defaults(verb=_schema)
    upgrade = verbs.add_parser("upgrade", help="bring a manifest to the newest specification")
    upgrade.add_argument("path", type=Path)
    upgrade.set_defaults(verb=_upgrade)
    return parser


if TYPE_CHECKING:
    Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the folder of the model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps, ...")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="S",
        help="wall limit of the model's process in seconds (600)",
    )
    parser.add_argument(
        "--memory",
        type=_gibibytes,
        metavar="GIB",
        help="memory limit of the model's process (default: by the size of the model)",
    )
    parser.add_argument(
        "--require-sandbox",
        action="store_true",
        help="run nothing where a layer of the sandbox is missing",
    )
    parser.add_argument(
        "--hub-cache",
        action="store_true",
        help="the folder is a snapshot in a hub client's cache: follow links into its blobs",
    )
    parser.add_argument("--quiet", action="store_true", help="only what is wrong")


def _process(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options of `ProcessOptions` that a verb has."""
    names = ("device", "trust_code", "timeout", "memory", "require_sandbox", "hub_cache")
    return {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}


def _trust_option(parser: argparse.ArgumentParser) -> None:
    text = "run code that the package brings; read it first"
    parser.add_argument("--trust-code", action="store_true", help=text)


def _seconds(text: str) -> float:
    return _positive(text, "seconds")


def _gibibytes(text: str) -> float:
    return _positive(text, "gibibytes")


def _positive(text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of {unit}")
    return value


def _check_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("check", help="check a model folder", epilog=EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _model_options(parser)
    _trust_option(parser)
    parser.add_argument("--profile", help="judge by this profile instead of the declared one")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ID",
        help="ask only this, or all that begin so, such as INV; with what it needs; repeatable",
    )
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="ID",
        help="leave this out, with all that needs it; the verdict is then at best inconclusive",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16", "float64"],
        help="run the model in this dtype instead of the declared one",
    )
    parser.add_argument("--strict", action="store_true", help="a provisional verdict exits 1")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--timings", action="store_true", help="list the measurements")
    parser.add_argument("--verbose", action="store_true", help="list every requirement")
    parser.set_defaults(verb=_check)


def _init_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("init", help="write slm.toml for a model folder")
    _model_options(parser)
    parser.add_argument("--name", help="name of the model (default: of the folder)")
    parser.add_argument("--license", help="SPDX expression (default: of the model card)")
    parser.add_argument(
        "--profile",
        choices=["reproducible", "trainable"],
        default="reproducible",
        help="the profile to claim; trainable adds a reference recipe to correct",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing slm.toml")
    parser.set_defaults(verb=_init)


def _record_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("record", help="write the evidence of a package")
    _model_options(parser)
    _trust_option(parser)
    parser.add_argument(
        "--time-budget",
        type=_seconds,
        metavar="S",
        help="train fewer steps than the recipe's, but at least ten, to stay within S seconds",
    )
    parser.set_defaults(verb=_record)


def _train_parser(verbs: Verbs) -> None:
    text = "train by the recorded recipe and watch the loss"
    parser = verbs.add_parser("train", help=text, epilog=TRAIN_EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _model_options(parser)
    _trust_option(parser)
    parser.add_argument("--steps", type=_count, metavar="N", help="only the first N steps")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="keep the curve as FILE.csv or FILE.json"
    )
    parser.set_defaults(verb=_train)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of steps")
    return value


def _check(chosen: argparse.Namespace) -> int:
    from slmconform.engine.examine import CheckOptions, examine
    from slmconform.report.progress import progress
    from slmconform.report.streams import colours
    from slmconform.report.writing import require_writable, write_file

    options = CheckOptions(
        profile=chosen.profile,
        only=tuple(chosen.only),
        skip=tuple(chosen.skip),
        dtype=chosen.dtype,
        strict=chosen.strict,
        **_process(chosen),
    )
    if chosen.output is not None:
        require_writable(chosen.output)
    with progress(quiet=chosen.quiet) as watch:
        report = examine(chosen.path, options, watch=watch)
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


if __name__ == "__main__":
    sys.exit(main())
