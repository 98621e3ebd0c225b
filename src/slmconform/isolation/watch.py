"""Watching one job from its first byte to its end: results, output, clock and server at once."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING

from slmconform.isolation.protocol import Json, ProtocolError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from io import FileIO

    from slmconform.isolation.ending import Course

SETTLE_S = 3.0
"""How long the server may take to report the end of a process that was killed."""

_CHUNK = 1 << 18
_DRAIN_LIMIT = 8 << 20


class Watch:
    """The streams of one running job and what is done with what they bring."""

    def __init__(
        self, course: Course, result: FileIO, log: FileIO, on_record: Callable[[Json], None]
    ) -> None:
        self._course, self._result, self._log = course, result, log
        self._on_record = on_record
        for stream in (result, log):
            os.set_blocking(stream.fileno(), False)

    def until_exit(
        self, control: socket.socket, job: int, receive_exit: Callable[[], int]
    ) -> int | None:
        """Follow process ``job`` until the server reports its wait status and return that.

        Kills the process group at the wall limit, or as soon as the job is condemned; None when
        the server then does not answer, because the candidate stopped it.
        """
        limit, killed = self._course.started + self._course.timeout, False
        with selectors.DefaultSelector() as selector:
            for stream in (control, self._result, self._log):
                selector.register(stream, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                if now >= limit:
                    if killed:
                        return None
                    self._course.judge_time(now)
                if self._course.judged and not killed:
                    kill_group(job)
                    limit, killed = now + SETTLE_S, True
                for key, _ in selector.select(min(limit - now, 3600.0)):
                    if key.fileobj is control:
                        status = receive_exit()
                        self._drain()
                        return status
                    if not self._read(key.fileobj):
                        selector.unregister(key.fileobj)

    def _drain(self) -> None:
        """Read what is left. Never waits: a process that escaped may hold the pipes open."""
        for stream in (self._result, self._log):
            rest = _DRAIN_LIMIT
            while rest > 0 and (size := self._read(stream)):
                rest -= size

    def _read(self, stream: object) -> int:
        """Take one chunk of a stream; its size, 0 at the end and where nothing is to be had."""
        try:
            data = os.read((self._log if stream is self._log else self._result).fileno(), _CHUNK)
        except BlockingIOError:
            return 0
        if stream is self._log:
            self._course.output.feed(data)
            self._course.judge_output()
        elif self._course.judged is None:
            self._take_results(data)
        return len(data)

    def _take_results(self, data: bytes) -> None:
        records: list[Json] = []
        try:
            for record in self._course.reader.feed(data):
                records.append(record)  # noqa: PERF402 - keeps those before a bad line
        except ProtocolError as error:
            self._course.judge_results(error)
        for record in records:
            self._course.note(record, time.monotonic())
            self._on_record(record)


def kill_group(pid: int) -> None:
    """Kill the process group that ``pid`` leads, or ``pid`` alone before it leads one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
