"""IFC: what the model's process reached for while the model was loaded and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.checks.cfg import LOADABLE
from slmconform.engine.registry import BlockedBy, Nonconformance, NotExamined, Stage, check
from slmconform.harmless import escaped
from slmconform.isolation.events import NATIVE, NETWORK, PROCESS, READ, WRITE

if TYPE_CHECKING:
    from slmconform.isolation.ending import Ending
    from slmconform.isolation.events import Event

REACHES = {
    NETWORK: "the network",
    PROCESS: "another process",
    WRITE: "a file outside its scratch folder, to change it",
    READ: "a file outside the package and the installed libraries",
    NATIVE: "native code that the checks cannot see into",
}
FIXES = {
    NETWORK: "ship what is fetched with the package, or leave it out",
    PROCESS: "do the work in the process that asks for it",
    WRITE: "keep state in the module; a model has nothing to write",
    READ: "ship the file with the package",
    NATIVE: "use what torch offers",
}


@check("SLM-IFC-011", stage=Stage.OBSERVED, needs=LOADABLE, after=("SLM-IFC-005",))
def reaches_for_nothing(ending: Ending) -> str:
    """The process of the model keeps to its package, the libraries and its scratch folder."""
    seen = [event for event in ending.events if event.kind in REACHES]
    if seen:
        raise _finding(seen)
    if ending.kind != "complete":
        raise BlockedBy("SLM-IFC-001")
    if not ending.layers:
        raise NotExamined("nothing listened to the process of the model")
    return "no network, no other process, no file outside"


def _finding(seen: list[Event]) -> Nonconformance:
    first = seen[0]
    others = "; ".join(_told(event) for event in seen[1:4])
    more = f"and {len(seen) - 1} more: {others}" + (" …" if len(seen) > 4 else "")
    return Nonconformance(
        code=first.kind,
        got=f"it reaches for {REACHES[first.kind]}: {_told(first)}",
        want="only the package, the installed libraries and a scratch folder",
        where=escaped(first.where) or "while it is loaded and run",
        why=more if len(seen) > 1 else "",
        fix=FIXES[first.kind],
    )


def _told(event: Event) -> str:
    return escaped(event.what)
