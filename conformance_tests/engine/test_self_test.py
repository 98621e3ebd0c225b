"""Known defects are put into the candidate itself: what does not tell them ends in an error."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from own_code import own_code
from package_builders import make_package

from slmconform import check
from slmconform.engine.options import in_ci
from slmconform.engine.plan import load_checks
from slmconform.engine.self_test import DEFECTS, GRADIENT, REFERENCE, WEIGHTS, require_all
from slmconform.measure.opening import opened
from slmconform.measure.self_test import self_test
from slmconform.recording.record import RecordOptions, record
from slmconform.standard.report import Outcome, SelfTest, Verdict

ANSWER = 'return {"y": self.inner(x)}'


def found(report):
    return {(row.defect, row.id): row.found for row in report.self_test}


@pytest.fixture(scope="module")
def sound(tmp_path_factory, server):
    folder = own_code(tmp_path_factory.mktemp("sound") / "own")
    record(folder, RecordOptions(trust_code=True), server=server)
    return folder


@pytest.fixture(scope="module")
def reciting(tmp_path_factory, server):
    """A model that answers from memory: its weights are loaded and not used."""
    folder = own_code(tmp_path_factory.mktemp("reciting") / "own")
    code = folder / "modeling.py"
    text = code.read_text("utf-8")
    assert ANSWER in text
    code.write_text(text.replace(ANSWER, 'return {"y": x[:, :3].sin()}'), "utf-8")
    record(folder, RecordOptions(trust_code=True), server=server)
    return folder


def test_a_sound_model_is_told_apart_from_a_scrambled_one(sound):
    report = check(sound, trust_code=True, self_test=True)
    assert report.verdict is Verdict.CONFORMANT
    rows = list(found(report).items())
    assert rows == list(zip(DEFECTS, (True, True, None, None), strict=True))
    assert all(row.detail for row in report.self_test)


def test_a_model_that_recites_is_an_error_only_the_self_test_tells(reciting):
    assert check(reciting, trust_code=True).verdict is Verdict.CONFORMANT
    report = check(reciting, trust_code=True, self_test=True)
    assert [(r.id, r.outcome) for r in report.failures] == [(REFERENCE, Outcome.ERROR)]
    said = report.failures[0].finding
    assert said.code == "self-test"
    assert "matrices in reverse" in said.got
    assert "memory" in said.why
    assert report.exit_status == 1


def test_where_no_model_runs_every_defect_says_so(tmp_path):
    report = check(make_package(tmp_path / "m"), profile="packaged", self_test=True)
    assert {row.detail for row in report.self_test} == {"no model was run"}
    assert [(row.defect, row.id) for row in report.self_test] == list(DEFECTS)
    assert report.failures == []
    assert check(tmp_path / "m", profile="packaged").self_test == []


@pytest.mark.parametrize("blind", [WEIGHTS, REFERENCE])
def test_a_check_that_passes_everything_is_found(sound, tmp_path, blind):
    checks = dict(load_checks())
    checks[blind] = replace(checks[blind], function=lambda _: "all is well")
    outcomes = dict.fromkeys((WEIGHTS, REFERENCE), Outcome.PASS)
    arguments = {"package": str(sound), "device": "cpu", "scratch": str(tmp_path)}
    with opened(arguments) as (bench, _):
        rows = list(self_test(bench, checks, outcomes))
    assert {row.id for row in rows if row.found is False} == {blind}


def test_what_did_not_pass_is_not_tried(sound, tmp_path):
    outcomes = {WEIGHTS: Outcome.FAIL, REFERENCE: Outcome.BLOCKED}
    arguments = {"package": str(sound), "device": "cpu", "scratch": str(tmp_path)}
    with opened(arguments) as (bench, _):
        rows = list(self_test(bench, load_checks(), outcomes))
    assert [row.found for row in rows] == [None] * len(DEFECTS)
    assert f"{GRADIENT} was not asked" in {row.detail for row in rows}


def test_the_process_of_the_model_cannot_leave_a_defect_out():
    rows = [SelfTest(defect=d, id=i, found=True, detail="") for d, i in DEFECTS]
    require_all(rows)
    for wrong in (rows[1:], [*rows, rows[0]], [rows[0]] * 4, []):
        with pytest.raises(ValueError, match="tried once"):
            require_all(wrong)


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)]
)
def test_ci_is_what_the_variable_says(monkeypatch, value, wanted):
    monkeypatch.setenv("CI", value)
    assert in_ci() is wanted


def test_the_command_tests_itself_in_ci(tmp_path, monkeypatch, capsys):
    from slmconform.cli import main

    words = [
        "check",
        str(make_package(tmp_path / "m")),
        "--profile",
        "packaged",
        "--format",
        "json",
    ]

    def rows(*more: str) -> list:
        main([*words, *more])
        return json.loads(capsys.readouterr().out)["self_test"]

    assert rows() == []
    assert len(rows("--self-test")) == len(DEFECTS)
    monkeypatch.setenv("CI", "true")
    assert len(rows()) == len(DEFECTS)
    assert rows("--no-self-test") == []
