"""PKG: each defect fails with exactly its id, and the legal twin beside it passes."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from package_builders import Nonconformance, judge, make_package, outcomes, write_evidence

# One tensor of no values; an IR version, an empty graph and an operator set.
GGUF = b"GGUF" + struct.pack("<IQQQcIQIQ", 3, 1, 0, 1, b"w", 1, 0, 0, 0).ljust(60, b"\0")
ONNX = b"\x08\x08\x3a\x00\x42\x02\x10\x11"


def edit_index(folder: Path, shard: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = {
        name: shard if file.startswith("model-00001") else file
        for name, file in index["weight_map"].items()
    }
    path.write_text(json.dumps(index))


def outside(folder: Path) -> Path:
    target = folder.parent / "outside.safetensors"
    target.write_bytes((folder / "model.safetensors").read_bytes())
    return target


def replace_by_link(folder: Path, name: str, target: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


def climbing_shard(folder: Path) -> None:
    make_package(folder, shards=2)
    (folder / "model-00001-of-00002.safetensors").rename(folder.parent / "stolen.safetensors")
    edit_index(folder, "../stolen.safetensors")


def absolute_shard(folder: Path) -> None:
    make_package(folder, shards=2)
    edit_index(folder, str(folder / "model-00001-of-00002.safetensors"))


def backslash_shard(folder: Path) -> None:
    make_package(folder, shards=2)
    edit_index(folder, "..\\model-00001-of-00002.safetensors")


def weights_linked_outside(folder: Path) -> None:
    make_package(folder)
    outside(folder)
    replace_by_link(folder, "model.safetensors", "../outside.safetensors")


def shard_behind_a_linked_folder(folder: Path) -> None:
    make_package(folder, shards=2)
    (folder / "away").symlink_to(folder.parent)
    edit_index(folder, "away/x.safetensors")


def entry_outside(folder: Path) -> None:
    kind = 'kind = "torch"\nentry = "../m.py:build"'
    make_package(folder, replace={'kind = "transformers"': kind})


def tokenizer_file_outside(folder: Path) -> None:
    make_package(folder, files={"tokenizer_config.json": '{"vocab_file": "/etc/passwd"}'})


@pytest.mark.parametrize(
    "defect",
    [
        climbing_shard,
        absolute_shard,
        backslash_shard,
        weights_linked_outside,
        shard_behind_a_linked_folder,
        entry_outside,
        tokenizer_file_outside,
    ],
)
def test_paths_that_leave(tmp_path: Path, defect: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    defect(folder)
    assert list(outcomes(folder)) == ["SLM-PKG-001"]


def test_the_finding_names_the_path(tmp_path: Path) -> None:
    climbing_shard(tmp_path / "model")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-PKG-001", tmp_path / "model")
    assert "../stolen.safetensors" in caught.value.got
    assert caught.value.where == "model.safetensors.index.json: weight_map"
    assert caught.value.fix


def test_links_inside_are_followed(tmp_path: Path) -> None:
    make_package(tmp_path, shards=2)
    (tmp_path / "blobs").mkdir()
    shard = tmp_path / "model-00001-of-00002.safetensors"
    shard.rename(tmp_path / "blobs" / "abc")
    shard.symlink_to("blobs/abc")
    (tmp_path / "NOTICE").symlink_to("LICENSE")
    assert outcomes(tmp_path) == {}


def test_a_legacy_provenance_path_is_no_reference(tmp_path: Path) -> None:
    table = {"special_tokens_map_file": "/root/.cache/x.json", "name_or_path": "../elsewhere"}
    make_package(tmp_path, files={"tokenizer_config.json": json.dumps(table)})
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize("name", ["model.safetensors", "stray"])
def test_special_files(tmp_path: Path, name: str) -> None:
    make_package(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert outcomes(tmp_path) == {"SLM-PKG-002": "special-file"}


@pytest.mark.parametrize("target", ["loop", "gone.json"])
def test_broken_links(tmp_path: Path, target: str) -> None:
    make_package(tmp_path)
    (tmp_path / "loop").symlink_to(target)
    assert outcomes(tmp_path) == {"SLM-PKG-002": "broken-link"}


def test_a_cycle_of_folders_is_legal_and_ends(tmp_path: Path) -> None:
    make_package(tmp_path)
    (tmp_path / "again").symlink_to(".")
    assert outcomes(tmp_path) == {}


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("true",))


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "data", "extra.json", "config.json", "model.safetensors"],
)
def test_a_pickle_beside_or_instead(tmp_path: Path, name: str) -> None:
    make_package(tmp_path, files={name: pickle.dumps(Evil(), 2)})
    assert outcomes(tmp_path) == {"SLM-PKG-003": "executable-format"}


def test_only_pickled_weights(tmp_path: Path) -> None:
    make_package(tmp_path, files={"pytorch_model.bin": pickle.dumps({}, 2)})
    (tmp_path / "model.safetensors").unlink()
    assert outcomes(tmp_path) == {"SLM-PKG-003": "executable-format"}


def test_harmless_binaries_beside(tmp_path: Path) -> None:
    make_package(
        tmp_path,
        files={
            "model.onnx": ONNX,
            "sentencepiece.bpe.model": b"\n\x0e\n\x05<unk>\x15",
            "extra.bin": b"\n\x0e\n\x05<unk>\x15",
            "model.gguf": GGUF,
            "notes": "GGUF files are elsewhere.\n",
            "logo.png": b"\x89PNG\r\n\x1a\n\0",
            "README.md": "# A model\n",
        },
    )
    assert outcomes(tmp_path) == {}


def recorded(tmp_path: Path) -> Path:
    make_package(tmp_path, files={"vocab.txt": "a\nb\n", "NOTICE": "x"})
    write_evidence(tmp_path)
    assert outcomes(tmp_path) == {}
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("vocab.txt", "a\nc\n", "file-changed"),
        ("vocab.txt", "a\n", "file-changed"),
        ("vocab.txt", None, "file-gone"),
        ("more.txt", "", "file-added"),
    ],
)
def test_files_against_the_recording(
    tmp_path: Path, name: str, content: str | None, code: str
) -> None:
    path = recorded(tmp_path) / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    assert outcomes(tmp_path) == {"SLM-PKG-004": code}
    with pytest.raises(Nonconformance, match=name):
        judge("SLM-PKG-004", tmp_path)


def test_documentation_may_change(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / "README.md").write_text("new")
    (tmp_path / ".gitattributes").write_text("* binary")
    (tmp_path / "slm.toml").write_text((tmp_path / "slm.toml").read_text() + "# a comment\n")
    assert outcomes(tmp_path) == {}


def test_undeclared_code(tmp_path: Path) -> None:
    make_package(tmp_path, files={"modeling.py": "x = 1\n"})
    assert outcomes(tmp_path) == {"SLM-PKG-005": "undeclared-code"}
    with pytest.raises(Nonconformance, match="modeling"):
        judge("SLM-PKG-005", tmp_path)


def test_declared_code(tmp_path: Path) -> None:
    kind = 'kind = "torch"\nentry = "modeling.py:build"\ncode = ["lib/parts.py"]'
    make_package(
        tmp_path,
        replace={'kind = "transformers"': kind},
        files={"modeling.py": "x = 1\n", "lib/parts.py": "y = 1\n"},
    )
    assert outcomes(tmp_path) == {}


def test_a_package_without_manifest_or_recording(tmp_path: Path) -> None:
    make_package(tmp_path, manifest=None)
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("model.gguf", GGUF[:40], "gguf-truncated"),
        ("deep/er/model.GGUF", b"GGUF", "gguf-magic"),
        ("model.bin", GGUF, "gguf-disguised"),
        ("model.onnx", GGUF, "gguf-disguised"),
        ("onnx/model.onnx", ONNX[:-1], "onnx-structure"),
        ("model.onnx", b"", "onnx-structure"),
    ],
)
def test_exports_that_are_not_well_formed(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert outcomes(tmp_path) == {"SLM-PKG-006": code}


def test_a_package_without_exports_imports_nothing_that_reads_them(tmp_path: Path) -> None:
    make_package(tmp_path)
    code = (
        "import sys, slmconform; slmconform.check(sys.argv[1], profile='packaged');"
        "print([m for m in sys.modules if m.endswith(('gguf_header', 'onnx_model'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
