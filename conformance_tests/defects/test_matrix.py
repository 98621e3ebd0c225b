"""The kill matrix holds every defect and nothing else, and every requirement has its killer."""

from __future__ import annotations

import pages
from bases import BUILT, REFERENCE, architecture
from defect_record import Defect, all_defects, all_near_misses
from matrix import GOLDEN, catalogued, golden, text_of

from slmconform.standard.catalogue import catalogue

RECORDS = catalogued()
ENTRIES = golden()
KNOWN = catalogue()
AGAIN = "python conformance_tests/defects/matrix.py --update"


def test_the_matrix_is_that_of_the_records():
    """Neither missing nor stale: each line has the record's own primary, package and profile."""
    assert ENTRIES.keys() == RECORDS.keys(), AGAIN
    for name, record in RECORDS.items():
        line = ENTRIES[name]
        assert line["primary"] == record.kills, (name, AGAIN)
        assert line["profile"] == record.asked, (name, AGAIN)
        assert line["twin"] is bool(record.twin), (name, AGAIN)
        assert line["told"][record.kills].split()[1] == record.code, (name, AGAIN)


def test_the_file_is_written_by_its_command():
    assert GOLDEN.read_text("utf-8") == text_of(ENTRIES), AGAIN


def test_the_primary_is_asked_by_the_profile():
    for name, record in RECORDS.items():
        assert record.kills in KNOWN.profiles[record.asked].ids, name


def test_no_check_fails_twice_for_one_defect():
    """What else is told of a defect is counted: each of these is looked at and means itself."""
    several = {name: line["told"] for name, line in ENTRIES.items() if len(line["told"]) > 1}
    assert len(several) <= SEVERAL, several


SEVERAL = 2  # a class that does not exist; a fork bomb that is ended by the time limit


def test_how_many_there_are():
    records = [one for one in RECORDS.values() if isinstance(one, Defect)]
    assert len(records) >= 150
    assert len({architecture(one.package) for one in records}) >= 4
    assert {one.asked for one in records} == set(KNOWN.profiles)
    models = {path.parent.name for path in REFERENCE.glob("*/slm.toml")}
    assert models <= {one.package for one in records}
    assert {one.package for one in records} <= models | BUILT.keys()


def test_each_defect_has_a_neighbour_and_each_neighbour_a_name():
    misses = all_near_misses()
    assert {one.neighbour for one in all_defects()} <= misses.keys()
    for defect in all_defects():
        near = misses[defect.neighbour][0]
        assert near.says.endswith("."), near
        assert defect.says.endswith("."), defect


def test_the_page_is_that_of_the_matrix():
    page = pages.ROOT / "docs/kill-matrix.md"
    assert page.read_text("utf-8") == pages.kill_matrix(), f"{AGAIN} --pages-only"
