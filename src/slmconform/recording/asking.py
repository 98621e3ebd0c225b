"""One question to the model's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slmconform.engine.options import CouldNotRun, Watch
from slmconform.isolation.client import ForkServer, Job
from slmconform.isolation.confinement import Confinement
from slmconform.isolation.ending import Kind


class NoAnswer(Exception):
    """The process ended without its answer; the message says how."""


def ask(
    server: ForkServer,
    function: str,
    arguments: dict[str, Any],
    confinement: Confinement,
    *,
    watch: Watch,
    follow: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run a function of `recording.child` and return the one record it sends.

    ``arguments`` are those of `measure.opening.opened`; ``watch`` is told each phase as it
    begins, ``follow`` the news that are sent before the answer. Raises `CouldNotRun` where the
    sandbox is required and incomplete, `NoAnswer` and `ServerUnavailable`.
    """
    records: list[dict[str, Any]] = []

    def receive(record: dict[str, Any]) -> None:
        if "phase" in record:
            watch(str(record["phase"]))
        elif follow and "news" in record:
            follow(record["news"])
        else:
            records.append(record)

    arguments |= {"scratch": confinement.scratch}
    job = Job(f"slmconform.recording.child:{function}", arguments, confinement)
    ending = server.run(job, timeout=confinement.seconds, on_record=receive)
    if ending.kind is Kind.REFUSED:
        raise CouldNotRun(ending.detail)
    if ending.kind is not Kind.COMPLETE:
        raise NoAnswer(ending.detail)
    if len(records) != 1:
        raise NoAnswer(f"the process ended as if complete, with {len(records)} answers to one")
    return records[0]
