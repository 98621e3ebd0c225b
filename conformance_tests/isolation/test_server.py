"""The life of the fork server: start, death, restart, and who it takes along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmconform.isolation.client import (
    DEFAULT_PRELOAD,
    ForkServer,
    Job,
    ServerUnavailable,
)
from slmconform.isolation.ending import Kind

CLIENT = """
import os, signal, sys
from slmconform.isolation.client import ForkServer, Job
signal.signal(signal.SIGINT, signal.default_int_handler)
server = ForkServer(preload=())
def show(record):
    for pid in record.get("sleepers", ()):
        print(pid, flush=True)
    if "pid" in record:
        print(record["pid"], server._process.pid, sep="\\n", flush=True)
job = Job("isolation_candidates:leave_sleepers_and_hang", {})
try:
    server.run(job, timeout=60, on_record=show)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


def job(name, **arguments):
    return Job(f"isolation_candidates:{name}", arguments)


def run(server, name, *, timeout=30.0, **arguments):
    records = []
    ending = server.run(job(name, **arguments), timeout=timeout, on_record=records.append)
    return ending, records


def alive(pid):
    """Whether a process runs; a zombie that its new parent has not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it may go while it is read
        return False


def all_gone(pids, within=5.0):
    deadline = time.monotonic() + within
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def client(candidates_path):
    """A process that runs a hanging job, with the ids of that job's processes and its server."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process, [int(process.stdout.readline()) for _ in range(4)]
    process.kill()
    process.communicate()


def test_ctrl_c_leaves_no_survivors(client):
    process, pids = client
    assert all(map(alive, pids))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert out == "interrupted\n"
    assert "KeyboardInterrupt" in err
    assert process.returncode != 0
    assert all_gone(pids)


def test_a_killed_client_leaves_no_survivors(client):
    process, pids = client
    process.kill()
    process.wait()
    assert all_gone(pids)


def test_a_client_killed_during_the_preload_leaves_no_server(tmp_path, monkeypatch):
    begun = tmp_path / "begun"
    (tmp_path / "endless.py").write_text(
        f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = (
        "import time\n"
        "from slmconform.isolation.client import ForkServer\n"
        "server = ForkServer(preload=('endless',))\n"
        "print(server._process.pid, flush=True)\n"
        "time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        while not begun.exists():
            assert alive(pid)
            time.sleep(0.01)
        process.kill()
    assert all_gone([pid])


def test_a_candidate_that_kills_the_server(light):
    seen = []
    with pytest.raises(ServerUnavailable, match=r"was killed by SIGKILL while .* after 'load'"):
        light.run(job("kill_parent"), timeout=30, on_record=seen.append)
    assert all_gone([seen[0]["pid"]])
    ending, _ = run(light, "complete", values=[1])
    assert ending.kind is Kind.COMPLETE


def test_a_candidate_that_stops_the_server(light, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("slmconform.isolation.watch.SETTLE_S", 0.3)
        patch.setattr("slmconform.isolation.client.SETTLE_S", 0.3)
        ending, [record] = run(light, "stop_parent", timeout=0.5)
    assert ending.kind is Kind.TIMED_OUT
    assert all_gone([record["server"]])
    ending, _ = run(light, "complete", values=[1])
    assert ending.kind is Kind.COMPLETE


def test_a_server_that_died_between_jobs_is_restarted(light):
    first = run(light, "surroundings_of_server")[1]
    os.kill(first[0]["server"], signal.SIGKILL)
    all_gone([first[0]["server"]])
    ending, second = run(light, "surroundings_of_server")
    assert ending.kind is Kind.COMPLETE
    assert second != first


def test_a_callback_that_raises_ends_the_job(light):
    seen = []

    def refuse(record):
        seen.append(record)
        if "pid" in record:
            raise LookupError("no")

    with pytest.raises(LookupError):
        light.run(job("leave_sleepers_and_hang"), timeout=30, on_record=refuse)
    assert all_gone([*seen[0]["sleepers"], seen[-1]["pid"]])
    assert run(light, "complete", values=[])[0].kind is Kind.COMPLETE


def test_arguments_that_are_not_json(light):
    with pytest.raises(TypeError):
        run(light, "complete", values=[object()])
    assert run(light, "complete", values=[])[0].kind is Kind.COMPLETE


def test_large_arguments(light):
    ending, records = run(light, "complete", values=["x" * (1 << 19)] * 8)
    assert ending.kind is Kind.COMPLETE
    assert len(records) == 9


def test_many_jobs_leave_no_open_files(light):
    run(light, "complete", values=[])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        run(light, "complete", values=[])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_missing_package(candidates_path):
    with (
        ForkServer(preload=("no_such_package",)) as server,
        pytest.raises(ServerUnavailable, match=r"cannot start: ModuleNotFoundError: .*\n.*Trace"),
    ):
        run(server, "complete", values=[])


def test_a_missing_submodule_is_passed_over(candidates_path):
    with ForkServer(preload=("json.no_such_part",)) as server:
        assert run(server, "complete", values=[])[0].kind is Kind.COMPLETE


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_package_either", "cannot start: ModuleNotFoundError"),
        ("raise BaseException('broken')", "cannot start: BaseException: broken"),
        ("import os; os._exit(9)", "ended with exit status 9 before it was ready"),
        ("import os; os.abort()", "was killed by SIGABRT before it was ready"),
    ],
)
def test_a_preload_that_breaks(tmp_path, monkeypatch, source, words):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/__init__.py").touch()
    (tmp_path / "broken/part.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        ForkServer(preload=("broken.part",)) as server,
        pytest.raises(ServerUnavailable, match=words),
    ):
        run(server, "complete", values=[])


@pytest.mark.parametrize("path", [None, "", os.pathsep])
def test_a_hostile_module_in_the_working_directory(tmp_path, monkeypatch, candidates_path, path):
    trap = tmp_path / "trap"
    for name in ("torch", "json", "slmconform", "colorsys"):
        (tmp_path / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    if path is None:
        monkeypatch.delenv("PYTHONPATH")
    else:
        monkeypatch.setenv("PYTHONPATH", path + os.pathsep + candidates_path)
    with ForkServer(preload=("colorsys",)) as server:
        ending, _ = run(server, "complete", values=[])
    assert ending.kind is (Kind.RAISED if path is None else Kind.COMPLETE)
    assert not trap.exists()


def test_close_is_final_until_the_next_run(candidates_path):
    server = ForkServer(preload=())
    pid = run(server, "surroundings_of_server")[1][0]["server"]
    server.close()
    server.close()
    assert not Path(f"/proc/{pid}").exists()
    assert run(server, "complete", values=[])[0].kind is Kind.COMPLETE
    server.close()


def test_a_server_closed_before_it_is_ready_ends_at_once():
    started = time.monotonic()
    ForkServer(preload=DEFAULT_PRELOAD).close()
    assert time.monotonic() - started < 3


def test_a_forked_process_gets_a_server_of_its_own(light):
    mine = run(light, "surroundings_of_server")[1]
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ending, theirs = run(light, "surroundings_of_server")
            light.close()
            status = 0 if ending.kind is Kind.COMPLETE and theirs != mine else 2
        finally:
            os._exit(status)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run(light, "surroundings_of_server")[1] == mine


def test_a_forked_process_does_not_keep_the_server_of_a_dead_client(candidates_path):
    script = (
        "import os, time\n"
        "from slmconform.isolation.client import shared_server\n"
        "server = shared_server()\n"
        "assert shared_server() is server\n"
        "child = os.fork()\n"
        "if child == 0: os.close(1); time.sleep(60); os._exit(0)\n"
        "print(server._process.pid, child, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=20
    )
    pid, child = map(int, done.stdout.split())
    assert all_gone([pid])
    os.kill(child, signal.SIGKILL)


def test_a_platform_without_fork(monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(ServerUnavailable, match="use Linux or macOS"):
        ForkServer()


def test_the_client_imports_nothing_heavy():
    script = (
        "import sys, slmconform.isolation.client\n"
        "print({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules) or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"light\n"


@pytest.mark.slow
def test_the_default_preload(candidates_path):
    """What is preloaded is one thread, and has not touched CUDA."""
    with ForkServer() as server:  # not the shared one, which may not find the candidates
        ending, [seen] = run(server, "surroundings")
        assert ending.kind is Kind.COMPLETE, ending
        assert seen["tasks"] == seen["threads"] == 1
