"""Directories: entries, links, bounded reads, and what evidence lists."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slmconform.package import folder as module
from slmconform.package.folder import Folder, UnreadablePackage, path_problem, scan
from slmconform.package.problem import PackageProblem, several, shown


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "sub" / "vocab.txt").write_text("a\nb\n")
    return root


def codes(folder: Folder) -> list[str]:
    return [problem.code for problem in folder.problems]


def test_entries_by_posix_path(tree: Path) -> None:
    folder = scan(tree)
    assert folder.files() == ["config.json", "sub/vocab.txt"]
    assert folder.entries["sub"].kind == "directory"
    assert folder.entries["sub/vocab.txt"].size == 4
    assert not folder.problems


def test_missing_folder_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePackage, match="no such directory"):
        scan(tmp_path / "nothing")


def test_file_is_unreadable(tree: Path) -> None:
    with pytest.raises(UnreadablePackage, match="a file, not a directory"):
        scan(tree / "config.json")


def test_empty_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(UnreadablePackage, match="empty directory"):
        scan(tmp_path)


def test_circle_of_folders_as_root_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(UnreadablePackage):
        scan(tmp_path / "a")


def test_version_control_and_caches_are_left_out(tree: Path) -> None:
    for name in (".git", ".pytest_cache", "__pycache__", "sub/__pycache__"):
        (tree / name).mkdir()
        (tree / name / "x").write_text("x")
    assert scan(tree).files() == ["config.json", "sub/vocab.txt"]


def test_link_inside_is_the_file(tree: Path) -> None:
    (tree / "again.json").symlink_to("config.json")
    (tree / "dir").symlink_to("sub")
    folder = scan(tree)
    assert folder.entries["again.json"].kind == "file"
    assert folder.read("again.json", 10) == b"{}"
    assert folder.read("dir/vocab.txt", 10) == b"a\nb\n"
    assert not folder.problems


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "/etc", "/nonexistent/file"])
def test_link_outside_is_a_problem_and_never_read(tree: Path, target: str) -> None:
    (tree.parent / "outside").write_text("secret")
    (tree / "link").symlink_to(target)
    folder = scan(tree)
    assert codes(folder) == ["link-outside"]
    assert "link" not in folder.files()
    with pytest.raises(PackageProblem) as caught:
        folder.read("link", 100)
    assert caught.value.code == "path-outside"


@pytest.mark.parametrize("target", ["link", "gone"])
def test_broken_and_circular_links(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    assert codes(scan(tree)) == ["broken-link"]


def test_cycle_of_directories_ends(tree: Path) -> None:
    (tree / "sub" / "up").symlink_to("..")
    folder = scan(tree)
    assert folder.entries["sub/up"].kind == "directory"
    assert "sub/up/config.json" not in folder.entries


def test_fifo_and_socket_are_refused_without_waiting(tree: Path) -> None:
    os.mkfifo(tree / "model.safetensors")
    here = Path.cwd()
    os.chdir(tree)
    try:
        server = socket.socket(socket.AF_UNIX)
        server.bind("s")
        server.close()
    finally:
        os.chdir(here)
    folder = scan(tree)
    assert codes(folder) == ["special-file", "special-file"]
    assert "a FIFO" in str(folder.problems[0])
    with pytest.raises(PackageProblem, match="a FIFO"):
        folder.read("model.safetensors", 10)


def test_read_is_bounded(tree: Path) -> None:
    folder = scan(tree)
    assert folder.read("sub/vocab.txt", 4) == b"a\nb\n"
    with pytest.raises(PackageProblem) as caught:
        folder.read("sub/vocab.txt", 3)
    assert caught.value.code == "too-large"


def test_read_of_what_is_no_file(tree: Path) -> None:
    folder = scan(tree)
    with pytest.raises(PackageProblem) as missing:
        folder.read("no.json", 3)
    assert missing.value.code == "missing-file"
    with pytest.raises(PackageProblem, match="a directory"):
        folder.read("sub", 3)


def test_too_many_entries(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    assert "too-many-entries" in codes(scan(tree))


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:/x",
        "C:\\x",
        "a\\b",
        "",
        "a\x00b",
        "a\nb",
        "\u202ex",
        "\ud800",
        "..",
    ],
    ids=range(12),
)
def test_paths_that_may_not_be_followed(tree: Path, path: str) -> None:
    problem = path_problem(path, "here")
    assert problem is not None
    assert problem.code == "path-outside"
    assert str(problem).isprintable()
    with pytest.raises(PackageProblem):
        scan(tree).locate(path)


@pytest.mark.parametrize(
    "path", ["x", "./x", "a/b.json", "a b", "..x", "x..", "a/..b", "~x", "modèle", "ab:c/d"]
)
def test_paths_that_may_be_followed(path: str) -> None:
    assert path_problem(path, "here") is None


def test_recorded_files(tree: Path) -> None:
    for name in (
        "slm.toml",
        "slm-waivers.toml",
        "README.md",
        "LICENSE",
        "model.safetensors",
        ".gitattributes",
        "tokenizer.json",
        "modeling.py",
    ):
        (tree / name).write_text("x")
    (tree / "conformance").mkdir()
    (tree / "conformance" / "evidence.json").write_text("{}")
    assert scan(tree).recorded() == [
        "LICENSE",
        "config.json",
        "modeling.py",
        "sub/vocab.txt",
        "tokenizer.json",
    ]


def test_sha256(tree: Path) -> None:
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert scan(tree).sha256("config.json") == digest


@pytest.mark.parametrize(
    "value",
    ["\x1b[31m", "::error::\n", "\ud800", "x" * 10_000, 10**5000, None, "\u202e"],
    ids=range(7),
)
def test_shown_is_one_short_printable_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= 202


def test_several_counts_the_others() -> None:
    problems = [PackageProblem(f"c{i}", f"f{i}", "g", "w") for i in range(6)]
    one = several(problems)
    assert (one.code, one.where) == ("c0", "f0")
    assert "5 more" in one.why
    finding = one.finding()
    assert (finding.code, finding.got, finding.want) == ("c0", "g", "w")


def test_json_is_read_once(tree: Path) -> None:
    (tree / "bad.json").write_text("{")
    folder = scan(tree)
    assert folder.json("config.json") is folder.json("config.json") == {}
    for _ in range(2):
        with pytest.raises(PackageProblem, match="not JSON"):
            folder.json("bad.json")
