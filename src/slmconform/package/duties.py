"""Duties of licences: which clauses a derived model carries on from its base, by a table."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any

from slmconform.package.licence import REFERENCE, Expression, base_id

# Alternatives of an expression that are compared; AND over OR multiplies them.
ALTERNATIVES = 64
ITSELF = "itself"  # the relation of a model to the licence under which it is passed on

_TOKEN = re.compile(r"[()]|[^\s()]+(?: WITH [^\s()]+)?")
# Words that say that a name is that of a licence, and not which one.
_FILLING = re.compile(r"\b(meta|community|licen[cs]e|agreement|terms|of|use)\b")

Alternative = frozenset[str]


class Verdict(IntEnum):
    """How a derived licence stands to the clauses of its base; the greater the worse."""

    COMPATIBLE = 0
    UNKNOWN = 1
    CONFLICT = 2


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause, and how a derived model carries it.

    ``carried_by``: "clause" (a licence that has it too), "licence" (one that the base's names),
    "terms" (the base's own licence), "nothing", "files" of the package, or "unjudged".
    """

    id: str
    says: str
    carried: str
    carried_by: str
    relations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Licence:
    """A row of the table: ``sources`` by clause, and what else its clauses need to be judged."""

    id: str
    name: str
    kind: str
    sources: dict[str, str]
    unsure: tuple[str, ...]
    also: tuple[str, ...]
    under: tuple[str, ...]
    copies_only: tuple[str, ...]
    reaches: dict[str, tuple[str, ...]]
    notice: str
    prefix: str

    def binds(self, clause: Clause, relation: str) -> bool:
        """Whether a clause of this licence surely reaches a model in this relation to it."""
        if clause.id in self.unsure or (clause.id in self.copies_only and relation != ITSELF):
            return False
        return relation in clause.relations or clause.id in self.reaches.get(relation, ())

    def allows(self, licence: str) -> bool:
        """Whether this licence lets what is built on it be passed on under another one."""
        plain = licence.partition(" WITH ")[0]
        return bool({plain, base_id(plain)} & set(self.under))


@dataclass(frozen=True, slots=True)
class Duty:
    """A clause of a licence; ``licence`` is its id as the expression has it."""

    licence: str
    clause: Clause
    row: Licence

    def __str__(self) -> str:
        return f"{self.clause.id} of {self.licence}"

    @property
    def source(self) -> str:
        """The licence and the place in it that says so."""
        return f"{self.row.name}, {self.row.sources[self.clause.id]}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The clauses that are carried, those that are not, and those of which it is not known."""

    carried: tuple[Duty, ...] = ()
    conflicts: tuple[Duty, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of what was found."""
        if self.conflicts:
            return Verdict.CONFLICT
        return Verdict.UNKNOWN if self.unknown else Verdict.COMPATIBLE


@dataclass(frozen=True, slots=True)
class Owed:
    """Duties that the files of a package can show to be kept, and those that nobody knows."""

    duties: tuple[Duty, ...]
    unknown: tuple[str, ...]


def judge(declared: Expression, base: Expression, relation: str) -> Judgement:
    """Whether every choice that ``declared`` leaves carries what some choice of ``base`` asks."""
    offered, given = alternatives(declared), alternatives(base)
    if offered is None or given is None:
        return Judgement(unknown=("every clause of so many choices",))
    best = [min((_carries(one, many, relation) for one in given), key=_verdict) for many in offered]
    return max(best, key=_verdict)


def alternatives(expression: Expression) -> list[Alternative] | None:
    """The sets of licences of which one has to be kept; None where there are too many."""
    values: list[set[Alternative]] = []
    operators: list[str] = []
    for word in _TOKEN.findall(f"({expression.text})"):
        if word == "(":
            operators.append(word)
        elif word not in (")", "AND", "OR"):
            values.append({frozenset({word})})
        else:
            while operators[-1] != "(" and not (word == "AND" and operators[-1] == "OR"):
                right, left = values.pop(), values.pop()
                either = operators.pop() == "OR"
                values.append(left | right if either else {a | b for a in left for b in right})
                if len(values[-1]) > ALTERNATIVES:
                    return None
            if word == ")":
                operators.pop()
            else:
                operators.append(word)
    return sorted(values.pop(), key=sorted)


def required(licence: Expression, relation: str) -> list[Owed]:
    """What each choice that a licence leaves asks to be shipped; empty where there are too many."""
    return [_owed(choice, relation) for choice in alternatives(licence) or ()]


def row_of(licence: str) -> Licence | None:
    """The row of a licence, with or without an exception; None where it is not in the table."""
    one = licence.partition(" WITH ")[0]
    return _rows().get(_key(one)) or _rows().get(_key(base_id(one)))


@cache
def clauses() -> tuple[Clause, ...]:
    """The clauses, in the order of the table."""
    return tuple(
        Clause(row["id"], row["says"], row["carried"], row["carried-by"], tuple(row["relations"]))
        for row in _table()["clause"]
    )


@cache
def licences() -> tuple[Licence, ...]:
    """The licences, in the order of the table."""
    ids = [clause.id for clause in clauses()]
    return tuple(
        Licence(
            id=row["id"],
            name=row["name"],
            kind=row["kind"],
            sources={one: row[one] for one in ids if one in row},
            unsure=tuple(row.get("unsure", ())),
            also=tuple(row.get("also", ())),
            under=tuple(row.get("under", ())),
            copies_only=tuple(row.get("copies-only", ())),
            reaches=row.get("reaches", {}),
            notice=row.get("notice-text", ""),
            prefix=row.get("prefix", ""),
        )
        for row in _table()["licence"]
    )


def _owed(choice: Alternative, relation: str) -> Owed:
    duties = [duty for duty in _duties(choice) if duty.clause.carried_by == "files"]
    if relation == ITSELF:  # the other duties are those of who builds on it
        duties = [duty for duty in duties if ITSELF in duty.clause.relations]
    known = [duty for duty in duties if duty.row.binds(duty.clause, relation)]
    unknown = [str(duty) for duty in duties if duty not in known]
    return Owed(tuple(known), (*_unlisted(choice), *unknown))


def _carries(base: Alternative, derived: Alternative, relation: str) -> Judgement:
    """How one choice of the derived licences stands to one choice of the base's."""
    found: dict[Verdict, list[Duty]] = {verdict: [] for verdict in Verdict}
    for duty in _duties(base):
        if duty.clause.carried_by not in ("files", "unjudged"):
            found[_carried(duty, derived, relation)].append(duty)
    return Judgement(
        carried=tuple(found[Verdict.COMPATIBLE]),
        conflicts=tuple(found[Verdict.CONFLICT]),
        unknown=(*_unlisted(base), *map(str, found[Verdict.UNKNOWN])),
    )


def _duties(choice: Alternative) -> list[Duty]:
    """Every clause that the licences of one choice have or may have."""
    return [
        Duty(one, clause, row)
        for one in sorted(choice)
        if (row := row_of(one))
        for clause in clauses()
        if clause.id in row.sources or clause.id in row.unsure
    ]


def _unlisted(choice: Alternative) -> list[str]:
    return [f"every clause of {one}" for one in sorted(choice) if row_of(one) is None]


def _carried(duty: Duty, derived: Alternative, relation: str) -> Verdict:
    """Whether one of the derived licences carries one clause of one base licence."""
    if duty.clause.carried_by == "nothing":
        found = Verdict.CONFLICT
    else:
        found = min(_carried_by(duty, one) for one in derived)
    # an exception of the base may lift any clause, and an open clause breaks nothing
    open_ = " WITH " in duty.licence or not duty.row.binds(duty.clause, relation)
    return Verdict.UNKNOWN if found is Verdict.CONFLICT and open_ else found


def _carried_by(duty: Duty, derived: str) -> Verdict:
    """Whether one derived licence carries one clause of one base licence."""
    clause, other = duty.clause, row_of(derived)
    if derived == duty.licence:
        return Verdict.COMPATIBLE
    has = other is not None and clause.id in other.sources
    if clause.carried_by == "clause":
        carried = has
    elif clause.carried_by == "licence":
        carried = duty.row.allows(derived)
    else:
        carried = other is duty.row
    if carried:  # unless an exception lifts it
        return Verdict.UNKNOWN if " WITH " in derived else Verdict.COMPATIBLE
    if other is None or clause.id in other.unsure:
        return Verdict.UNKNOWN
    # what two licences forbid is not compared
    return Verdict.UNKNOWN if has and clause.carried_by == "terms" else Verdict.CONFLICT


def _verdict(one: Judgement) -> Verdict:
    return one.verdict


def _key(licence: str) -> str:
    """What two spellings of one licence id have in common."""
    text = licence.casefold()
    if not text.startswith(REFERENCE.casefold()):
        return text
    words = re.sub(r"[^a-z0-9+]+", " ", text.removeprefix(REFERENCE.casefold()))
    return REFERENCE + re.sub(r"\W+", "", _FILLING.sub("", words))


@cache
def _rows() -> dict[str, Licence]:
    return {
        _key(name): row
        for row in licences()
        for name in (row.id, *(REFERENCE + other for other in row.also))
    }


@cache
def _table() -> dict[str, Any]:
    path = files("slmconform.package") / "licences" / "duties.toml"
    return tomllib.loads(path.read_text("utf-8"))
