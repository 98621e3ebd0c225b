"""What a person sees while a check runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slmconform.engine.options import Watch
from slmconform.harmless import printable
from slmconform.report.streams import tell
from slmconform.standard.catalogue import catalogue


def _silent(_: str) -> None:
    """Show nothing."""


@contextmanager
def progress(*, quiet: bool) -> Iterator[Watch]:
    """A function to call with each requirement that begins; writes to stderr only."""
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _live() as watch:
            yield watch
    else:
        yield _plain()


@contextmanager
def _live() -> Iterator[Watch]:
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("reading the package") as status:
        yield lambda one: status.update(Text(_words(one)))


def _plain() -> Watch:
    """One line an area, when its first requirement begins."""
    areas: set[str] = set()

    def watch(one: str) -> None:
        area = one.split("-")[1] if one.startswith("SLM-") else one
        if area not in areas:
            areas.add(area)
            tell(f"checking {catalogue().areas.get(area, printable(area))}")

    return watch


def _words(one: str) -> str:
    requirement = catalogue().requirements.get(one)
    return f"{one}  {requirement.title}" if requirement else printable(one)
