"""Every requirement that is judged on the running model has a defect that it alone tells."""

from __future__ import annotations

import ast
from pathlib import Path

from test_own_code import OWN_CODE

from slmconform.engine.plan import load_checks
from slmconform.engine.registry import Stage

EXPECTING = ("assert_fails", "assert_patched_fails")


def expected_ids():
    """The ids that the tests expect as the only failure."""
    found = {defect.kills for defect in OWN_CODE if defect.kills}
    for file in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "")
            if called in EXPECTING and isinstance(node.args[1], ast.Constant):
                found.add(node.args[1].value)
    return found - {None}


def test_every_dynamic_requirement_has_a_defect():
    checks = load_checks()
    dynamic = {one.id for one in checks.values() if one.stage is Stage.DYNAMIC}
    assert dynamic - expected_ids() == set()


def test_every_expected_id_is_a_requirement():
    assert expected_ids() <= set(load_checks())
