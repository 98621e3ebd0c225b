"""DEP: each defect of a declaration fails in exactly one requirement, legal ones in none."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import pytest
from package_builders import judge, make_package
from packaging.version import Version
from tokenizer_builders import as_files, failures, fast

from slmconform.engine.registry import Nonconformance
from slmconform.package import dependencies

USUAL = ["torch>=2.10", "transformers>=4.57,<6"]
OLD_REQUIRES = 'requires = ["torch>=2.10", "transformers>=4.57,<6"]'
ENTRY = 'kind = "transformers"\nclass = "LlamaForCausalLM"'
TORCH = importlib.metadata.version("torch")
PYTHON = platform.python_version()


def package(tmp_path, requires=USUAL, python=">=3.11", code="", kind="transformers"):
    """A package of the given dependencies; ``code`` becomes its declared modeling.py."""
    replace = {
        OLD_REQUIRES: f"requires = {json.dumps(requires)}",
        'python = ">=3.11"': f'python = "{python}"',
    }
    files = {"tokenizer.json": fast()}
    if code:
        files["modeling.py"] = code
        own = 'kind = "torch"\nentry = "modeling.py:build"' if kind == "torch" else ENTRY
        replace[ENTRY] = own if kind == "torch" else own + '\ncode = ["modeling.py"]'
    return make_package(tmp_path, replace=replace, files=as_files(files))


LEGAL = {
    "usual": {},
    "exact": {"requires": [f"torch=={TORCH.partition('+')[0]}", "transformers~=5.0"]}
    if importlib.metadata.version("transformers").startswith("5")
    else {"requires": [f"torch=={TORCH.partition('+')[0]}", "transformers~=4.57"]},
    "with the local part": {"requires": [f"torch==={TORCH}", "transformers>4"]},
    "no upper bound, with extras": {"requires": ["torch>=2.10", "transformers[torch]>=4.57"]},
    "other spelling": {"requires": ["Torch>=2.10", "transformers >= 4.57, < 6", "PyYAML>=5"]},
    "a marker that excludes this python": {
        "requires": [*USUAL, "tomli>=2; python_version < '3.11'"]
    },
    "two ranges by marker": {
        "requires": [
            "transformers>=4.57",
            "torch>=2.10; python_version >= '3.11'",
            "torch>=1.13,<2; python_version < '3.11'",
        ]
    },
    "bound stated in another entry": {"requires": [*USUAL, "transformers!=4.58.0"]},
    "ranges that meet": {"requires": [*USUAL, "torch<9"]},
    "python exactly": {"python": f"=={PYTHON}"},
    "code that imports what is declared": {
        "requires": [*USUAL, "numpy>=1.26"],
        "code": "import os\nimport numpy as np\nfrom torch import nn\nfrom . import helper\n",
    },
    "own loader": {
        "requires": ["torch>=2.10"],
        "kind": "torch",
        "code": "import torch\n\ndef build(config):\n    return torch.nn.Linear(1, 1)\n",
    },
    "optional imports": {
        "code": "try:\n    import flash_attn\nexcept ImportError:\n    import xformers\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n",
    },
    "distribution of another name": {
        "requires": [*USUAL, "PyYAML>=6"],
        "code": "import yaml\nfrom yaml import safe_load\n",
    },
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_dependencies_pass(tmp_path, name):
    assert failures(package(tmp_path, **LEGAL[name])) == {}


DEFECTS = {
    "D05 a URL": (
        {"requires": ["torch>=2.10", "transformers @ https://example.org/t.whl"]},
        "SLM-DEP-001",
        "url",
    ),
    "D05 a repository": (
        {"requires": [*USUAL, "git+https://example.org/x.git"]},
        "SLM-DEP-001",
        "url",
    ),
    "D05 a path": ({"requires": [*USUAL, "./wheels/x.whl"]}, "SLM-DEP-001", "url"),
    "no requirement": ({"requires": [*USUAL, "numpy >= "]}, "SLM-DEP-001", "unparseable"),
    "no version": ({"requires": ["torch>=x", "transformers>=4"]}, "SLM-DEP-001", "unparseable"),
    "a marker without sense": (
        {"requires": [*USUAL, "numpy>=1; platform > 3"]},
        "SLM-DEP-001",
        "unparseable",
    ),
    "python without an operator": ({"python": "3.11"}, "SLM-DEP-001", "python-range"),
    "D04 two ranges without a common version": (
        {"requires": [*USUAL, "torch<2.10"]},
        "SLM-DEP-002",
        "disjoint",
    ),
    "D04 a range of nothing": (
        {"requires": ["torch>=3,<2", "transformers>=4.57"]},
        "SLM-DEP-002",
        "empty-range",
    ),
    "D04 a python of nothing": ({"python": ">=3.12,<3.10"}, "SLM-DEP-002", "empty-range"),
    "D04 what an installed dependency rules out": (
        {"requires": [*USUAL, "huggingface-hub>=90"]},
        "SLM-DEP-002",
        "disjoint-with-installed",
    ),
    "transformers<4": (
        {"requires": ["torch>=2.10", "transformers<4"]},
        "SLM-DEP-003",
        "installed-version",
    ),
    "a later torch": (
        {"requires": ["torch>=900", "transformers>=4.57"]},
        "SLM-DEP-003",
        "installed-version",
    ),
    "not installed": (
        {"requires": [*USUAL, "no-such-distribution>=1"]},
        "SLM-DEP-003",
        "not-installed",
    ),
    "D06 another python": ({"python": ">=3.99"}, "SLM-DEP-003", "python"),
    "D03 no lower bound": (
        {"requires": ["torch>=2.10", "transformers<6"]},
        "SLM-DEP-004",
        "no-lower-bound",
    ),
    "D03 a name alone": (
        {"requires": ["torch", "transformers>=4.57"]},
        "SLM-DEP-004",
        "no-lower-bound",
    ),
    "D03 an exclusion is no bound": (
        {"requires": ["torch!=2.0", "transformers>=4.57"]},
        "SLM-DEP-004",
        "no-lower-bound",
    ),
    "the loader's library is not declared": (
        {"requires": ["torch>=2.10"]},
        "SLM-DEP-005",
        "undeclared-loader",
    ),
    "nothing is declared": ({"requires": []}, "SLM-DEP-005", "undeclared-loader"),
    "D01 an undeclared import": (
        {"code": "import torch\nimport numpy\n"},
        "SLM-DEP-005",
        "undeclared-import",
    ),
    "D01 within a function": (
        {"code": "def f():\n    from numpy.linalg import norm\n    return norm\n"},
        "SLM-DEP-005",
        "undeclared-import",
    ),
    "D01 by name": (
        {"code": "import importlib\nx = importlib.import_module('numpy.linalg')\n"},
        "SLM-DEP-005",
        "undeclared-import",
    ),
    "a source file that is too large": (
        {"code": "import torch\n" + "#" * 2**20},
        "SLM-DEP-005",
        "too-large",
    ),
    "too much code": ({"code": "#" * (5 * 2**20)}, "SLM-DEP-005", "too-much-code"),
    "code that does not parse": (
        {"code": "import torch\ndef f(:\n"},
        "SLM-DEP-005",
        "unparseable-code",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_fails_in_exactly_one_requirement(tmp_path, name):
    options, requirement, code = DEFECTS[name]
    assert failures(package(tmp_path, **options)) == {requirement: code}


def failing(requirement, folder) -> Nonconformance:
    with pytest.raises(Nonconformance) as caught:
        judge(requirement, folder)
    return caught.value


def test_environment_message_names_installed_and_declared(tmp_path):
    folder = package(tmp_path, requires=["torch>=2.10", "transformers<4"])
    found = failing("SLM-DEP-003", folder)
    version = importlib.metadata.version("transformers")
    assert found.got == f"transformers {version} is installed"
    assert found.want == "'transformers<4'"
    assert found.where == "slm.toml: dependencies.requires[1]"


def test_import_message_names_line_and_distribution(tmp_path):
    found = failing("SLM-DEP-005", package(tmp_path, code="import os\n\nimport sklearn\n"))
    assert found.where == "modeling.py:3"
    assert "sklearn" in found.got
    assert found.want == "scikit-learn in dependencies.requires of slm.toml"


def test_unparseable_code_message_names_the_line(tmp_path):
    found = failing("SLM-DEP-005", package(tmp_path, code="import torch\n\ndef f(:\n"))
    assert found.where == "modeling.py:3"


def test_installed_conflict_message_names_who_requires_what(tmp_path):
    found = failing("SLM-DEP-002", package(tmp_path, requires=[*USUAL, "huggingface-hub>=90"]))
    assert "transformers" in found.got
    assert "requires huggingface" in found.got


def test_local_and_development_versions_satisfy(monkeypatch, tmp_path):
    found = {
        "torch": dependencies.Installed(Version("2.14.0.dev20260101+cu130"), ()),
        "transformers": dependencies.Installed(Version("5.24.0.dev0"), ()),
    }
    monkeypatch.setattr(dependencies, "installed", found.get)
    assert "torch 2.14.0.dev20260101+cu130" in judge("SLM-DEP-003", package(tmp_path))


def test_the_catalogue_of_the_interpreter_is_read_only_for_code(monkeypatch, tmp_path):
    def forbidden():
        raise AssertionError("slow")

    monkeypatch.setattr(importlib.metadata, "packages_distributions", forbidden)
    assert failures(package(tmp_path)) == {}


def test_idle_message_names_the_entry(tmp_path):
    found = failing(
        "SLM-DEP-006", package(tmp_path, requires=[*USUAL, "pytest>=7"], code="x = 1\n")
    )
    assert found.where == "slm.toml: dependencies.requires[2]"
    assert found.got.startswith("pytest is declared")


@pytest.mark.parametrize("name", sorted(dependencies.COMPANIONS))
def test_what_libraries_load_by_themselves_is_not_idle(monkeypatch, tmp_path, name):
    here = dependencies.Installed(Version("99"), ())
    monkeypatch.setattr(dependencies, "installed", lambda _: here)
    monkeypatch.setattr("slmconform.package.code.importable", lambda _: True)
    folder = package(
        tmp_path, requires=["torch>=2", "transformers>=4", f"{name}>=0"], code="x = 1\n"
    )
    assert judge("SLM-DEP-006", folder)


def test_lock_message_names_file_and_packages(tmp_path):
    files = {"requirements.txt": "".join(f"p{n}==1\n" for n in range(5))}
    found = failing("SLM-DEP-007", make_package(tmp_path, files=files))
    assert found.where == "requirements.txt"
    assert found.got == "no hash for 'p0==1', 'p1==1', 'p2==1' and 2 more"
