"""Manifests: legal ones of every task pass, near ones are judged as the published schema judges."""

from __future__ import annotations

import copy
import math
import tomllib
from typing import Any

import oracle
import pytest
import tomlkit
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mutations import Edit, Mutation
from package_builders import MANIFEST
from strategies import TEXT, WORDS, trees

from slmconform.package.declarations import disagreements
from slmconform.package.documents import read_manifest
from slmconform.package.folder import scan
from slmconform.package.problem import PackageProblem
from slmconform.standard.tasks import TASKS

SIZES = st.integers(1, 2**31)
NAMES = WORDS.filter(lambda text: text.strip() and '"' not in text)
DTYPES = st.sampled_from(["float32", "float64", "bfloat16", "float16"])
BOUND = st.floats(0, 1, allow_nan=False)
VERSIONS = st.from_regex(
    r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)(-[0-9A-Za-z-]{1,5}(\.[0-9A-Za-z-]{1,3})?)?"
    r"(\+[0-9A-Za-z-]{1,5})?",
    fullmatch=True,
)


@st.composite
def legal(draw: st.DrawFn, tasks: st.SearchStrategy[str]) -> dict[str, Any]:
    """A manifest without contradictions, of one of some tasks."""
    task = TASKS[draw(tasks)]
    kind = draw(st.sampled_from(["transformers", "torch"])) if task.auto_class else "torch"
    table: dict[str, Any] = {
        "spec": "1.0",
        "profile": draw(st.sampled_from(["packaged", "runnable", "reproducible"])),
        "model": {
            "name": draw(NAMES),
            "version": draw(VERSIONS),
            "task": task.name,
            "license": draw(st.sampled_from(["MIT", "mit", "MIT OR MIT"])),
        },
        "loader": {"kind": kind, "dtype": draw(DTYPES)},
        "dependencies": {
            "python": draw(st.sampled_from([">=3.11", ">=3.8,<4", "!=3.9.1,>=3.10"])),
            "requires": ["torch>=2.10", "transformers>=4.57,<6"],
        },
    }
    some(draw, table["model"], summary=TEXT.filter(_encodable), parameters=st.integers(1, 2**70))
    some(draw, table["model"], languages=st.lists(st.sampled_from(["en", "pt-BR"]), max_size=2))
    some(draw, table["loader"], other_dtypes=st.lists(DTYPES, max_size=2))
    if kind == "torch":
        table["loader"]["entry"] = "modeling.py:build"
    if "sentence_embedding" in task.outputs:
        table["loader"]["pooling"] = draw(st.sampled_from(["mean", "cls", "last", "max"]))
        some(draw, table["loader"], normalize=st.booleans())
    table["interface"] = draw(interfaces(task))
    if draw(st.booleans()):
        table["variants"] = [{"name": draw(NAMES), "kind": "dynamic-int8", "min_cosine": 0.5}]
    return table


def _encodable(text: str) -> bool:
    return not any("\ud800" <= one <= "\udfff" for one in text)


def some(draw: st.DrawFn, table: dict[str, Any], **keys: st.SearchStrategy[Any]) -> None:
    """Add some of the optional keys."""
    for key, values in keys.items():
        if draw(st.booleans()):
            table[key] = draw(values)


@st.composite
def interfaces(draw: st.DrawFn, task: Any) -> dict[str, Any]:
    """Inputs, the outputs of the task, and a range for every named axis."""
    axes: dict[str, Any] = {}
    tokens = {"name": "input_ids", "dtype": draw(st.sampled_from(["int64", "int32", "uint8"]))}
    tokens |= {"axes": ["batch", "sequence"], "role": "tokens"}
    some(draw, tokens, range=st.tuples(st.integers(0, 9), st.integers(9, 255)).map(list))
    outputs = []
    for name, wanted in (task.outputs or {"y": ("batch", "items")}).items():
        sized = [axis if axis == "batch" else draw(st.sampled_from([axis, 3])) for axis in wanted]
        outputs.append({"name": name, "dtype": draw(DTYPES), "axes": sized})
    for spec in (tokens, *outputs):
        for axis in spec["axes"]:
            if isinstance(axis, str) and axis != "batch":
                low = draw(st.integers(1, 9))
                axes[axis] = {"min": low, "max": draw(st.integers(low, 2**31))}
    table: dict[str, Any] = {"inputs": [tokens], "outputs": outputs, "axes": axes}
    if draw(st.booleans()):
        table["capabilities"] = {"causal": True, "kv_cache": draw(st.booleans())}
    return table


def read(tmp_path: Any, text: str | bytes) -> Any:
    """The manifest that the text spells, or what is wrong with it."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    (tmp_path / "slm.toml").write_bytes(data)
    try:
        return read_manifest(scan(tmp_path))
    except PackageProblem as problem:
        return problem


@given(legal(st.sampled_from(sorted(TASKS))))
def test_a_legal_manifest_of_any_task_is_read_and_agrees_with_itself(tmp_path, table):
    found = read(tmp_path, tomlkit.dumps(table))
    assert not isinstance(found, PackageProblem), found
    assert disagreements(found) == []
    assert found.model_dump(by_alias=True, exclude_unset=True) == table


ODD = st.one_of(
    trees(st.one_of(st.booleans(), st.integers(-5, 2**64), st.floats(), WORDS), 6),
    st.sampled_from([math.nan, math.inf, -math.inf, 2**31 + 1, 10**400, "", "..", "/x", "a\tb"]),
)
LEGAL = legal(st.just("causal-lm"))


@st.composite
def near(draw: st.DrawFn) -> dict[str, Any]:
    """A legal manifest with one to three changes somewhere in its tree."""
    table = copy.deepcopy(draw(LEGAL))
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = table
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                holder = inner
                continue
            change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if change == "replace":
                holder[key] = draw(ODD)
            elif change == "remove":
                del holder[key]
            elif isinstance(holder, dict):
                holder[draw(st.sampled_from(["min_cosine", "max", "entry", "x"]))] = draw(ODD)
            break
    return table


def schema_accepts(table: dict[str, Any]) -> bool:
    return not list(oracle.validator("manifest").iter_errors(table))


def finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@given(near())
def test_reader_and_schema_judge_a_near_manifest_alike(tmp_path, table):
    try:
        text = tomlkit.dumps(table)
        table = tomllib.loads(text)
    except (ValueError, TypeError):  # tomlkit writes no empty key as a table, for one
        assume(False)
    found = read(tmp_path, text)
    if isinstance(found, PackageProblem):
        # JSON has no NaN, and no schema knows the tasks' own version rule.
        known = found.code in ("spec-version-unknown", "spec-version-newer")
        assert known or not finite(table) or not schema_accepts(table), found
    else:
        assert schema_accepts(table)
        for problem in disagreements(found):
            assert problem.want


LINES = st.lists(
    st.one_of(
        st.sampled_from(MANIFEST.split("\n")),
        st.sampled_from(
            ["[", "]]", '"""', "a.b = 1", "x = [", "x = {a = 1", "'''", "# \u00e4", "="]
        ),
        st.text(max_size=10),
    ),
    max_size=12,
).map("\n".join)


@given(st.one_of(LINES, st.binary(max_size=60)))
@example("a" + ".a" * 500_000 + " = 1")
@example('x = [ """a"b"""", {a' + ".a" * 500_000 + " = 1}]")
@example('"\\"' * 300_000)
@example("[" * 100_000)
@example("a = " + "[" * 500 + "]" * 500)
@example("spec = [0x" + "f" * 5000 + "]")
@example("model.name" + ".a" * 62 + " = 1\nspec = '1.0'")
@example('spec = "1.0"\nmodel.name = 0x' + "f" * 5000)
def test_any_text_is_a_manifest_or_a_problem(tmp_path, text):
    found = read(tmp_path, text)
    assert not isinstance(found, PackageProblem) or found.want


@settings(max_examples=40)
@given(legal(st.just("causal-lm")), st.booleans())
def test_a_package_with_any_legal_values_is_not_refused(bench, table, thorough):
    assume("parameters" not in table["model"])  # of which only one value is true
    table["loader"] |= {"kind": "transformers", "dtype": "float32"}
    table["loader"].pop("entry", None)
    change = Mutation((Edit("slm.toml", "bytes", tomlkit.dumps(table).encode()),), ("legal",))
    with bench.mutated("unrecorded", change) as folder:
        report, reason = bench.judged("unrecorded", change, folder, thorough=thorough)
    assert reason == ""
    assert [one for one in report.results if one.finding] == []
    assert report.exit_status == 3  # nothing is recorded


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("range = [0, 1" + "0" * 400 + "]", "input-range"),
        ("range = [0, 0x" + "f" * 5000 + "]", "input-range"),
        ("range = [nan, 15]", "input-range"),
        ("range = [16, 15]", "input-range"),
        ("range = [0, 15]", ""),
    ],
)
def test_a_range_beyond_all_numbers_is_refused_and_not_an_error(tmp_path, line, code):
    found = disagreements(read(tmp_path, MANIFEST.replace("range = [0, 15]", line)))
    assert [one.code for one in found] == [code][: bool(code)]
