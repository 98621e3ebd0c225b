"""Running the command line: in this process where that is the same, else as a real one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slmconform.cli import main

PROGRAM = (sys.executable, "-m", "slmconform.cli")
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Said:
    """What a run left: its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


def here(*arguments: object) -> Said:
    """A run in this process; usage errors and ``--help`` end it like a real one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(one) for one in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    return Said(status, out.getvalue(), err.getvalue())


def process(*arguments: object, **options) -> Said:
    """A run as a process of its own."""
    options = {"env": ENVIRONMENT, "capture_output": True, **options}
    words = [one if isinstance(one, bytes) else str(one) for one in arguments]
    done = subprocess.run([*PROGRAM, *words], timeout=120, check=False, **options)
    return Said(done.returncode, text(done.stdout), text(done.stderr))


def shell(line: str, *, code: str = "") -> Said:
    """A line for bash, where ``$S`` is the program and ``$CODE`` the ``code``."""
    env = ENVIRONMENT | {"S": " ".join(PROGRAM), "CODE": code}
    words = ["bash", "-o", "pipefail", "-c", line]
    done = subprocess.run(words, env=env, capture_output=True, timeout=120, check=False)
    return Said(done.returncode, text(done.stdout), text(done.stderr))


def text(data: bytes | None) -> str:
    return (data or b"").decode(errors="surrogateescape")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
