"""Licences, model cards and requirements: any text is read or refused, what is read is sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from strategies import ANY_CHARACTER, LICENCE_WORDS, LICENCES, REQUIREMENTS

from slmconform.package import dependencies, licence
from slmconform.package.folder import scan
from slmconform.package.problem import PackageProblem
from slmconform.standard.manifest import DependenciesSection


def parsed(parse: Callable[[Any], Any], value: Any) -> Any:
    """What a reader makes of a value, or the exception that it documents."""
    try:
        return parse(value)
    except (licence.InvalidLicence, PackageProblem) as problem:
        return problem


@given(LICENCES)
@example("MIT AND")
@example("()")
@example("MIT/Apache-2.0")
@example("(" * 3000 + "MIT" + ")" * 3000)
@example("\ud800")
def test_a_licence_is_read_as_packaging_reads_it_or_refused_with_a_hint(text):
    found = parsed(licence.parse, text)
    if isinstance(found, licence.InvalidLicence):
        assert found.hint
        with pytest.raises((InvalidLicenseExpression, RecursionError, MemoryError)):
            canonicalize_license_expression(text)
        return
    assert found.text == canonicalize_license_expression(text)
    assert found.ids
    assert licence.parse(found.text) == found


@given(LICENCES)
def test_whatever_a_card_states_becomes_an_expression(text):
    assert licence.parse(licence.from_card(text)).ids
    licence.agrees(text, ("MIT", "LicenseRef-x"))


CARD_LINES = st.one_of(
    st.sampled_from(
        [
            *(
                "---",
                "...",
                "license: mit",
                "license:",
                "- mit",
                "  - apache-2.0",
                "license: [mit, x",
            ),
            *(
                "license: [a, b]",
                "license_name: my-own",
                "license: other",
                "license: 'it''s'",
                "# x",
            ),
            *("\ufeff---", "license: |", "tags: [license: mit]", "license:mit", "license: no"),
        ]
    ),
    st.text(ANY_CHARACTER, max_size=12),
)


@given(st.lists(CARD_LINES, max_size=8), st.binary(max_size=40))
def test_any_card_and_any_licence_text_are_read(tmp_path, lines, text):
    card = "\n".join(["---", *lines]).encode("utf-8", "surrogatepass")
    (tmp_path / "README.md").write_bytes(card)
    (tmp_path / "LICENSE").write_bytes(text)
    found = licence.read(scan(tmp_path))
    assert [one.path for one in found.texts] == ["LICENSE"]
    for one in licence.card_licences(found.card):
        assert one.strip() == one != ""
    inferred = licence.inferred_licence(scan(tmp_path))
    assert inferred is None or licence.parse(inferred).ids


@given(st.lists(LICENCE_WORDS, min_size=1, max_size=4).map(" ".join))
def test_a_licence_that_is_stated_on_the_card_agrees_with_itself(text):
    found = parsed(licence.parse, text)
    if isinstance(found, licence.InvalidLicence):
        return
    if len(found.ids) == 1 and found.text == found.ids[0]:
        assert licence.agrees(found.text, found.ids)


@given(st.lists(REQUIREMENTS, max_size=3), st.sampled_from([">=3.11", "", ">=3", "<3", "x", "==*"]))
@example(["torch; 'x' in extras"], ">=3.11")
@example(["torch; python_version > 'a.b'"], ">=3.11")
@example(["torch===x", "torch>=1"], "===3")
def test_requirements_are_read_as_packaging_reads_them_or_refused(texts, python):
    section = DependenciesSection.model_construct(python=python, requires=texts)
    found = parsed(dependencies.read, section)
    if isinstance(found, PackageProblem):
        assert found.code in ("unparseable", "url", "python-range")
        if found.code == "python-range":
            with pytest.raises(InvalidSpecifier):
                SpecifierSet(python)
        return
    assert [str(one.requirement) for one in found.requires] == [
        str(Requirement(text)) for text in texts
    ]
    problem = dependencies.conflict(found)
    assert problem is None or problem.code.startswith(("empty", "disjoint"))
    dependencies.unbounded(found)
    for problem in dependencies.unsatisfied(found):
        assert problem.code in ("python", "installed-version", "not-installed")


@given(REQUIREMENTS)
def test_no_sound_requirement_is_refused(text):
    try:
        Requirement(text)
    except InvalidRequirement:
        return
    section = DependenciesSection.model_construct(python=">=3.11", requires=[text])
    found = parsed(dependencies.read, section)
    if isinstance(found, PackageProblem):
        assert found.code == "url" or "marker" in found.why
