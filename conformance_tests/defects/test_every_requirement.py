"""Every requirement that is judged on the running model has a defect that it alone tells."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from test_own_code import OWN_CODE

from slmconform.engine.plan import load_checks
from slmconform.engine.registry import Stage

ID = re.compile(r"SLM-[A-Z]{3}-\d{3}")
EXPECTING = ("assert_fails", "assert_patched_fails", "assert_warns", "expect")


def expected_ids():
    """The ids that the tests expect as the only failure, or as the only warning."""
    found = {defect.kills for defect in OWN_CODE if defect.kills}
    for file in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in EXPECTING:
                found |= ids_in(node)
    return found


def ids_in(call):
    warned = [word.value for word in call.keywords if word.arg == "warned"]
    told = [part for one in (*call.args, *warned) for part in ast.walk(one)]
    values = {part.value for part in told if isinstance(part, ast.Constant)}
    return {one for one in values if isinstance(one, str) and ID.fullmatch(one)}


def test_every_dynamic_requirement_has_a_defect():
    checks = load_checks()
    dynamic = {one.id for one in checks.values() if one.stage is Stage.DYNAMIC}
    assert dynamic - expected_ids() == set()


def test_every_expected_id_is_a_requirement():
    assert expected_ids() <= set(load_checks())
