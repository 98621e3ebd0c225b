"""The fork server: imports the heavy modules once, then forks one child a job.

Started as ``python -P -m slmconform.isolation.server FD``, where FD is one end of a socket pair.
It has one thread and one job at a time. When its client goes away it kills what it started and
leaves; it never leaves a zombie or an orphan behind.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import platform
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.isolation.child import adopt_orphans, start_child
from slmconform.isolation.modules import JUDGING_MODULES
from slmconform.isolation.protocol import receive_message, send_message
from slmconform.isolation.seal import prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SWEEP_S = 10.0


def main(descriptor: int) -> int:
    """Preload, say ready, serve until the client leaves; the exit status."""
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    first = receive_message(control)
    if first is None:
        return 0
    started = time.perf_counter()
    try:
        with ending_with(control):
            preload(first[0]["preload"])
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        send_message(control, {"failed": f"{type(error).__name__}: {error}"})
        return 1
    adopt_orphans()
    gc.collect()
    gc.freeze()  # keeps the collector of a child from copying every shared page
    send_message(control, {"ready": round(time.perf_counter() - started, 3)})
    try:
        serve(control)
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the client left
    finally:
        kill_children()
    return 0


def preload(names: Iterable[str]) -> None:
    """Import ``names``; a submodule that the installed version lacks is passed over.

    `JUDGING_MODULES` stands for all of them.

    Raises what the import raises, and `ModuleNotFoundError` for a missing top-level package.
    """
    for name in names:
        if name == JUDGING_MODULES:
            prepare()
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if "." not in name or error.name != name:
                raise
    platform.platform()  # runs `uname`, which no candidate may; the answer is kept
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@contextlib.contextmanager
def ending_with(control: socket.socket) -> Iterator[None]:
    """Meanwhile let the system end this process when its client leaves.

    An import may take long or forever. The client sends nothing before it hears that the server
    is ready, so that an event on the channel can only be its end: SIGIO, which is deadly.
    """
    import fcntl

    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([control], [], [], 0)[0]:
        raise ConnectionResetError("the client left before the preload")
    yield
    fcntl.fcntl(control, fcntl.F_SETFL, flags)


def serve(control: socket.socket) -> None:
    """Run one job after the other until the client closes its end."""
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while (request := receive_message(control, descriptors=2)) is not None:
        job, descriptors = request
        try:
            pid = start_child(job, *descriptors)
        except OSError as error:
            send_message(control, {"failed": f"fork: {error}"})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        send_message(control, {"pid": pid})
        status = attend(pid, control, wake)
        if status is None:
            return
        send_message(control, {"exit": status})


def attend(pid: int, control: socket.socket, wake: int) -> int | None:
    """Return the job's wait status once it and all below it are gone; None: the client left."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            kill_group(pid)
            kill_children()
            return status
        ready, _, _ = select.select([control.fileno(), wake], [], [])
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        if control.fileno() in ready:  # the client sends nothing during a job: this is its end
            kill_group(pid)
            return None


def kill_group(pid: int) -> None:
    """Kill the process group that ``pid`` leads, where there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_children() -> None:
    """Kill and reap every child of this process and what becomes its child thereby."""
    deadline = time.monotonic() + _SWEEP_S
    while (pids := children()) and time.monotonic() < deadline:
        for pid in pids:
            kill_group(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)


def children() -> list[int]:
    """Return the process ids of this process's children, adopted ones too; none where unknown."""
    try:
        return [
            int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ]
    except OSError:
        return []


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # without the teardown of everything that was preloaded
