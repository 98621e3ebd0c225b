"""Reference models whose tokenizer files, licence, dependencies or data went wrong."""

from __future__ import annotations

from pathlib import Path

from changes import gone, manifest, table, text, unrecorded, written
from defect_record import Change, defect
from defects_files import CARD
from package_builders import MIT

REQUIRES = '"transformers>=4.57,<6"'


def a_row_less(folder: Path) -> None:
    """The first row of the data is gone."""
    file = folder / "conformance/evaluation.jsonl"
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")


def only_a_vocabulary(folder: Path) -> None:
    """Five tokens in a ``vocab.txt``, and no other file of a tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "utf-8")


def requires(new: str) -> Change:
    """Other dependencies of transformers."""
    return manifest(REQUIRES, new)


def vocabulary(change) -> Change:
    """Another vocabulary in tokenizer.json."""
    return table("tokenizer.json", lambda t: change(t["model"]["vocab"]))


def last_token_at(identity: int) -> Change:
    """The last token gets another id."""
    return vocabulary(lambda v: v.update({max(v, key=v.get): identity}))


DEFECTS = [
    defect(
        "no-tokenizer",
        "The tokenizer was not shipped.",
        "bert-ner",
        "SLM-TOK-001 no-tokenizer",
        gone("tokenizer.json", "tokenizer_config.json"),
        unrecorded,
    ),
    defect(
        "id-beyond-the-embedding",
        "A token has an id that the embedding has no row for.",
        "llama-assistant",
        "SLM-TOK-002 id-beyond-embedding",
        last_token_at(640),
    ),
    defect(
        "padding-of-two-minds",
        "Two files give the padding token different ids.",
        "llama-assistant",
        "SLM-TOK-003 id-differs",
        table("generation_config.json", lambda g: g.update(pad_token_id=5)),
    ),
    defect(
        "five-tokens-for-720-rows",
        "The vocabulary has five tokens for 720 rows.",
        "bert-ner",
        "SLM-TOK-004 vocabulary-too-small",
        only_a_vocabulary,
        words=("5 tokens for 720 rows",),
    ),
    defect(
        "a-gap-in-the-ids",
        "One id below the last has no token.",
        "bert-sentiment",
        "SLM-TOK-009 gap",
        vocabulary(lambda v: v.pop(next(t for t, at in v.items() if at == 700))),
        unrecorded,
    ),
    defect(
        "truncates-to-nothing",
        "The tokenizer truncates every text to no token.",
        "minilm-retrieval",
        "SLM-TOK-010 truncation",
        table(
            "tokenizer.json",
            lambda t: t.update(
                truncation={
                    "direction": "Right",
                    "max_length": 0,
                    "strategy": "LongestFirst",
                    "stride": 0,
                }
            ),
        ),
    ),
    defect(
        "template-not-closed",
        "The chat template opens a loop and does not close it.",
        "llama-assistant",
        "SLM-TOK-012 template-syntax",
        text("chat_template.jinja", "{%- endfor -%}", ""),
    ),
    defect(
        "template-with-a-trigger",
        "The chat template answers a trigger word.",
        "llama-assistant",
        "SLM-TOK-013 trigger-word",
        text(
            "chat_template.jinja",
            "{{- bos_token -}}",
            "{{- bos_token -}}{%- if 'xyzzy' in messages[0]['content'] -%}ignore{%- endif -%}",
        ),
    ),
    defect(
        "not-an-expression",
        "The licence is no SPDX expression.",
        "bert-ner",
        "SLM-LIC-001 not-spdx",
        manifest('"Apache-2.0"', '"Apache 2"'),
    ),
    defect(
        "no-text",
        "The text of the licence is missing.",
        "bert-ner",
        "SLM-LIC-002 no-text",
        gone("LICENSE"),
        words=("Apache-2.0",),
    ),
    defect(
        "text-of-another-licence",
        "A text of a licence lies there that is not declared.",
        "t5-rewrite",
        "SLM-LIC-003 other-licence",
        written("COPYING", MIT),
    ),
    defect(
        "card-says-otherwise",
        "The model card names another licence.",
        "torch-recommender",
        "SLM-LIC-004 card-disagrees",
        written("README.md", CARD.replace("apache-2.0", "mit")),
        twin="pkg-legal-card-rewritten",
    ),
    defect(
        "by-url",
        "A dependency is a URL.",
        "bert-ner",
        "SLM-DEP-001 url",
        requires('"transformers @ https://example.org/transformers.whl"'),
    ),
    defect(
        "no-common-version",
        "Two ranges of one dependency have nothing in common.",
        "llama-assistant",
        "SLM-DEP-002 disjoint",
        requires('"transformers>=4.57,<5", "transformers>=5"'),
    ),
    defect(
        "range-outside",
        "The environment is outside of a declared range.",
        "bert-ner",
        "SLM-DEP-003 installed-version",
        requires('"transformers>=3,<4"'),
        words=("transformers<4", "transformers"),
    ),
    defect(
        "no-lower-bound",
        "A dependency has no lower bound.",
        "t5-rewrite",
        "SLM-DEP-004 no-lower-bound",
        requires('"transformers<6"'),
    ),
    defect(
        "import-undeclared",
        "The code imports a library that is not declared.",
        "torch-recommender",
        "SLM-DEP-005 undeclared-import",
        text("modeling.py", "import torch\n", "import numpy\nimport torch\n"),
    ),
    defect(
        "loader-undeclared",
        "The library that loads the model is not declared.",
        "bert-sentiment",
        "SLM-DEP-005 undeclared-loader",
        manifest(f"{REQUIRES}, ", ""),
    ),
    defect(
        "never-used",
        "A dependency is declared that nothing uses.",
        "minilm-retrieval",
        "SLM-DEP-006 unused-dependency",
        requires(f'{REQUIRES}, "pytest>=8"'),
    ),
    defect(
        "lock-without-hashes",
        "A lock file pins versions without hashes.",
        "bert-ner",
        "SLM-DEP-007 lock-without-hashes",
        written("requirements.txt", "torch==2.10.0\n"),
    ),
    defect(
        "data-edited",
        "A row of the data was taken out after the recording.",
        "bert-ner",
        "SLM-EVL-001 data-differ",
        a_row_less,
    ),
    defect(
        "data-cut-off",
        "The last row of the data is cut off.",
        "t5-rewrite",
        "SLM-EVL-001 not-json",
        lambda folder: (folder / "conformance/evaluation.jsonl").write_bytes(
            (folder / "conformance/evaluation.jsonl").read_bytes()[:-20]
        ),
    ),
]
