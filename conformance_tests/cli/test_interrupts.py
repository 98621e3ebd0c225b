"""Ctrl-C, SIGTERM and SIGKILL in the middle: no survivors, no debris, evidence old or new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import ENVIRONMENT, PROGRAM, text, tree
from own_code import own_code
from package_builders import write_evidence

from slmconform.package.documents import read_evidence
from slmconform.package.folder import scan
from slmconform.report.writing import write_whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

HANG = "import time; time.sleep(300)"
# Long enough to be caught in the act: 256 MiB of zeros that take no room on the disk.
LARGE = 256 << 20


@pytest.fixture
def room(tmp_path):
    """A folder for scratch files of the runs, which has to be empty in the end."""
    (tmp_path / "scratch").mkdir()
    return tmp_path


# A shell's background jobs inherit that Ctrl-C is ignored; a person's run does not.
HEEDING = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Started:
    """A real run whose lines on standard error are followed."""

    def __init__(self, room: Path, *arguments: object, stdout=subprocess.PIPE) -> None:
        self.scratch = room / "scratch"
        # A name of a family that is handed on to the model's process.
        self.mark = f"PYTHONTESTMARK={os.urandom(8).hex()}"
        name, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEEDING, *PROGRAM[1:], *map(str, arguments)],
            env=ENVIRONMENT | {"TMPDIR": str(self.scratch), name: value},
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []

    def until(self, word: str) -> None:
        """Wait for a line that holds the word."""
        while line := text(self.process.stderr.readline()):
            self.lines.append(line)
            if word in line:
                return
        raise AssertionError(f"ended before {word!r}: {self.lines}")

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals; the status, and what was still written to standard error."""
        for number in signals:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, text(err)

    def survivors(self) -> list[int]:
        """Living processes that inherited the environment of this run."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def assert_gone(self) -> None:
        """Every process ends by itself, soon."""
        deadline = time.monotonic() + 10
        while (left := self.survivors()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []


def interrupted(started: Started, *signals: int) -> None:
    """Ctrl-C ends it with status 130, in one line, with nothing left behind."""
    status, err = started.end(*(signals or (signal.SIGINT,)))
    assert status == 130, err
    assert [line for line in err.splitlines() if not line.startswith("checking ")] == [
        "slmconform: interrupted; nothing was written"
    ]
    started.assert_gone()
    assert list(started.scratch.glob("slmconform-*")) == []


def large(folder: Path) -> Path:
    """A package whose weights take a while to read."""
    header = f'{{"w":{{"dtype":"U8","shape":[{LARGE}],"data_offsets":[0,{LARGE}]}}}}'.encode()
    own_code(folder)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + LARGE)
    return folder


@pytest.mark.parametrize("verb", ["check", "record"])
def test_ctrl_c_while_the_files_are_read(verb, room):
    folder = large(room / "own")
    before = set(folder.rglob("*"))
    started = Started(room, verb, folder, "--trust-code")
    started.until("checking Weights")
    interrupted(started)
    assert set(folder.rglob("*")) == before


def test_ctrl_c_while_the_libraries_are_imported(room):
    started = Started(room, "check", own_code(room / "own"), "--trust-code")
    started.until("checking Dependencies")
    interrupted(started)


@pytest.mark.parametrize("verb", ["check", "record"])
def test_ctrl_c_while_the_model_runs(verb, room):
    folder = own_code(room / "own", build=HANG)
    (folder / "conformance").mkdir()
    (folder / "conformance" / "mine.txt").write_text("kept")
    before = tree(folder)
    started = Started(room, verb, folder, "--trust-code")
    started.until("checking Interface")
    # A second one, of an impatient person, changes nothing.
    interrupted(started, *([signal.SIGINT] * (2 if verb == "check" else 1)))
    assert tree(folder) == before


def test_being_told_to_end_leaves_nothing_behind(room):
    started = Started(room, "check", own_code(room / "own", build=HANG), "--trust-code")
    started.until("checking Interface")
    status, err = started.end(signal.SIGTERM)
    assert status == 143
    assert "Traceback" not in err
    started.assert_gone()
    assert list(started.scratch.glob("slmconform-*")) == []


def test_a_killed_record_leaves_the_old_evidence_or_the_new_and_no_process(room):
    folder = own_code(room / "own")
    write_evidence(folder, tool="old")
    old = tree(folder)
    started = Started(room, "record", folder, "--trust-code")
    started.until("distance from float64")
    time.sleep(0.02)
    started.end(signal.SIGKILL)
    started.assert_gone()
    if read_evidence(scan(folder)).tool == "old":
        assert {k: v for k, v in tree(folder).items() if "/." not in k} == old


@pytest.mark.parametrize("broken", [0, 1])
def test_whatever_breaks_off_writing_keeps_the_old_files_and_leaves_no_others(
    broken, tmp_path, monkeypatch
):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.json"
    first.write_text("old")
    second.write_text("old")
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == broken + 1:
            raise KeyboardInterrupt
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write_whole({first: b"new", second: b"new"})
    assert tree(tmp_path) == {"a.safetensors": b"old", "b.json": b"old"}
