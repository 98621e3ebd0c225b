"""Candidates for the isolation tests: each function is the target of a job."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path


def complete(arguments, emit):
    emit({"phase": "load"})
    for value in arguments["values"]:
        emit({"value": value})


def surroundings(arguments, emit):
    import torch

    open_files = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            open_files[link.name] = str(link.readlink())
    emit(
        {
            "pid": os.getpid(),
            "session": os.getsid(0),
            "cwd": str(Path.cwd()),
            "files": open_files,
            "threads": torch.get_num_threads(),
            "tasks": len(list(Path("/proc/self/task").iterdir())),
            "torch": torch.__file__,
            "environment": dict(os.environ),
            "stdin": sys.stdin.read(),
        }
    )


def fork_and_measure(arguments, emit):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.write(writer, b"measured")
        os._exit(0)
    os.close(writer)
    with FileIO(reader) as results:
        text = results.readall().decode()
    os.waitpid(child, 0)
    emit({"text": text})


def forked_child_falls_through(arguments, emit):
    if os.fork() == 0:
        raise ValueError("in the forked copy")
    os.wait()
    emit({"ok": True})


def raise_value_error(arguments, emit):
    emit({"phase": "load"})
    inner("shape \x1b[31m mismatch\nin layer 3")


def inner(message):
    raise ValueError(message)


def raise_hostile(arguments, emit):
    class Hostile(BaseException):
        def __str__(self):
            raise SystemExit(0)

    raise Hostile


def raise_interrupt(arguments, emit):
    raise KeyboardInterrupt


def raise_memory_error(arguments, emit):
    raise MemoryError


def allocate_too_much(arguments, emit):
    import torch

    torch.empty(1 << 55, dtype=torch.uint8)


def leave_by_system_exit(arguments, emit):
    sys.exit(3)


def leave_at_once(arguments, emit):
    emit({"phase": "load"})
    os._exit(0)


def segfault(arguments, emit):
    emit({"phase": "load"})
    ctypes.string_at(0)


def kill_itself(arguments, emit):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(arguments, emit):
    emit({"phase": "forward"})
    while True:
        time.sleep(1)


def flood(arguments, emit):
    block = "all work and no play makes a dull model\n" * 25_000
    for _ in range(200):
        sys.stdout.write(block)
    sys.stdout.write("the end\n")


def say(arguments, emit):
    os.write(1, arguments["text"].encode())


def scribble_on_results(arguments, emit):
    emit({"phase": "load"})
    for number in range(3, 256):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, arguments["text"].encode())
        except OSError:
            continue


def replay_header(arguments, emit):
    """Write a line with the right nonce, found in this process's memory, in the wrong place."""
    nonce = emit.__self__._nonce
    text = json.dumps({"nonce": nonce, "seq": 0, "footer": {}})
    scribble_on_results({"text": text + "\n"}, lambda record: None)


def close_standard_streams(arguments, emit):
    sys.stdout.close()
    os.close(1)
    os.close(2)
    emit({"ok": True})


def close_everything(arguments, emit):
    os.closerange(0, 256)


def leave_sleepers(arguments, emit):
    """Leave one process in the group and one in a session of its own, both holding the pipes."""
    plain = os.fork()
    if plain == 0:
        time.sleep(600)
        os._exit(0)
    daemon = os.fork()
    if daemon == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    emit({"sleepers": [plain, daemon]})


def leave_sleepers_and_hang(arguments, emit):
    leave_sleepers(arguments, emit)
    emit({"pid": os.getpid()})
    hang(arguments, emit)


def kill_parent(arguments, emit):
    emit({"phase": "load", "pid": os.getpid()})
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def stop_parent(arguments, emit):
    emit({"server": os.getppid()})
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)


def giant_record(arguments, emit):
    emit({"text": "x" * (1 << 20)})


def endless_records(arguments, emit):
    while True:
        emit({"text": "x" * (1 << 19)})


def record_of_wrong_kind(arguments, emit):
    emit([1, 2])


def start_thread_and_program(arguments, emit):
    thread = threading.Thread(target=time.sleep, args=(600,))
    thread.start()
    subprocess.run([sys.executable, "-c", ""], check=True)
    emit({"ok": True})


def surroundings_of_server(arguments, emit):
    emit({"server": os.getppid()})
