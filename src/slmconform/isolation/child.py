"""The candidate's process: from the fork to ``os._exit``, in one place."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.isolation import seal
from slmconform.isolation.audit import Auditor
from slmconform.isolation.confinement import Confinement
from slmconform.isolation.libc import prctl
from slmconform.isolation.protocol import Json, RecordWriter
from slmconform.isolation.sandbox import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNREPORTED = 70
"""Exit status of a child that could not write its footer (EX_SOFTWARE of sysexits.h)."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ALLOCATION_FAILURES = ("can't allocate memory", "not enough memory", "out of memory")


def start_child(job: Json, result: int, log: int) -> int:
    """Fork a process that runs ``job`` and return its process id; never returns in the child.

    The sandbox is entered between `_leave_server` and the job's function, when the process holds
    nothing but its three standard streams and the result pipe.
    """
    server = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = UNREPORTED
    try:
        _leave_server(server, result, log)
        _run(job, result)
        status = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(status)


def _leave_server(server: int, result: int, log: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it died before the line above could notice
        os._exit(UNREPORTED)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.closerange(3, result)
    os.closerange(result + 1, max(os.sysconf("SC_OPEN_MAX"), 1 << 16))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a crash loses the rest
    faulthandler.enable(file=2)
    if random := sys.modules.get("numpy.random"):
        random.seed()  # as in a fresh process, not a copy of the server's state


def _run(job: Json, result: int) -> None:
    writer = RecordWriter(result, job.pop("nonce"))
    ending, reason = "complete", ""
    try:
        emit = _confined(writer, job["confinement"]) if job["confinement"] else writer.record
        module, _, name = job["target"].partition(":")
        function = getattr(importlib.import_module(module), name)
        seal.guarded(lambda: function(job["arguments"], emit))
    except Refused as error:
        ending, reason = "refused", str(error)
    except SystemExit as error:
        ending, reason = "exited", f"SystemExit({error.code!r:.100})"
    except BaseException as error:
        ending = "out-of-memory" if is_out_of_memory(error) else "raised"
        reason = describe(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    # Raises in a process that the job forked and that fell out of the job's function.
    writer.footer(ending, reason, peak_bytes())


class Refused(Exception):
    """The job must not begin: a layer of the sandbox that it requires is missing."""


def _confined(writer: RecordWriter, fields: Json) -> Callable[[Json], None]:
    """Enter the sandbox and listen; how records are sent from there on. Raises `Refused`."""
    confinement = Confinement.of(fields)
    layers = enter(confinement)
    writer.sandbox(layers.active, layers.missing)
    if confinement.required and layers.missing:
        missing = (f"{name} ({reason})" for name, reason in layers.missing.items())
        raise Refused(f"the sandbox is incomplete here, without {', '.join(missing)}")
    check = seal.take(confinement.sealed) if confinement.code else None
    Auditor(writer, confinement.scratch, tuple(confinement.read), confinement.code).start()
    if check is None:
        return writer.record

    def emit(record: Json) -> None:
        check()
        writer.record(record)

    return emit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is how python, torch or CUDA says that memory ran out."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and any(
        words in _message(error) for words in _ALLOCATION_FAILURES
    )


def describe(error: BaseException) -> str:
    """Type, message and the three innermost frames of an exception; never raises."""
    return f"{type(error).__name__}: {_message(error)[:1500]} (at {', from '.join(_frames(error))})"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:
        return f"its message cannot be shown ({type(second).__name__})"


def _frames(error: BaseException) -> Iterator[str]:
    steps = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for path, line, name in reversed(steps[-3:]):
        yield f"{'/'.join(Path(path).parts[-3:])[:200]}:{line} in {name[:100]}"


def peak_bytes() -> int | None:
    """Read the peak resident size of this process (VmHWM); None where /proc does not tell it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that none escapes (Linux)."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
