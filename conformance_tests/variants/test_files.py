"""What is told of the files of variants without running them, and of declarations."""

from __future__ import annotations

import pytest
import variant_packages as made
from package_builders import judge

from slmconform.engine.registry import Nonconformance
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.package.variants import files_of_variants, read, variant_problems


@pytest.fixture
def folder(tmp_path):
    made.base(tmp_path / "mixer")
    return tmp_path / "mixer"


def test_external_data_beside_the_model_belongs_to_the_variant(folder):
    (folder / "onnx").mkdir()
    (folder / "onnx/m.onnx").write_bytes(made.raw_onnx(made.external(b"m.data")))
    made.declare(folder, "big", "onnx", "onnx/m.onnx")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    assert (caught.value.code, "m.data" in caught.value.got) == ("missing-file", True)
    (folder / "onnx/m.data").write_bytes(bytes(40))
    package = Package(folder)
    files = read(package, package.require_manifest().variants[0])
    assert files.paths == ("onnx/m.onnx", "onnx/m.data")
    assert files.size == (folder / "onnx/m.onnx").stat().st_size + 40
    first = files.digest(package.folder)
    (folder / "onnx/m.data").write_bytes(bytes(39) + b"x")
    assert files.digest(package.folder) != first


def verdict(folder):
    """The code of VAR-001, or the files of the variant where they are sound."""
    package = Package(folder)
    try:
        return read(package, package.require_manifest().variants[0])
    except PackageProblem as problem:
        return problem.code


@pytest.mark.parametrize("name", ["m.onnx", "./m.onnx", "linked", "hard"])
def test_external_data_in_the_model_itself(folder, name):
    (folder / "m.onnx").write_bytes(made.raw_onnx(made.external(name.encode())))
    (folder / "linked").symlink_to("m.onnx")
    (folder / "hard").hardlink_to(folder / "m.onnx")
    made.declare(folder, "big", "onnx", "m.onnx")
    assert verdict(folder) == "external-itself"


def test_external_data_named_in_two_ways_count_once(folder):
    names = (b"m.data", b"./m.data", b"linked")
    (folder / "m.onnx").write_bytes(made.raw_onnx(*map(made.external, names)))
    (folder / "m.data").write_bytes(bytes(40))
    (folder / "linked").symlink_to("m.data")
    made.declare(folder, "big", "onnx", "m.onnx")
    files = verdict(folder)
    assert files.paths == ("m.onnx", "m.data")
    assert files.size == (folder / "m.onnx").stat().st_size + 40


@pytest.mark.parametrize(("held", "sound"), [(63, False), (64, True)])
def test_external_data_cut_off(folder, held, sound):
    tensors = [made.external(b"m.data", length=b"32", offset=at) for at in (b"32", b"0")]
    (folder / "m.onnx").write_bytes(made.raw_onnx(*tensors))
    (folder / "m.data").write_bytes(bytes(held))
    made.declare(folder, "big", "onnx", "m.onnx")
    assert (verdict(folder) != "external-truncated") is sound


@pytest.mark.parametrize("path", [".git/m.onnx", "__pycache__/m.onnx"])
def test_a_variant_in_a_folder_that_is_left_out(folder, path):
    (folder / path).parent.mkdir()
    (folder / path).write_bytes(made.raw_onnx())
    made.declare(folder, "big", "onnx", path)
    assert verdict(folder) == "missing-file"


def test_a_variant_behind_a_link_to_a_folder(folder):
    (folder / "there").mkdir()
    (folder / "there/m.onnx").write_bytes(made.raw_onnx(made.external(b"m.data")))
    (folder / "there/m.data").write_bytes(bytes(40))
    (folder / "here").symlink_to("there")
    made.declare(folder, "big", "onnx", "here/m.onnx")
    assert verdict(folder).size == (folder / "there/m.onnx").stat().st_size + 40


def test_an_empty_directory_is_named_as_in_the_manifest(folder):
    (folder / "v").mkdir()
    made.declare(folder, "pruned", "safetensors", "v/")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    said = caught.value
    assert (said.code, said.where, said.got) == ("variant-empty", "v", "an empty directory")


def test_a_broken_index_is_named_with_its_directory(folder):
    (folder / "v").mkdir()
    (folder / "v/model.safetensors.index.json").write_text("{", "utf-8")
    made.declare(folder, "pruned", "safetensors", "v")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    assert caught.value.where.startswith("v/model.safetensors.index.json")


def test_files_of_the_model_do_not_hide_behind_a_variant(folder):
    (folder / "m.data").write_bytes(bytes(4))
    parts = (made.external(b"config.json"), made.external(b"m.data"))
    (folder / "m.onnx").write_bytes(made.raw_onnx(*parts))
    made.declare(folder, "big", "onnx", "m.onnx")
    made.declare(folder, "bigger", "onnx", "modeling.py")
    assert files_of_variants(Package(folder)) == {"m.onnx", "m.data"}
    made.save_variant(folder, "v/model.safetensors", made.halved(folder))
    (folder / "v/config.json").write_text("{}", "utf-8")
    made.declare(folder, "half", "safetensors", "v")
    want = {"m.onnx", "m.data", "v", "v/model.safetensors", "v/config.json"}
    assert files_of_variants(Package(folder)) == want


@pytest.mark.parametrize("location", [b"../outside", b"/etc/passwd"])
def test_external_data_outside(folder, location):
    (folder / "m.onnx").write_bytes(made.raw_onnx(made.external(location)))
    made.declare(folder, "big", "onnx", "m.onnx")
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-VAR-001", folder)
    assert caught.value.code == "path-outside"


# --- declarations ---


@pytest.mark.parametrize(
    ("kind", "path", "bounds", "code"),
    [
        ("onnx", None, "max_kl = 0.1", "variant-path"),
        ("dynamic-int8", "x", "max_kl = 0.1", "variant-path"),
        ("gguf", "x.gguf", "", "variant-unbounded"),
        ("gguf", "x.gguf", "max_kl = 0.1", None),
        ("dynamic-int8", None, "top1_agreement = 0.9", None),
        ("dynamic-int8", None, "min_cosine = 0.9", None),
    ],
)
def test_declarations(folder, kind, path, bounds, code):
    made.declare(folder, "one", kind, path, bounds)
    found = [p.code for p in variant_problems(Package(folder).require_manifest())]
    assert found == ([code] if code else [])


def test_two_variants_of_one_name(folder):
    for _ in range(2):
        made.declare(folder, "one", "dynamic-int8", None)
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-MAN-004", folder)
    assert caught.value.code == "variant-twice"


@pytest.mark.parametrize("bound", ["max_kl = 0.1", "top1_agreement = 0.9"])
def test_a_bound_that_vectors_do_not_have(folder, bound):
    text = (folder / "slm.toml").read_text("utf-8")
    text = text.replace('"token-classification"', '"tensor"').replace('"logits"', '"states"')
    (folder / "slm.toml").write_text(text, "utf-8")
    made.declare(folder, "one", "dynamic-int8", None, bound)
    (problem,) = variant_problems(Package(folder).require_manifest())
    assert (problem.code, problem.fix) == ("variant-bound", "declare min_cosine instead")
