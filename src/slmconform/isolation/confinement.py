"""What the process of one job may use, and which layers keep it to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

LAYERS: Mapping[str, str] = {
    "network": "a network namespace without any connection",
    "ipc": "an IPC namespace of its own",
    "limits": "limits of processor time, file size, open files, processes and core dumps",
    "memory": "a limit of memory",
    "privileges": "no new privileges, another user than root, no capability to change anything",
    "files": "Landlock: files of package, libraries and scratch folder only, nothing executed",
    "signals": "Landlock: no signal to a process outside",
}
"""Every layer and what it is."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """``read`` and ``scratch`` are absolute paths, the rest bytes and seconds.

    ``code`` is the package whose own code runs, empty where it brings none, and ``sealed`` what
    that code must not change besides the checks; ``cuda`` says that the job may use such a device;
    ``required`` that it must not begin unless every layer holds.
    """

    read: list[str]
    scratch: str
    memory: int
    file_size: int
    seconds: float
    code: str = ""
    sealed: list[str] = field(default_factory=list)
    cuda: bool = False
    required: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the confinement of a request's fields."""
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """Return what a request carries."""
        return asdict(self)
