"""Every manifest that the standard shows does what the standard says of it."""

from __future__ import annotations

import pytest
from package_builders import make_package
from spec_documents import BASE, Example, examples, failing, fences, merged, package_of

from slmconform.package.read import Package

AREAS = ("PKG", "MAN", "LIC", "DEP")  # those that a manifest can break by itself
VALID = [*examples("valid"), *(f for f in fences() if not f.fails)]
INVALID = [*examples("invalid"), *(f for f in fences() if f.fails)]


def name_of(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", VALID, ids=name_of)
def test_a_valid_example_fails_nothing(example: Example, tmp_path):
    package = Package(package_of(tmp_path, example))
    assert failing(package, AREAS) == {}
    assert package.manifest is not None


@pytest.mark.parametrize("example", INVALID, ids=name_of)
def test_an_invalid_example_fails_with_the_id_and_code_that_it_names(example: Example, tmp_path):
    package = Package(package_of(tmp_path, example))
    assert failing(package, AREAS) == {example.fails: example.code}


def test_examples_reach_every_manifest_requirement_that_needs_no_evidence():
    shown = {example.fails for example in INVALID}
    assert {f"SLM-MAN-00{n}" for n in (1, 2, 3, 4)} <= shown


def test_invalid_examples_differ_in_what_they_show():
    seen = [(one.fails, one.code, one.text.split("\n", 1)[1]) for one in INVALID]
    assert len(set(seen)) == len(seen)


def test_a_package_without_a_manifest_is_not_what_makes_examples_pass(tmp_path):
    package = Package(make_package(tmp_path, manifest=None))
    assert package.manifest is None


def test_a_short_fence_changes_only_the_keys_that_it_names():
    plain = merged("")
    assert merged('[model]\nlicense = "MIT"\n') == plain.replace(
        'license = "Apache-2.0"', 'license = "MIT"'
    )
    assert BASE.read_text("utf-8").count("name = ") == plain.count("name = ")
