"""CFG: each defect fails with exactly its id, and the legal twin beside it passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from package_builders import CONFIG, Nonconformance, judge, make_package, outcomes

from slmconform.engine.registry import NotApplicable


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('{"a": 1, "a": 1}', "duplicate-key"),
        (b"\xef\xbb\xbf{}", "byte-order-mark"),
        ('{"rms_norm_eps": NaN}', "not-finite"),
        ("[" * 100_000, "too-deep"),
        ('{"a": ' + "1" * 5000 + "}", "too-many-digits"),
        ('{"a": "' + "x" * (4 * 2**20) + '"}', "too-large"),
        ("{'a': 1}", "not-json"),
        ("", "not-json"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "sub/any.json"])
def test_json_that_is_not_strict(
    tmp_path: Path, name: str, content: str | bytes, code: str
) -> None:
    make_package(tmp_path, files={name: content})
    assert outcomes(tmp_path) == {"SLM-CFG-001": code}
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-CFG-001", tmp_path)
    assert caught.value.where.startswith(name)


def test_a_large_vocabulary_and_lines_of_json_are_legal(tmp_path: Path) -> None:
    vocabulary = {f"token-{'x' * 900}-{i}": i for i in range(5_000)}
    files: dict[str, str | bytes] = {
        "vocab.json": json.dumps(vocabulary),
        "data.jsonl": '{"a": 1}\n{"a": NaN}\n',
    }
    assert len(files["vocab.json"]) > 4 * 2**20
    make_package(tmp_path, files=files)
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"vocab_size": 10**12}, "dimension"),
        ({"num_hidden_layers": 10**6}, "dimension"),
        ({"hidden_size": 2**40}, "dimension"),
        ({"hidden_size": "8"}, "dimension"),
        ({"num_attention_heads": 3}, "heads-divide"),
    ],
)
def test_dimension_out_of_bounds(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    make_package(tmp_path, config=change)
    assert outcomes(tmp_path) == {"SLM-CFG-002": code}


def test_configuration_is_a_list(tmp_path: Path) -> None:
    make_package(tmp_path, files={"config.json": "[]"})
    assert outcomes(tmp_path) == {"SLM-CFG-002": "not-an-object"}


def test_heads_with_a_dimension_of_their_own(tmp_path: Path) -> None:
    make_package(tmp_path, config={"num_attention_heads": 3, "head_dim": 4})
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", CONFIG | {"auto_map": {"AutoModel": "modeling.X"}}),
        ("config.json", CONFIG | {"trust_remote_code": True}),
        ("config.json", CONFIG | {"_attn_implementation": "someone/kernel"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a/b--tok.T", None]}}),
        ("1_Module/config.json", {"auto_map": {"AutoModel": "modeling.X"}}),
    ],
    ids=range(5),
)
def test_remote_code(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    make_package(tmp_path, files={name: json.dumps(content)})
    assert outcomes(tmp_path) == {"SLM-CFG-003": "remote-code"}


def test_no_remote_code(tmp_path: Path) -> None:
    make_package(tmp_path, config={"trust_remote_code": False, "_attn_implementation": "sdpa"})
    assert outcomes(tmp_path) == {}


@pytest.mark.parametrize(
    "change", [{"vocab_size": 17}, {"hidden_size": 10}, {"num_hidden_layers": 3}]
)
def test_configuration_of_other_weights(tmp_path: Path, change: dict[str, Any]) -> None:
    make_package(tmp_path, config=change)
    assert outcomes(tmp_path) == {"SLM-CFG-004": "config-weights"}


def test_configuration_of_own_code_is_its_own(tmp_path: Path) -> None:
    kind = 'kind = "torch"\nentry = "modeling.py:build"'
    make_package(
        tmp_path,
        config={"vocab_size": 17, "model_type": None},
        replace={'kind = "transformers"': kind},
        files={"modeling.py": ""},
    )
    assert outcomes(tmp_path) == {}
    with pytest.raises(NotApplicable):
        judge("SLM-CFG-004", tmp_path)


def test_no_configuration(tmp_path: Path) -> None:
    make_package(tmp_path, manifest=None)
    (tmp_path / "config.json").unlink()
    assert outcomes(tmp_path) == {}
    with pytest.raises(NotApplicable, match="no config"):
        judge("SLM-CFG-002", tmp_path)


@pytest.mark.parametrize(
    "change", [{"architectures": ["LlamaModel"]}, {"architectures": None}, {"architectures": "x"}]
)
def test_another_class_is_declared(tmp_path: Path, change: dict[str, Any]) -> None:
    make_package(tmp_path, config=change)
    assert outcomes(tmp_path) == {"SLM-CFG-005": "architecture"}


def test_one_of_several_classes_is_declared(tmp_path: Path) -> None:
    make_package(tmp_path, config={"architectures": ["Other", "LlamaForCausalLM"]})
    assert outcomes(tmp_path) == {}
