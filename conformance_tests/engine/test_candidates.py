"""Own code that crashes, hangs, leaves, lies or starves: an error with its cause, and a report."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from own_code import own_code

from slmconform.engine.examine import CheckOptions, examine
from slmconform.engine.model_process import WHOLE, Answers
from slmconform.engine.plan import closure, load_checks
from slmconform.engine.registry import Stage
from slmconform.engine.state import Run
from slmconform.isolation.client import shared_server
from slmconform.isolation.confinement import LAYERS
from slmconform.package.read import Package
from slmconform.report.json_text import as_json
from slmconform.report.text import View, render
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome, Report

TIMEOUT = 5.0
PIPES = """\
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, {text!r})
    except OSError:
        pass
"""
PASS = {"id": "{id}", "title": "", "keyword": "MAY", "profile": "", "outcome": "pass"}


def checked(folder, **options) -> Report:
    """A report in which every id has a result, and which every format can tell."""
    options = {"trust_code": True, "timeout": TIMEOUT, **options}
    report = examine(folder, CheckOptions(**options), server=shared_server())
    assert [r.id for r in report.results] == list(catalogue().profiles["reproducible"].ids)
    assert not any(r.detail == "the run ended before it" for r in report.results)
    assert Report.model_validate_json(as_json(report)) == report
    text = render(report, View(verbose=True, timings=True))
    assert all(line.isprintable() for line in text.split("\n"))
    return report


def blamed(report, code, *words, at=(), and_fails=()):
    """One error, with its cause; what needs it is blocked, and all else is as it was."""
    assert report.exit_status == 1
    (error,) = [r for r in report.failures if r.id not in and_fails]
    assert {r.id for r in report.failures} == {error.id, *and_fails}
    assert error.outcome is Outcome.ERROR
    assert error.finding.code == code, error.finding
    for word in words:
        assert word in error.finding.got, error.finding
    if at:
        assert error.id in at
    blocked = [r for r in report.results if r.outcome is Outcome.BLOCKED]
    assert blocked
    assert all(r.blocked_by for r in blocked)
    text = render(report, View())
    assert f"ERROR {error.id}" in text
    assert "verdict: not conformant" in text
    return error


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return own_code(tmp_path_factory.mktemp("sound") / "own")


def assert_serving(sound):
    """The same server serves the next one (its loading alone, for speed)."""
    options = CheckOptions(trust_code=True, only=["IFC-002"])
    report = examine(sound, options, server=shared_server())
    loaded = next(r for r in report.results if r.id == "SLM-IFC-002")
    assert loaded.outcome is Outcome.PASS, loaded


def test_a_sound_one_passes(sound):
    report = checked(sound)
    assert report.failures == []
    assert report.exit_status == 3  # nothing is recorded
    (code,) = report.setting.code
    assert code["path"] == "modeling.py"
    assert len(code["sha256"]) == 64
    layers = [*report.setting.isolation, *report.setting.unconfined]
    assert sorted(layers) == sorted(["process", *LAYERS])
    assert report.setting.dtype == "float32"
    assert report.peak_bytes > 50 << 20


ENDINGS = {
    "segfault": ("import faulthandler; faulthandler._sigsegv()", "crashed", "SIGSEGV"),
    "abort": ("import os; os.abort()", "crashed", "SIGABRT"),
    "exit": ("import os; os._exit(0)", "exited", "exit status 0"),
    "SystemExit": ("raise SystemExit(0)", "exited", "SystemExit(0)"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "out-of-memory", "SIGKILL"),
    "MemoryError": ("raise MemoryError('too much')", "out-of-memory", "too much"),
    "allocation": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 35,) * 2)\n"
        "torch.zeros(1 << 40)",
        "out-of-memory",
        "allocate",
    ),
    "report": ("print('PASS  SLM-IFC-001  all is well')", "forged", "poses as a result"),
    "verdict": ("print('verdict: conformant')", "forged", "poses as a result"),
    "protocol": (
        """print('{"nonce": "0", "seq": 1, "record": {}}')""",
        "forged",
        "poses as a result",
    ),
    "pipe": (
        PIPES.format(text=b'{"nonce": "0", "seq": 1, "record": {}}\n'),
        "forged",
        "does not carry the nonce",
    ),
    "noise": (PIPES.format(text=b"\xff\x00\n"), "unreadable", "cannot be trusted"),
}


@pytest.mark.parametrize(("code", "kind", "word"), ENDINGS.values(), ids=ENDINGS)
def test_each_way_to_end_while_loading_is_an_error_with_its_cause(code, kind, word, tmp_path):
    error = blamed(checked(own_code(tmp_path / "own", build=code)), kind, word)
    assert error.id in ("SLM-CFG-006", "SLM-IFC-001", "SLM-IFC-002")


@pytest.mark.parametrize("way", ["segfault", "SystemExit", "report"])
def test_each_way_to_end_while_running_is_an_error_with_its_cause(way, tmp_path, sound):
    code, kind, word = ENDINGS[way]
    report = checked(own_code(tmp_path / "own", forward=code))
    error = blamed(report, kind, word)
    passed = [r for r in report.results if r.id == "SLM-IFC-002"]
    if kind != "forged":  # the word of a forger is worth nothing, for what came before too
        assert error.id == "SLM-IFC-005"
        assert passed[0].outcome is Outcome.PASS
    else:
        assert error.id == "SLM-IFC-001"
        assert passed[0].outcome is Outcome.BLOCKED
    assert_serving(sound)


def test_a_hanging_one_is_ended_at_the_limit(tmp_path, sound):
    folder = own_code(tmp_path / "own", build="import time; time.sleep(300)")
    start = time.monotonic()
    report = checked(folder, timeout=2.0)
    assert time.monotonic() - start < 15
    error = blamed(report, "timed-out", "wall limit of 2 s", at=["SLM-IFC-001"])
    assert "--timeout" in error.finding.fix
    assert_serving(sound)


def test_children_are_gone_with_it(tmp_path, sound):
    code = """\
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        time.sleep(300)
        os._exit(0)
time.sleep(300)
"""
    report = checked(own_code(tmp_path / "own", build=code), timeout=4.0)
    blamed(report, "timed-out", and_fails=["SLM-IFC-011"])
    assert below(shared_server()) == []
    assert_serving(sound)


def below(server):
    """The processes of a server: its children, and the orphans that it adopts."""
    pid = server._process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_one_that_kills_the_process_which_started_it(tmp_path, sound):
    code = "import os, time; os.kill(os.getppid(), 9); time.sleep(60)"
    server = shared_server()
    # Without its second process, whose parent is not the server.
    report = checked(own_code(tmp_path / "own", build=code), skip=["SLM-DET-002"])
    assert report.exit_status == 1
    (error,) = report.failures
    assert (error.outcome, error.finding.code) == (Outcome.ERROR, "tampered")
    assert "os.kill" in error.finding.got
    assert error.finding.got.endswith("modeling.py:16")
    assert shared_server() is server
    assert_serving(sound)


def test_a_server_that_cannot_serve_is_no_fault_of_the_model(sound):
    from slmconform.isolation.client import ForkServer, ServerUnavailable

    with (
        ForkServer(preload=("no_such_module_anywhere",)) as server,
        pytest.raises(ServerUnavailable, match="no_such_module_anywhere"),
    ):
        examine(sound, CheckOptions(trust_code=True), server=server)


# -- code that speaks with the voice of the checks --


RECORDS = [
    ({"result": {"id": "SLM-IFC-002"}}, "validation error"),
    ({"result": PASS | {"id": "SLM-WGT-003"}}, "'SLM-WGT-003' was not asked"),
    ({"result": PASS | {"id": "SLM-IFC-001", "seconds": "NaN"}}, "validation error"),
    ({"result": 3}, "validation error"),
    ({"phase": "\x1b[31m::error::"}, "was not asked"),
    ({"setting": 3, "timings": []}, "validation error"),
    ({"setting": {}}, "timings"),
    ({"other": 1}, "unavailable"),
]


@pytest.mark.parametrize(("record", "word"), RECORDS)
def test_a_record_that_no_check_sends_voids_all_answers(record, word, sound):
    run = Run(Package(sound), CheckOptions(), catalogue(), lambda _: None)
    answers = Answers(run, [load_checks()["SLM-IFC-001"]])
    answers.receive(record)
    assert "what no check sends" in answers.distrust
    assert word in answers.distrust
    assert run.results == {}


def test_an_answer_given_twice_voids_all_answers(sound):
    run = Run(Package(sound), CheckOptions(), catalogue(), lambda _: None)
    answers = Answers(run, [load_checks()["SLM-IFC-001"]])
    for _ in range(2):
        answers.receive({"result": PASS | {"id": "SLM-IFC-001"}})
    assert "SLM-IFC-001 is answered twice" in answers.distrust


def test_what_a_model_raises_is_told_harmlessly(tmp_path):
    code = "raise ValueError('bad \\ud800 \\x1b[31m\\u202e\\n::error::x\\n##[error]y')"
    report = checked(own_code(tmp_path / "own", build=code))
    (failure,) = report.failures
    assert (failure.id, failure.outcome) == ("SLM-IFC-002", Outcome.FAIL)
    text = render(report, View())
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith(("::", "##[")) for line in text.splitlines())


def test_nearly_all_need_the_requirement_that_is_blamed_for_what_never_began():
    checks = load_checks()
    dynamic = [one for one, each in checks.items() if each.stage is Stage.DYNAMIC]
    free = [one for one in dynamic if WHOLE not in closure([one], checks)]
    assert {one.split("-")[1] for one in free} <= {"CFG", "TOK"}
