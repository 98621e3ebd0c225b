"""Sentence, catalogue, check, defect, near miss, test: no link is missing in either direction."""

from __future__ import annotations

import re

import pages
import pytest
import test_hostile_catalogue
import test_kills
import test_near_misses
import test_reference_models
from defect_record import Defect, all_defects, all_near_misses
from hostile_row import Row, all_rows
from matrix import catalogued, golden
from spec_documents import SPEC, sections

from slmconform.engine.plan import load_checks
from slmconform.standard.catalogue import catalogue

KNOWN = catalogue().requirements
ASKED = [one for one in KNOWN.values() if not one.excluded]
CHECKS = load_checks()
ENTRIES = golden()
KEYWORD = re.compile(r"\b(MUST|SHOULD|MAY|SHALL|REQUIRED|RECOMMENDED|OPTIONAL)\b")
PROSE = sorted({*SPEC.glob("*.md"), SPEC.parent / "README.md"} - {SPEC / "traceability.md"})


def sentences(text: str) -> list[str]:
    """The sentences of a page, and the cells of its tables, each in one line; no fences."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for paragraph in re.split(r"\n\n+", text):
        if paragraph.startswith("|"):
            found += re.split(r"[|\n]", paragraph)
        else:
            joined = " ".join(line.removeprefix("> ") for line in paragraph.split("\n"))
            found += re.split(r"(?<=\.) (?=[A-Z])", joined)
    return [" ".join(one.split()) for one in found if one.strip()]


def params(test) -> set[str]:
    """The names of the records that a parametrised test runs."""
    mark = next(one for one in test.pytestmark if one.name == "parametrize")
    return {named(value) for value in mark.args[1]}


def named(value: object) -> str:
    """The name of a record, of a parameter that holds one, or the name itself."""
    if isinstance(value, Defect):
        return value.name
    if isinstance(value, Row):
        return value.id
    return value if isinstance(value, str) else value.id


@pytest.mark.parametrize("page", PROSE, ids=lambda page: f"{page.parent.name}-{page.name}")
def test_a_sentence_with_a_keyword_is_a_requirement_or_is_excluded_with_a_reason(page):
    known = {one.sentence for one in KNOWN.values()}
    known |= {one["text"] for one in pages.excluded() if page == SPEC / one["page"]}
    text = page.read_text("utf-8")
    told = " ".join(sentences(text))
    for sentence in known:
        told = told.replace(sentence, "")
    assert KEYWORD.findall(told) == [], told


def test_each_excluded_sentence_stands_on_its_page_and_has_a_reason():
    for one in pages.excluded():
        assert one["reason"], one
        assert KEYWORD.search(one["text"]), one
        told = sentences((SPEC / one["page"]).read_text("utf-8"))
        assert told.count(one["text"]) == 1, one


def test_each_requirement_is_quoted_and_each_quoted_sentence_is_one():
    quoted = {one.id: one.quoted for one in sections()}
    assert quoted == {one.id: [one.sentence] for one in KNOWN.values()}


def test_each_requirement_has_a_check_or_a_reason_and_each_check_a_requirement():
    assert CHECKS.keys() == {one.id for one in ASKED}


def test_each_requirement_is_the_primary_of_a_defect_that_it_fails_or_warns_of():
    told: dict[str, set[str]] = {}
    for line in ENTRIES.values():
        told.setdefault(line["primary"], set()).add(line["told"][line["primary"]].split()[0])
    for one in ASKED:
        assert ("fail" if one.mandatory else "warn") in told.get(one.id, ()), one.id


def test_each_defect_names_requirements_only():
    for name, line in ENTRIES.items():
        assert line["told"].keys() | {line["primary"]} <= KNOWN.keys(), name
    for name, record in catalogued().items():
        assert record.kills in KNOWN, name


def test_each_defect_is_run_by_a_test():
    run = params(test_kills.test_each_defect_is_told_exactly)
    assert run == {one.name for one in all_defects()}
    run = params(test_hostile_catalogue.test_each_row_is_told_by_its_requirement_alone)
    assert run == {row.id for row in all_rows()}
    assert ENTRIES.keys() == catalogued().keys()


def test_each_near_miss_is_run_by_a_test():
    run = params(test_near_misses.test_each_near_miss_passes_everything)
    models = {f"{model.name} as it is" for model in test_reference_models.MODELS}
    assert run | models == all_near_misses().keys()
    assert not run & models
    rows = [row for some in test_hostile_catalogue.twins().values() for row in some]
    assert {row.id for row in rows} == {row.id for row in all_rows() if row.twin}


def test_each_requirement_has_a_near_miss_beside_its_defects():
    for one in ASKED:
        assert pages.twins_of(one.id) > 0, one.id


def test_each_requirement_is_named_by_a_test():
    for one in ASKED:
        assert pages.tests_of(one.id), one.id
    assert pages.naming().keys() - KNOWN.keys() == set(INVENTED)


INVENTED = (  # by the tests of unknown ids and of registering checks
    "SLM-ABC-001",
    "SLM-ABC-002",
    "SLM-INV-444",
    "SLM-NOT-000",
    "SLM-PKG-999",
    "SLM-WGT-030",
    "SLM-XXX-001",
)


def test_the_table_is_that_of_the_links():
    written = (SPEC / "traceability.md").read_text("utf-8")
    assert written == pages.traceability()
