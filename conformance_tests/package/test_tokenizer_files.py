"""Tokenizer files of every form, read without a tokenizer library; saved ones read the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from package_builders import make_package
from tokenizer_builders import added, as_files, fast, roles, sentencepiece_model

from slmconform.package import chat_templates, sentencepiece
from slmconform.package.embedding import input_embedding
from slmconform.package.folder import scan
from slmconform.package.special_tokens import contradictions
from slmconform.package.tensors import TensorEntry
from slmconform.package.tokenizer import TokenizerFiles, read

TEXTS = [
    "the quick brown fox",
    "Hello, world! na\u00efve caf\u00e9 12345",
    "\u65e5\u672c\u8a9e",
] * 9


def files(folder: Path, tables: dict[str, object]) -> TokenizerFiles:
    for path, content in as_files(tables).items():
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return read(scan(folder))


PIECES = ["<unk>", "<s>", "</s>", *(f"\u2581{i}" for i in range(300))]

FORMS = {
    "bpe": ({"tokenizer.json": fast()}, 16),
    "word level": ({"tokenizer.json": fast(kind="WordLevel")}, 16),
    "word piece": ({"tokenizer.json": fast(kind="WordPiece")}, 16),
    "unigram": ({"tokenizer.json": fast(kind="Unigram")}, 16),
    "with tokens added behind": ({"tokenizer.json": fast(extra=added(("<x>", 20)))}, 17),
    "without a type": ({"tokenizer.json": {"model": {"vocab": {"a": 0}}}}, 1),
    "vocab.json": ({"vocab.json": {"a": 0, "b": 1}, "added_tokens.json": {"c": 5}}, 3),
    "vocab.txt": ({"vocab.txt": "a\nb\nc\n"}, 3),
    "vocab.txt and its fast form": ({"vocab.txt": "a\n", "tokenizer.json": fast()}, 16),
    "dictionary": ({"vocab.txt": "a 9\nb 8\n", "bpe.codes": ""}, 6),
    "sentencepiece": ({"spiece.model": sentencepiece_model(PIECES)}, 303),
    "sentencepiece with a map": (
        {"source.spm": sentencepiece_model(PIECES), "vocab.json": {"a": 0, "b": 1}},
        2,
    ),
    "ranks": (
        {"qwen.tiktoken": b"\n".join(base64.b64encode(bytes([i])) + b" %d" % i for i in range(9))},
        9,
    ),
    "tekken": ({"tekken.json": {"config": {"default_vocab_size": 131072}, "vocab": []}}, 131072),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_tells_its_size(tmp_path, name):
    tables, size = FORMS[name]
    found = files(tmp_path, tables)
    assert (found.size, found.unread, found.problems) == (size, "", ())
    assert found.source in tables
    assert set(found.files) == set(tables)


@pytest.mark.parametrize(
    "tables",
    [
        {"tokenizer.json": {}},
        {"tokenizer.json": {"model": 3}},
        {"tokenizer.json": []},
        {"tokenizer.json": "{"},
        {"tokenizer.json": {"model": {"type": "Unigram", "vocab": "abc"}}},
        {"vocab.json": {"eng": {"a": 1}}},
        {"vocab.json": []},
        {"tokenizer.model": b""},
        {"tokenizer.model": b"\x0a\xff"},
        {"tokenizer.model": b"\x80" * 40},
        {"tokenizer.model": b"not a model at all"},
        {"tokenizer.model": sentencepiece_model(PIECES)[:-40]},
        {"tekken.json": {"config": {}}},
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_size(tmp_path, tables):
    found = files(tmp_path, tables)
    assert found.size is None
    assert found.unread.startswith(next(iter(tables)))
    assert not found.problems


@pytest.mark.parametrize(
    "table",
    [
        {"tokenizer.json": fast(["a", 1, None, ("b",)], [], kind="Unigram")},
        {"tokenizer.json": fast({"a": "0", "b": None, "c": 1.0}, [])},  # type: ignore[dict-item]
        {"tokenizer.json": fast(extra=[{"id": None, "content": 3}, {}])},
        {"vocab.json": {"a": True}},
    ],
)
def test_ids_and_tokens_of_other_types_are_problems(tmp_path, table):
    assert {p.code for p in files(tmp_path, table).problems} == {"not-an-id"}


def test_many_problems_stay_bounded(tmp_path):
    found = files(tmp_path, {"vocab.json": dict.fromkeys(map(str, range(5000)), 7)})
    assert 0 < len(found.problems) <= 20


def test_odd_side_files_say_nothing(tmp_path):
    tables = {
        "tokenizer.json": fast(processor={"type": "Sequence", "processors": [3, {"sep": "x"}]}),
        "tokenizer_config.json": {"bos_token": 3, "added_tokens_decoder": [1], "eos_token": {}},
        "special_tokens_map.json": [],
        "config.json": {"bos_token_id": "1", "eos_token_id": [None, "2"], "text_config": 3},
        "generation_config.json": {"eos_token_id": True, "pad_token_id": -1},
        "added_tokens.json": {},
    }
    assert contradictions(files(tmp_path, tables), 16) == []


def test_roles_inside_a_text_configuration_are_compared(tmp_path):
    tables = {
        "tokenizer.json": fast(),
        "tokenizer_config.json": roles(bos="<s>", eos="</s>"),
        "config.json": {"text_config": {"eos_token_id": 1}},
    }
    (found,) = contradictions(files(tmp_path, tables), 16)
    assert found.code == "id-differs"


def test_pieces_are_read_in_order():
    assert sentencepiece.pieces(sentencepiece_model(PIECES)) == PIECES


def test_pieces_cut_anywhere_raise_and_never_crash():
    data = sentencepiece_model(PIECES[:3])
    for end in range(len(data)):
        try:
            sentencepiece.pieces(data[:end])
        except sentencepiece.NotSentencePiece:
            continue


NAMED = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
KEY = "tokenizer_config.json: chat_template"


@pytest.mark.parametrize(
    ("tables", "templates"),
    [
        ({"chat_template.jinja": "{{ a }}"}, {"chat_template.jinja": "{{ a }}"}),
        (
            {"chat_template.json": {"chat_template": "{{ b }}"}},
            {"chat_template.json: chat_template": "{{ b }}"},
        ),
        ({"tokenizer_config.json": {"chat_template": "{{ c }}"}}, {KEY: "{{ c }}"}),
        (
            {
                "chat_template.jinja": "{{ a }}",
                "additional_chat_templates/rag.jinja": "{{ r }}",
                "tokenizer_config.json": {"chat_template": "{{ c }}"},
            },
            {
                "chat_template.jinja": "{{ a }}",
                "additional_chat_templates/rag.jinja": "{{ r }}",
                KEY: "{{ c }}",
            },
        ),
        (
            {"tokenizer_config.json": {"chat_template": NAMED}},
            {f"{KEY}, 'tools'": "t", f"{KEY}, 'default'": "d"},
        ),
        ({"tokenizer_config.json": {"chat_template": {"x": "t"}}}, {f"{KEY}, 'x'": "t"}),
        ({"tokenizer_config.json": {"chat_template": None}}, {}),
        ({"chat_template.json": []}, {}),
        ({"vocab.txt": "a"}, {}),
    ],
)
def test_every_chat_template_is_found(tmp_path, tables, templates):
    found = chat_templates.read(scan(make_package(tmp_path, files=as_files(tables))))
    assert {one.where: one.text for one in found.found} == templates
    assert found.problems == ()
    assert bool(found) is bool(templates)


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        ({"tokenizer_config.json": {"chat_template": [3, {"name": []}]}}, "not-a-template"),
        ({"tokenizer_config.json": {"chat_template": 3}}, "not-a-template"),
        ({"chat_template.jinja": b"\xff"}, "not-utf8"),
        ({"chat_template.jinja": " " * (2**16 + 1)}, "too-large"),
        ({"tokenizer_config.json": {"chat_template": " " * (2**16 + 1)}}, "too-large"),
        ({f"additional_chat_templates/{n}.jinja": " " * 2**16 for n in range(3)}, "too-large"),
    ],
)
def test_what_is_no_template_is_told(tmp_path, tables, code):
    found = chat_templates.read(scan(make_package(tmp_path, files=as_files(tables))))
    assert [one.code for one in found.problems] == [code]
    assert found


def entry(name: str, *shape: int) -> tuple[str, TensorEntry]:
    return name, TensorEntry(name, "F32", shape, 0, 4, "model.safetensors")


@pytest.mark.parametrize(
    ("tensors", "config", "rows"),
    [
        ([entry("bert.embeddings.word_embeddings.weight", 99, 4)], {"vocab_size": 50}, 99),
        ([entry("model.embed_tokens.weight", 99, 4), entry("lm_head.weight", 50, 4)], {}, 99),
        ([entry("encoder.embed_tokens.weight", 9, 4), entry("shared.weight", 9, 4)], {}, 9),
        ([entry("transformer.wte.weight", 99, 4), entry("transformer.wpe.weight", 512, 4)], {}, 99),
        ([entry("backbone.embeddings.weight", 99, 4)], {}, 99),
        ([entry("wte.weight", 99, 4)], None, 99),
        ([entry("embeddings.position_embeddings.weight", 512, 4)], {"vocab_size": 50}, 50),
        ([entry("xembeddings.weight", 512, 4)], {"text_config": {"vocab_size": 50}}, 50),
        ([entry("word_embeddings.weight", 99)], {"vocab_size": 50}, 50),
        ([], {"vocab_size": True}, None),
        ([], {"vocab_size": 0, "text_config": []}, None),
        ([], None, None),
    ],
)
def test_rows_of_the_input_embedding(tensors, config, rows):
    found = input_embedding(dict(tensors), config)
    assert (found.rows if found else None) == rows


# --- what the libraries themselves save --------------------------------------------------------


def byte_level(special: list[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def trained(kind: str, special: list[str]):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    unknown = "[UNK]" if kind == "WordPiece" else "<unk>"
    options = {"special_tokens": special, "show_progress": False}
    if kind == "Unigram":
        made, options["unk_token"] = Tokenizer(models.Unigram()), unknown
    else:
        made = Tokenizer(getattr(models, kind)(unk_token=unknown))
    if kind in ("Unigram", "BPE"):
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        TEXTS, getattr(trainers, f"{kind.replace('BPE', 'Bpe')}Trainer")(**options)
    )
    return made


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
SAVED = {
    "gpt2": (lambda: byte_level(["<e>"]), {"bos": "<e>", "eos": "<e>", "unk": "<e>"}),
    "gpt2, padding added": (lambda: byte_level(["<e>"]), {"eos": "<e>", "pad": "<pad>"}),
    "llama 3": (lambda: byte_level(["<b>", "<e>", "<eot>"]), {"bos": "<b>", "eos": "<eot>"}),
    "qwen": (lambda: byte_level(["<e>", "<im>", "</im>"]), {"eos": "</im>", "pad": "<e>"}),
    "llama 2": (
        lambda: trained("BPE", ["<unk>", "<s>", "</s>"]),
        {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    ),
    "gemma": (
        lambda: trained("BPE", ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>"]),
        {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"},
    ),
    "bert": (lambda: trained("WordPiece", BERT), BERT_ROLES),
    "bert, other order": (lambda: trained("WordPiece", BERT[::-1]), BERT_ROLES),
    "t5": (
        lambda: trained("Unigram", ["<pad>", "</s>", "<unk>"]),
        {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
    ),
    "xlm-roberta": (
        lambda: trained("Unigram", ["<s>", "<pad>", "</s>", "<unk>"]),
        {
            "bos": "<s>",
            "eos": "</s>",
            "cls": "<s>",
            "sep": "</s>",
            "pad": "<pad>",
            "mask": "<mask>",
        },
    ),
    "word level": (
        lambda: trained("WordLevel", ["<unk>", "<pad>"]),
        {"unk": "<unk>", "pad": "<pad>"},
    ),
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_tokenizers_are_read_whole(tmp_path, name):
    import transformers

    make, named = SAVED[name]
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=make(),
        model_max_length=512,
        **{f"{role}_token": token for role, token in named.items()},
    )
    made.save_pretrained(tmp_path)
    ids = {f"{role}_token_id": getattr(made, f"{role}_token_id") for role in named}
    (tmp_path / "config.json").write_text(json.dumps(ids))
    found = read(scan(tmp_path))
    assert found.problems == ()
    assert found.size == len(made)
    assert found.ids == made.get_vocab()
    assert found.exact
    assert {"tokenizer_config.json", "config.json"} <= found.tables.keys()
    assert contradictions(found, len(made)) == []
    # The same files do contradict a configuration whose ids are those of other tokens.
    role = next(iter(named))
    ordinary = next(i for t, i in found.ids.items() if t not in made.get_added_vocab())
    moved = ids | {f"{role}_token_id": ordinary}
    (tmp_path / "config.json").write_text(json.dumps(moved))
    assert [p.code for p in contradictions(read(scan(tmp_path)), len(made))] == ["id-differs"]
