"""Each defect is told exactly as the kill matrix says, by its primary requirement and code."""

from __future__ import annotations

import pytest
from defect_record import Defect, all_defects
from matrix import entry, golden
from running import as_told, run

from slmconform.standard.catalogue import catalogue

GOLDEN = golden()


def param(defect: Defect):
    """A test of a defect; scores are computed by libraries that take seconds to import."""
    marks = [pytest.mark.slow] if defect.asked == "evaluated" else []
    return pytest.param(defect, id=defect.name, marks=marks)


@pytest.mark.parametrize("defect", [param(one) for one in all_defects()])
def test_each_defect_is_told_exactly(defect: Defect, bases, tmp_path):
    told, results = run(defect, defect.asked, bases, tmp_path)
    seen = "\n".join(f"{one.id} {one.outcome}: {one.finding or one.detail}" for one in results)
    now = as_told(told)
    outcome = "fail" if catalogue().requirements[defect.kills].mandatory else "warn"
    assert now.get(defect.kills) == (outcome, defect.code), seen
    assert entry(defect, now) == GOLDEN[defect.name], seen
    said = told[defect.kills].finding
    lines = (said.got, said.want, said.where, said.why)
    assert [word for word in defect.words if not any(word in line for line in lines)] == [], said
