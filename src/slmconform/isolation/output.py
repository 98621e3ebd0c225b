"""What a candidate prints: read without limit, kept as a bounded tail, searched for forgeries."""

from __future__ import annotations

import json
import re

RING = 64 << 10
_SCAN_LIMIT = 64 << 10
_KEYS = ("protocol", "nonce", "verdict", "outcome", "seq")
# A block that holds none of these needs no look at its lines: a gigabyte passes at disk speed.
_NEEDLES = (b"SLM-", b" X-", b"\tX-", b"verdict", *(f'"{key}"'.encode() for key in _KEYS))
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0e-\x1f]")
_REPORT = re.compile(
    rb"(?:PASS|WARN|WAIVED|BLOCKED|FAIL|ERROR)[ \t]+(?:SLM|X)-|"
    rb'"?verdict"?[ \t]*[:=]'
)


class Output:
    """The standard output and error of one candidate.

    ``forged`` is the first line that looks like this project's own protocol or report.
    """

    def __init__(self) -> None:
        self._ring = bytearray()
        self._line = b""
        self._skipping = False
        self.forged: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Take what was just read from the log pipe."""
        self._ring += data
        if len(self._ring) > 2 * RING:
            del self._ring[:-RING]
        text = (self._line + data).replace(b"\r", b"\n")
        lines, newline, self._line = text.rpartition(b"\n")
        if newline:
            if self._skipping:
                lines = lines.partition(b"\n")[2]
                self._skipping = False
            self._search(lines)
        if self._skipping or len(self._line) > _SCAN_LIMIT:
            # An endless line is judged by its start, once, and never collected.
            if not self._skipping:
                self._search(self._line[:_SCAN_LIMIT])
            self._line, self._skipping = b"", True

    def finish(self) -> None:
        """Judge a last line that has no newline."""
        self._search(self._line)
        self._line = b""

    def tail(self, size: int) -> str:
        """Return the last ``size`` bytes, decoded with replacement, unescaped."""
        return bytes(self._ring[-size:]).decode(errors="replace")

    def _search(self, lines: bytes) -> None:
        if self.forged is None and _is_suspect(lines):
            self.forged = next((line for line in lines.split(b"\n") if is_forgery(line)), None)


def is_forgery(line: bytes) -> bool:
    """Whether a printed line poses as a line of the result protocol or of a report."""
    if not _is_suspect(line):
        return False
    text = _ESCAPES.sub(b"", line).strip()
    if not text.startswith(b"{"):
        return _REPORT.match(text) is not None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and not fields.keys().isdisjoint(_KEYS)


def _is_suspect(text: bytes) -> bool:
    return any(needle in text for needle in _NEEDLES)
