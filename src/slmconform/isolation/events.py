"""What a candidate's process reached for: the kinds of events and one of them."""

from __future__ import annotations

from dataclasses import dataclass

NETWORK, PROCESS, WRITE, READ = "network", "process", "write", "read"
NATIVE = "native-code"
SIGNAL = "signal"
"""To another process."""
TAMPER = "tamper"
"""A way from own code to the checks that judge it."""
EXECUTED = "executed"
"""A file of the package whose code was run: no offence, but told."""


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is one of the above, ``where`` the place in the package's own code, if any."""

    kind: str
    what: str
    where: str = ""
