"""Checks as plain functions, registered under the id of the requirement they verify.

A check receives one subject (a ``Package`` for static checks, a ``Bench`` for dynamic ones, an
``Ending`` for observed ones), reads it, and returns a short sentence that says what was seen. It
raises `Nonconformance` when the requirement does not hold and one of the `Unanswered` signals when
it cannot be decided.
Severity never comes from code: it is the keyword of the requirement in the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[[Any], str])


class Stage(StrEnum):
    """Where a check runs: in the caller without torch, or beside the model in its own process.

    What was observed is judged by the caller when that process has ended, whatever it answered.
    """

    STATIC = "static"
    DYNAMIC = "dynamic"
    OBSERVED = "observed"


class Nonconformance(Exception):
    """The requirement does not hold.

    ``code`` is a short kebab-case name of the way in which it failed; waivers and the kill matrix
    tell failures apart by it. The other fields are the lines of the printed finding.
    """

    def __init__(
        self,
        *,
        code: str,
        got: str,
        want: str,
        where: str = "",
        why: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(f"{got} (want {want})")
        self.code, self.got, self.want = code, got, want
        self.where, self.why, self.fix = where, why, fix


class Unanswered(Exception):
    """The requirement was neither met nor broken; the subclass says in which way."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BlockedBy(Exception):
    """The answer would repeat what another requirement reports; ``id`` names that one.

    For what depends on the package; what always holds stands in ``needs``.
    """

    def __init__(self, requirement: str) -> None:
        super().__init__(requirement)
        self.id = requirement


class NotApplicable(Unanswered):
    """The requirement does not concern this model: it leaves the denominator."""


class NotExamined(Unanswered):
    """What the check would read was not there to be read (no manifest, a skipped file)."""


class NoReference(Unanswered):
    """Nothing was recorded to compare with, or not for this device class."""


class Inconclusive(Unanswered):
    """The measurement was made and cannot decide."""


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement's check and what has to hold before it means anything.

    ``after`` are checks whose work it judges: they run with it, and may fail without blocking it.
    """

    id: str
    stage: Stage
    needs: tuple[str, ...]
    function: Callable[[Any], str]
    after: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().split("\n")[0]


CHECKS: dict[str, Check] = {}


def check(
    requirement: str, *, stage: Stage, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Register a function as the check of one requirement."""

    def register(function: Function) -> Function:
        if requirement in CHECKS:
            raise ValueError(f"{requirement} is checked twice")
        CHECKS[requirement] = Check(requirement, stage, needs, function, after)
        return function

    return register
