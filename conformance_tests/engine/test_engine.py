"""Plan, prerequisites, verdict and report, on checks made for the purpose."""

from __future__ import annotations

import json

import pytest
from own_code import own_code
from package_builders import make_package

from slmconform.engine import plan
from slmconform.engine.command import command
from slmconform.engine.examine import CheckOptions, CouldNotRun, examine
from slmconform.engine.plan import (
    UnknownRequirement,
    canonical,
    closure,
    load_checks,
    matches,
    order,
    select,
)
from slmconform.engine.registry import (
    CHECKS,
    Check,
    Inconclusive,
    Nonconformance,
    NoReference,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)
from slmconform.engine.run import run_checks
from slmconform.package.folder import UnreadablePackage
from slmconform.report.json_text import as_json
from slmconform.report.text import View, render
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome, Report, Result, Verdict, severity

MUST, SHOULD = "SLM-WGT-003", "SLM-TOK-001"


def made(one, *needs, function=lambda subject: "seen"):
    return Check(one, Stage.STATIC, needs, function)


def table(*checks):
    return {each.id: each for each in checks}


class Documents:
    has_manifest = has_evidence = True


def run(*checks, documents=Documents, outcomes=None):
    known = {} if outcomes is None else outcomes
    return list(run_checks(checks, None, documents(), catalogue(), known))


def fails(_):
    raise Nonconformance(code="broken", got="a", want="b", where="c", why="d", fix="e")


# -- plan --

A, B, C, D = "SLM-PKG-001", "SLM-PKG-002", "SLM-WGT-001", "SLM-WGT-002"


def test_order_puts_prerequisites_first_and_keeps_the_catalogue_otherwise():
    checks = table(made(A), made(B, D), made(C), made(D))
    assert [each.id for each in order(checks, checks)] == [A, D, B, C]


def test_order_leaves_out_what_was_not_asked():
    checks = table(made(A), made(B, A), made(C, B))
    assert [each.id for each in order([C], checks)] == [C]


def test_closure_follows_needs_of_needs():
    checks = table(made(A), made(B, A), made(C, B), made(D))
    assert closure([C], checks) == {A, B, C}
    assert closure(["SLM-NOT-000"], checks) == set()


def test_the_real_checks_are_wired(monkeypatch):
    checks = load_checks()
    assert checks is CHECKS
    ordered = [each.id for each in order(checks, checks)]
    for each in checks.values():
        assert all(ordered.index(need) < ordered.index(each.id) for need in each.needs)
    static = {one for one, each in checks.items() if each.stage is Stage.STATIC}
    assert all(set(checks[one].needs) <= static for one in static)


def test_cycles_and_unknown_needs_are_errors_on_import(monkeypatch):
    load_checks()
    monkeypatch.setattr(plan, "CHECKS", table(made(A, B), made(B, A)))
    with pytest.raises(ValueError, match=f"need each other.*{A}"):
        load_checks()
    monkeypatch.setattr(plan, "CHECKS", table(made(A, "SLM-PKG-999")))
    with pytest.raises(ValueError, match=f"{A} needs SLM-PKG-999, which no check verifies"):
        load_checks()


def test_two_checks_of_one_requirement_are_an_error_on_import():
    load_checks()
    with pytest.raises(ValueError, match=f"{MUST} is checked twice"):
        check(MUST, stage=Stage.STATIC)(lambda package: "")


def test_select_takes_ids_beginnings_and_short_forms():
    known = catalogue()
    load_checks()
    assert select(known, "packaged") == closure(known.profiles["packaged"].ids, CHECKS)
    whole = select(known, "packaged", ["SLM-LIC-001"])
    assert whole == closure(["SLM-LIC-001"], CHECKS)
    assert select(known, "packaged", ["lic-001"]) == select(known, "packaged", ["LIC-001"]) == whole
    assert {one for one in known.requirements if matches(one, ["LIC"])} <= select(
        known, "packaged", ["LIC"]
    )
    assert canonical("x-acme-abc-001") == "X-ACME-ABC-001"


def test_skipping_leaves_out_all_that_needs_it():
    known = catalogue()
    load_checks()
    left = select(known, "reproducible", skip=["SLM-WGT-001"])
    assert left
    assert not any("SLM-WGT-001" in closure([one], CHECKS) for one in left)
    assert select(known, "reproducible", ["IFC"], ["SLM-WGT-001"]).isdisjoint({"SLM-IFC-002"})


@pytest.mark.parametrize("bad", ["", "SLM-WGT-1", "nonsense", "SLM-WGT-0011"])
def test_an_unknown_id_is_refused(bad):
    load_checks()
    for chosen in ({"only": [bad]}, {"skip": [bad]}):
        with pytest.raises(UnknownRequirement, match="no requirement is called"):
            select(catalogue(), "packaged", **chosen)


# -- running --


def test_a_failure_blocks_all_that_needs_it_and_nothing_else():
    results = run(made(A, function=fails), made(B, A), made(C, B), made(D))
    assert [(r.outcome, r.blocked_by) for r in results] == [
        (Outcome.FAIL, ""),
        (Outcome.BLOCKED, A),
        (Outcome.BLOCKED, B),
        (Outcome.PASS, ""),
    ]


def test_an_error_blocks_and_no_answer_does_not():
    def raises(_):
        raise RuntimeError("oops")

    def unsure(_):
        raise Inconclusive("both ways")

    results = run(made(A, function=raises), made(B, A), made(C, function=unsure), made(D, C))
    assert [r.outcome for r in results] == [
        Outcome.ERROR,
        Outcome.BLOCKED,
        Outcome.INCONCLUSIVE,
        Outcome.PASS,
    ]
    assert results[0].finding.got == "RuntimeError: oops"
    assert __file__ in results[0].finding.where


def test_what_is_known_from_before_blocks_too():
    known = {A: Outcome.FAIL}
    (result,) = run(made(B, A), outcomes=known)
    assert result.blocked_by == A
    assert known == {A: Outcome.FAIL, B: Outcome.BLOCKED}


@pytest.mark.parametrize(
    ("signal", "outcome"),
    [
        (NotApplicable, Outcome.NOT_APPLICABLE),
        (NotExamined, Outcome.NOT_EXAMINED),
        (NoReference, Outcome.NO_REFERENCE),
        (Inconclusive, Outcome.INCONCLUSIVE),
    ],
)
def test_each_signal_is_its_outcome_with_its_reason(signal, outcome):
    def answer(_):
        raise signal("for a reason")

    (result,) = run(made(A, function=answer))
    assert (result.outcome, result.detail) == (outcome, "for a reason")


def test_memory_that_ran_out_is_an_error_whatever_the_check_makes_of_it():
    def starved(_):
        try:
            raise MemoryError("too much")
        except MemoryError as error:
            raise Nonconformance(code="does-not-load", got="it", want="loads") from error

    (result,) = run(made(A, function=starved))
    assert (result.outcome, result.finding.code) == (Outcome.ERROR, "out-of-memory")


def test_without_documents_their_requirements_are_not_even_asked():
    class Bare:
        has_manifest = has_evidence = False

    def never(_):
        raise AssertionError("asked")

    known = catalogue().requirements
    for one, requirement in known.items():
        (result,) = run(made(one, function=never), documents=Bare)
        if requirement.source == "files":
            assert result.outcome is Outcome.ERROR
        else:
            assert result.outcome is Outcome.NOT_EXAMINED
            assert "slmconform init" in result.detail


def test_the_keyword_of_the_catalogue_decides_about_severity():
    known = catalogue().requirements
    assert known[MUST].mandatory
    assert not known[SHOULD].mandatory
    for one, requirement in known.items():
        (result,) = run(made(one, function=fails))
        assert result.outcome is (Outcome.FAIL if requirement.mandatory else Outcome.WARN)
        assert severity(requirement, Outcome.ERROR) is Outcome.ERROR


def outcome_of(*outcomes, keyword="MUST", first=1):
    return [
        Result(id=f"SLM-ABC-{at:03}", title="", keyword=keyword, profile="", outcome=outcome)
        for at, outcome in enumerate(outcomes, first)
    ]


# -- reports of whole runs, without a model --


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("bare") / "tiny", manifest=None)


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("declared") / "tiny")


def packaged(folder, **options):
    return examine(folder, CheckOptions(profile="packaged", **options))


def test_every_id_of_the_profile_has_one_result(bare, declared):
    for folder in (bare, declared):
        report = packaged(folder)
        assert [r.id for r in report.results] == list(catalogue().profiles["packaged"].ids)
        assert sum(report.counts.values()) == len(report.results)
        assert report.profile_digest == catalogue().profiles["packaged"].digest


def test_a_provisional_run_says_so_and_strict_turns_it_into_a_failure(bare):
    report = packaged(bare)
    assert (report.provisional, report.verdict, report.exit_status) == (True, "conformant", 0)
    strict = packaged(bare, strict=True)
    assert (strict.provisional, strict.verdict, strict.exit_status) == (True, "not conformant", 1)
    assert "--strict" in render(strict, View())


def test_strict_changes_nothing_where_there_is_a_manifest(declared):
    assert packaged(declared, strict=True).exit_status == packaged(declared).exit_status == 3


def test_a_part_of_a_profile_is_never_conformant(bare, declared):
    for folder in (bare, declared):
        for options in ({"only": ["SLM-PKG-001"]}, {"skip": ["SLM-PKG-001"]}, {"skip": ["DEP"]}):
            report = packaged(folder, **options)
            assert report.verdict is Verdict.INCONCLUSIVE
            assert report.exit_status == 3
            assert len(report.results) == len(catalogue().profiles["packaged"].ids)


def test_what_was_left_out_says_by_what(declared):
    only = {r.id: r for r in packaged(declared, only=["SLM-PKG-001"]).results}
    assert only["SLM-PKG-001"].outcome is Outcome.PASS
    assert only["SLM-LIC-001"].detail == "left out by --only"
    skip = {r.id: r for r in packaged(declared, skip=["SLM-WGT-001"]).results}
    assert skip["SLM-WGT-001"].detail == "left out by --skip"
    assert skip["SLM-WGT-003"].detail == "left out by --skip, with SLM-WGT-001 which it needs"


def test_a_report_survives_json_and_is_the_same_twice(bare, declared):
    for folder in (bare, declared):
        first, second = packaged(folder), packaged(folder)
        assert Report.model_validate_json(first.model_dump_json()) == first
        assert Report.model_validate_json(as_json(first)) == first
        assert timeless(first) == timeless(second)


def timeless(report):
    data = json.loads(as_json(report))
    data.pop("seconds")
    for row in data["results"]:
        row.pop("seconds")
    return data


def test_words_that_json_does_not_have_are_escaped():
    (one,) = outcome_of(Outcome.PASS)
    one = Result.model_validate({**one.model_dump(), "detail": "a\udcff\ud800b"})
    assert one.detail == "a\\udcff\\ud800b"
    assert Result.model_validate_json(one.model_dump_json()) == one


def test_a_time_that_is_no_number_is_refused():
    (one,) = outcome_of(Outcome.PASS)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite number"):
            Result.model_validate({**one.model_dump(), "seconds": value})


def test_no_process_is_started_that_is_not_needed(bare, declared, tmp_path, monkeypatch):
    def never():
        raise AssertionError("started")

    monkeypatch.setattr("slmconform.isolation.client.shared_server", never)
    monkeypatch.setattr("slmconform.engine.model_process.shared_server", never)
    packaged(bare)
    packaged(declared, only=["WGT"])
    assert examine(own_code(tmp_path / "own")).exit_status == 3
    assert examine(make_package(tmp_path / "bad", manifest="rubbish")).exit_status == 1
    with pytest.raises(AssertionError, match="started"):
        examine(bare)


def test_what_cannot_begin_is_an_exception(bare, tmp_path):
    with pytest.raises(CouldNotRun, match="no profile"):
        examine(bare, CheckOptions(profile="bogus"))
    with pytest.raises(UnreadablePackage, match="no such directory"):
        examine(tmp_path / "no")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("plain", "plain"),
        ("two words", "'two words'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\nb", "$'a\\x0ab'"),
        ("a'\\\x1b", "$'a\\'\\\\\\x1b'"),
        ("\u202e", "$'\\xe2\\x80\\xae'"),
        ("\udcff", "$'\\xff'"),
    ],
)
def test_commands_are_quoted_for_a_shell(word, shown):
    assert command("x", word) == f"x {shown}"
