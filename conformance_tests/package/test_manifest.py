"""Manifest and evidence: what is wrong is said in words, with the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from package_builders import MANIFEST, make_package, write_evidence

from slmconform.package.declarations import disagreements
from slmconform.package.folder import EVIDENCE_FOLDER
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.package.references import references
from slmconform.standard import files


def problem(folder: Path, text: str | bytes) -> PackageProblem:
    folder.mkdir(exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "slm.toml").write_bytes(data)
    package = Package(folder)
    assert package.has_manifest
    assert package.manifest is None
    assert package.manifest_problem is not None
    return package.manifest_problem


def changed(old: str, new: str) -> str:
    assert old in MANIFEST
    return MANIFEST.replace(old, new)


def test_the_evidence_lies_in_its_folder() -> None:
    assert files.EVIDENCE.startswith(EVIDENCE_FOLDER)


def test_valid(tmp_path: Path) -> None:
    package = Package(make_package(tmp_path))
    assert package.manifest_problem is None
    assert package.require_manifest().model.name == "tiny-llama"


def test_syntax_error_has_line_and_column(tmp_path: Path) -> None:
    found = problem(tmp_path, changed('task = "causal-lm"', "task = causal-lm"))
    assert found.code == "not-toml"
    line = MANIFEST.splitlines().index('task = "causal-lm"') + 1
    assert found.where == f"slm.toml:{line}:8"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'spec = "1.0"\nname = "\xff"\n', "not-utf8"),
        ('spec = "1.0"\n[model\n', "not-toml"),
        ('spec = "1.0"\n[model', "not-toml"),
        ('spec = "1.0"\nx = ' + "[" * 5000, "not-toml"),
        ('spec = "1.0"\nx = ' + "9" * 5000, "not-toml"),
        ('spec = "1.0"\nspec = "1.0"', "not-toml"),
        ("\ufeffspec = '1.0'", "not-toml"),
        ("# " + "x" * 2**20, "too-large"),
        ("", "spec-version-unknown"),
        ('spec = "banana"', "spec-version-unknown"),
        ("spec = 1.0", "spec-version-unknown"),
        ('spec = "0.9"', "spec-version-unknown"),
        ('spec = ["1.0"]', "spec-version-unknown"),
        ('spec = "1.1"', "spec-version-newer"),
        ('spec = "2.0"\nwhatever = true', "spec-version-newer"),
        ('spec = "1.0"', "missing-key"),
    ],
    ids=range(16),
)
def test_unusable(tmp_path: Path, text: str | bytes, code: str) -> None:
    assert problem(tmp_path, text).code == code


@pytest.mark.parametrize(
    ("old", "new", "where", "got", "want"),
    [
        ('name = "tiny', 'nmae = "t"\nname = "tiny', "model.nmae", "did you mean name?", "license"),
        ("[loader]", "[lodaer]\n[loader]", "lodaer", "did you mean loader?", "only spec"),
        ('class = "L', 'clas = "x"\nclass = "L', "loader.clas", "did you mean class?", "entry"),
        ("causal = true", "casual = true", "interface.capabilities.casual", "causal?", "padding"),
        ("min = 1", "mn = 1", "interface.axes.sequence.mn", "did you mean min?", "max"),
        ("range = [0, 15]", "rnage = [0, 15]", "interface.inputs[0].rnage", "range?", "dtype"),
        ('version = "1.0.0"', 'version = "v1"', "model.version", "'v1'", "such as 1.2.0"),
        ('version = "1.0.0"', "version = 1.0", "model.version", "1.0", "such as 1.2.0"),
        ('version = "1.0.0"\n', "", "model.version", "missing", "the key"),
        ('task = "causal-lm"', 'task = "casual-lm"', "model.task", "causal-lm?", "masked-lm"),
        ('license = "MIT"', "license = 3", "model.license", "3", "a string in quotes"),
        ("causal = true", "causal = 1", "interface.capabilities.causal", "1", "true or false"),
        ('dtype = "float32"\n\n[dep', 'dtype = "fp32"\n\n[dep', "loader.dtype", "'fp32'", "float"),
        ('"batch", "sequence", 16', '"batch", 0', "interface.outputs[0].axes[1]", "0", "a size"),
        ('"batch", "sequence", 16', '"B S"', "interface.outputs[0].axes[0]", "'B S'", "a size"),
        ("range = [0, 15]", "range = [0]", "interface.inputs[0].range", "[0]", "two numbers"),
        ("max = 32", "max = 0", "interface.axes.sequence.max", "0", "greater than"),
    ],
)
def test_wording(tmp_path: Path, old: str, new: str, where: str, got: str, want: str) -> None:
    found = problem(tmp_path, changed(old, new))
    assert found.where == f"slm.toml: {where}"
    assert got in found.got
    assert want in found.want


def test_all_problems_are_counted(tmp_path: Path) -> None:
    text = changed('version = "1.0.0"', 'version = "v1"').replace("max = 32", "max = 0")
    found = problem(tmp_path, text.replace('name = "tiny-llama"', "extra = 1"))
    assert "and 3 more" in found.why


def test_hostile_keys_are_printed_safely(tmp_path: Path) -> None:
    found = problem(tmp_path, MANIFEST + '"\\u001b[31m::error::" = 1\n')
    assert found.code == "unknown-key"
    assert f"{found.where} {found.got} {found.want} {found.why}".isprintable()


DISAGREEMENTS = [
    ("min = 1, max = 32", "min = 9, max = 8", "axis-range"),
    ("sequence = { min", "sequnce = { min", "axis-undeclared"),
    ('name = "attention_mask"', 'name = "input_ids"', "name-twice"),
    ('dtype = "int64"\naxes = ["batch", "sequence"]\nrange = [0, 15]',
     'dtype = "float32"\naxes = ["batch", "sequence"]', "input-dtype"),
    ("range = [0, 15]", "range = [15, 0]", "input-range"),
    ("range = [0, 15]", "range = [0, 15.5]", "input-range"),
    ("range = [0, 15]", "range = [0, 9223372036854775808]", "input-range"),
    ("range = [0, 15]", "range = [0, nan]", "input-range"),
    ('name = "logits"', 'name = "scores"', "output-missing"),
    ('axes = ["batch", "sequence", 16]', 'axes = ["batch", 16]', "output-axes"),
    ('name = "attention_mask"\ndtype = "int64"\naxes = ["batch", "sequence"]\nrole = "mask"',
     'name = "extra"\ndtype = "int64"\naxes = ["batch", "sequence"]', "padding-mask"),
    ('task = "causal-lm"', 'task = "masked-lm"\n# causal', ""),
    ("causal = true", "causal = false", "cache-causal"),
    ('kind = "transformers"', 'kind = "torch"', "entry-missing"),
    ('kind = "transformers"', 'kind = "transformers"\nentry = "m.py:f"', "entry-unused"),
    ('class = "LlamaForCausalLM"', 'normalize = true', "normalize-alone"),
    ('name = "input_ids"\ndtype = "int64"\naxes = ["batch", "sequence"]\nrange = [0, 15]\n'
     'role = "tokens"', 'name = "ids"\ndtype = "int64"\naxes = ["batch"]', "tokens-missing"),
    ('class = "LlamaForCausalLM"\n', "", ""),
    ("max = 32", "max = 1", ""),
    ("range = [0, 15]", "range = [3, 3]", ""),
    ('kind = "transformers"', 'kind = "torch"\nentry = "m.py:f"', ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code"), DISAGREEMENTS)
def test_disagreement(tmp_path: Path, old: str, new: str, code: str) -> None:
    package = Package(make_package(tmp_path, replace={old: new}))
    codes = [found.code for found in disagreements(package.require_manifest())]
    assert codes[:1] == ([code] if code else [])
    assert code in codes or not code


def test_sentence_embedding_needs_pooling(tmp_path: Path) -> None:
    text = changed('task = "causal-lm"', 'task = "sentence-embedding"')
    text = text.replace(
        'name = "logits"\ndtype = "float32"\naxes = ["batch", "sequence", 16]',
        'name = "last_hidden_state"\ndtype = "float32"\naxes = ["batch", "sequence", 8]\n\n'
        '[[interface.outputs]]\nname = "sentence_embedding"\ndtype = "float32"\n'
        'axes = ["batch", 8]',
    )
    without = Package(make_package(tmp_path / "a", manifest=text)).require_manifest()
    assert [p.code for p in disagreements(without)] == ["pooling-missing"]
    pooled = text.replace(
        'dtype = "float32"\n\n[dep', 'dtype = "float32"\npooling = "mean"\n\n[dep'
    )
    assert pooled != text
    legal = Package(make_package(tmp_path / "b", manifest=pooled)).require_manifest()
    assert disagreements(legal) == []


def test_class_for_a_task_without_an_auto_class(tmp_path: Path) -> None:
    replace = {'task = "causal-lm"': 'task = "tensor"', 'class = "LlamaForCausalLM"\n': ""}
    package = Package(make_package(tmp_path, replace=replace))
    codes = [p.code for p in disagreements(package.require_manifest())]
    assert codes == ["class-missing"]


def test_references(tmp_path: Path) -> None:
    make_package(
        tmp_path,
        shards=2,
        config={"transformers_weights": "w.safetensors"},
        replace={'kind = "transformers"': 'kind = "torch"\nentry = "a/m.py:f"\ncode = ["b.py"]'},
        files={
            "tokenizer_config.json": json.dumps(
                {
                    "vocab_file": "/etc/passwd",
                    "tokenizer_file": None,
                    "special_tokens_map_file": "/root/.cache/x",
                    "fast_tokenizer_files": ["tokenizer.4.0.json"],
                    "name_or_path": "/home/someone",
                }
            ),
            "modules.json": json.dumps([{"path": ""}, {"path": "1_Pooling"}, 3]),
        },
    )
    assert [path for path, _ in references(Package(tmp_path))] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "w.safetensors",
        "/etc/passwd",
        "tokenizer.4.0.json",
        "1_Pooling",
        "a/m.py",
        "b.py",
    ]


def test_evidence(tmp_path: Path) -> None:
    make_package(tmp_path)
    assert not Package(tmp_path).has_evidence
    write_evidence(tmp_path)
    package = Package(tmp_path)
    assert package.evidence_problem is None
    assert package.require_evidence().model.name == "tiny-llama"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "not-json"),
        ("[]", "wrong-value"),
        ("{}", "missing-key"),
        ('{"a": 1, "a": 2}', "duplicate-key"),
        (" " * (files.EVIDENCE_LIMIT + 1), "too-large"),
    ],
    ids=range(5),
)
def test_evidence_that_cannot_be_used(tmp_path: Path, text: str, code: str) -> None:
    make_package(tmp_path, files={"conformance/evidence.json": text})
    package = Package(tmp_path)
    assert package.has_evidence
    assert package.evidence is None
    assert package.evidence_problem is not None
    assert package.evidence_problem.code == code
    assert package.evidence_problem.where.startswith("conformance/evidence.json")
