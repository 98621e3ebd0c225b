"""Tokenizers and chat templates of reference models that load or work otherwise."""

from __future__ import annotations

from changes import gone, table, text, unrecorded, written
from defect_record import Change, NearMiss, defect

TEMPLATE = "chat_template.jinja"
START = "{{- bos_token -}}"
LOOPS = "".join(f"{{%- for {x} in range(99999) -%}}" for x in "abc") + "{%- endfor -%}" * 3


def tokenizer(**keys) -> Change:
    """Other parts of tokenizer.json."""
    return table("tokenizer.json", lambda t: t.update(keys))


def template(old: str, new: str) -> Change:
    """Another chat template."""
    return text(TEMPLATE, old, new)


DEFECTS = [
    defect(
        "unknown-normalizer",
        "The library knows no such normalizer.",
        "llama-assistant",
        "SLM-TOK-005 tokenizer-does-not-load",
        tokenizer(normalizer={"type": "Nothing"}),
        words=("AutoTokenizer",),
    ),
    defect(
        "pattern-that-panics",
        "A pattern makes the library panic.",
        "llama-assistant",
        "SLM-TOK-011 tokenizer-panics",
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a+)+b"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        words=("PanicException", "text of"),
    ),
    defect(
        "lowers-its-text",
        "Texts are lowered that were not.",
        "llama-assistant",
        "SLM-TOK-006 encoding-differs",
        tokenizer(normalizer={"type": "Lowercase"}),
        words=("text 'The quick brown fox",),
    ),
    defect(
        "no-decoder",
        "Tokens are not put together again.",
        "llama-assistant",
        "SLM-TOK-007 decoding-differs",
        tokenizer(decoder=None),
        words=("The quick brown fox", "Ġ"),
    ),
    defect(
        "no-decoder-of-pieces",
        "Pieces of words are not put together again.",
        "minilm-retrieval",
        "SLM-TOK-007 decoding-differs",
        tokenizer(decoder=None),
    ),
    defect(
        "renders-otherwise",
        "The template writes another bracket.",
        "llama-assistant",
        "SLM-TOK-008 rendering-differs",
        template("~ '|>' ~", "~ '|:' ~"),
        words=("<|user|:",),
    ),
    defect(
        "refuses-the-recorded",
        "The template refuses the recorded conversation.",
        "llama-assistant",
        "SLM-TOK-008 rendering-differs",
        template(
            START,
            "{%- if messages|length > 1 -%}{{- raise_exception('only one turn') -}}"
            f"{{%- endif -%}}{START}",
        ),
        words=("only one turn",),
    ),
    defect(
        "template-removed",
        "The chat template is gone.",
        "llama-assistant",
        "SLM-TOK-008 rendering-differs",
        gone(TEMPLATE),
        words=("no chat template",),
    ),
    defect(
        "template-added",
        "A chat template came to a model that had none.",
        "bert-ner",
        "SLM-TOK-008 template-added",
        written(TEMPLATE, "{% for m in messages %}{{ m.content }}{% endfor %}"),
        words=("a chat template", "none, as recorded"),
    ),
    defect(
        "refuses-everything",
        "The template refuses every conversation.",
        "llama-assistant",
        "SLM-TOK-014 template-raises",
        template(START, "{{- raise_exception('never') -}}"),
        words=("never",),
    ),
    defect(
        "template-without-end",
        "The template does not end.",
        "llama-assistant",
        "SLM-TOK-014 template-slow",
        template(START, LOOPS + START),
        unrecorded,
        words=("no end after 5 s",),
    ),
    defect(
        "drops-messages",
        "The template keeps the last message only.",
        "llama-assistant",
        "SLM-TOK-015 message-dropped",
        template("in messages -%}", "in messages[-1:] -%}"),
        unrecorded,
    ),
]


def saved_again(folder) -> None:
    """Configuration and tokenizer as the library writes them."""
    from transformers import AutoConfig, AutoTokenizer

    AutoConfig.from_pretrained(folder).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


NEAR_MISSES = [
    NearMiss(
        f"tok-legal-{package}-saved-again",
        "Configuration and tokenizer were saved again by the library.",
        package,
        (saved_again,),
        profile="reproducible",
    )
    for package in ("llama-assistant", "bert-ner")
]
