"""`slmconform train`: the re-run beside its reference, live or in lines, and the curve it keeps."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_runs import ENVIRONMENT, PROGRAM, here, process, text, tree
from own_code import own_code
from package_builders import make_package
from test_interrupts import HEEDING, Started, room  # noqa: F401 - a fixture

from slmconform.checks.trn import allowance
from slmconform.engine.options import CouldNotRun
from slmconform.isolation.ending import Kind
from slmconform.measure.envelope import deviations
from slmconform.recording.train import TrainOptions, train
from slmconform.report.plot import ASCII, LINES, Frame, Series, glyphs, plot
from slmconform.report.training import row

STEPS = 10
RECIPE = """
[training]
loss = "mean-squared-error"
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9 }
schedule = { kind = "linear", warmup = 2 }
steps = 10
batch_size = 4
"""
LLAMA_RECIPE = RECIPE.replace("mean-squared-error", "cross-entropy")
TRUSTED = "--trust-code"
COUNT = "global calls\ncalls = globals().get('calls', 0) + 1\n"
LINE = re.compile(r"^ +(\d+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)( OUT)?$", re.MULTILINE)


def trainable(folder: Path, **code: str) -> Path:
    """A package of own code with a recipe, not recorded."""
    own_code(folder, **code)
    with (folder / "slm.toml").open("a") as manifest:
        manifest.write(RECIPE)
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A package of own code with its training recorded, to be read only."""
    folder = trainable(tmp_path_factory.mktemp("recorded") / "own")
    said = here("record", folder, TRUSTED)
    assert said.status == 0, said
    return folder


@pytest.fixture
def copy(recorded, tmp_path):
    """A recorded package to be changed."""
    return Path(shutil.copytree(recorded, tmp_path / "own"))


def recode(folder: Path, forward: str) -> Path:
    """The same package with other code."""
    fresh = own_code(folder.parent / "other", forward=forward)
    shutil.copy(fresh / "modeling.py", folder / "modeling.py")
    return folder


def evidence(folder: Path) -> dict:
    return json.loads((folder / "conformance" / "evidence.json").read_text())


def refused(said, *words, status=2):
    """One sentence on standard error, and no step."""
    assert said.status == status, said
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.strip().splitlines()[-1]
    for word in words:
        assert word in last, said.err


# -- lines --


def test_every_step_is_shown_beside_its_reference_within_80_columns(recorded):
    before = tree(recorded)
    said = process("train", recorded, TRUSTED)
    assert said.status == 0, said
    assert said.err == "loading the model\n"
    lines = said.out.splitlines()
    assert lines[0] == "slmconform train: tiny-linear 1.0.0, 10 steps in float32 on cpu"
    assert all(len(line) <= 80 for line in lines if not line.startswith("to keep it: "))
    assert lines[-3:-1] == [
        "verdict: every step is within the recorded envelope",
        "exit status 0",
    ]
    again = f"slmconform train {recorded} --trust-code --output own-training.csv"
    assert lines[-1] == f"to keep it: {again}"
    rows = LINE.findall(said.out)
    assert [int(one[0]) for one in rows] == list(range(1, STEPS + 1))
    want = evidence(recorded)["training"]["losses"]
    assert [float(one[2]) for one in rows] == pytest.approx(want, rel=1e-7)
    assert [float(one[6]) for one in rows[:3]] == [0.025, 0.05, 0.05]
    assert "deviation •  allowed ─" in said.out
    assert tree(recorded) == before


def test_the_run_is_the_one_that_was_recorded_bit_for_bit(recorded, tmp_path):
    said = here("train", recorded, TRUSTED, "--output", tmp_path / "curve.csv")
    assert said.status == 0
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    header = ["step", "loss", "reference", "deviation", "allowed", "learning_rate"]
    assert list(rows[0]) == header
    known = evidence(recorded)
    training = known["devices"]["cpu"]["training"]
    assert [float(one["loss"]) for one in rows] == training["losses"]
    assert [float(one["reference"]) for one in rows] == known["training"]["losses"]
    allowed = [allowance(noise) for noise in training["envelope"]]
    assert [float(one["allowed"]) for one in rows] == allowed
    gaps = deviations(training["losses"], known["training"]["losses"])
    assert [float(one["deviation"]) for one in rows] == gaps
    assert f"wrote {tmp_path}/curve.csv" in said.out
    assert "to keep it" not in said.out


def test_the_curve_as_json(recorded, tmp_path):
    said = here("train", recorded, TRUSTED, "--output", tmp_path / "curve.JSON", "--quiet")
    assert said.status == 0
    curve = json.loads((tmp_path / "curve.JSON").read_text())
    assert curve["outside"] == []
    assert curve["device"] == "cpu"
    assert curve["recorded_steps"] == len(curve["steps"]) == STEPS
    assert len(said.out.splitlines()) == 5  # what came out, and what was written


def test_only_the_first_steps(recorded):
    said = here("train", recorded, TRUSTED, "--steps", 4)
    assert said.status == 0
    assert "4 of 10 steps" in said.out
    assert len(LINE.findall(said.out)) == 4
    refused(here("train", recorded, TRUSTED, "--steps", 99), "99 steps are wanted", "has 10")


@pytest.mark.parametrize("steps", ["0", "-1", "many", "1e3", "9" * 5000])
def test_a_number_of_steps_that_is_none(recorded, steps):
    refused(here("train", recorded, f"--steps={steps}"), "is not a positive number of steps")


def test_one_step(recorded):
    said = here("train", recorded, TRUSTED, "--steps", 1)
    assert said.status == 0
    assert "\n1 step, loss " in said.out


def test_help_fits_a_terminal_and_names_every_exit_status(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = here("train", "--help")
    assert said.status == 0
    assert all(len(line) <= 80 for line in said.out.splitlines())
    for status in (0, 1, 2, 3, 130):
        assert re.search(rf"^  {status} +\w", said.out, re.MULTILINE)


# -- a live view --


def on_terminal(*arguments: object, until: str = "", **environment: str) -> tuple[int, str]:
    """A run whose standard streams are a terminal of 80 columns; Ctrl-C once it shows a word."""
    master, slave = pty.openpty()
    env = ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "80", "LINES": "30"} | environment
    words = [sys.executable, "-c", HEEDING, *PROGRAM[1:], *map(str, arguments)]
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env) as run:
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 1 << 16):
                seen += data
                if until and until in text(seen):
                    run.send_signal(signal.SIGINT)
                    until = ""
        except OSError:  # the terminal is closed
            pass
        os.close(master)
        return run.wait(60), text(seen)


SLOW = "import time\nif torch.is_grad_enabled(): time.sleep(0.15)"


def test_a_terminal_shows_the_curve_while_it_grows(copy):
    status, seen = on_terminal("train", recode(copy, SLOW), TRUSTED)
    assert status == 0, seen
    frames = seen.count("deviation •  allowed ─")
    assert frames > 4, seen  # and each replaces the one before it
    assert "\x1b[2K" in seen
    assert "\x1b[?25l" in seen  # the cursor is hidden,
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # and shown again
    last = seen[seen.rindex("\x1b[?25h") :]
    assert "slmconform train: tiny-linear 1.0.0" in last
    assert "\x1b[32mverdict: every step is within the recorded envelope\x1b[0m" in last
    assert not LINE.search(last)


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(recorded):
    status, seen = on_terminal("train", recorded, TRUSTED, TERM="dumb", PYTHONIOENCODING="ascii")
    assert status == 0
    assert "\x1b" not in seen
    assert len(LINE.findall(seen.replace("\r", ""))) == STEPS
    assert "deviation *  allowed -" in seen


def test_ctrl_c_gives_the_terminal_back(copy):
    status, seen = on_terminal("train", recode(copy, SLOW), TRUSTED, until="allowed ─")
    assert status == 130, seen
    last = seen[seen.rindex("\x1b[?25h") :]
    assert last.endswith("slmconform: interrupted; nothing was written\r\n")
    assert "verdict" not in last
    assert "Traceback" not in seen


# -- outside the envelope, and its legal twin --


def test_precision_that_is_lost_later_names_the_first_step(copy):
    lossy = COUNT + "if calls >= 4:\n    x = x.half().float()"
    said = here("train", recode(copy, lossy), TRUSTED, "--output", copy.parent / "c.json")
    assert said.status == 1, said
    flat = " ".join(said.out.split())
    assert "verdict: outside the recorded envelope, first at step 4: deviation" in flat
    assert f"of {STEPS} steps) exit status 1" in flat
    assert [bool(one[7]) for one in LINE.findall(said.out)[:4]] == [False, False, False, True]
    assert json.loads((copy.parent / "c.json").read_text())["outside"][0] == 4
    lines = said.out.splitlines()
    assert lines[-1] == f"wrote {copy.parent}/c.json"  # as long as the path is
    assert all(len(line) <= 80 for line in lines[:-1])


def test_another_order_of_summation_stays_inside(copy):
    legal = (
        "w, b = self.inner.weight, self.inner.bias\n"
        "return {'y': x[:, 2:] @ w[:, 2:].T + (x[:, :2] @ w[:, :2].T + b)}"
    )
    assert here("train", recode(copy, legal), TRUSTED, "--quiet").status == 0


def test_a_loss_that_is_no_number_is_outside(copy):
    said = here(
        "train",
        recode(copy, "x = x * float('nan')"),
        TRUSTED,
        "--output",
        copy.parent / "c.json",
    )
    assert said.status == 1
    assert "first at step 1: deviation inf" in said.out
    assert json.loads((copy.parent / "c.json").read_text())["steps"][0]["loss"] is None


def test_an_edited_recipe_is_not_the_recorded_one(copy):
    path = copy / "slm.toml"
    path.write_text(path.read_text().replace("lr = 0.05", "lr = 0.06"))
    refused(
        here("train", copy, TRUSTED),
        "not trained",
        "slm.toml: training.optimizer",
        "as recorded",
        "record again",
        status=1,
    )


# -- nothing to compare with --


def test_without_evidence_the_losses_alone(tmp_path):
    folder = make_package(tmp_path / "tiny")
    with (folder / "slm.toml").open("a") as manifest:
        manifest.write(LLAMA_RECIPE)
    before = tree(folder)
    said = here("train", folder)
    assert said.status == 3, said
    assert re.search(r"^  step +loss +rate$", said.out, re.MULTILINE)
    assert len(re.findall(r"^ +\d+ +[\d.]+ +0\.[\d.]+$", said.out, re.MULTILINE)) == STEPS
    assert "verdict: no reference to compare with: conformance/evidence.json is not" in said.out
    assert "deviation" not in said.out
    assert tree(folder) == before


def test_on_another_class_of_device_there_is_no_envelope(copy):
    known = evidence(copy)
    known["devices"] = {"cuda sm_90": known["devices"]["cpu"]}
    (copy / "conformance" / "evidence.json").write_text(json.dumps(known))
    said = here("train", copy, TRUSTED, "--output", copy.parent / "c.csv")
    assert said.status == 3, said
    flat = " ".join(said.out.split())
    assert "no recorded envelope to compare with: nothing is recorded for cpu" in flat
    assert "largest deviation from float64: " in flat
    assert "allowed" not in said.out
    rows = list(csv.DictReader((copy.parent / "c.csv").read_text().splitlines()))
    assert rows[0]["reference"]
    assert rows[0]["allowed"] == ""


def test_own_code_runs_only_if_it_is_trusted(recorded):
    refused(here("train", recorded), "not trained", "--trust-code", status=3)


# -- what cannot be run --


def test_bad_paths(tmp_path):
    refused(here("train", tmp_path / "nowhere"), "no such directory")
    refused(here("train", tmp_path), "an empty directory")
    refused(here("train", make_package(tmp_path / "a", manifest=None)), "slm.toml does not exist")
    refused(here("train", make_package(tmp_path / "b", manifest="rubbish")), "is not valid")


def test_a_manifest_without_a_recipe(tmp_path):
    refused(here("train", make_package(tmp_path / "tiny")), "has no [training] table")


def test_a_device_that_is_not_there(recorded):
    refused(here("train", recorded, TRUSTED, "--device", "nonsense"), "nonsense")


def test_a_model_that_raises_in_the_middle(copy):
    raising = COUNT + "if calls == 3:\n    raise ValueError('no more of this')"
    said = here("train", recode(copy, raising), TRUSTED)
    assert said.status == 2
    last = said.err.splitlines()[-1]
    assert "the model raises in its forward: ValueError: no more of this after step 2" in last
    assert len(LINE.findall(said.out)) == 2
    assert "verdict" not in said.out


def test_a_model_that_ends_its_process(copy):
    ending = COUNT + "if calls == 3:\n    import os\n    os._exit(0)"
    said = here("train", recode(copy, ending), TRUSTED)
    assert said.status == 2
    assert "the training broke off after step 2: " in said.err


def test_a_training_that_takes_too_long(copy):
    hanging = COUNT + "if calls == 3:\n    import time\n    time.sleep(300)"
    said = here("train", recode(copy, hanging), TRUSTED, "--timeout", 4)
    assert said.status == 2
    assert "the training broke off" in said.err


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_in_the_middle_leaves_nothing_behind(room):  # noqa: F811 - the fixture
    folder = trainable(room / "own", forward="import time\ntime.sleep(300)")
    before = tree(folder)
    started = Started(room, "train", folder, TRUSTED, "--output", room / "curve.csv")
    started.until("loading the model")
    status, err = started.end(signal.SIGINT)
    assert status == 130
    assert err == "slmconform: interrupted; nothing was written\n"
    started.assert_gone()
    assert list(started.scratch.glob("slmconform-*")) == []
    assert not (room / "curve.csv").exists()
    assert tree(folder) == before


# -- where the curve is kept --


def test_a_curve_of_an_unknown_kind(recorded, tmp_path):
    for name in ("curve", "curve.png", ".csv"):
        refused(here("train", recorded, TRUSTED, "--output", tmp_path / name), ".csv or .json")


def test_a_curve_inside_the_package(recorded, tmp_path):
    (tmp_path / "link").symlink_to(recorded)
    before = tree(recorded)
    for place in (recorded, recorded / "conformance", tmp_path / "link"):
        target = place / "curve.csv"
        refused(here("train", recorded, TRUSTED, "--output", target), "inside the package")
    assert tree(recorded) == before


def test_a_curve_that_cannot_be_written(recorded, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, word in (("a/b.csv", "there is no directory"), ("folder.csv", "is a directory")):
        refused(here("train", recorded, TRUSTED, "--output", tmp_path / name), word)


def test_the_command_that_keeps_the_curve_can_be_pasted_in_the_package_too(copy, monkeypatch):
    monkeypatch.chdir(copy)
    said = here("train", ".", TRUSTED, "--steps", 1)
    again = said.out.splitlines()[-1].removeprefix("to keep it: slmconform ")
    assert here(*shlex.split(again)).status == 0
    assert (copy.parent / "own-training.csv").read_text().count("\n") == 2


# -- news that no training sends --

PLAN = {
    "device": "cpu",
    "dtype": "float32",
    "steps": 2,
    "whole": 2,
    "referenced": True,
    "unanswered": "",
}
FIRST = {
    "step": 1,
    "loss": 1.0,
    "reference": 1.0,
    "deviation": 0.0,
    "allowed": 1e-6,
    "learning_rate": 0.1,
}


def told(folder: Path, *news: object):
    """A training whose process sends these news, then ends well."""

    def run(job, *, timeout, on_record):
        for one in news:
            on_record({"news": one})
        on_record({"trained": 2})
        return SimpleNamespace(kind=Kind.COMPLETE, detail="")

    follower = SimpleNamespace(**dict.fromkeys(("watch", "begin", "step"), lambda _: None))
    options = TrainOptions(trust_code=True)
    return train(folder, options, follower, server=SimpleNamespace(run=run))


def test_what_a_training_sends_is_taken(recorded):
    curve = told(recorded, PLAN, FIRST, FIRST | {"step": 2, "deviation": 1e-5})
    assert [one.step for one in curve.outside] == [2]
    assert curve.exit_status == 1
    assert row(curve, curve.steps[1]).endswith(" OUT")


def test_a_deviation_without_end_is_outside(recorded):
    far = FIRST | {"step": 2, "loss": float("nan"), "deviation": float("inf")}
    curve = told(recorded, PLAN, FIRST, far)
    assert curve.outside == [curve.worst] == [curve.steps[1]]


@pytest.mark.parametrize(
    "news",
    [
        [],
        [PLAN],
        [PLAN, FIRST],
        [FIRST, PLAN],
        [PLAN, FIRST, FIRST],
        [PLAN, FIRST, FIRST | {"step": 2}, FIRST | {"step": 3}],
        [PLAN, FIRST | {"allowed": None}],
        [PLAN, FIRST | {"allowed": 0}],
        [PLAN, FIRST | {"allowed": -1e-6}],
        [PLAN, FIRST | {"allowed": float("inf")}],
        [PLAN, FIRST | {"allowed": float("nan")}],
        [PLAN, FIRST | {"deviation": float("nan")}],
        [PLAN, FIRST | {"deviation": -1.0}],
        [PLAN, FIRST | {"loss": "much"}],
        [PLAN, FIRST | {"verdict": "good"}],
        [PLAN | {"steps": 0}],
        [PLAN, "step"],
    ],
)
def test_what_no_training_sends_is_not_believed(recorded, news):
    with pytest.raises(CouldNotRun, match="the model's process"):
        told(recorded, *news)


# -- plots --


def drawn(values, *, steps=None, log=False, height=6):
    frame = Frame(24, height, steps or max(1, len(values)), ASCII)
    lines = plot("title", [Series(values, "*")], frame, log=log)
    assert [len(line) for line in lines] == [24] * height
    return [line[10:] for line in lines[1:-2]]


def test_a_falling_curve_falls():
    assert drawn([3.0, 2.0, 1.0]) == [
        "*             ",
        "      *       ",
        "             *",
    ]


def test_what_no_axis_can_hold_stands_at_its_edge():
    nan, inf = float("nan"), float("inf")
    assert drawn([nan, 1.0, inf, 2.0])[0].count("*") == 3
    assert drawn([0.0, 1e-9, 1e-7], log=True)[-1].count("*") == 2
    assert [line.strip() for line in drawn([nan, nan])] == ["*            *", "", ""]
    assert drawn([]) == [" " * 14] * 3
    assert drawn([5.0])[-1].startswith("*")
    assert drawn([1.0], steps=10)[-1].strip() == "*"


def test_characters_are_those_that_the_stream_has():
    assert glyphs(SimpleNamespace(encoding="utf-8")) is LINES
    assert glyphs(SimpleNamespace(encoding="latin-1")) is ASCII
    assert glyphs(SimpleNamespace(encoding=None)) is ASCII
