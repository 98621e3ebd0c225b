"""What an outcome is to pytest, what a person reads of it, and what a JUnit file keeps."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest
from own_code import own_code
from plugin_runs import BROKEN, break_weights, run

from slmconform.engine.examine import CheckOptions, examine
from slmconform.engine.run import result
from slmconform.engine.verdict import verdict
from slmconform.plugin.outcomes import Answer, Meaning
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome, Verdict

MUST = catalogue().requirements["SLM-PKG-001"]
SHOULD = catalogue().requirements["SLM-TOK-001"]
GREEN = (Meaning.PASSED, Meaning.WARNED, Meaning.SKIPPED, Meaning.EXCUSED)
CONFORMANT = (Verdict.CONFORMANT, Verdict.WITH_WAIVERS)


def meaning(result, requirement):
    return Answer(requirement, result, None).meaning


@pytest.mark.parametrize(("first", "second"), [*product(Outcome, repeat=2)])
def test_pytest_is_green_exactly_where_the_verdict_is_conformant(first, second):
    """With one requirement that passes beside them, so that something was asked."""
    passing = result(catalogue().requirements["SLM-MAN-001"], Outcome.PASS)
    rows = [(MUST, result(MUST, first)), (SHOULD, result(SHOULD, second))]
    green = all(meaning(one, requirement) in GREEN for requirement, one in rows)
    reached = verdict([passing, *(one for _, one in rows)])
    assert green is (reached in CONFORMANT)


@pytest.mark.parametrize("requirement", [MUST, SHOULD])
@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_holds_passes(requirement, outcome):
    means = meaning(result(requirement, outcome), requirement)
    assert (means is Meaning.PASSED) is (outcome is Outcome.PASS)


def test_a_whole_run(whole):
    profile = catalogue().profiles["packaged"]
    assert whole.status == 0, whole.out
    assert whole.cases.keys() == set(profile.ids)
    assert not whole.named("failed")
    assert re.search(r"^model: conformant, profile packaged$", whole.out, re.MULTILINE)
    passed, skipped = len(whole.named("passed")), len(whole.named("skipped"))
    score = rf"  {passed - 1} of {passed} applicable requirements pass \(1 warn, {skipped} n/a\)"
    assert re.search(f"^{score}$", whole.out, re.MULTILINE), whole.out
    assert re.search(r"SKIPPED \[1\] model/slm.toml:1: n/a: the model has no base model", whole.out)


def test_a_junit_file_holds_what_each_case_is_about(whole):
    known = catalogue()
    digest = whole.cases["SLM-PKG-001"].properties["slm_weights_digest"]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    for one in whole.cases.values():
        requirement = known.requirements[one.name]
        warned = one.name == "SLM-TOK-001"
        outcome = "warn" if warned else {"passed": "pass", "skipped": "not-applicable"}[one.state]
        assert one.properties == {
            "slm_requirement": one.name,
            "slm_keyword": requirement.keyword,
            "slm_profile": requirement.profile,
            "slm_area": requirement.area,
            "slm_outcome": outcome,
            "slm_code": "no-tokenizer" if warned else "",
            "slm_spec": known.version,
            "slm_device": "",
            "slm_package": "model",
            "slm_weights_digest": digest,
        }


def test_one_changed_byte_is_one_failure_that_says_what_to_do(repository):
    break_weights(repository / "model")
    ran = run(repository)
    assert ran.status == 1
    assert ran.named("failed") == {BROKEN}
    message = ran.cases[BROKEN].message
    assert ran.cases[BROKEN].properties["slm_code"]
    for label in (
        "got",
        "want",
        "fix",
        "again  slmconform check",
        f"or     pytest model/slm.toml::{BROKEN}",
    ):
        assert f"\n      {label}" in message, label
    assert f"_ {BROKEN} of model _" in ran.out
    assert "model: not conformant, profile packaged" in ran.out
    assert "Traceback" not in ran.out
    assert "conftest" not in ran.out


def test_what_must_be_answered_and_is_not_fails_and_is_told_in_one_place(repository):
    (repository / "model" / "conformance" / "evidence.json").unlink()
    ran = run(repository, "-v")
    assert ran.status == 1
    assert ran.named("failed") == {"SLM-MAN-005", "SLM-WGT-005", "SLM-WGT-006"}
    assert "model/slm.toml::SLM-WGT-005 UNANSWERED" in ran.out
    assert ", 3 unanswered in " in ran.out
    assert "= FAILURES =" not in ran.out
    assert "  no record: PKG-004, MAN-005, WGT-005, WGT-006\n      nothing is recorded" in ran.out
    assert ran.cases["SLM-PKG-004"].state == "skipped"  # a SHOULD decides nothing
    assert "no record: nothing is recorded" in ran.cases["SLM-WGT-005"].message


def test_a_blocked_requirement_shows_what_blocks_it(repository):
    """Also where that was not selected: nothing else would say why."""
    (repository / "model" / "model.safetensors").write_bytes(b"\0" * 64)
    ran = run(repository, "model/slm.toml::SLM-WGT-003")
    assert (ran.status, ran.named("failed")) == (1, {"SLM-WGT-003"})
    assert "FAIL  SLM-WGT-001" in ran.out
    assert "blocked: WGT-003\n      waits for SLM-WGT-001" in ran.out
    assert re.search(r"pass \(1 blocked, 1 fail, \d+ not asked", ran.out)  # and nothing else was
    ran = run(repository, "-k", "WGT-001 or WGT-003")
    assert len(re.findall("^FAIL  SLM-WGT-001", ran.out, re.MULTILINE)) == 1


def test_a_broken_recommendation_warns_and_fails_where_warnings_are_errors(whole, repository):
    assert "RequirementWarning: \n  WARN  SLM-TOK-001" in whole.out
    assert "SLM-TOK-001" in whole.named("passed")
    ran = run(repository, "-W", "error", "-k", "TOK-001")
    assert (ran.status, ran.named("failed")) == (1, {"SLM-TOK-001"})
    assert ran.cases["SLM-TOK-001"].message.startswith("WARN  SLM-TOK-001")
    assert "Traceback" not in ran.out
    keep = "default::slmconform.RequirementWarning"
    assert run(repository, "-W", "error", "-W", keep, "-k", "TOK-001").status == 0


def test_failures_are_asked_again_alone(repository):
    break_weights(repository / "model")
    assert run(repository, "-k", "WGT").status == 1
    ran = run(repository, "--lf")
    assert ran.named("failed") == {BROKEN} == ran.cases.keys()
    ran = run(repository, "-x", "--slm-profile", "packaged")
    assert (ran.status, ran.named("failed")) == (1, {BROKEN})
    again = f"      or     pytest model/slm.toml::{BROKEN} --slm-profile packaged"
    assert ran.cases[BROKEN].message.endswith(again)
    assert "stopping after 1 failures" in ran.out


def test_own_code_is_not_run_unless_it_is_trusted(tmp_path):
    own_code(tmp_path / "own")
    ran = run(tmp_path, "-k", "IFC")
    assert ran.status == 1
    assert not ran.named("passed")
    said = " ".join(ran.out.split())
    assert "modeling.py:build is the package's own code: read it" in said


@pytest.mark.slow
def test_a_crash_is_a_failure_with_the_last_words_of_the_process(tmp_path):
    own_code(tmp_path / "own", build="print('the last words', flush=True); import os; os._exit(3)")
    ran = run(tmp_path, "-k", "IFC-001", "--slm-trust-code")
    assert (ran.status, ran.named("failed")) == (1, {"SLM-IFC-001"})
    assert ran.cases["SLM-IFC-001"].message.startswith("ERROR SLM-IFC-001")
    assert ran.cases["SLM-IFC-001"].properties["slm_code"] == "exited"
    assert "The model's process printed:\n  | the last words" in ran.out


def test_why_nothing_could_be_run_is_told_once(repository):
    (repository / "conftest.py").write_text(
        "import shutil\ndef pytest_collection_finish(session):\n    shutil.rmtree('model')\n"
    )
    ran = run(repository, "-k", "PKG")
    assert ran.status == 1
    assert not ran.named("passed")
    assert len(re.findall("^could not run: .*/model: ", ran.out, re.MULTILINE)) == 1
    assert "1 failed, 41 deselected, 5 unanswered" in ran.out
    assert "\nmodel: not run\n" in ran.out
    assert "Traceback" not in ran.out


def test_a_file_of_waivers_that_is_wrong_is_refused_in_words(repository):
    (repository / "mine.toml").write_text('spec = "1.0"\n[[waiver]]\nid = 3\n')
    (repository / "pytest.ini").write_text("[pytest]\nslm_waivers = mine.toml\n")
    ran = run(repository, "-k", "PKG-001")
    assert (ran.status, ran.named("failed")) == (1, {"SLM-PKG-001"})
    assert re.search(r"^could not run: .*mine\.toml: waiver\[0\]\.id: ", ran.out, re.MULTILINE)
    ran = run(repository, "-k", "PKG-001", "--slm-waivers", "no.toml")
    assert ran.status == 1
    assert re.search(r"^could not run: .*/no\.toml: No such file", ran.out, re.MULTILINE)
    assert "Traceback" not in ran.out


def test_asked_alone_a_requirement_comes_out_as_in_the_whole(repository):
    """So a node id, an expression or another worker changes no outcome."""
    folder = repository / "model"
    break_weights(folder)
    (folder / "LICENSE").unlink()
    known = {one.id: one for one in examine(folder).results}
    for one, whole in known.items():
        [alone] = [r for r in examine(folder, CheckOptions(only=[one])).results if r.id == one]
        assert alone.model_copy(update={"seconds": whole.seconds}) == whole


def test_words_of_a_package_cannot_leave_their_place(repository):
    """In a terminal, in a command to a CI system, in XML."""
    config = repository / "model" / "config.json"
    hostile = "\x1b[31m\x00\n::error::\ud800##[command]"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": [hostile]}))
    manifest = repository / "model" / "slm.toml"
    text = manifest.read_text().replace(
        'license = "MIT"', r'license = "\u001B[31m\u0000\n::error::"'
    )
    manifest.write_text(text)
    ran = run(repository)
    assert ran.status == 1
    assert ran.named("failed")
    for bad in ("\x1b", "\x00", "\n::error", "##[command]"):
        assert bad not in ran.out
