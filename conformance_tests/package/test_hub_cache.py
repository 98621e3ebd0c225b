"""Snapshots in a hub client's cache: which layouts count, and that every verb follows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from package_builders import make_package

from slmconform.api import check, load_manifest
from slmconform.cli import main
from slmconform.package.folder import FOLLOW_CACHE, UnreadablePackage, scan
from slmconform.package.hub_cache import blobs_of
from slmconform.package.read import Package
from slmconform.standard.report import Outcome


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A package whose files, one of them in a folder, are links into the store of its cache."""
    root = tmp_path / "models--x" / "snapshots" / "abc"
    make_package(root, files={"more/words.txt": "a\n"})
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    for number, path in enumerate(p for p in sorted(root.rglob("*")) if p.is_file()):
        path.rename(blobs / f"{number:064}")
        up = "../" * (len(path.relative_to(root).parts) + 1)
        path.symlink_to(f"{up}blobs/{number:064}")
    return root


def test_the_store_is_the_extra_root(snapshot: Path) -> None:
    package = Package(snapshot, hub_cache=True)
    assert package.folder.blobs == snapshot.parent.parent / "blobs"
    assert package.folder.problems == ()
    assert package.folder.read("more/words.txt", 10) == b"a\n"
    assert scan(snapshot).blobs is None


def test_without_the_option_the_finding_names_it(snapshot: Path) -> None:
    (found,) = check(snapshot, profile="packaged").failures
    assert (found.id, found.finding.code) == ("SLM-PKG-001", "link-outside")
    assert found.finding.fix == FOLLOW_CACHE
    assert "--hub-cache" in FOLLOW_CACHE


def test_a_link_elsewhere_is_not_to_be_followed_by_an_option(snapshot: Path) -> None:
    (snapshot / "LICENSE").unlink()
    (snapshot / "LICENSE").symlink_to("../../../other")
    (found,) = check(snapshot, profile="packaged", hub_cache=True).failures
    assert (found.id, found.finding.where) == ("SLM-PKG-001", "LICENSE")
    assert "--hub-cache" not in found.finding.fix


def test_a_blob_that_is_not_there_is_a_broken_link(snapshot: Path) -> None:
    (snapshot / "LICENSE").resolve().unlink()
    assert [p.code for p in Package(snapshot, hub_cache=True).folder.problems] == ["broken-link"]


@pytest.mark.parametrize("layout", ["snapshots/abc", "models--x/other/abc", "x/snapshots/abc"])
def test_other_layouts_are_refused(tmp_path: Path, layout: str) -> None:
    root = make_package(tmp_path / layout)
    (root.parent.parent / "blobs").mkdir(exist_ok=True)
    assert blobs_of(root) is None
    with pytest.raises(UnreadablePackage, match="no snapshot of a hub cache"):
        Package(root, hub_cache=True)


def test_a_store_that_is_a_link_is_none(snapshot: Path, tmp_path: Path) -> None:
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert blobs_of(snapshot) is None


def test_a_missing_folder_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePackage, match="no such directory"):
        Package(tmp_path / "models--x/snapshots/abc", hub_cache=True)


def test_the_manifest_is_read_through_the_store(snapshot: Path) -> None:
    assert load_manifest(snapshot, hub_cache=True).model.name == "tiny-llama"


def test_the_whole_runnable_profile_passes(snapshot: Path) -> None:
    report = check(snapshot, profile="runnable", hub_cache=True)
    assert [r.id for r in report.results if r.outcome in (Outcome.FAIL, Outcome.ERROR)] == []
    passed = {r.id for r in report.results if r.outcome is Outcome.PASS}
    assert {"SLM-PKG-001", "SLM-WGT-003", "SLM-IFC-002", "SLM-IFC-005"} <= passed
    assert all(r.again.endswith(" --hub-cache") for r in report.results if r.again)


def test_init_record_and_check_by_the_command_line(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (snapshot / "slm.toml").unlink()
    path = str(snapshot)
    assert main(["init", path, "--hub-cache", "--quiet", "--license", "MIT"]) == 0
    assert f"slmconform record {path} --hub-cache" in capsys.readouterr().out
    assert main(["record", path, "--hub-cache", "--quiet"]) == 0
    assert f"slmconform check {path} --hub-cache" in capsys.readouterr().out
    assert main(["check", path, "--hub-cache", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"]["hub_cache"] is True
    assert (snapshot / "config.json").is_symlink()


def test_own_code_is_run_by_its_own_name(snapshot: Path) -> None:
    """A blob has no ending, and own code imports its neighbours."""
    blobs = snapshot.parent.parent / "blobs"
    (blobs / "code").write_text(
        "from torch import nn\nfrom parts import make\n\ndef build(config):\n    return make(nn)\n"
    )
    (blobs / "parts").write_text("def make(nn):\n    return nn.Identity()\n")
    (snapshot / "modeling.py").symlink_to("../../blobs/code")
    (snapshot / "parts.py").symlink_to("../../blobs/parts")
    from slmconform.model.torch_loader import entry_function

    assert type(entry_function(snapshot, "modeling.py:build")({})).__name__ == "Identity"
