"""A visible test function over the requirements of a package; it cannot make them easier."""

from __future__ import annotations

from package_builders import make_package
from plugin_runs import BROKEN, break_weights, run

from slmconform.standard.catalogue import catalogue

PACKAGED = catalogue().profiles["packaged"].ids
VISIBLE = """
import pytest, slmconform

@slmconform.parametrize("../model")
def test_conforms(requirement):
    assert requirement.id.startswith("SLM-")
    requirement.check()

@slmconform.parametrize("../model", profile="runnable", device="cpu", timeout=60)
class TestAll:
    def test_static(self, requirement):
        if requirement.requirement.profile != "packaged":
            pytest.skip("needs torch")
        requirement.check()
"""
WEAK = """
import slmconform

@slmconform.parametrize("../model")
def test_that_forgets(requirement):
    pass

@slmconform.parametrize("../model")
def test_that_hides(requirement):
    try:
        requirement.check()
    except BaseException:
        pass
"""


def test_a_function_is_called_once_a_requirement(repository):
    visible(repository, VISIBLE)
    break_weights(repository / "model")
    ran = run(repository, "--strict-markers", "tests", "-m", "slm_wgt")
    ids = [one for one in PACKAGED if "-WGT-" in one]
    assert ran.named("failed") == {f"test_conforms[{BROKEN}]", f"test_static[{BROKEN}]"}
    assert {f"test_conforms[{one}]" for one in ids} <= ran.cases.keys()
    failed = ran.cases[f"test_conforms[{BROKEN}]"]
    assert failed.properties["slm_requirement"] == BROKEN
    again = f"\n      or     pytest 'tests/test_model.py::test_conforms[{BROKEN}]'"
    assert failed.message.endswith(again)
    assert "Traceback" not in ran.out
    assert "profile packaged" in ran.out
    assert "profile runnable" in ran.out


def test_a_test_cannot_hide_an_outcome(repository):
    visible(repository, WEAK)
    break_weights(repository / "model")
    ran = run(repository, "tests", "-k", "WGT-005 or WGT-006 or LIC-004")
    assert ran.named("failed") == {
        *(f"test_that_forgets[SLM-{one}]" for one in ("WGT-005", "WGT-006", "LIC-004")),
        *(f"test_that_hides[SLM-{one}]" for one in ("WGT-006", "LIC-004")),
    }
    assert "requirement.check() was not called" in ran.out
    hidden = ran.cases[f"test_that_hides[{BROKEN}]"].message
    assert hidden.startswith(f"the test hid this outcome\nFAIL  {BROKEN}")


WRONG = {
    '@slmconform.parametrize("nowhere")\ndef test(requirement): ...': "there is no file",
    '@slmconform.parametrize("m", profile="x")\ndef test(requirement): ...': "got 'x' want one of",
    '@slmconform.parametrize("m", timeout=0)\ndef test(requirement): ...': "slm_timeout: 0 is not",
    '@slmconform.parametrize("m", only="INV")\ndef test(requirement): ...': "argument 'only'",
    '@slmconform.parametrize("m")\ndef test(): ...': "no argument 'requirement'",
}


def test_a_wrong_use_is_refused_at_collection(tmp_path):
    folder = tmp_path / "tests"
    make_package(folder / "m")
    for number, code in enumerate(WRONG):
        (folder / f"test_{number}.py").write_text(f"import slmconform\n\n{code}\n")
    ran = run(folder)
    assert ran.status == 2
    for number, said in enumerate(WRONG.values()):
        part = ran.out.partition(f"ERROR collecting test_{number}.py")[2].partition("___ ERROR")[0]
        assert said in " ".join(part.split()), number


def visible(repository, code: str) -> None:
    (repository / "tests").mkdir()
    (repository / "tests" / "test_model.py").write_text(code)
