"""Configurations, tokenizers and data of any content: a report with an answer, never an error."""

from __future__ import annotations

import json
from typing import Any

import tokenizer_builders as tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Edit, Mutation
from package_builders import CONFIG
from strategies import ANY_CHARACTER, INTEGERS, SCALARS, TEXT, TREES, tables, trees

from slmconform.standard.report import Report

WORDS = st.one_of(st.sampled_from([*tokens.TOKENS, "", " ", "x"]), TEXT)
IDS = st.one_of(st.integers(-1, 20), INTEGERS, TREES)
few = settings(max_examples=60)


def checked(bench: Any, name: str, *, thorough: bool = False, **files: bytes | Any) -> Report:
    """The report of a package with other files, which has to be right and to harm nothing."""
    contents = {
        path: data if isinstance(data, bytes) else written(data) for path, data in files.items()
    }
    edits = tuple(Edit(path, "bytes", data) for path, data in contents.items())
    change = Mutation(edits, ("drawn",))
    with bench.mutated(name, change) as folder:
        report, reason = bench.judged(name, change, folder, thorough=thorough)
    assert reason == ""
    return report


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- config.json ---

NESTED = tables(CONFIG)
KNOWN: dict[str, Any] = CONFIG | {
    "text_config": {},
    "auto_map": {"AutoModel": "a.b"},
    "id2label": {"0": "a"},
    "head_dim": 4,
    "transformers_weights": "model.safetensors",
    "_attn_implementation": "sdpa",
    "trust_remote_code": False,
    "num_nextn_predict_layers": 1,
    "n_head": 2,
    "dim": 8,
}
CONFIGS = st.one_of(
    tables(CONFIG),
    tables(KNOWN),
    st.builds(lambda one, inner: one | {"text_config": inner}, tables(CONFIG), NESTED),
    TREES,
)


@given(CONFIGS, st.booleans())
@few
def test_any_configuration_beside_weights_and_evidence(bench, config, thorough):
    checked(bench, "single", thorough=thorough, **{"config.json": config})


@given(CONFIGS)
@few
def test_any_configuration_without_a_manifest(bench, config):
    checked(bench, "bare", **{"config.json": config})


@given(
    st.one_of(tables({"weight_map": {"lm_head.weight": "x"}, "metadata": {"total_size": 1}}), TREES)
)
@few
def test_any_index_of_shards(bench, index):
    report = checked(bench, "sharded", **{"model.safetensors.index.json": index})
    assert report.exit_status == 1


@given(st.dictionaries(st.sampled_from(["modules.json", "a_config.json", "x/config.json"]), TREES))
@few
def test_any_other_json_files(bench, files):
    checked(bench, "unrecorded", **files)


# --- tokenizers ---

ADDED = st.lists(
    st.one_of(st.fixed_dictionaries({"id": IDS, "content": st.one_of(WORDS, TREES)}), TREES),
    max_size=3,
)
VOCABULARIES = st.one_of(
    st.dictionaries(WORDS, IDS, max_size=5),
    st.lists(st.one_of(st.tuples(WORDS, st.floats(-9, 0)).map(list), TREES), max_size=5),
    TREES,
)
PROCESSORS = st.one_of(
    st.fixed_dictionaries(
        {
            "special_tokens": st.dictionaries(
                WORDS, st.fixed_dictionaries({"ids": TREES, "tokens": TREES})
            )
        }
    ),
    st.fixed_dictionaries({"cls": trees(), "sep": st.tuples(WORDS, IDS).map(list)}),
    st.fixed_dictionaries({"processors": TREES}),
    TREES,
)
FAST = st.one_of(
    st.fixed_dictionaries(
        {
            "added_tokens": ADDED,
            "post_processor": PROCESSORS,
            "model": st.one_of(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["BPE", "Unigram", None]), "vocab": VOCABULARIES}
                ),
                TREES,
            ),
        }
    ),
    tables(tokens.fast()),
)
ROLES = tables(
    {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "unk_token": "<unk>",
        "added_tokens_decoder": {"2": {"content": "</s>"}},
        "tokenizer_class": "LlamaTokenizerFast",
        "chat_template": [{"name": "default", "template": "x"}],
        "bos_token_id": 1,
        "vocab_file": "tokenizer.json",
        "fast_tokenizer_files": ["tokenizer.json"],
    }
)


@given(FAST, ROLES, ROLES, st.booleans())
@few
def test_any_fast_tokenizer(bench, fast, config, special, thorough):
    files = {
        "tokenizer.json": fast,
        "tokenizer_config.json": config,
        "special_tokens_map.json": special,
    }
    checked(bench, "fast", thorough=thorough, **files)


@given(st.lists(WORDS, max_size=20), st.dictionaries(WORDS, IDS, max_size=3), ROLES)
@few
def test_any_list_of_words(bench, words, added, config):
    text = "\n".join(words).encode("utf-8", "surrogatepass")
    files = {"vocab.txt": text, "added_tokens.json": added, "tokenizer_config.json": config}
    checked(bench, "unrecorded", **files)


@given(st.one_of(st.binary(max_size=40), st.lists(WORDS, max_size=20)), st.booleans())
@few
def test_any_pieces(bench, pieces, ranks):
    if isinstance(pieces, list):
        kept = [one for one in pieces if not any("\ud800" <= c <= "\udfff" for c in one)]
        pieces = tokens.sentencepiece_model(kept)
    data = b"YQ== 0\n" + pieces if ranks else pieces
    checked(bench, "pieces", **{"tokenizer.model": data})


@given(st.sampled_from(["vocab.json", "tekken.json", "encoder.json", "dict.txt"]), TREES)
@few
def test_any_other_vocabulary(bench, path, value):
    checked(bench, "bare", **{path: value})


# --- data, code, evidence ---

ROWS = st.lists(
    st.one_of(
        tables({"prompt": "a", "answer": "b"}),
        tables({"messages": [{"role": "user", "content": "x"}], "answer": "b"}),
        tables({"inputs": {"input_ids": [1, 2], "attention_mask": [1, 1]}, "label": [1, -100]}),
        TREES,
    ),
    max_size=4,
)
CODE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "import os",
                    "from a import *",
                    "try:",
                    "    import b",
                    "except ImportError:",
                    "def",
                ),
                *(
                    "__import__('x.y')",
                    "if TYPE_CHECKING:",
                    "# -*- coding: rot13 -*-",
                    "\tx = (",
                    '"""',
                ),
                *(
                    "import importlib; importlib.import_module(name)",
                    "class A: pass",
                    "f'{x!r:>{y}}'",
                ),
            ]
        ),
        st.text(ANY_CHARACTER, max_size=10),
    ),
    max_size=6,
).map("\n".join)


@given(ROWS)
@few
def test_any_rows_of_data(bench, rows):
    lines = b"".join(written(row) + b"\n" for row in rows)
    checked(bench, "data", **{"conformance/rows.jsonl": lines})


@given(CODE)
@few
def test_any_code(bench, text):
    code = text.encode("utf-8", "surrogatepass")
    checked(bench, "torch-recommender", **{"modeling.py": code})


@given(st.data())
@few
def test_any_evidence(bench, drawn):
    evidence = json.loads(bench.files["single"]["conformance/evidence.json"])
    changed = drawn.draw(tables(evidence))
    if drawn.draw(st.booleans()):
        key = drawn.draw(st.sampled_from(["files", "tensors", "outputs"]))
        row = drawn.draw(tables(evidence[key][0]))
        changed = evidence | {key: [row, *evidence[key][1:]]}
    checked(bench, "single", **{"conformance/evidence.json": changed})


@given(st.lists(st.one_of(SCALARS, TREES), min_size=1, max_size=3))
@few
def test_any_card_in_prose(bench, values):
    text = "---\nlicense: mit\n---\n" + "\n".join(map(str, values))
    report = checked(bench, "single", **{"README.md": text.encode("utf-8", "surrogatepass")})
    assert report.exit_status == 0
