"""The caller's side: one fork server, one job at a time, each watched to its end."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

from slmconform.harmless import escaped
from slmconform.isolation.ending import Course, Ending, Kind, conclude, signal_name
from slmconform.isolation.modules import JUDGING_MODULES
from slmconform.isolation.protocol import (
    Json,
    ProtocolError,
    RecordReader,
    receive_message,
    send_message,
)
from slmconform.isolation.watch import SETTLE_S, Watch, kill_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from slmconform.isolation.confinement import Confinement

__all__ = [
    "DEFAULT_PRELOAD",
    "Ending",
    "ForkServer",
    "Job",
    "Kind",
    "ServerUnavailable",
    "shared_server",
]

DEFAULT_PRELOAD = (
    "torch",
    "transformers",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation.utils",
    "transformers.modeling_layers",
    "transformers.processing_utils",
    "transformers.masking_utils",
    "safetensors.torch",
    "slmconform.recording.child",
    JUDGING_MODULES,
)
"""What every job imports anyway: a job of a tiny model takes half as long with it."""

_START_LIMIT_S = 600.0
_ANSWER_LIMIT_S = 60.0
_ENVIRONMENT = {
    # Neither the caller's token nor a model of a cache: a package is all in its folder.
    "HF_HOME": "/nonexistent/slmconform",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "JOBLIB_MULTIPROCESSING": "0",  # else it looks for semaphores, and warns that there are none
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # CUDA must not be initialised before the fork: ask the driver's library, not the runtime.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # No thread pools before the fork; a job sets its own number with torch.set_num_threads.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


_KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV"}
)
_KEPT_FAMILIES = (
    *("PYTHON", "LC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "GOMP_", "DNNL_", "ONEDNN_", "ATEN_"),
    *("TORCH", "PYTORCH_", "TRANSFORMERS_", "TOKENIZERS_", "CUDA_", "NVIDIA_", "HIP_", "ROCM_"),
    *("NUMEXPR_", "MALLOC_", "COVERAGE_"),
)


class ServerUnavailable(Exception):
    """The process that starts candidates cannot start, or died; the next run starts a new one."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function ``package.module:function`` for a fresh process, and its JSON arguments.

    It is called as ``function(arguments, emit)``; ``emit(record)`` sends one JSON object at once.
    A record with a text under ``phase`` names what comes next, for the sentence of an `Ending`.
    The process stands in ``/``: paths among the arguments are absolute. With a ``confinement`` it
    runs in the sandbox.
    """

    target: str
    arguments: Json
    confinement: Confinement | None = None


class ForkServer:
    """A process that has imported ``preload`` and forks one child a job.

    Starts at once and returns without waiting. A server that died is started again by the next
    `run`. Threads may share it: their jobs queue. POSIX only.
    """

    def __init__(self, preload: Sequence[str] = DEFAULT_PRELOAD) -> None:
        if not hasattr(os, "fork"):
            raise ServerUnavailable(
                f"running a model needs fork(), which {sys.platform} does not have: "
                "use Linux or macOS (static checks work everywhere)"
            )
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._job: int | None = None
        self._start()
        _servers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, job: Job, *, timeout: float, on_record: Callable[[Json], None]) -> Ending:
        """Run ``job`` and hand each record to ``on_record`` as it comes; return how it ended.

        ``timeout`` is the wall limit in seconds from the start of the job's process: preloading
        does not count, time spent in ``on_record`` does. Records of an ending that is not
        complete were sent, and no more is known of them. Raises `ServerUnavailable`; whatever
        interrupts this call kills the job first.
        """
        with self._lock:
            try:
                self._await_ready()
                return self._run(job, timeout, on_record)
            except BaseException:
                # The channel may be in the middle of a message: this server is of no more use.
                self._stop()
                raise

    def close(self) -> None:
        """End the server and all that it started; a later `run` starts it anew."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        module = "slmconform.isolation.server"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                cwd="/",
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is for the caller, who then ends the server
            )
        except OSError as error:
            self._control.close()
            self._errors.close()
            raise ServerUnavailable(f"{sys.executable} cannot be started: {error}") from error
        finally:
            theirs.close()
        self._ready = False
        with contextlib.suppress(OSError):  # one that died at once is found by `_await_ready`
            send_message(self._control, {"preload": self._preload})

    def _await_ready(self) -> None:
        if self._process is not None and self._ready and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            self._start()
        if not self._ready:
            self._control.settimeout(_START_LIMIT_S)
            self._receive("before it was ready")
            self._control.settimeout(_ANSWER_LIMIT_S)
            self._ready = True

    def _receive(self, when: str) -> Json:
        try:
            message = receive_message(self._control)
        except (OSError, ProtocolError) as error:
            raise self._unavailable(f"broke off {when}: {error}") from error
        if message is None:
            raise self._unavailable(f"{self._death()} {when}")
        if reason := message[0].get("failed"):
            raise self._unavailable(f"cannot start: {escaped(str(reason), 1000)}")
        return message[0]

    def _death(self) -> str:
        try:
            code = self._process.wait(SETTLE_S) if self._process else 0
        except subprocess.TimeoutExpired:
            return "closed its channel"
        if code >= 0:
            return f"ended with exit status {code}"
        return f"was killed by {signal_name(-code)}"

    def _unavailable(self, what: str) -> ServerUnavailable:
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), 4096, max(0, size - 4096))
        sentence = f"the process that starts candidates {what}"
        lines = tail.decode(errors="replace").strip()
        return ServerUnavailable(f"{sentence}; it last wrote:\n{lines}" if lines else sentence)

    def _run(self, job: Job, timeout: float, on_record: Callable[[Json], None]) -> Ending:
        nonce = os.urandom(16).hex()
        request = {
            "target": job.target,
            "arguments": job.arguments,
            "nonce": nonce,
            "confinement": job.confinement.fields() if job.confinement else None,
        }
        with _pipe() as (result, result_end), _pipe() as (log, log_end):
            try:
                ends = result_end.fileno(), log_end.fileno()
                send_message(self._control, request, ends)
            except OSError as error:
                raise self._unavailable(f"{self._death()} before the job began") from error
            result_end.close()
            log_end.close()
            pid = int(self._receive("before the job began")["pid"])
            self._job = pid
            course = Course(RecordReader(nonce, pid), time.monotonic(), timeout)

            def receive_exit() -> int:
                where = f"while the candidate ran, {course.when(time.monotonic())}"
                return int(self._receive(where)["exit"])

            watch = Watch(course, result, log, on_record)
            status = watch.until_exit(self._control, pid, receive_exit)
        ending = conclude(course, status, time.monotonic())
        if status is None:
            self._stop()
        self._job = None
        return ending

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._control.close()  # an idle or watching server ends its job and itself at this
        if self._job is not None:
            kill_group(self._job)
            self._job = None
        try:
            if self._ready:
                process.wait(SETTLE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait()
            self._errors.close()

    def _abandon(self) -> None:
        """Forget, in a forked process, the server that belongs to the parent."""
        self._lock = threading.Lock()
        self._job = None
        if self._process is not None:
            self._control.close()
            self._errors.close()
            self._process.returncode = 0  # not this process's child: nothing to wait for
            self._process = None


_servers: weakref.WeakSet[ForkServer] = weakref.WeakSet()


def _abandon_all() -> None:
    for server in tuple(_servers):
        server._abandon()


if hasattr(os, "register_at_fork"):
    # A forked copy of the control socket would keep the server from noticing its client's end.
    os.register_at_fork(after_in_child=_abandon_all)


@functools.cache
def shared_server() -> ForkServer:
    """Return the one server of this process, closed at exit; a forked process starts its own."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def _environment() -> dict[str, str]:
    """Return the caller's environment, made offline and quiet, without secrets or relative paths.

    Only what interpreter, libraries and devices are set up by is handed on: a candidate can read
    it, and a token of the caller is none of its business.
    """
    kept = {name: value for name, value in os.environ.items() if _handed_on(name)}
    environment = kept | _ENVIRONMENT
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join(
        str(Path(path).absolute()) for path in paths if path
    )
    return environment


def _handed_on(name: str) -> bool:
    secret = any(word in name for word in ("TOKEN", "SECRET", "PASSWORD", "API_KEY"))
    return not secret and (name in _KEPT or name.startswith(_KEPT_FAMILIES))


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    reader, writer = os.pipe()
    with FileIO(reader, "rb") as source, FileIO(writer, "wb") as sink:
        yield source, sink
