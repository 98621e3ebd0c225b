"""From slm.toml to items: what is collected, what is left alone, what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from plugin_runs import ENVIRONMENT, Ran, run

from slmconform.standard.catalogue import catalogue

PACKAGED = {*catalogue().profiles["packaged"].ids}


def collected(ran: Ran) -> list[str]:
    return [line.strip() for line in ran.out.splitlines() if "::" in line]


def test_a_package_is_one_item_a_requirement_sorted(repository):
    ran = run(repository, "--collect-only", "-q")
    assert ran.status == 0
    assert collected(ran) == [f"model/slm.toml::{one}" for one in sorted(PACKAGED)]


def ids(**fields: str) -> set[str]:
    known = catalogue().requirements.values()
    return {o.id for o in known if all(getattr(o, k) == v for k, v in fields.items())}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("model -k LIC", ids(area="LIC")),
        ("model/slm.toml -m slm_cfg", ids(area="CFG", profile="packaged")),
        ("model/slm.toml::SLM-PKG-002 model/slm.toml::SLM-MAN-001", {"SLM-PKG-002", "SLM-MAN-001"}),
        ("-k PKG --deselect model/slm.toml::SLM-PKG-004", ids(area="PKG") - {"SLM-PKG-004"}),
        ("--slm-profile runnable -m slm_runnable", ids(profile="runnable")),
        ("--strict-markers model model/slm.toml", PACKAGED),
    ],
)
def test_items_are_selected_as_any_others(repository, arguments, wanted):
    ran = run(repository, "--collect-only", "-q", *arguments.split())
    found = [line.rpartition("::")[2] for line in collected(ran)]
    assert found
    assert sorted(found) == sorted(wanted), "each once"


def test_other_repositories_are_left_alone(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    ran = run(tmp_path, "--strict-markers", "--strict-config", "-W", "error", "--no-header")
    assert (ran.status, ran.cases.keys()) == (0, {"test_own"})
    assert "slm" not in ran.out


@pytest.mark.parametrize(
    "line", ["slmconform = false", "norecursedirs = model", "addopts = -p no:slmconform"]
)
def test_a_repository_can_leave_its_packages_out(repository, line):
    (repository / "pytest.ini").write_text(f"[pytest]\n{line}\n")
    (repository / "model" / "slm.toml").write_text("of another tool")
    arguments = ["-p", "no:slmconform.pytest_plugin"] if "-p no:" in line else []
    (repository / "test_own.py").write_text("def test_own():\n    pass\n")
    assert run(repository, *arguments).cases.keys() == {"test_own"}


def test_this_suite_collects_no_package():
    """Packages that stand here to be checked are no tests of ours."""
    config = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "no:slmconform" in config["tool"]["pytest"]["ini_options"]["addopts"]
    entry = config["project"]["entry-points"]["pytest11"]
    assert entry == {"slmconform": "slmconform.pytest_plugin"}


BAD = {
    "syntax": (b"profile = \n", "not TOML: Invalid value", "slm.toml:1:11"),
    "unknown": (b'profile = "gold"', "'gold'", "slm.toml: profile"),
    "number": (b"profile = 3", "3", "slm.toml: profile"),
    "missing": (b'spec = "1.0"', "the key is missing", "slm.toml: profile"),
    "bytes": (b"\xff", "byte 0 is not UTF-8", "slm.toml:1"),
    "large": (b"#" * (2**20 + 1), "1048577 bytes", "slm.toml"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("refused")
    for name, (content, _, _) in BAD.items():
        (folder / name).mkdir()
        (folder / name / "slm.toml").write_bytes(content)
    return run(folder)


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_without_a_profile_is_refused_in_words(refused, name):
    _, got, where = BAD[name]
    assert refused.status == 2
    assert "Traceback" not in refused.out
    rest = refused.out.partition(f"ERROR collecting {name}/slm.toml")[2]
    said = " ".join(rest.partition("leaves it out")[0].split())
    for line in (f"got {got}", f"where {where}", "want ", "fix ", "again slmconform check "):
        assert line in said, line
    assert said.endswith(f"or pytest --ignore={name}/slm.toml")


def test_a_manifest_that_is_wrong_elsewhere_fails_as_a_requirement(repository):
    manifest = repository / "model" / "slm.toml"
    manifest.write_text(manifest.read_text().replace('task = "causal-lm"', 'task = "juggling"'))
    ran = run(repository, "-k", "MAN-001")
    assert (ran.status, ran.named("failed")) == (1, {"SLM-MAN-001"})
    assert "model.task" in ran.cases["SLM-MAN-001"].message


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--slm-profile", "gold"], 2, "want one of packaged, runnable"),
        (["--slm-timeout", "soon"], 4, "slm_timeout: 'soon' is not a positive number of seconds"),
        (["--slm-timeout", "0"], 4, "slm_timeout: '0' is not a positive number of seconds"),
    ],
)
def test_a_wrong_option_is_refused_in_words(repository, arguments, status, said):
    ran = run(repository, *arguments)
    assert ran.status == status
    assert said in " ".join(ran.out.split())
    assert "Traceback" not in ran.out


def test_collecting_needs_no_torch_and_the_plugin_nothing_at_all(repository):
    code = """
import sys, pytest
before = set(sys.modules)
import slmconform.pytest_plugin as plugin
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert new == {"slmconform"}, new
assert pytest.main(["--collect-only", "-q", "-p", "no:slmconform"], [plugin]) == 0
found = {"torch", "transformers", "numpy", "pydantic"} & sys.modules.keys()
assert not found, found
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_markers_are_listed_and_cover_the_catalogue(repository):
    out = run(repository, "--markers").out
    listed = set(re.findall(r"@pytest\.mark\.(slm\w+):", out))
    known = catalogue()
    areas = {f"slm_{code.lower()}" for code in known.areas}
    profiles = {f"slm_{name}" for name in known.profiles}
    assert listed == {"slmconform", "slm_must", "slm_should", "slm_may"} | areas | profiles
    words = {one.keyword.partition(" ")[0].lower() for one in known.requirements.values()}
    assert words <= {"must", "should", "may"}


def test_the_page_names_every_option_and_property(repository, whole):
    page = (Path(__file__).parents[2] / "docs" / "pytest.md").read_text()
    out = run(repository, "--help").out
    for option in {*re.findall(r"--slm-[\w-]+", out), *re.findall(r"^  (slm\w+) \(", out, re.M)}:
        assert f"`{option}" in page, option
    for name in whole.cases["SLM-PKG-001"].properties:
        assert f"`{name}`" in page, name
