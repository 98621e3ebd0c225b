"""A repository of a model, as its author has it: whole runs, with the model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from own_code import own_code
from plugin_runs import ENVIRONMENT, Ran, command, run

from slmconform.standard.catalogue import catalogue

pytestmark = pytest.mark.slow
MODELS = Path(__file__).parents[2] / "reference_models"
# Notes the process of each examination, from the outside.
COUNTING = """
import os
from pathlib import Path
from slmconform.engine import judging

real = judging.judge

def judge(*arguments):
    with (Path(__file__).parent / "opened").open("a") as file:
        print(os.getpid(), file=file)
    return real(*arguments)

judging.judge = judge
"""
# A shell's background jobs inherit that Ctrl-C is ignored; a person's run does not.
HEEDING = (
    "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.exit(pytest.main(sys.argv[1:]))"
)
TWO_WORKERS = ("-p", "xdist", "-n", "2")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "repository"
    shutil.copytree(MODELS / "bert-ner", folder / "model")
    (folder / "conftest.py").write_text(COUNTING)
    (folder / "pytest.ini").write_text("[pytest]\nslm_profile = reproducible\n")
    return folder


@pytest.fixture(scope="module")
def whole(toy: Path) -> Ran:
    return run(toy, *TWO_WORKERS, "--dist", "loadfile")


def opened(toy: Path) -> Counter[str]:
    """How often each process began an examination since this was last asked."""
    file = toy / "opened"
    seen = Counter(file.read_text().split())
    file.unlink()
    return seen


def test_two_workers_by_file_open_the_model_once(toy, whole):
    assert whole.status == 0, whole.out
    assert whole.cases.keys() == set(catalogue().profiles["reproducible"].ids)
    assert not whole.named("failed")
    assert whole.cases["SLM-INV-004"].properties["slm_device"] == "cpu"
    assert "\nmodel: conformant, profile reproducible, device cpu\n" in whole.out
    assert sum(opened(toy).values()) == 1


def test_whatever_worker_asks_each_opens_it_once_and_hears_the_same(toy, whole):
    ran = run(toy, *TWO_WORKERS, "-k", "IFC or DET-001 or INV-002")
    assert ran.status == 0, ran.out
    assert len(ran.cases) > 10
    assert {*opened(toy).values()} == {1}
    for name, case in ran.cases.items():
        assert case.state == whole.cases[name].state
        assert case.properties == whole.cases[name].properties


def test_a_waiver_is_a_strict_expected_failure(toy):
    """Of a failure; one of what holds, and one that is expired, fail whatever was selected."""
    config = toy / "model" / "config.json"
    before = config.read_text()
    config.write_text(before.replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-05'))
    rows = [
        ("DET-003", "configuration-changed", timedelta(30)),
        ("IFC-002", "mode-differs", timedelta(30)),
        ("TRN-001", "trajectory-differs", timedelta(-2)),
    ]
    waivers = toy / "slm-waivers.toml"
    waivers.write_text('spec = "1.0"\n' + "".join(map(waiver, rows)))
    ran = run(toy, "-k", "CFG-001 or DET-003 or IFC-002", "-rx")
    waivers.unlink()
    config.write_text(before)
    assert ran.status == 1
    assert ran.named("failed") == {"SLM-CFG-001", "SLM-IFC-002"}
    assert "XFAIL model/slm.toml::SLM-DET-003 - waived until " in ran.out
    assert ran.cases["SLM-DET-003"].properties["slm_outcome"] == "waived"
    said = ran.cases["SLM-IFC-002"].message
    assert said.startswith("waiver of SLM-IFC-002 mode-differs: stale: the requirement holds")
    assert ran.cases["SLM-CFG-001"].message.startswith("waiver of SLM-TRN-001 trajectory-differs:")
    assert ran.cases["SLM-CFG-001"].properties["slm_outcome"] == "pass"


def waiver(row: tuple[str, str, timedelta]) -> str:
    one, code, days = row
    lines = {
        "id": f'"SLM-{one}"',
        "code": f'"{code}"',
        "reason": '"known, and looked into"',
        "issue": '"https://example.org/issues/1"',
        "expires": (datetime.now(UTC) + days).date().isoformat(),
    }
    return "[[waiver]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_interrupted_run_leaves_nothing_behind(tmp_path):
    own_code(tmp_path / "repository", build="import time; time.sleep(300)")
    (tmp_path / "repository" / "pytest.ini").write_text("[pytest]\nslm_trust_code = true\n")
    (tmp_path / "scratch").mkdir()
    name, value = "PYTHONTESTMARK", os.urandom(8).hex()
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING, *command("-k", "IFC", "-p", "no:cacheprovider")[3:]],
        cwd=tmp_path / "repository",
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path / "scratch"), name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    _until(lambda: len(_with(f"{name}={value}")) >= 3)  # pytest, the server, the model
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2, out.decode()
    assert b"KeyboardInterrupt" in out
    assert b"INTERNALERROR" not in out
    _until(lambda: not _with(f"{name}={value}"))
    assert not [*(tmp_path / "scratch").iterdir()]


def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _with(mark: str) -> list[str]:
    """Living processes that inherited a variable."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found
