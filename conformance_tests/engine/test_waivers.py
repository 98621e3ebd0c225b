"""Waivers excuse one known failure for a while, and are strict in both directions."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from package_builders import make_package

from slmconform.engine.run import result
from slmconform.engine.waivers import Excuse, excused, now, parse_waivers, settled
from slmconform.package.problem import PackageProblem
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Finding, Outcome, WaiverState
from slmconform.standard.schema import violations

KNOWN = catalogue()
ROW = {
    "id": "SLM-INV-009",
    "code": "attention-differs",
    "reason": "sdpa drops the soft cap",
    "issue": "https://example.org/issues/1",
    "expires": now() + timedelta(days=30),
}


def written(*rows: dict, spec: str = "1.0") -> bytes:
    lines = [f'spec = "{spec}"']
    for row in rows:
        lines.append("[[waiver]]")
        for key, value in row.items():
            if isinstance(value, dict):
                inner = ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items())
                lines.append(f"{key} = {{ {inner} }}")
            else:
                plain = value if not isinstance(value, str) else json.dumps(value)
                lines.append(f"{key} = {plain}")
    return "\n".join(lines).encode()


def read(*rows: dict):
    return parse_waivers(written(*rows), "slm-waivers.toml", KNOWN)


def failing(code: str = "attention-differs", one: str = "SLM-INV-009", outcome=Outcome.FAIL):
    finding = Finding(code=code, got="3", want="0")
    return result(KNOWN.requirements[one], outcome, finding=finding)


def passing(one: str = "SLM-INV-009"):
    return result(KNOWN.requirements[one], Outcome.PASS, detail="as it should be")


REFUSED = {
    "an id that does not exist": ({"id": "SLM-INV-444"}, "did you mean SLM-INV-"),
    "an id of the profile packaged": ({"id": "SLM-PKG-001"}, "nothing can be waived"),
    "a recommendation": ({"id": "SLM-TOK-015"}, "SHOULD"),
    "no failure code": ({"code": None}, "waiver[0].code: the key is missing"),
    "no reason": ({"reason": ""}, "waiver[0].reason"),
    "no issue": ({"issue": None}, "waiver[0].issue: the key is missing"),
    "an issue that is no address": ({"issue": "later"}, "https://"),
    "no expiry": ({"expires": None}, "waiver[0].expires: the key is missing"),
    "an expiry in quotes": ({"expires": "soon"}, "a date without quotes"),
    "an expiry beyond a year": ({"expires": now() + timedelta(days=400)}, "at most a year"),
    "an unknown key": ({"untill": "2027"}, "did you mean"),
    "an unknown scope": ({"scope": {"pyhton": "3"}}, "is not known"),
    "a range that is none": ({"scope": {"torch": "new"}}, "PEP 440"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused_names_the_place(name):
    change, words = REFUSED[name]
    row = {k: v for k, v in (ROW | change).items() if v is not None}
    if name == "an unknown key":
        row["expired"] = row.pop("untill")
    with pytest.raises(PackageProblem) as raised:
        read(row)
    assert raised.value.where.startswith("slm-waivers.toml: waiver[0]")
    assert words in f"{raised.value.where}: {raised.value.got} ({raised.value.want})"
    assert raised.value.fix


def test_a_failure_is_waived_once():
    with pytest.raises(PackageProblem, match="waived twice"):
        read(ROW, ROW)
    read(ROW, ROW | {"code": "another"}, ROW | {"scope": {"device": "cpu"}})  # three failures


@pytest.mark.parametrize("data", [b"\xff", b"waiver = 3", b'spec = "9.9"', b"[[waiver", b""])
def test_no_file_of_waivers_is_one_problem(data):
    with pytest.raises(PackageProblem):
        parse_waivers(data, "slm-waivers.toml", KNOWN)


def test_the_schema_says_the_same(tmp_path):
    file = tmp_path / "slm-waivers.toml"
    file.write_bytes(written(ROW, ROW | {"scope": {"device": "cuda sm_90", "torch": ">=2"}}))
    assert violations("waivers", file) == []
    for change in ({"reason": ""}, {"issue": "later"}, {"expires": "soon"}, {"id": "INV-009"}):
        file.write_bytes(written(ROW | change))
        assert violations("waivers", file), change


# -- what is excused --


def test_only_the_failure_that_is_named_is_excused():
    excuses = [Excuse("SLM-INV-009", "attention-differs")]
    assert excused(failing(), excuses, "cpu").outcome is Outcome.WAIVED
    assert excused(failing(), excuses, "cpu").finding == failing().finding
    for other in (
        failing("not-repeatable"),
        failing(one="SLM-INV-004"),
        failing(outcome=Outcome.ERROR),
        passing(),
    ):
        assert excused(other, excuses, "cpu") == other


@pytest.mark.parametrize(
    ("device", "here", "holds"),
    [
        ("", "cpu", True),
        ("cpu", "cpu", True),
        ("cuda", "cuda sm_90", True),
        ("cuda sm_90", "cuda sm_90", True),
        ("cuda sm_90", "cuda sm_80", False),
        ("cuda", "cpu", False),
        ("cu", "cuda sm_90", False),
        ("cpu", "", False),
    ],
)
def test_a_class_of_devices_or_its_first_word(device, here, holds):
    assert Excuse("SLM-INV-009", "attention-differs", device).on(here) is holds


# -- what becomes of a waiver --

STATES = {
    "it fails as named": ({}, failing(outcome=Outcome.WAIVED), WaiverState.APPLIED),
    "the requirement holds": ({}, passing(), WaiverState.STALE),
    "it fails otherwise": ({}, failing("other"), WaiverState.UNLIKE),
    "an error is no failure": ({}, failing(outcome=Outcome.ERROR), WaiverState.UNLIKE),
    "another waiver applies": ({}, failing("other", outcome=Outcome.WAIVED), WaiverState.UNLIKE),
    "yesterday": ({"expires": now() - timedelta(days=1)}, failing(), WaiverState.EXPIRED),
    "today": ({"expires": now()}, failing(outcome=Outcome.WAIVED), WaiverState.APPLIED),
    "not asked": ({}, None, WaiverState.UNDECIDED),
    "another device": ({"scope": {"device": "cuda"}}, passing(), WaiverState.OUT_OF_SCOPE),
    "this device": ({"scope": {"device": "cpu"}}, passing(), WaiverState.STALE),
    "another version": ({"scope": {"torch": "<2"}}, passing(), WaiverState.OUT_OF_SCOPE),
    "this version": ({"scope": {"torch": ">=2"}}, passing(), WaiverState.STALE),
    "another model": ({"scope": {"model": "other"}}, passing(), WaiverState.OUT_OF_SCOPE),
    "this model": ({"scope": {"model": "tiny"}}, passing(), WaiverState.STALE),
}


@pytest.mark.parametrize("name", STATES)
def test_what_becomes_of_a_waiver(name):
    change, one, state = STATES[name]
    results = {} if one is None else {one.id: one}
    (use,) = settled(read(ROW | change), results, "tiny", "cpu")
    assert use.state is state, use
    assert use.detail or state is WaiverState.APPLIED


@pytest.mark.parametrize("outcome", [Outcome.BLOCKED, Outcome.INCONCLUSIVE, Outcome.NO_REFERENCE])
def test_what_is_not_answered_makes_no_waiver_stale(outcome):
    one = result(KNOWN.requirements["SLM-INV-009"], outcome, detail="because")
    (use,) = settled(read(ROW), {one.id: one}, "tiny", "cpu")
    assert use.state is WaiverState.UNDECIDED


def test_a_file_that_is_not_there_is_no_traceback(tmp_path: Path):
    from slmconform import check

    with pytest.raises(OSError, match="waivers"):
        check(make_package(tmp_path / "m"), profile="packaged", waivers=tmp_path / "no-waivers")
