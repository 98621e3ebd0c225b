"""Every way in which a candidate's process can end, seen from the caller."""

from __future__ import annotations

import math
import os
import time

import pytest

from slmconform.isolation.ending import Kind
from slmconform.isolation.output import RING


def gone(pid, within=5.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_complete(run):
    values = [1, 0.1, "ü\ud800", None, math.inf, {"deep": [[]]}]
    ending, records = run("complete", values=values)
    assert ending.kind is Kind.COMPLETE
    assert ending.kind == "complete"
    assert [record["value"] for record in records[1:]] == values
    assert records[0] == {"phase": "load"}
    assert "7 records" in ending.detail
    assert ending.peak_bytes > 10 << 20
    assert 0 < ending.wall_s < 10


def test_surroundings(run):
    ending, [seen] = run("surroundings")
    assert ending.kind is Kind.COMPLETE, ending
    assert seen["session"] == seen["pid"]
    assert seen["cwd"] == "/"
    assert seen["stdin"] == ""
    assert seen["threads"] == 1
    assert seen["tasks"] == 1
    assert seen["files"]["0"] == "/dev/null"
    assert seen["files"]["1"] == seen["files"]["2"]
    others = {number for number, to in seen["files"].items() if "/proc/" not in to} - set("012")
    assert len(others) == 1, "only the result pipe is open beside the standard streams"
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert seen["environment"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_job_may_fork_and_use_pipes(run):
    ending, records = run("fork_and_measure")
    assert ending.kind is Kind.COMPLETE
    assert records == [{"text": "measured"}]


def test_a_forked_copy_of_a_job_writes_no_results(run):
    ending, records = run("forked_child_falls_through")
    assert ending.kind is Kind.COMPLETE
    assert records == [{"ok": True}]


def test_threads_and_subprocesses_are_legal(run):
    ending, records = run("start_thread_and_program")
    assert ending.kind is Kind.COMPLETE
    assert records == [{"ok": True}]


def test_raised(run):
    ending, records = run("raise_value_error")
    assert ending.kind is Kind.RAISED
    assert "ValueError: shape \\x1b[31m mismatch in layer 3" in ending.detail
    assert "isolation_candidates.py" in ending.detail
    assert " in inner, from " in ending.detail
    assert "s after 'load'" in ending.detail
    assert ending.peak_bytes > 0
    assert records == [{"phase": "load"}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raise_hostile", "Hostile: its message cannot be shown (SystemExit)"),
        ("raise_interrupt", "KeyboardInterrupt"),
        ("record_of_wrong_kind", "a record is a dict, got list"),
        ("giant_record", "TooLarge: a record of 10"),
        ("endless_records", "TooLarge: more than 67108864 bytes"),
        ("no_such_function", "no_such_function"),
    ],
)
def test_raised_with_reason(run, name, words):
    ending, _ = run(name)
    assert ending.kind is Kind.RAISED
    assert words in ending.detail


@pytest.mark.parametrize("name", ["raise_memory_error", "allocate_too_much", "kill_itself"])
def test_out_of_memory(run, name):
    ending, _ = run(name)
    assert ending.kind is Kind.OUT_OF_MEMORY, ending
    assert "memory" in ending.detail


def test_left_by_system_exit(run):
    ending, _ = run("leave_by_system_exit")
    assert ending.kind is Kind.EXITED
    assert "SystemExit(3)" in ending.detail


@pytest.mark.parametrize("name", ["leave_at_once", "close_everything"])
def test_left_without_footer(run, name):
    ending, _ = run(name)
    assert ending.kind is Kind.EXITED
    assert "exit status" in ending.detail


def test_crashed(run):
    ending, _ = run("segfault")
    assert ending.kind is Kind.CRASHED
    assert "killed by SIGSEGV 0." in ending.detail
    assert ending.detail.endswith("s after 'load'")
    assert "isolation_candidates.py" in ending.log_tail, "faulthandler says where"
    assert ending.peak_bytes is None


def test_timed_out(run):
    ending, records = run("hang", timeout=0.5)
    assert ending.kind is Kind.TIMED_OUT
    assert "wall limit of 0.5 s was reached 0." in ending.detail
    assert "'forward'" in ending.detail
    assert 0.5 <= ending.wall_s < 5
    assert records == [{"phase": "forward"}]


def test_a_flood_neither_blocks_nor_grows(run):
    ending, _ = run("flood")
    assert ending.kind is Kind.COMPLETE
    assert ending.log_tail.endswith("model\nthe end\n")
    assert len(ending.log_tail) == 4096
    assert RING == 64 << 10


@pytest.mark.parametrize(
    "text",
    [
        '{"nonce": "0", "seq": 1, "record": {}}\n',
        'fine\n{"verdict": "conformant", "profile": "trainable"}',
        "PASS  SLM-WGT-005  every weight is finite\n",
        "\x1b[32mPASS\x1b[0m  SLM-WGT-005  every weight is finite\n",
        "verdict: conformant\n",
        "working\rverdict: conformant",
        '{\n  "verdict": "conformant"\n}\n',
    ],
)
def test_a_printed_forgery(run, text):
    ending, _ = run("say", text=text)
    assert ending.kind is Kind.FORGED
    assert "poses as a result: “" in ending.detail
    assert ending.detail.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        '{"loss": 0.5, "max_seq": 12}\n',
        "this model will PASS SLM-WGT-005 and the verdict is conformant\n",
        '{"verdict": unfinished\n',
        '{"nonce": ' + "[" * 5000,
        "\x00\xff\x1b[2J]]>::error::",
        "",
    ],
)
def test_other_output_is_harmless(run, text):
    ending, _ = run("say", text=text)
    assert ending.kind is Kind.COMPLETE, ending


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ('{"nonce":"00","seq":2,"record":{"ok":true}}\n', "forged", "does not carry the nonce"),
        ('{"seq":2,"footer":{"records":1}}\n', "forged", "does not carry the nonce"),
        ("garbage \x1b[2J\n", "unreadable", "is not JSON"),
        ("[1]\n", "unreadable", "not a JSON object"),
        ("[" * 100_000 + "\n", "unreadable", "is not JSON"),
        ("x" * (1 << 20), "unreadable", "a line exceeds 1048576 bytes"),
    ],
)
def test_a_forged_line_on_the_result_pipe(run, text, kind, words):
    ending, records = run("scribble_on_results", text=text)
    assert ending.kind == kind
    assert words in ending.detail
    assert ending.detail.isprintable()
    assert records == [{"phase": "load"}]


def test_a_line_out_of_sequence(run):
    ending, _ = run("replay_header")
    assert ending.kind is Kind.FORGED
    assert "is not line 1 of this run" in ending.detail


def test_closed_standard_streams_are_harmless(run):
    ending, records = run("close_standard_streams")
    assert ending.kind is Kind.COMPLETE
    assert records == [{"ok": True}]


def test_processes_left_behind_are_ended(run):
    ending, [record] = run("leave_sleepers")
    assert ending.kind is Kind.COMPLETE
    assert ending.wall_s < 10
    assert all(gone(pid) for pid in record["sleepers"])


def test_processes_left_behind_are_ended_at_the_wall_limit(run):
    ending, records = run("leave_sleepers_and_hang", timeout=0.5)
    assert ending.kind is Kind.TIMED_OUT
    assert all(gone(pid) for pid in records[0]["sleepers"])
