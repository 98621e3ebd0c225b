"""The command line: a thin front. Exit status 0 conformant, 1 not, 2 could not run, 3 unsure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from slmconform import __version__

COULD_NOT_RUN = 2
INTERRUPTED = 130
EPILOG = """\
exit status:
  0    conformant; without a manifest: nothing that could be asked failed
  1    not conformant
  2    could not run: wrong usage, no readable package, no such device
  3    inconclusive: something was left out, not recorded, or could not be decided
  130  interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; every foreseeable mishap is one sentence and an exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = chosen.verb
    try:
        return verb(chosen)
    except KeyboardInterrupt:
        print("slmconform: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: nobody is left to tell
        return COULD_NOT_RUN
    except Exception as error:
        message = _foreseen(error)
        if message is None:
            raise
        print(f"slmconform: {message}", file=sys.stderr)
        return COULD_NOT_RUN


def _foreseen(error: Exception) -> str | None:
    """The sentence of an error that a caller can bring about; None for a mistake of ours."""
    from slmconform.engine.examine import CouldNotRun
    from slmconform.engine.plan import UnknownRequirement
    from slmconform.isolation.client import ServerUnavailable
    from slmconform.package.folder import UnreadablePackage
    from slmconform.package.problem import PackageProblem
    from slmconform.report.text import printable

    ours = (CouldNotRun, UnknownRequirement, UnreadablePackage, ServerUnavailable)
    if isinstance(error, PackageProblem):
        return printable(f"{error.where}: got {error.got}; want {error.want}. {error.fix}")
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
        "--trust-code", action="store_true", help="run code that the package brings"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="S",
        help="wall limit of the model's process in seconds (600)",
    )
    parser.add_argument("--quiet", action="store_true", help="only what is wrong")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("a positive number of seconds")
    return value


def _check_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("check", help="check a model folder", epilog=EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _model_options(parser)
    parser.add_argument("--profile", help="judge by this profile instead of the declared one")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="or its start")
    parser.add_argument("--skip", action="append", default=[], metavar="ID", help="or its start")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16", "float64"])
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
    parser.add_argument("--force", action="store_true", help="replace an existing slm.toml")
    parser.set_defaults(verb=_init)


def _record_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("record", help="write the evidence of a package")
    _model_options(parser)
    parser.set_defaults(verb=_record)


def _check(chosen: argparse.Namespace) -> int:
    from slmconform.engine.examine import CheckOptions, examine
    from slmconform.report.progress import progress
    from slmconform.report.text import View, render
    from slmconform.report.writing import write_whole

    options = CheckOptions(
        profile=chosen.profile,
        device=chosen.device,
        only=tuple(chosen.only),
        skip=tuple(chosen.skip),
        dtype=chosen.dtype,
        trust_code=chosen.trust_code,
        timeout=chosen.timeout,
        strict=chosen.strict,
    )
    with progress(quiet=chosen.quiet) as watch:
        report = examine(chosen.path, options, watch=watch)
    if chosen.format == "json":
        text = report.model_dump_json(indent=2) + "\n"
    else:
        colour = chosen.output is None and sys.stdout.isatty()
        text = render(report, View(chosen.quiet, chosen.verbose, chosen.timings, colour))
    if chosen.output:
        write_whole({chosen.output: text.encode("utf-8")})
    else:
        sys.stdout.write(text)
    return report.exit_status


def _init(chosen: argparse.Namespace) -> int:
    from slmconform.recording.init import InitOptions, init
    from slmconform.report.progress import progress

    options = InitOptions(
        name=chosen.name,
        license=chosen.license,
        force=chosen.force,
        device=chosen.device,
        timeout=chosen.timeout,
    )
    with progress(quiet=chosen.quiet) as watch:
        written = init(chosen.path, options, watch=watch)
    for line in written.lines:
        print(line)
    return 0


def _record(chosen: argparse.Namespace) -> int:
    from slmconform.recording.record import RecordingRefused, RecordOptions, record
    from slmconform.report.progress import progress
    from slmconform.report.text import View, render

    options = RecordOptions(
        device=chosen.device, trust_code=chosen.trust_code, timeout=chosen.timeout
    )
    try:
        with progress(quiet=chosen.quiet) as watch:
            path = record(chosen.path, options, watch=watch)
    except RecordingRefused as refused:
        if refused.report is not None:
            sys.stdout.write(render(refused.report, View(quiet=True)))
        print(f"slmconform: nothing recorded: {refused}", file=sys.stderr)
        return refused.exit_status
    print(f"recorded {path} ({path.stat().st_size / 1024:.0f} KiB and its tensors)")
    print(f"next: slmconform check {chosen.path}")
    return 0


def _explain(chosen: argparse.Namespace) -> int:
    from slmconform.report.explain import explain

    print(explain(chosen.id))
    return 0


def _list(chosen: argparse.Namespace) -> int:
    from slmconform.report.explain import listing

    print(listing(chosen.profile))
    return 0


def _schema(chosen: argparse.Namespace) -> int:
    from slmconform.standard.schema import schema_text, violations

    if chosen.validate is None:
        sys.stdout.write(schema_text(chosen.name))
        return 0
    found = violations(chosen.name, chosen.validate)
    for line in found:
        print(line)
    if not found:
        print(f"{chosen.validate} is a valid {chosen.name}")
    return 1 if found else 0


def _upgrade(chosen: argparse.Namespace) -> int:
    from slmconform.standard.upgrade import upgrade

    print(upgrade(chosen.path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
