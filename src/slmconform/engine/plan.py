"""Which checks run, in which order, and what must hold before each."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from slmconform.engine.registry import CHECKS, Check
from slmconform.standard.catalogue import Catalogue, catalogue


class UnknownRequirement(ValueError):  # noqa: N818 - says what was asked for
    """An id that is not in the catalogue."""


def load_checks() -> dict[str, Check]:
    """Import every area's module; broken wiring is an error here, not in the middle of a run."""
    package = importlib.import_module("slmconform.checks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"slmconform.checks.{module.name}")
    for check in CHECKS.values():
        for need in check.needs:
            if need not in CHECKS:
                raise ValueError(f"{check.id} needs {need}, which no check verifies")
    try:
        tuple(TopologicalSorter({c.id: c.needs for c in CHECKS.values()}).static_order())
    except CycleError as error:
        raise ValueError(f"checks need each other: {error.args[1]}") from error
    return CHECKS


def closure(ids: Iterable[str], checks: dict[str, Check]) -> set[str]:
    """The ids and everything they need, directly or not."""
    wanted: set[str] = set()
    stack = list(ids)
    while stack:
        one = stack.pop()
        if one not in wanted and one in checks:
            wanted.add(one)
            stack.extend(checks[one].needs)
    return wanted


def order(ids: Iterable[str], checks: dict[str, Check]) -> list[Check]:
    """Prerequisites first; otherwise in the order of the catalogue."""
    wanted = set(ids)
    done: dict[str, Check] = {}

    def visit(one: str) -> None:
        if one in done or one not in wanted:
            return
        for need in checks[one].needs:
            visit(need)
        done[one] = checks[one]

    for one in sorted(wanted, key=_rank):
        visit(one)
    return list(done.values())


def _rank(one: str) -> tuple[int, str]:
    known = list(catalogue().requirements)
    return (known.index(one) if one in known else len(known), one)


def select(
    known: Catalogue, profile: str, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> set[str]:
    """The ids of a profile that were asked for, with their prerequisites.

    ``only`` and ``skip`` hold ids or beginnings of ids, such as ``SLM-INV``.
    """
    for pattern in (*only, *skip):
        if not any(one.startswith(pattern) for one in known.requirements):
            near = difflib.get_close_matches(pattern, known.requirements, 1)
            hint = f"; did you mean {near[0]}?" if near else "; `slmconform list` shows all"
            raise UnknownRequirement(f"no requirement is called {pattern!r}{hint}")
    pool = known.requirements if only else known.profiles[profile].ids
    asked = {
        one
        for one in pool
        if (not only or one.startswith(tuple(only))) and not (skip and one.startswith(tuple(skip)))
    }
    return closure(asked, CHECKS)
