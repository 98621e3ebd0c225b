"""T: tokenizers whose ids, settings or patterns are broken or mean harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_row import Row
from tokenizer_builders import TOKENS, added, fast, roles, sentencepiece_model, with_tokenizer

Build = Callable[[Path], object]

LETTERS = ["<unk>", "<s>", "</s>", *"abcdefghijklm"]
ROLES = roles(bos="<s>", eos="</s>", unk="<unk>") | {"tokenizer_class": "PreTrainedTokenizerFast"}
DYNAMIC = {"profile": "runnable", "timeout": 15}


def loadable(**settings: Any) -> dict[str, Any]:
    """A whole tokenizer.json of sixteen tokens that the library can build."""
    table = fast(LETTERS, added(("<unk>", 0), ("<s>", 1), ("</s>", 2)))
    table["model"] |= {"merges": [], "unk_token": "<unk>"}
    for key in ("normalizer", "pre_tokenizer", "decoder", "truncation", "padding"):
        table[key] = settings.get(key)
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    table["added_tokens"] = [token | plain for token in table["added_tokens"]]
    return table | settings


def package(files: dict[str, Any] | None = None, **settings: Any) -> Build:
    """A package that loads, with settings of tokenizer.json changed and files added."""
    tables = {"tokenizer.json": loadable(**settings), "tokenizer_config.json": ROLES}
    return lambda folder: with_tokenizer(folder, tables | (files or {}))


def bare(files: dict[str, Any], **config: Any) -> Build:
    """A package with these tokenizer files and no other."""
    tables = {"tokenizer_config.json": {}} | files
    return lambda folder: with_tokenizer(folder, tables, config=config)


def replace(pattern: str, content: str, *, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def split(expression: str) -> dict[str, Any]:
    where = {"pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Split", **where}


def sequence(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}


def truncation(length: int, stride: int = 0) -> dict[str, Any]:
    where = {"direction": "Right", "strategy": "LongestFirst"}
    return {"max_length": length, "stride": stride, **where}


def padding(strategy: Any, multiple: int | None = None) -> dict[str, Any]:
    pad = {"direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}
    return {"strategy": strategy, "pad_to_multiple_of": multiple, **pad}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True} | {
    "use_regex": False
}
LOWER = {"type": "Lowercase"}
PLAIN = package()

ROWS = [
    # T01: duplicate ids
    Row(
        "T01-vocabulary",
        "two tokens of the vocabulary have one id",
        bare({"tokenizer.json": fast({t: min(i, 14) for i, t in enumerate(TOKENS)})}),
        "SLM-TOK-002",
        "duplicate-id",
        twin=bare({"tokenizer.json": fast()}),
    ),
    Row(
        "T01-added",
        "an added token takes the id of another",
        bare({"tokenizer.json": fast(TOKENS, added(("<extra>", 7)))}),
        "SLM-TOK-002",
        "duplicate-id",
        twin=bare({"tokenizer.json": fast(TOKENS[:15], added(("<extra>", 15)))}),
    ),
    # T02: gaps
    Row(
        "T02-gap",
        "an id among the others belongs to no token",
        bare({"tokenizer.json": fast({t: i + (i > 8) for i, t in enumerate(TOKENS[:15])})}),
        "SLM-TOK-009",
        "gap",
        "warn",
        twin=bare({"tokenizer.json": fast([*"abcdefghi"], added(("<pad>", 12), ("<e>", 15)))}),
    ),
    Row(
        "T02-gap-in-vocab-json",
        "the same in vocab.json",
        bare({"vocab.json": {c: i + 1 for i, c in enumerate("abcdefghi")}}),
        "SLM-TOK-009",
        "gap",
        "warn",
        twin=bare({"vocab.json": {c: i + 1 for i, c in enumerate("abcdefghi")}}, pad_token_id=0),
    ),
    # T03: beyond the embedding
    Row(
        "T03-added",
        "an added token has no row in the embedding",
        bare({"tokenizer.json": fast(TOKENS, added(("<extra>", 16)))}),
        "SLM-TOK-002",
        "id-beyond-embedding",
        twin=bare({"tokenizer.json": fast(TOKENS[:15], added(("<extra>", 15)))}),
    ),
    Row(
        "T03-vocabulary",
        "a line of vocab.txt has no row in the embedding",
        bare({"vocab.txt": "\n".join([*TOKENS, "z"])}),
        "SLM-TOK-002",
        "id-beyond-embedding",
        twin=bare({"vocab.txt": "\n".join(TOKENS)}),
    ),
    Row(
        "T03-processor",
        "a template puts in an id that has no row, seen when a text is encoded",
        package(
            post_processor={
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<x>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {"<x>": {"id": "<x>", "ids": [16], "tokens": ["<x>"]}},
            }
        ),
        "SLM-TOK-011",
        "id-beyond-embedding",
        twin=PLAIN,
        options=DYNAMIC,
    ),
    # T04: collisions of added tokens
    Row(
        "T04-added",
        "an added token has another id than in the vocabulary",
        bare({"tokenizer.json": fast(TOKENS[:12], added(("a", 15)))}),
        "SLM-TOK-002",
        "collision",
        twin=bare({"tokenizer.json": fast(TOKENS[:12], added(("a", 4)))}),
    ),
    # T05: empty tokens
    Row(
        "T05-added",
        "an added token is empty",
        bare({"tokenizer.json": fast(TOKENS[:15], added(("", 15)))}),
        "SLM-TOK-002",
        "empty-token",
        twin=bare({"tokenizer.json": fast(TOKENS[:15], added((" ", 15)))}),
    ),
    Row(
        "T05-word-piece",
        "a word piece is empty",
        bare({"tokenizer.json": fast([*TOKENS[:15], ""], kind="WordPiece")}),
        "SLM-TOK-002",
        "empty-token",
        twin=bare({"tokenizer.json": fast([*TOKENS[:15], ""], kind="BPE")}),
    ),
    Row(
        "T05-line",
        "a line of vocab.txt is empty",
        bare({"vocab.txt": "\n".join([*TOKENS[:9], "", *TOKENS[9:15]])}),
        "SLM-TOK-002",
        "empty-token",
        twin=bare({"vocab.txt": "\n".join([*TOKENS[:9], "\u2028", *TOKENS[9:15]])}),
    ),
    # T06: truncation to nothing
    Row(
        "T06-truncation",
        "every text is cut to nothing",
        package(truncation=truncation(0)),
        "SLM-TOK-010",
        "truncation",
        twin=package(truncation=truncation(1)),
    ),
    Row(
        "T06-model-max-length",
        "every text is cut to nothing, by the configuration",
        package({"tokenizer_config.json": ROLES | {"model_max_length": 0}}),
        "SLM-TOK-010",
        "truncation",
        twin=package({"tokenizer_config.json": ROLES | {"model_max_length": int(1e30)}}),
    ),
    Row(
        "T06-negative",
        "the longest text has -1 tokens",
        package({"tokenizer_config.json": ROLES | {"max_length": -1}}),
        "SLM-TOK-010",
        "truncation",
        twin=package({"tokenizer_config.json": ROLES | {"max_length": 128, "stride": 0}}),
    ),
    Row(
        "T06-stride",
        "the pieces of a cut text never move on",
        package(truncation=truncation(8, stride=8)),
        "SLM-TOK-010",
        "stride",
        twin=package(truncation=truncation(8, stride=7)),
    ),
    # T07: growth
    Row(
        "T07-doubling",
        "forty rules each write one letter twice",
        package(normalizer=sequence("normalizers", *[replace("a", "aa")] * 40)),
        "SLM-TOK-010",
        "growth",
        twin=package(
            normalizer=sequence("normalizers", *[replace(c, f" {c} ") for c in ".,!?;:()'-"])
        ),
    ),
    Row(
        "T07-in-turn",
        "two rules that write each other's letter twice, in lower case",
        package(
            normalizer=sequence(
                "normalizers",
                *[replace("a", "BB"), LOWER, replace("b", "AA"), LOWER] * 20,
            )
        ),
        "SLM-TOK-010",
        "growth",
        twin=package(
            normalizer=sequence(
                "normalizers",
                replace("``", '"'),
                replace("''", '"'),
                {"type": "NFKD"},
                {"type": "StripAccents"},
                LOWER,
            )
        ),
    ),
    Row(
        "T07-expression",
        "thirty regular expressions each put two letters in place of one",
        package(normalizer=sequence("normalizers", *[replace("[a-c]", "ab", kind="Regex")] * 30)),
        "SLM-TOK-010",
        "growth",
        twin=package(
            normalizer=sequence("normalizers", *[replace("\\s{2,}", " ", kind="Regex")] * 30)
        ),
    ),
    Row(
        "T07-prepend",
        "what is put before a text grows",
        package(
            normalizer=sequence(
                "normalizers",
                {"type": "Prepend", "prepend": "b"},
                *[replace("b", "bbb")] * 20,
            )
        ),
        "SLM-TOK-010",
        "growth",
        twin=package(
            normalizer=sequence(
                "normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")
            )
        ),
    ),
    Row(
        "T07-bytes",
        "letters are written as bytes, and these as bytes again, forty times",
        package(pre_tokenizer=sequence("pretokenizers", *[BYTE_LEVEL] * 40)),
        "SLM-TOK-010",
        "growth",
        twin=package(pre_tokenizer=BYTE_LEVEL),
    ),
    Row(
        "T07-decoder",
        "the decoder doubles blanks forty times",
        package(decoder=sequence("decoders", *[replace(" ", "  ")] * 40)),
        "SLM-TOK-010",
        "growth",
        twin=package(decoder=sequence("decoders", replace("\u2581", " "), {"type": "Fuse"})),
    ),
    Row(
        "T07-nothing",
        "a rule replaces nothing by a letter",
        package(normalizer=replace("", "a")),
        "SLM-TOK-010",
        "empty-pattern",
        twin=package(normalizer=replace("a", "")),
    ),
    Row(
        "T07-many",
        "so many rules that to judge them would take long",
        package(
            normalizer=sequence(
                "normalizers",
                *[replace("[a-c]", "".join(map(chr, range(300, 1300))), kind="Regex")] * 2000,
            )
        ),
        "SLM-TOK-010",
        "too-many-steps",
        twin=package(
            normalizer=sequence(
                "normalizers", *[replace(chr(300 + n), chr(97 + n % 26)) for n in range(2000)]
            )
        ),
    ),
    Row(
        "T07-measured",
        "a rule that writes ten thousand letters for one, seen when a text is encoded",
        package(normalizer=replace("[a-z]", "abc" * 4000, kind="Regex")),
        "SLM-TOK-011",
        "encoding-grows",
        twin=package(normalizer=replace("[0-9]", "abc", kind="Regex")),
        options=DYNAMIC,
    ),
    # T08: padding
    Row(
        "T08-fixed",
        "every text is filled up to a thousand million tokens",
        package(padding=padding({"Fixed": 10**9})),
        "SLM-TOK-010",
        "padding",
        twin=package(padding=padding({"Fixed": 512}, 8)),
    ),
    Row(
        "T08-multiple",
        "every text is filled up to a multiple of a thousand million",
        package(padding=padding("BatchLongest", 10**9)),
        "SLM-TOK-010",
        "padding",
        twin=package(padding=padding("BatchLongest", 64)),
    ),
    Row(
        "T08-configuration",
        "the same by tokenizer_config.json",
        package({"tokenizer_config.json": ROLES | {"pad_to_multiple_of": 10**9}}),
        "SLM-TOK-010",
        "padding",
        twin=package({"tokenizer_config.json": ROLES | {"pad_to_multiple_of": None}}),
    ),
    # T09: patterns that go back again and again
    Row(
        "T09-exponential",
        "a pattern that tries every way to divide a run of letters: the library panics",
        package(pre_tokenizer=split("(a+)+b")),
        "SLM-TOK-011",
        "tokenizer-panics",
        twin=package(pre_tokenizer=split("a+|\\s+(?!\\S)|\\s+")),
        options=DYNAMIC,
    ),
    Row(
        "T09-cubic",
        "a pattern whose time grows with the third power of a run of letters",
        package(pre_tokenizer=split("a+a+b")),
        "SLM-TOK-011",
        "encoding-slow",
        twin=package(pre_tokenizer=split("[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\s*[\\r\\n]+|\\s+")),
        options=DYNAMIC,
    ),
    Row(
        "T09-blanks",
        "the same with blanks, in a rule of the normaliser",
        package(normalizer=replace("\\s+\\s+x", "", kind="Regex")),
        "SLM-TOK-011",
        "encoding-slow",
        twin=package(normalizer=replace("\\s{2,}", " ", kind="Regex")),
        options=DYNAMIC,
    ),
    Row(
        "T09-hang",
        "patterns that begin to take long at 2300 letters, and then do not end: the wall limit",
        package(pre_tokenizer=sequence("pretokenizers", *[split("(?=a{2300})a+a+b")] * 4)),
        "SLM-TOK-011",
        "timed-out",
        "error",
        options=DYNAMIC | {"timeout": 10},
    ),
    # T10: special tokens that differ between files
    Row(
        "T10-roles",
        "two files name two tokens for one role",
        package({"special_tokens_map.json": {"eos_token": "<unk>"}}),
        "SLM-TOK-003",
        "role-differs",
        twin=package({"special_tokens_map.json": {"eos_token": "</s>"}}),
    ),
    Row(
        "T10-ids",
        "the configuration ends a text with an ordinary token",
        bare({"tokenizer.json": fast(LETTERS), "tokenizer_config.json": ROLES}, eos_token_id=9),
        "SLM-TOK-003",
        "id-differs",
        twin=bare({"tokenizer.json": fast(LETTERS), "tokenizer_config.json": ROLES}),
    ),
    Row(
        "T10-generation",
        "generation begins with another token",
        package({"generation_config.json": {"bos_token_id": 5}}),
        "SLM-TOK-003",
        "id-differs",
        twin=package({"generation_config.json": {"bos_token_id": 1}}),
    ),
    # T11: far fewer tokens than rows
    Row(
        "T11-files",
        "the files hold five tokens for sixteen rows",
        bare({"tokenizer.json": fast(LETTERS[:5]), "tokenizer_config.json": ROLES}),
        "SLM-TOK-004",
        "vocabulary-too-small",
        twin=bare({"tokenizer.json": fast(LETTERS[:8]), "tokenizer_config.json": ROLES}),
    ),
    Row(
        "T11-pieces",
        "a SentencePiece model holds five pieces for sixteen rows",
        bare({"spiece.model": sentencepiece_model(TOKENS[:5])}),
        "SLM-TOK-004",
        "vocabulary-too-small",
        twin=bare({"spiece.model": sentencepiece_model(TOKENS)}),
    ),
    Row(
        "T11-loaded",
        "the files hold sixteen tokens and the library reads hardly any",
        bare(
            {
                "vocab.json": {t: i for i, t in enumerate(LETTERS)},
                "tokenizer_config.json": ROLES,
            }
        ),
        "SLM-TOK-005",
        "tokenizer-does-not-load",
        twin=PLAIN,
        options=DYNAMIC,
    ),
]
