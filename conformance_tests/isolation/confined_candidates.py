"""Candidates that try the walls of the sandbox: each function is the target of a job."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path


def tried(action):
    """What an action returns, or the name of the error by which it is refused."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except MemoryError:
        return "MemoryError"


def nothing(arguments, emit):
    emit({"ok": True})


def files(arguments, emit):
    package, scratch, home = (Path(arguments[k]) for k in ("package", "scratch", "home"))
    (scratch / "file").write_text("written")
    attempts = {
        "package": (package / "weights").read_text,
        "scratch": (scratch / "file").read_text,
        "library": lambda: Path(os.__file__).read_text()[:20],
        "secret": (home / "secret").read_text,
        "passwd": Path("/etc/passwd").read_text,
        "list home": lambda: list(home.iterdir()),
        "write package": lambda: (package / "weights").write_text("x"),
        "write home": lambda: (home / "new").write_text("x"),
        "make": (package / "new").mkdir,
        "remove": (package / "weights").unlink,
        "memory of the parent": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "run": lambda: subprocess.run([sys.executable, "-c", ""], check=False).returncode,
    }
    emit({name: tried(action) for name, action in attempts.items()})


def names_of_threads(arguments, emit):
    """As CUDA's libraries do: a file opened for writing and cut to nothing."""
    seen = {"of the parent": tried(lambda: Path(f"/proc/{os.getppid()}/comm").write_text("a name"))}
    reading, writing = os.pipe()
    for whose in ("of a process forked later", "own"):
        if whose == "own" or not os.fork():
            thread = threading.get_native_id()
            name = Path(f"/proc/self/task/{thread}/comm")
            seen[whose] = tried(lambda name=name: name.write_text("a name"))
            if whose != "own":
                os.write(writing, str(seen[whose]).encode())
                os._exit(0)
        else:
            os.wait()
            seen[whose] = os.read(reading, 100).decode()
    emit(seen)


def powers(arguments, emit):
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    emit(
        {
            "connect": tried(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
            "interfaces": [name for _, name in socket.if_nameindex()],
            "user": os.getuid(),
            "become root": tried(lambda: os.setuid(0)) if os.getuid() else "is root",
            "signal to the parent": tried(lambda: os.kill(os.getppid(), 0)),
            "status": {name: value.strip() for name, value in status.items()},
        }
    )


def limits(arguments, emit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    large = Path(arguments["scratch"]) / "large"
    emit(
        {
            "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "large file": tried(lambda: large.write_bytes(bytes(2 << 20))),
            "allocation": tried(lambda: len(bytearray(2 << 30))),
        }
    )


def homes(arguments, emit):
    emit(
        {
            "home": str(Path.home()),
            "temporary": tempfile.gettempdir(),
            "cache": os.environ["XDG_CACHE_HOME"],
        }
    )


def imports(arguments, emit):
    sys.path.insert(0, arguments["package"])
    import module

    emit({"value": module.value})
