"""What can be written on the command line."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from slmconform import __version__

Number = TypeVar("Number", int, float)

EPILOG = """\
exit status:
  0    conformant, with waivers or without; where there is no manifest: nothing
       that could be asked failed
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


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it returns names the ``verb``."""
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
    _waive_parser(verbs)
    explain = verbs.add_parser("explain", help="say what a requirement asks and why")
    explain.add_argument("id", metavar="ID")
    explain.set_defaults(verb="explain")
    listing = verbs.add_parser("list", help="list the requirements")
    listing.add_argument("--profile", help="only those of a profile")
    listing.set_defaults(verb="list")
    schema = verbs.add_parser("schema", help="print a JSON Schema, or validate a file against it")
    schema.add_argument("name", choices=["manifest", "evidence", "report", "waivers"])
    schema.add_argument("--validate", type=Path, metavar="FILE", help="a TOML or JSON file")
    schema.set_defaults(verb="schema")
    upgrade = verbs.add_parser("upgrade", help="bring a manifest to the newest specification")
    upgrade.add_argument("path", type=Path)
    upgrade.set_defaults(verb="upgrade")
    return parser


if TYPE_CHECKING:
    Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the folder of the model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps, ...")
    parser.add_argument(
        "--timeout",
        type=seconds,
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


def _trust_option(parser: argparse.ArgumentParser) -> None:
    text = "run code that the package brings; read it first"
    parser.add_argument("--trust-code", action="store_true", help=text)


def seconds(text: str | float) -> float:
    """A wall limit; raises `argparse.ArgumentTypeError`."""
    return _positive(text, float, "seconds")


def _gibibytes(text: str) -> float:
    return _positive(text, float, "gibibytes")


def _positive(text: str | float, number: type[Number], unit: str) -> Number:
    try:
        value = number(text)
    except ValueError:
        value = number(0)
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
    parser.add_argument(
        "--waivers",
        type=Path,
        metavar="FILE",
        help="known failures that you accept for a while (./slm-waivers.toml where there is one)",
    )
    parser.add_argument(
        "--self-test",
        action=argparse.BooleanOptionalAction,
        help="put known defects into the model itself: all must be told (on where CI is set)",
    )
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--timings", action="store_true", help="list the measurements")
    parser.add_argument("--verbose", action="store_true", help="list every requirement")
    parser.set_defaults(verb="check")


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
    parser.set_defaults(verb="init")


def _record_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("record", help="write the evidence of a package")
    _model_options(parser)
    _trust_option(parser)
    parser.add_argument(
        "--time-budget",
        type=seconds,
        metavar="S",
        help="train fewer steps than the recipe's, but at least ten, to stay within S seconds",
    )
    parser.set_defaults(verb="record")


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
    parser.set_defaults(verb="train")


def _waive_parser(verbs: Verbs) -> None:
    text = "accept a failure of the last check for a while"
    parser = verbs.add_parser("waive", help=text)
    parser.add_argument("id", metavar="ID", help="the requirement that fails")
    parser.add_argument("--reason", required=True, help="why the failure is accepted")
    parser.add_argument("--issue", required=True, metavar="URL", help="where it is being mended")
    parser.add_argument(
        "--expires",
        type=_date,
        metavar="DATE",
        help="the last day on which it holds, such as 2027-02-01 (default: in 90 days)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="a report in JSON (default: of the last check)"
    )
    parser.add_argument(
        "--waivers",
        type=Path,
        default=Path("slm-waivers.toml"),
        metavar="FILE",
        help="the file that it is added to (slm-waivers.toml)",
    )
    parser.set_defaults(verb="waive")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2027-02-01") from None


def _count(text: str) -> int:
    return _positive(text, int, "steps")
