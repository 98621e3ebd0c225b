"""The two line protocols of isolation, both JSON and never pickle.

Results: the child writes bounded JSON lines on a private pipe. Every line carries the nonce of
the run and a sequence number: first a header, then one line a record, last a footer with their
count. A pipe that ends without its footer can never look complete. Between them stand the lines
of the isolation itself: which layers of the sandbox hold, and what the process reached for.

Control: client and server exchange length-prefixed JSON messages over a socket pair; a job brings
the two pipe ends of its child along as ancillary data.

Python's JSON is used as it is: NaN and infinities travel as such, floats are exact.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slmconform.harmless import escaped, quoted
from slmconform.isolation.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = 1
LINE_LIMIT = 1 << 20
TOTAL_LIMIT = 64 << 20
FOOTER_RESERVE = 64 << 10
"""Bytes that records leave free, so that a footer always fits."""

Json = dict[str, Any]


class ProtocolError(Exception):
    """The result pipe carried something that the child's writer does not write."""


class BadLine(ProtocolError):
    """A line is not JSON, or not a header, record or footer."""


class WrongNonce(ProtocolError):
    """A line does not carry the nonce of this run: somebody else wrote it."""


class WrongSequence(ProtocolError):
    """A line is missing, repeated, or stands after the footer."""


class TooLarge(ProtocolError):
    """A line is above 1 MiB, or all of them together above 64 MiB."""


class MissingFooter(ProtocolError):
    """The pipe ended before the footer."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What the child says at its end; ``peak_bytes`` is its VmHWM where the system tells it."""

    records: int
    ending: str
    reason: str
    peak_bytes: int | None


class RecordWriter:
    """The child's end: header on construction, then `record` per result, then `footer`, once.

    Raises `TooLarge` before anything of an oversized line is written, and `RuntimeError` in a
    process forked from the owner, whose lines would break the sequence.
    """

    def __init__(self, descriptor: int, nonce: str) -> None:
        self._descriptor, self._nonce = descriptor, nonce
        self._pid = os.getpid()
        self._sequence = self._total = self._records = 0
        self._lock = threading.Lock()
        self._write({"protocol": PROTOCOL, "pid": self._pid}, TOTAL_LIMIT - FOOTER_RESERVE)

    def record(self, record: Json) -> None:
        """Write one record at once."""
        if not isinstance(record, dict):
            raise TypeError(f"a record is a dict, got {type(record).__name__}")
        self._write({"record": record}, TOTAL_LIMIT - FOOTER_RESERVE)
        self._records += 1

    def sandbox(self, active: list[str], missing: dict[str, str]) -> None:
        """Say which layers hold, and why others do not."""
        fields = {"active": active, "missing": missing}
        self._write({"sandbox": fields}, TOTAL_LIMIT - FOOTER_RESERVE)

    def event(self, event: Event) -> None:
        """Say what the process reached for, before it gets there; nothing takes that back."""
        self._write({"event": asdict(event)}, TOTAL_LIMIT - FOOTER_RESERVE)

    def footer(self, ending: str, reason: str, peak_bytes: int | None) -> None:
        """Write the last line; ``reason`` is cut so that it fits."""
        fields = {"records": self._records, "ending": ending, "reason": reason[:4096]}
        self._write({"footer": {**fields, "peak_bytes": peak_bytes}}, TOTAL_LIMIT)

    def _write(self, fields: Json, total_limit: int) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("only the process that was started for a job may emit its records")
        with self._lock:
            head = {"nonce": self._nonce, "seq": self._sequence}
            line = json.dumps(head | fields, separators=(",", ":")).encode() + b"\n"
            if len(line) > LINE_LIMIT:
                raise TooLarge(f"a record of {len(line)} bytes; a line holds at most {LINE_LIMIT}")
            if self._total + len(line) > total_limit:
                raise TooLarge(f"more than {TOTAL_LIMIT} bytes of records in one run")
            self._sequence += 1
            self._total += len(line)
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


class RecordReader:
    """The parent's end: takes bytes as they come, yields records, keeps the `Footer`.

    ``pid`` is the process that the server started; a header that names another is a `BadLine`.
    """

    def __init__(self, nonce: str, pid: int) -> None:
        self._nonce, self._pid = nonce, pid
        self._buffer = bytearray()
        self._scanned = self._total = 0
        self.lines = self.records = 0
        self.footer: Footer | None = None
        self.layers: tuple[list[str], dict[str, str]] | None = None
        self.events: list[Event] = []

    def feed(self, data: bytes) -> Iterator[Json]:
        """Yield the records that ``data`` completes; consume it whole. Raises `ProtocolError`."""
        self._total += len(data)
        if self._total > TOTAL_LIMIT:
            raise TooLarge(f"the results exceed {TOTAL_LIMIT} bytes")
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            record = self._line(line)
            if record is not None:
                yield record
        self._scanned = len(self._buffer)
        if self._scanned >= LINE_LIMIT:
            raise TooLarge(f"a line exceeds {LINE_LIMIT} bytes")

    def finish(self) -> Footer:
        """Return the footer, once the pipe is at its end. Raises `MissingFooter`."""
        if self.footer is None:
            raise MissingFooter(f"the results end after {self.records} records without a footer")
        if self._buffer:
            raise WrongSequence(f"{quoted(bytes(self._buffer))} stands after the footer")
        return self.footer

    def _line(self, line: bytes) -> Json | None:
        if len(line) >= LINE_LIMIT:
            raise TooLarge(f"a line exceeds {LINE_LIMIT} bytes")
        fields = _object(line)
        nonce = fields.pop("nonce", None)
        if not isinstance(nonce, str) or not hmac.compare_digest(
            nonce.encode(errors="replace"), self._nonce.encode()
        ):
            raise WrongNonce(f"{quoted(line)} does not carry the nonce of this run")
        sequence = fields.pop("seq", None)
        if type(sequence) is not int or sequence != self.lines or self.footer is not None:
            raise WrongSequence(f"{quoted(line)} is not line {self.lines} of this run")
        self.lines += 1
        if self.lines == 1:
            if fields != {"protocol": PROTOCOL, "pid": self._pid}:
                raise BadLine(f"{quoted(line)} is not the header of process {self._pid}")
            return None
        return self._body(fields, line)

    def _body(self, fields: Json, line: bytes) -> Json | None:
        match fields:
            case {"record": dict() as record} if len(fields) == 1:
                self.records += 1
                return record
            case {"sandbox": {"active": list() as active, "missing": dict() as missing}} if (
                len(fields) == 1 and self.lines == 2
            ):
                self.layers = active, missing
                return None
            case {"event": {"kind": str(kind), "what": str(what), "where": str(where)}} if (
                len(fields) == 1
            ):
                self.events.append(Event(kind, what, where))
                return None
            case {
                "footer": {
                    "records": int(count),
                    "ending": str(ending),
                    "reason": str(reason),
                    "peak_bytes": int() | None as peak,
                }
            } if len(fields) == 1:
                if count != self.records:
                    raise WrongSequence(f"the footer counts {count} records of {self.records}")
                self.footer = Footer(count, ending, reason, peak)
                return None
        raise BadLine(f"{quoted(line)} is neither a record nor a footer")


def send_message(control: socket.socket, message: Json, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message, with open file descriptors where it carries any."""
    data = json.dumps(message).encode()
    prefix = len(data).to_bytes(4, "big")
    if descriptors:
        socket.send_fds(control, [prefix[:1]], list(descriptors))
        prefix = prefix[1:]
    control.sendall(prefix + data)


def receive_message(
    control: socket.socket, descriptors: int = 0
) -> tuple[Json, tuple[int, ...]] | None:
    """Receive one message and up to ``descriptors`` file descriptors; None at the end of file."""
    received: list[int] = []
    if descriptors:
        first, received, _, _ = socket.recv_fds(control, 1, descriptors)
        for descriptor in received:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - takes no keyword
    else:
        first = control.recv(1)
    rest = _exactly(control, 3) if first else None
    data = None if rest is None else _exactly(control, int.from_bytes(first + rest, "big"))
    if data is None:
        for descriptor in received:
            os.close(descriptor)
        return None
    return _object(data), tuple(received)


def _exactly(control: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = control.recv(min(size - len(data), 1 << 16))
        if not part:
            return None
        data += part
    return bytes(data)


def _object(line: bytes) -> Json:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"{quoted(line)} is not JSON: {escaped(str(error))}") from None
    if not isinstance(fields, dict):
        raise BadLine(f"{quoted(line)} is not a JSON object")
    return fields
