"""What fuzzing has found, byte for byte, each beside a legal neighbour that still passes."""

from __future__ import annotations

import json
import resource
import time
from typing import Any

import pytest
from package_builders import MANIFEST, make_package, raw_safetensors, write_evidence

import slmconform
from slmconform.engine.registry import Inconclusive
from slmconform.model.architecture import task_and_class
from slmconform.package import strict_json
from slmconform.package.dataset import label_names
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.read import Package
from slmconform.standard.report import Outcome

LARGE = "0x" + "f" * 5000  # TOML takes it; Python writes no integer of so many digits


def told(folder) -> dict[str, tuple[str, str]]:
    """Outcome and code of all that does not hold, within the time that a check may take."""
    start = time.monotonic()
    report = slmconform.check(folder, profile="packaged")
    assert time.monotonic() - start < 5
    bad = (Outcome.FAIL, Outcome.ERROR)
    return {
        one.id: (one.outcome.value, one.finding.code)
        for one in report.results
        if one.outcome in bad and one.finding
    }


@pytest.mark.parametrize("content", ["{", "", '[{"path": "x"}', "[NaN]", b"\xff"])
def test_modules_that_are_no_json_are_one_failure_of_the_json_check(tmp_path, content):
    folder = make_package(tmp_path / "package", files={"modules.json": content})
    assert told(folder).keys() == {"SLM-CFG-001"}
    assert told(folder)["SLM-CFG-001"][0] == "fail"
    (folder / "modules.json").write_text('[{"path": ""}]')
    assert told(folder) == {}


@pytest.mark.parametrize(
    ("number", "finite"),
    [
        ("1" * 400 + ".0", False),
        ("2" * 290 + "e99", False),
        ("0." + "1" * 400, True),
        ("1" * 300 + ".5", True),
        ("1" * 200 + "e99", True),
    ],
)
def test_a_number_beyond_all_floats_without_a_large_exponent(number, finite):
    if finite:
        assert strict_json.loads(number.encode(), "x.json") == float(number)
        return
    with pytest.raises(PackageProblem) as caught:
        strict_json.loads(number.encode(), "x.json")
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('spec = "1.0"', f"spec = [{LARGE}]", {"SLM-MAN-002": "spec-version-unknown"}),
        ('name = "tiny-llama"', f"name = {LARGE}", {"SLM-MAN-001": "wrong-value"}),
        ('name = "tiny-llama"', f"name = [{LARGE}]", {"SLM-MAN-001": "wrong-value"}),
        ("range = [0, 15]", f"range = [0, {LARGE}]", {"SLM-MAN-004": "input-range"}),
        ("range = [0, 15]", f"range = [0, 1{'0' * 400}]", {"SLM-MAN-004": "input-range"}),
        ("range = [0, 15]", "range = [0, 2_147_483_647]", {}),
    ],
)
def test_integers_that_cannot_be_written_out_or_made_a_float(tmp_path, old, new, expected):
    folder = make_package(tmp_path / "package", replace={old: new})
    assert told(folder) == {one: ("fail", code) for one, code in expected.items()}


def test_a_parameter_count_that_cannot_be_written_out(tmp_path):
    named = 'license = "MIT"\n'
    count = 'license = "MIT"\nparameters = '
    folder = make_package(tmp_path / "package", replace={named: f"{count}{LARGE}\n"})
    write_evidence(folder)
    assert told(folder) == {"SLM-WGT-007": ("fail", "parameter-count")}
    right = Package(folder).weights.parameters
    make_package(folder, replace={named: f"{count}{right}\n"})
    assert told(folder) == {}


def test_values_that_are_too_large_to_be_shown():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list too large to be shown"
    assert shown({"a": 1 << 20_000}) == "a dict too large to be shown"
    assert shown([1, "a"]) == "[1, 'a']"


def keys(count: int) -> str:
    return ".".join(["a"] * count)


@pytest.mark.parametrize(
    "line",
    [
        f"{keys(400_000)} = 1",
        f"[{keys(400_000)}]",
        f"x = {{ {keys(400_000)} = 1 }}",
        f'x = [ """a"b"""", {{ {keys(400_000)} = 1 }} ]',
        ".".join(['"b.c"'] * 150_000) + " = 1",
        "\n".join([f"b.{keys(64)} = 1"] * 7000),
    ],
)
def test_a_key_of_many_parts_is_refused_before_it_is_read(tmp_path, line):
    folder = make_package(tmp_path / "package", manifest=f"{line}\n{MANIFEST}")
    assert told(folder) == {"SLM-MAN-001": ("fail", "not-toml")}


@pytest.mark.parametrize(
    "line",
    [
        f"# {'.' * 500}",
        f'summary = "{"a." * 400}"',
        f"summary = '''\n{'a.' * 400}'''",
        f'summary = """\n{"a." * 200} \\" "{"b." * 200}"""',
    ],
)
def test_dots_in_texts_and_comments_are_no_keys(tmp_path, line):
    license_ = 'license = "MIT"'
    folder = make_package(tmp_path / "package", replace={license_: f"{license_}\n{line}"})
    assert told(folder) == {}


def test_a_document_of_nothing_but_mistakes_is_told_in_time_and_memory(
    tmp_path,
):
    folder = make_package(tmp_path / "package")
    evidence = write_evidence(folder)
    assert told(folder) == {}
    evidence["files"] = [1] * (strict_json.VALUE_LIMIT - 10_000)
    text = json.dumps(evidence, separators=(",", ":"))
    (folder / "conformance" / "evidence.json").write_text(text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert told(folder) == {"SLM-MAN-005": ("fail", "wrong-value")}
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**30
    folder = make_package(folder, manifest="".join(f"a{i} = 1\n" for i in range(80_000)) + MANIFEST)
    assert told(folder) == {"SLM-MAN-001": ("fail", "wrong-value")}


def test_a_label_of_thousands_of_digits_is_none(tmp_path):
    names = {"id2label": {"1" * 5000: "far", "0": "near", "x": "odd"}}
    folder = make_package(tmp_path / "package", config=names)
    assert label_names(Package(folder)) == {"near": 0}


ROW = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (f'{{"a": {ROW.replace("[0,", "[-0,")}}}', "minus-zero"),
        (f'{{"a": {ROW}, "__metadata__": {{"a": "\\ud800"}}}}', "lone-surrogate"),
        (f'{{"a": {ROW[:-1]}, "\\uDFFF": 1}}}}', "lone-surrogate"),
        (f'{{"a-0": {ROW}, "__metadata__": {{"x-0": "-0 \\ud83d\\ude00"}}}}', ""),
    ],
)
def test_headers_that_the_reference_parser_refuses(tmp_path, header, code):
    files = {"model.safetensors": raw_safetensors(header, bytes(4))}
    package = Package(make_package(tmp_path / "package", files=files))
    assert [problem.code for problem in package.weights.problems] == [code][: bool(code)]


@pytest.mark.parametrize("key", ["architectures", "model_type"])
@pytest.mark.parametrize("value", [True, 1, ["x", []], {}, [[]]])
def test_an_architecture_that_is_no_name_is_no_traceback(key, value):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    assert task_and_class(config) == ("causal-lm", "LlamaForCausalLM")
    odd = config | {key: [value] if key == "architectures" else value}
    with pytest.raises(Inconclusive, match="cannot tell the task"):
        task_and_class(odd)
