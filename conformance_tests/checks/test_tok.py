"""TOK without loading: what real tokenizers ship passes, each defect fails in one requirement."""

from __future__ import annotations

from typing import Any

import pytest
from package_builders import MANIFEST, judge
from tokenizer_builders import (
    TOKENS,
    added,
    failures,
    fast,
    outcomes,
    roles,
    sentencepiece_model,
    template,
    with_tokenizer,
)
from tokenizer_families import LEGAL, LLAMA

from slmconform.engine.registry import Nonconformance, NotApplicable, NotExamined
from slmconform.standard.report import Outcome

STATIC = ("SLM-TOK-001", "SLM-TOK-002", "SLM-TOK-003", "SLM-TOK-004")
SETTINGS = ("SLM-TOK-009", "SLM-TOK-010")


@pytest.mark.parametrize("name", LEGAL)
def test_what_real_tokenizers_ship_passes(tmp_path, name):
    files, config = LEGAL[name]
    folder = with_tokenizer(tmp_path, files, config=config)
    assert failures(folder) == {}
    found = outcomes(folder, "TOK")
    assert {found[one] for one in STATIC} == {Outcome.PASS}
    assert {found[one] for one in SETTINGS} <= {Outcome.PASS, Outcome.NOT_APPLICABLE}


def decoder(**tokens: str) -> dict[str, Any]:
    return LLAMA | {
        "added_tokens_decoder": {key[1:]: {"content": token} for key, token in tokens.items()}
    }


REPEATING = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}] * 9}

# name -> (files, keys of config.json, requirement, code)
DEFECTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "T01 two tokens with one id": (
        {"tokenizer.json": fast({t: min(i, 14) for i, t in enumerate(TOKENS)})},
        {},
        "SLM-TOK-002",
        "duplicate-id",
    ),
    "T01 an added token takes the id of another": (
        {"tokenizer.json": fast(TOKENS, added(("<extra>", 7)))},
        {},
        "SLM-TOK-002",
        "duplicate-id",
    ),
    "T03 an id beyond the embedding": (
        {"tokenizer.json": fast(TOKENS, added(("<extra>", 16)))},
        {},
        "SLM-TOK-002",
        "id-beyond-embedding",
    ),
    "T03 in vocab.txt": (
        {"vocab.txt": "\n".join([*TOKENS, "z"])},
        {},
        "SLM-TOK-002",
        "id-beyond-embedding",
    ),
    "T04 an added token with another id than in the vocabulary": (
        {"tokenizer.json": fast(TOKENS[:12], added(("a", 15)))},
        {},
        "SLM-TOK-002",
        "collision",
    ),
    "T05 an empty added token": (
        {"tokenizer.json": fast(TOKENS[:15], added(("", 15)))},
        {},
        "SLM-TOK-002",
        "empty-token",
    ),
    "T05 an empty word piece": (
        {"tokenizer.json": fast([*TOKENS[:15], ""], kind="WordPiece")},
        {},
        "SLM-TOK-002",
        "empty-token",
    ),
    "T05 an empty line in vocab.txt": (
        {"vocab.txt": "\n".join([*TOKENS[:9], "", *TOKENS[9:15]])},
        {},
        "SLM-TOK-002",
        "empty-token",
    ),
    "a piece that stands twice": (
        {"tokenizer.json": fast([*TOKENS[:15], "a"], [], kind="Unigram")},
        {},
        "SLM-TOK-002",
        "duplicate-token",
    ),
    "a line that stands twice": (
        {"vocab.txt": "\n".join([*TOKENS[:15], "a"])},
        {},
        "SLM-TOK-002",
        "duplicate-token",
    ),
    "a negative id": (
        {"tokenizer.json": fast({"a": 0, "b": -1, "c": 2})},
        {},
        "SLM-TOK-002",
        "negative-id",
    ),
    "an id that is text": (
        {"vocab.json": {"a": 0, "b": "1"}},
        {},
        "SLM-TOK-002",
        "not-an-id",
    ),
    "an id that is true": (
        {"vocab.json": {"a": 0, "b": True}},
        {},
        "SLM-TOK-002",
        "not-an-id",
    ),
    "a SentencePiece model of another size": (
        {"spiece.model": sentencepiece_model([f"p{i}" for i in range(40)])},
        {},
        "SLM-TOK-002",
        "id-beyond-embedding",
    ),
    "a SentencePiece model with a piece twice": (
        {"spiece.model": sentencepiece_model([*TOKENS[:15], "a"])},
        {},
        "SLM-TOK-002",
        "duplicate-token",
    ),
    "a SentencePiece model with an empty piece": (
        {"spiece.model": sentencepiece_model([*TOKENS[:15], ""])},
        {},
        "SLM-TOK-002",
        "empty-token",
    ),
    "T11 a SentencePiece model of five": (
        {"spiece.model": sentencepiece_model(TOKENS[:5])},
        {},
        "SLM-TOK-004",
        "vocabulary-too-small",
    ),
    "T10 two files name two tokens for one role": (
        {
            "tokenizer.json": fast(),
            "tokenizer_config.json": LLAMA,
            "special_tokens_map.json": {"eos_token": "<pad>"},
        },
        {},
        "SLM-TOK-003",
        "role-differs",
    ),
    "T10 the configuration gives the role of another token": (
        {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA},
        {"eos_token_id": 1},
        "SLM-TOK-003",
        "id-differs",
    ),
    "T10 the configuration ends the text with an ordinary token": (
        {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA},
        {"eos_token_id": 9},
        "SLM-TOK-003",
        "id-differs",
    ),
    "T10 padding with another id": (
        {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA | {"pad_token": "<pad>"}},
        {"pad_token_id": 0},
        "SLM-TOK-003",
        "id-differs",
    ),
    "T10 generation begins with another token": (
        {
            "tokenizer.json": fast(),
            "tokenizer_config.json": LLAMA,
            "generation_config.json": {"bos_token_id": 5},
        },
        {},
        "SLM-TOK-003",
        "id-differs",
    ),
    "an id of the configuration beyond the embedding": (
        {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA},
        {"bos_token_id": 50256},
        "SLM-TOK-003",
        "id-beyond-embedding",
    ),
    "a stop token beyond the embedding": (
        {
            "tokenizer.json": fast(),
            "tokenizer_config.json": LLAMA,
            "generation_config.json": {"eos_token_id": [2, 16]},
        },
        {},
        "SLM-TOK-003",
        "id-beyond-embedding",
    ),
    "T10 added tokens with other ids than tokenizer.json": (
        {"tokenizer.json": fast(), "tokenizer_config.json": decoder(_3="</s>")},
        {},
        "SLM-TOK-003",
        "id-differs",
    ),
    "T10 added_tokens.json with other ids than tokenizer.json": (
        {"tokenizer.json": fast(), "added_tokens.json": {"<pad>": 2}},
        {},
        "SLM-TOK-003",
        "id-differs",
    ),
    "T10 the post-processor puts in another id": (
        {"tokenizer.json": fast(processor=template(("<s>", 3)))},
        {},
        "SLM-TOK-003",
        "id-differs",
    ),
    "a special token that no row is left for": (
        {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA | {"pad_token": "[PAD]"}},
        {},
        "SLM-TOK-003",
        "token-missing",
    ),
    "T11 a vocabulary of five": (
        {"tokenizer.json": fast(TOKENS[:5]), "tokenizer_config.json": LLAMA},
        {},
        "SLM-TOK-004",
        "vocabulary-too-small",
    ),
    "T11 with ids that moved": (
        {
            "tokenizer.json": fast(["</s>", "<s>"], processor=template(("<s>", 1))),
            "tokenizer_config.json": LLAMA,
        },
        {},
        "SLM-TOK-004",
        "vocabulary-too-small",
    ),
    "T02 a gap among the ids": (
        {
            "tokenizer.json": fast(
                {"a": 0, "b": 3, "c": 7, **{c: 8 + i for i, c in enumerate("defghi")}}, []
            )
        },
        {},
        "SLM-TOK-009",
        "gap",
    ),
    "T02 a gap below a token of the vocabulary, beside added ones": (
        {
            "tokenizer.json": fast(
                {c: i + (i > 5) for i, c in enumerate("abcdefghij")}, added(("<e>", 15))
            )
        },
        {},
        "SLM-TOK-009",
        "gap",
    ),
    "T06 a stride that is negative": (
        {"tokenizer.json": fast() | {"truncation": {"max_length": 8, "stride": -1}}},
        {},
        "SLM-TOK-010",
        "stride",
    ),
    "T06 a length that is text": (
        {"tokenizer.json": fast(), "tokenizer_config.json": {"model_max_length": "512"}},
        {},
        "SLM-TOK-010",
        "truncation",
    ),
    "T08 a negative padding": (
        {"tokenizer.json": fast() | {"padding": {"strategy": {"Fixed": -1}}}},
        {},
        "SLM-TOK-010",
        "padding",
    ),
    "T07 a post-processor that repeats the text": (
        {"tokenizer.json": fast(processor={"type": "Sequence", "processors": [REPEATING] * 8})},
        {},
        "SLM-TOK-010",
        "growth",
    ),
    "T07 a rule that writes a long text": (
        {"tokenizer.json": fast() | {"normalizer": {"type": "Prepend", "prepend": "a" * 2**21}}},
        {},
        "SLM-TOK-010",
        "too-many-steps",
    ),
    "no tokenizer": ({}, {}, "SLM-TOK-001", "no-tokenizer"),
    "a configuration of a tokenizer without its vocabulary": (
        {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}},
        {},
        "SLM-TOK-001",
        "no-tokenizer",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_fails_in_exactly_one_requirement(tmp_path, name):
    files, config, requirement, code = DEFECTS[name]
    folder = with_tokenizer(tmp_path, {"tokenizer_config.json": {}} | files, config=config)
    assert failures(folder) == {requirement: code}


@pytest.mark.parametrize("odd", [None, 3, "x", [], {}, [{}], {"normalizers": 3}, {"type": []}])
def test_odd_settings_say_nothing(tmp_path, odd):
    keys = ("truncation", "padding", "normalizer", "pre_tokenizer", "decoder", "post_processor")
    files = {"tokenizer.json": fast() | dict.fromkeys(keys, odd)}
    assert failures(with_tokenizer(tmp_path, files)) == {}


def test_messages_name_file_token_and_row(tmp_path):
    folder = with_tokenizer(tmp_path, {"tokenizer.json": fast(TOKENS, added(("<extra>", 16)))})
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-TOK-002", folder)
    assert caught.value.where == "tokenizer.json"
    assert caught.value.got == "'<extra>' has id 16"
    assert caught.value.want == (
        "ids below 16, the rows of model.safetensors: model.embed_tokens.weight"
    )


def test_special_token_message_names_both_files(tmp_path):
    files = {"tokenizer.json": fast(), "tokenizer_config.json": LLAMA}
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-TOK-003", with_tokenizer(tmp_path, files, config={"eos_token_id": 1}))
    assert caught.value.where == "config.json: eos_token_id"
    assert caught.value.got == "id 1 ('<s>')"
    assert caught.value.want == "id 2 ('</s>'), the token of tokenizer_config.json: eos_token"


@pytest.mark.parametrize("name", ["ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"])
def test_byte_level_tokenizers_have_no_vocabulary_to_ship(tmp_path, name):
    files = {
        "tokenizer_config.json": {"tokenizer_class": name} | roles(eos="</s>", pad="<pad>"),
        "added_tokens.json": {"<extra_id_0>": 12},
    }
    folder = with_tokenizer(tmp_path, files)
    assert failures(folder) == {}
    assert outcomes(folder, "TOK")["SLM-TOK-001"] is Outcome.PASS
    for requirement in ("SLM-TOK-002", "SLM-TOK-004"):
        with pytest.raises(NotApplicable, match="without a vocabulary"):
            judge(requirement, folder)


def test_a_task_without_text_needs_no_tokenizer(tmp_path):
    folder = with_tokenizer(tmp_path, {}, manifest=MANIFEST.replace('"causal-lm"', '"tensor"'))
    with pytest.raises(NotApplicable, match="no text task"):
        judge("SLM-TOK-001", folder)


def test_an_unknown_form_is_not_examined(tmp_path):
    folder = with_tokenizer(tmp_path, {"vocab.json": {"eng": {"a": 0}}})
    for requirement in ("SLM-TOK-002", "SLM-TOK-004"):
        with pytest.raises(NotExamined, match=r"vocab\.json"):
            judge(requirement, folder)
    assert failures(folder) == {}


def test_rows_unknown_is_not_examined(tmp_path):
    files = {"tokenizer.json": fast()}
    folder = with_tokenizer(tmp_path, files, config={"vocab_size": None}, tensors={})
    with pytest.raises(NotExamined, match="rows"):
        judge("SLM-TOK-004", folder)
    assert "no embedding to compare" in judge("SLM-TOK-002", folder)


def test_broken_json_is_reported_once(tmp_path):
    assert set(failures(with_tokenizer(tmp_path, {"tokenizer.json": "{"}))) == {"SLM-CFG-001"}
