"""WGT: each defect fails with exactly its id, and the legal twin beside it passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_builders import (
    Nonconformance,
    judge,
    llama_tensors,
    make_package,
    outcomes,
    raw_safetensors,
    write_evidence,
)
from safetensors.numpy import save

from slmconform.engine.plan import load_checks, order
from slmconform.engine.registry import CHECKS, NotExamined
from slmconform.engine.run import run_checks
from slmconform.package.read import Package
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Outcome, Result

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    tensors = llama_tensors()
    change(tensors)
    return tensors


def failure(requirement: str, folder: Path) -> Nonconformance:
    with pytest.raises(Nonconformance) as caught:
        judge(requirement, folder)
    return caught.value


# --- 001 ---


def test_no_weights(tmp_path: Path) -> None:
    make_package(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert outcomes(tmp_path) == {"SLM-WGT-001": "no-weights"}


def test_weights_are_a_directory(tmp_path: Path) -> None:
    make_package(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).mkdir()
    assert outcomes(tmp_path) == {"SLM-WGT-001": "no-weights"}


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated(tmp_path: Path, keep: int) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:keep])
    assert list(outcomes(tmp_path)) == ["SLM-WGT-001"]


def test_truncation_is_told_to_a_person(tmp_path: Path) -> None:
    make_package(tmp_path)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:-10])
    found = failure("SLM-WGT-001", tmp_path)
    assert "10 fewer than the header describes" in found.got
    assert "cut off" in found.fix


def test_git_lfs_pointer(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    make_package(tmp_path, files={WEIGHTS: pointer})
    assert outcomes(tmp_path) == {"SLM-WGT-001": "git-lfs-pointer"}


def test_other_weights_named_by_the_configuration(tmp_path: Path) -> None:
    make_package(tmp_path, config={"transformers_weights": "other.safetensors"})
    assert outcomes(tmp_path) == {"SLM-WGT-001": "weights-elsewhere"}


# --- 002 ---


def sharded(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    make_package(folder, shards=2)
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def move(index: dict[str, Any]) -> None:
    files = sorted(set(index["weight_map"].values()))
    index["weight_map"][NORM] = files[index["weight_map"][NORM] == files[0]]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda i: i["weight_map"].update(ghost=i["weight_map"][NORM]), "tensor-absent"),
        (lambda i: i["weight_map"].pop(NORM), "tensor-unlisted"),
        (lambda i: i["metadata"].update(total_size=1), "total-size"),
        (lambda i: i["metadata"].update(total_size="all"), "total-size"),
        (lambda i: i.pop("weight_map"), "index-shape"),
        (lambda i: i["weight_map"].update({NORM: 3}), "index-shape"),
        (move, "tensor-elsewhere"),
    ],
)
def test_index_that_differs(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], code: str
) -> None:
    assert outcomes(sharded(tmp_path, edit)) == {"SLM-WGT-002": code}


def test_missing_shard(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert outcomes(tmp_path) == {"SLM-WGT-002": "shard-missing"}


def test_shards_without_an_index(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).unlink()
    assert outcomes(tmp_path) == {"SLM-WGT-002": "index-missing"}


def test_shards_beside_a_single_file(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(save(llama_tensors()))
    assert outcomes(tmp_path) == {"SLM-WGT-002": "tensor-twice"}


def test_a_shard_that_the_index_does_not_name(tmp_path: Path) -> None:
    sharded(tmp_path)
    stray = save({"extra": np.ones(2, np.float32)})
    (tmp_path / "model-00003-of-00003.safetensors").write_bytes(stray)
    assert list(outcomes(tmp_path)) == ["SLM-WGT-002"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda _: None,
        lambda i: i["metadata"].pop("total_size"),
        lambda i: i.pop("metadata"),
        lambda i: i["metadata"].update(total_parameters=1),
    ],
)
def test_index_that_agrees(tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    assert outcomes(sharded(tmp_path, edit)) == {}


def test_index_of_a_single_file(tmp_path: Path) -> None:
    make_package(tmp_path)
    index = {"weight_map": dict.fromkeys(llama_tensors(), WEIGHTS)}
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert outcomes(tmp_path) == {}


def test_index_that_is_no_json(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).write_text("{")
    assert outcomes(tmp_path) == {"SLM-CFG-001": "not-json"}
    for shard in tmp_path.glob("model-*.safetensors"):
        shard.rename(tmp_path / shard.name.replace("model-", "part-"))
    assert outcomes(tmp_path) == {"SLM-CFG-001": "not-json"}
    with pytest.raises(NotExamined):
        judge("SLM-WGT-001", tmp_path)


# --- 003 ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"][2, 5] = value
        tensors["lm_head.weight"][7, 0] = value

    make_package(tmp_path)
    write_evidence(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(save(changed(spoil)))
    assert outcomes(tmp_path) == {"SLM-WGT-003": "not-finite"}
    found = failure("SLM-WGT-003", tmp_path)
    assert found.where == "model.safetensors: lm_head.weight[2, 5]"
    assert found.got == "2 of 128 values not finite"


def test_bad_boolean(tmp_path: Path) -> None:
    content = save(changed(lambda t: t.update(flag=np.array([True, False]))))
    (tmp_path / "x").mkdir()
    make_package(tmp_path, files={WEIGHTS: content})
    assert outcomes(tmp_path) == {}
    at = content.index(b"\x01\x00", len(content) - 8)
    (tmp_path / WEIGHTS).write_bytes(content[:at] + b"\x07" + content[at + 1 :])
    assert outcomes(tmp_path) == {"SLM-WGT-003": "bad-boolean"}


def test_the_greatest_finite_values(tmp_path: Path) -> None:
    greatest = np.finfo(np.float32).max
    make_package(tmp_path, tensors=changed(lambda t: t[NORM].fill(greatest)))
    assert outcomes(tmp_path) == {}


# --- 004 ---


def test_undeclared_dtype(tmp_path: Path) -> None:
    tensors = changed(lambda t: t.update({NORM: t[NORM].astype(np.float64)}))
    make_package(tmp_path, tensors=tensors)
    assert outcomes(tmp_path) == {"SLM-WGT-004": "undeclared-dtype"}
    assert "float64" in failure("SLM-WGT-004", tmp_path).got


def test_undeclared_dtype_against_the_recording_is_one_failure(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    tensors = changed(lambda t: t.update({NORM: t[NORM].astype(np.float16)}))
    (tmp_path / WEIGHTS).write_bytes(save(tensors))
    assert outcomes(tmp_path) == {"SLM-WGT-004": "undeclared-dtype"}


def test_declared_other_dtype_and_integers(tmp_path: Path) -> None:
    tensors = changed(
        lambda t: t.update({NORM: t[NORM].astype(np.float64), "ids": np.arange(4, dtype=np.int32)})
    )
    replace = {'dtype = "float32"\n\n[dep': 'dtype = "float32"\nother_dtypes = ["float64"]\n\n[dep'}
    make_package(tmp_path, tensors=tensors, replace=replace)
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    ("config", "stored", "code"),
    [
        ({"dtype": "float16"}, np.float16, ""),
        ({"dtype": None, "torch_dtype": "float16"}, np.float16, ""),
        ({"dtype": "torch.float16"}, np.float16, ""),
        ({"dtype": "float16"}, np.float32, ""),
        ({"dtype": None}, np.float32, ""),
        ({"dtype": "bfloat16"}, np.float16, "undeclared-dtype"),
        ({"dtype": "float32"}, np.float64, "undeclared-dtype"),
    ],
)
def test_dtype_declared_by_the_configuration(
    tmp_path: Path, config: dict[str, Any], stored: Any, code: str
) -> None:
    tensors = {name: value.astype(stored) for name, value in llama_tensors().items()}
    make_package(tmp_path, manifest=None, config=config, tensors=tensors)
    assert outcomes(tmp_path) == ({"SLM-WGT-004": code} if code else {})


def test_dtype_declared_nowhere(tmp_path: Path) -> None:
    tensors = {name: value.astype(np.float16) for name, value in llama_tensors().items()}
    make_package(tmp_path, manifest=None, config={"dtype": None}, tensors=tensors)
    with pytest.raises(NotExamined, match="declares a dtype"):
        judge("SLM-WGT-004", tmp_path)


# --- 005, 006 ---


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: t.pop("lm_head.weight"), "tensor-gone"),
        (lambda t: t.update(extra=np.ones(3, np.float32)), "tensor-added"),
        (lambda t: t.update({NORM: t[NORM].reshape(2, 4)}), "tensor-changed"),
        (lambda t: t.update({NORM: t[NORM][:4]}), "tensor-changed"),
        (
            lambda t: t.update({"model.embed_tokens.weight": t[NORM].reshape(4, 2)}),
            "tensor-changed",
        ),
    ],
)
def test_other_tensors_than_recorded(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], code: str
) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(save(changed(change)))
    assert outcomes(tmp_path) == {"SLM-WGT-005": code}


def test_one_weight_moved_by_one_ulp(tmp_path: Path) -> None:
    def nudge(tensors: dict[str, Any]) -> None:
        tensors[NORM][3] = np.nextafter(tensors[NORM][3], np.float32(9))

    make_package(tmp_path)
    write_evidence(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(save(changed(nudge)))
    assert outcomes(tmp_path) == {"SLM-WGT-006": "weights-changed"}
    assert NORM in failure("SLM-WGT-006", tmp_path).where


def test_evidence_whose_digest_is_not_that_of_its_list(tmp_path: Path) -> None:
    make_package(tmp_path)
    write_evidence(tmp_path, weights_digest="0" * 64)
    assert outcomes(tmp_path) == {"SLM-WGT-006": "weights-digest"}


def test_resharded_weights_are_the_recorded_ones(tmp_path: Path) -> None:
    make_package(tmp_path / "a")
    evidence = write_evidence(tmp_path / "a")
    # The index is a listed file, so it is left out of the comparison of files here.
    make_package(tmp_path / "b", shards=3)
    write_evidence(tmp_path / "b", tensors=evidence["tensors"])
    assert outcomes(tmp_path / "b") == {}
    assert evidence["weights_digest"][:16] in judge("SLM-WGT-006", tmp_path / "b")


# --- 007 ---


@pytest.mark.parametrize(
    ("count", "code"), [(1256, ""), (1257, "parameter-count"), (1, "parameter-count")]
)
def test_parameter_count(tmp_path: Path, count: int, code: str) -> None:
    replace = {'license = "MIT"': f'license = "MIT"\nparameters = {count}'}
    make_package(tmp_path, replace=replace)
    assert outcomes(tmp_path) == ({"SLM-WGT-007": code} if code else {})


def test_parameter_count_is_not_judged_on_other_tensors(tmp_path: Path) -> None:
    make_package(tmp_path, replace={'license = "MIT"': 'license = "MIT"\nparameters = 1256'})
    write_evidence(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(save(changed(lambda t: t.pop("lm_head.weight"))))
    assert outcomes(tmp_path) == {"SLM-WGT-005": "tensor-gone"}


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x04K\x01.")


def wgt_001(folder: Path) -> Result:
    load_checks()
    package = Package(folder)
    ids = ["SLM-PKG-001", "SLM-PKG-002", "SLM-PKG-003", "SLM-WGT-001"]
    return list(run_checks(order(ids, CHECKS), package, package, catalogue(), {}))[-1]


def test_a_pickle_beside_the_weights_hides_nothing_of_them(tmp_path: Path) -> None:
    make_package(tmp_path)
    pickled(tmp_path / "pytorch_model.bin")
    assert outcomes(tmp_path, "PKG", "WGT") == {"SLM-PKG-003": "executable-format"}
    assert wgt_001(tmp_path).outcome is Outcome.PASS


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_in_place_of_the_weights_is_one_finding(tmp_path: Path, name: str) -> None:
    make_package(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    pickled(tmp_path / name)
    assert set(outcomes(tmp_path, "PKG", "WGT")) == {"SLM-PKG-003"}
    assert wgt_001(tmp_path).blocked_by == "SLM-PKG-003"


# --- 008 ---


def headed(change: Callable[[dict[str, Any]], None], before: str = "") -> bytes:
    """The weights with a changed header; a byte stands before the last tensor."""
    header: dict[str, Any] = {}
    blob = b""
    for name, value in llama_tensors().items():
        begin, blob = len(blob), blob + value.tobytes()
        at = [begin, len(blob)]
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": at}
    change(header)
    return raw_safetensors(before + json.dumps(header), blob)


@pytest.mark.parametrize(
    ("change", "before", "code"),
    [
        (lambda _: None, " ", "leading-blank"),
        (lambda h: h[NORM].update(note=1), "", "extra-key"),
        (lambda h: h.update(__metadata__=None), "", "null-metadata"),
        (lambda _: None, "", ""),
        (lambda h: h.update(__metadata__={}), "", ""),
    ],
)
def test_odd_headers(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], before: str, code: str
) -> None:
    make_package(tmp_path, files={WEIGHTS: headed(change, before)})
    assert outcomes(tmp_path) == ({"SLM-WGT-008": code} if code else {})


def test_a_misaligned_tensor(tmp_path: Path) -> None:
    tensors = {"aaa": np.ones(1, np.uint8), **llama_tensors()}
    header, blob = {}, b""
    for name, value in tensors.items():
        begin, blob = len(blob), blob + value.tobytes()
        kind = "U8" if name == "aaa" else "F32"
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [begin, len(blob)]}
    make_package(tmp_path, files={WEIGHTS: raw_safetensors(header, blob)})
    assert outcomes(tmp_path) == {"SLM-WGT-008": "misaligned"}


# --- 009 ---


def layered(folder: Path, change: Callable[[dict[str, Any]], None], layers: int = 3) -> Path:
    """A Llama of matrices that are large enough to be judged."""
    shapes = {"q_proj": (32, 32), "k_proj": (32, 32), "v_proj": (32, 32), "o_proj": (32, 32)}
    names = {f"self_attn.{name}.weight": shape for name, shape in shapes.items()}
    names |= {f"mlp.{name}_proj.weight": (48, 32) for name in ("gate", "up")}
    names |= {"mlp.down_proj.weight": (32, 48)}
    rng = np.random.default_rng(1)
    tensors = {"model.embed_tokens.weight": rng.normal(size=(64, 32)).astype(np.float32)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, shape in names.items():
            tensors[f"{at}.{name}"] = rng.normal(size=shape).astype(np.float32)
        tensors[f"{at}.input_layernorm.weight"] = np.ones(32, np.float32)
        tensors[f"{at}.self_attn.q_proj.bias"] = np.zeros(32, np.float32)
        tensors[f"{at}.self_attn.mask"] = np.tril(np.ones((1, 1, 64, 64), np.float32))
    change(tensors)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers}
    return make_package(
        folder,
        config=sizes | {"vocab_size": 64, "num_key_value_heads": 2},
        tensors={name: np.ascontiguousarray(value) for name, value in tensors.items()},
    )


def copy(start: int, end: int, leave: str = "none") -> Callable[[dict[str, Any]], None]:
    """Give one layer the tensors of another."""

    def change(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            if f"layers.{start}." in name and leave not in name:
                tensors[name.replace(f"layers.{start}.", f"layers.{end}.")] = tensors[name]

    return change


def fill(layer: int, value: float, only: str = "") -> Callable[[dict[str, Any]], None]:
    """Give the matrices of a layer one value."""

    def change(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if f"layers.{layer}." in name and only in name:
                tensors[name] = np.full_like(tensor, value)

    return change


def nothing(_: dict[str, Any]) -> None:
    """A sound model: its masks, norms and biases are the same in all layers."""


def doubled_embedding(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]


def fresh_adapters(tensors: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    for layer in range(3):
        at = f"model.layers.{layer}.self_attn.q_proj"
        tensors[f"{at}.lora_A.weight"] = rng.normal(size=(32, 32)).astype(np.float32)
        tensors[f"{at}.lora_B.weight"] = np.zeros((32, 32), np.float32)


def experts_alike(tensors: dict[str, Any]) -> None:
    for layer in range(3):
        for part in ("w1", "w2"):
            one = np.random.default_rng(layer).normal(size=(48, 32)).astype(np.float32)
            for expert in range(4):
                tensors[f"model.layers.{layer}.mlp.experts.{expert}.{part}"] = one


def numbered_embeddings(tensors: dict[str, Any]) -> None:
    for number in range(3):
        tensors[f"tables.{number}.weight"] = tensors["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (copy(0, 2), "copied-layer"),
        (copy(1, 2, leave="layernorm"), "copied-layer"),
        (fill(1, 0.0), "constant-layer"),
        (fill(2, 0.02), "constant-layer"),
        (copy(0, 2, leave="up_proj"), ""),
        (fill(1, 0.0, only="o_proj"), ""),
        (nothing, ""),
        (doubled_embedding, ""),
        (fresh_adapters, ""),
        (experts_alike, ""),
        (numbered_embeddings, ""),
    ],
)
def test_layers_without_weights_of_their_own(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], code: str
) -> None:
    layered(tmp_path, change)
    assert outcomes(tmp_path) == ({"SLM-WGT-009": code} if code else {})


def test_a_copied_layer_is_told_with_its_original(tmp_path: Path) -> None:
    layered(tmp_path, copy(0, 2))
    found = failure("SLM-WGT-009", tmp_path)
    assert found.got == "the matrices of 'model.layers.2' are those of 'model.layers.0'"


def test_a_layer_that_changed_since_the_recording_is_one_failure(tmp_path: Path) -> None:
    write_evidence(layered(tmp_path, nothing))
    layered(tmp_path, copy(0, 2))
    assert outcomes(tmp_path) == {"SLM-WGT-006": "weights-changed"}


def test_a_model_in_a_pipeline_has_its_layers_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    one = {part: rng.normal(size=(32, 32)).astype(np.float32) for part in ("a", "b")}
    tensors = {f"0.encoder.layer.{layer}.{part}": one[part] for layer in (0, 1) for part in one}
    tensors["2.linear.weight"] = rng.normal(size=(32, 32)).astype(np.float32)
    make_package(tmp_path, tensors=tensors)
    assert failure("SLM-WGT-009", tmp_path).code == "copied-layer"
