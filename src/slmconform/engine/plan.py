"""Which checks run, in which order, and what must hold before each."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from slmconform.engine.registry import CHECKS, Check
from slmconform.standard.catalogue import Catalogue, catalogue


class UnknownRequirement(ValueError):
    """An id that is not in the catalogue."""


def load_checks() -> dict[str, Check]:
    """Import every area's module; broken wiring is an error here, not in the middle of a run."""
    package = importlib.import_module("slmconform.checks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"slmconform.checks.{module.name}")
    for check in CHECKS.values():
        for need in (*check.needs, *check.after):
            if need not in CHECKS:
                raise ValueError(f"{check.id} needs {need}, which no check verifies")
    try:
        tuple(
            TopologicalSorter({c.id: (*c.needs, *c.after) for c in CHECKS.values()}).static_order()
        )
    except CycleError as error:
        raise ValueError(f"checks need each other: {error.args[1]}") from error
    return CHECKS


def closure(ids: Iterable[str], checks: dict[str, Check]) -> set[str]:
    """The ids and everything they need or come after, directly or not."""
    wanted: set[str] = set()
    stack = list(ids)
    while stack:
        one = stack.pop()
        if one not in wanted and one in checks:
            wanted.add(one)
            stack.extend((*checks[one].needs, *checks[one].after))
    return wanted


def order(ids: Iterable[str], checks: dict[str, Check]) -> list[Check]:
    """Prerequisites first; otherwise in the order of the catalogue."""
    wanted = set(ids)
    done: dict[str, Check] = {}

    def visit(one: str) -> None:
        if one in done or one not in wanted:
            return
        for need in (*checks[one].needs, *checks[one].after):
            visit(need)
        done[one] = checks[one]

    rank = {one: place for place, one in enumerate(catalogue().requirements)}
    for one in sorted(wanted, key=lambda one: (rank.get(one, len(rank)), one)):
        visit(one)
    return list(done.values())


def select(
    known: Catalogue, profile: str, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> set[str]:
    """The ids of a profile that were asked for, with their prerequisites.

    ``only`` and ``skip`` hold ids or beginnings of ids, such as ``SLM-INV`` or ``INV``. What needs
    a skipped id is left out with it: it would mean nothing. Raises `UnknownRequirement`.
    """
    for pattern in (*only, *skip):
        if not any(matches(one, [pattern]) for one in known.requirements):
            raise UnknownRequirement(unknown(known, pattern))
    pool = known.requirements if only else known.profiles[profile].ids
    asked = {one for one in pool if not only or matches(one, only)}
    wanted = closure(asked, CHECKS)
    return {one for one in wanted if not any(matches(x, skip) for x in closure([one], CHECKS))}


def matches(one: str, patterns: Iterable[str]) -> bool:
    """Whether an id is one of the patterns or begins with one."""
    return any(pattern and one.startswith(canonical(pattern)) for pattern in patterns)


def canonical(pattern: str) -> str:
    """An id as the catalogue spells it: ``inv-004`` is ``SLM-INV-004``."""
    pattern = pattern.upper()
    return pattern if pattern.startswith(("SLM", "X-")) else f"SLM-{pattern}"


def unknown(known: Catalogue, pattern: str) -> str:
    """The sentence for an id that is not in the catalogue."""
    near = difflib.get_close_matches(canonical(pattern), known.requirements, 1)
    hint = f"; did you mean {near[0]}?" if near else "; `slmconform list` shows all"
    return f"no requirement is called {pattern!r}{hint}"
