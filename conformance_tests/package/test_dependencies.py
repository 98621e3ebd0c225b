"""The algebra of version ranges, without a package around it."""

from __future__ import annotations

import importlib.metadata

import pytest
from packaging.version import Version

from slmconform.package import dependencies
from slmconform.package.problem import PackageProblem
from slmconform.standard.manifest import DependenciesSection


def declared(*requires: str, python: str = ">=3.11") -> dependencies.Dependencies:
    return dependencies.read(DependenciesSection(python=python, requires=list(requires)))


@pytest.mark.parametrize(
    "text",
    [
        "torch",
        "Torch>=2",
        "torch[a,b]>=2,<3",
        "torch>=2; sys_platform == 'linux'",
        "a===weird",
        "torch~=2.1",
        "torch==2.*",
        "torch!=2.0",
    ],
)
def test_requirements_by_name_parse(text):
    (one,) = declared(text).requires
    assert one.name == one.requirement.name.lower()
    assert one.where == "slm.toml: dependencies.requires[0]"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("torch @ https://example.org/torch.whl", "url"),
        ("torch @ file:///tmp/torch.whl", "url"),
        ("git+ssh://example.org/x", "url"),
        ("https://example.org/x.whl", "url"),
        ("/opt/x.whl", "url"),
        ("~/x", "url"),
        ("-e .", "unparseable"),
        ("torch>=2>3", "unparseable"),
        ("torch;", "unparseable"),
        ("torch>=2; nonsense == 'x'", "unparseable"),
        ("[torch]", "unparseable"),
        ("\x00", "unparseable"),
        ("a" * 399 + "!", "unparseable"),
    ],
)
def test_everything_else_is_refused(text, code):
    with pytest.raises(PackageProblem) as caught:
        declared("numpy>=1", text)
    assert caught.value.code == code
    assert caught.value.where == "slm.toml: dependencies.requires[1]"


@pytest.mark.parametrize(
    ("requires", "code"),
    [
        (("a>=1", "a<2"), None),
        (("a>=1", "a<1"), "disjoint"),
        (("a==1.0", "A==1.1"), "disjoint"),
        (("a_b>=2", "a-b<2"), "disjoint"),
        (("a~=1.4", "a>=2"), "disjoint"),
        (("a>=1,<2", "a>=1.5,<3", "a>=2.5"), "disjoint"),
        (("a==1.*,!=1.*",), "empty-range"),
        (("a<2; python_version<'3'", "a>=2; python_version>='3'"), None),
        (("a<2; python_version<'3'", "a>=2; python_version<'3'"), "disjoint"),
        (("a<2; python_version<'3'", "a>=2"), "disjoint"),
        (("a<2; python_version>='3'", "a>=2; python_version>='3.1'"), "disjoint"),
    ],
)
def test_conflicts(requires, code):
    found = dependencies.conflict(declared(*requires))
    assert (found.code if found else None) == code


def test_conflict_with_what_an_installed_dependency_requires(monkeypatch):
    needs = ("hub<1.0,>=0.34", 'Hub>=3; extra == "dev"', "hub of nothing", "?")
    installed = {
        "transformers": dependencies.Installed(Version("4.57.6"), needs),
        "hub": dependencies.Installed(Version("0.36"), ()),
    }
    monkeypatch.setattr(dependencies, "installed", installed.get)
    found = dependencies.conflict(declared("transformers>=4.57", "hub>=2"))
    assert found is not None
    assert found.code == "disjoint-with-installed"
    assert "transformers 4.57.6" in found.got
    assert dependencies.conflict(declared("transformers>=4.57", "hub>=0.35")) is None
    with_extra = dependencies.conflict(declared("transformers[dev]>=4.57", "hub>=0.35,<1"))
    assert with_extra is not None
    # An installed version outside its own range is the environment's fault (SLM-DEP-003).
    assert dependencies.conflict(declared("transformers>=5", "hub>=2")) is None


def test_lower_bounds():
    found = dependencies.unbounded(
        declared("a>=1", "b", "c<2", "d!=1", "e==1.*", "f===x", "g~=1.2", "h>1", "c!=1.5")
    )
    assert [one.name for one in found] == ["b", "c", "d", "c"]
    assert dependencies.unbounded(declared("c<2", "c>=1")) == []
    conditional = dependencies.unbounded(declared("c<2", "c>=1; python_version<'3'"))
    assert [one.where for one in conditional] == ["slm.toml: dependencies.requires[0]"]


@pytest.mark.parametrize("metadata", [{"Version": "unknown"}, {"Version": None}])
def test_versions_that_cannot_be_read_count_as_absent(monkeypatch, metadata):
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: metadata)
    assert dependencies.installed.__wrapped__("torch") is None


def test_what_is_installed_is_read_from_its_metadata():
    found = dependencies.installed("transformers")
    assert found is not None
    assert str(found.version) == importlib.metadata.version("transformers")
    assert list(found.requires) == importlib.metadata.requires("transformers")
    assert dependencies.installed("no-such-distribution") is None
