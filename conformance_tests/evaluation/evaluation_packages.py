"""Tiny packages of every text task with one small vocabulary of whole words, and their claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from package_builders import MIT
from tokenizers import models, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (  # noqa: SIM905 - sentences read better than a list
    "the a parcel lamp shop order number is was late good bad red blue green new old small large "
    "please send return where when who what Anna Berlin Acme Oslo hello thanks yes no and or"
).split()
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LENGTH = 48
DATA = "conformance/evaluation.jsonl"
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "initializer_range": 0.6,
}
CLASSES = {
    "text-classification": ("BertForSequenceClassification", "labels"),
    "token-classification": ("BertForTokenClassification", "sequence", "labels"),
    "question-answering": ("BertForQuestionAnswering",),
    "multiple-choice": ("BertForMultipleChoice", "choices"),
    "masked-lm": ("BertForMaskedLM", "sequence", "vocabulary"),
    "sentence-embedding": ("BertModel",),
    "causal-lm": ("LlamaForCausalLM", "sequence", "vocabulary"),
    "seq2seq-lm": ("T5ForConditionalGeneration", "target", "vocabulary"),
}
# A manifest of own code that takes numbers.
NUMBERS = """spec = "1.0"
profile = "runnable"
[model]
name = "numbers"
version = "1.0.0"
task = "{task}"
license = "MIT"
[loader]
kind = "torch"
entry = "modeling.py:build"
[dependencies]
python = ">=3.11"
requires = ["torch>=2.10"]
[[interface.inputs]]
name = "values"
dtype = "float32"
axes = ["batch", 2, 2]
[[interface.outputs]]
name = "scores"
dtype = "float32"
axes = ["batch", 20]
"""


def vocabulary() -> dict[str, int]:
    """Every token and its id."""
    return {token: at for at, token in enumerate((*SPECIAL, *WORDS))}


def build(folder: Path, task: str, *, labels: int = 5, padding: str = '"right"') -> Path:
    """A package of random weights for a task, with a manifest and without evidence."""
    folder.mkdir(parents=True)
    _tokenizer(folder, pair=task not in ("causal-lm", "seq2seq-lm"))
    config = _config(task, labels)
    model_class = CLASSES[task][0]
    torch.manual_seed(3)
    model = getattr(transformers, model_class)(config).eval()
    if task == "seq2seq-lm":  # T5 starts so small that every logit is nearly the same
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.4)
    model.save_pretrained(folder)
    (folder / "LICENSE").write_text(MIT, "utf-8")
    (folder / "conformance").mkdir()
    (folder / "slm.toml").write_text(_manifest(task, labels, padding), "utf-8")
    return folder


def _tokenizer(folder: Path, *, pair: bool) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary(), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if pair:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]", "eos_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}or {% endif %}"
    )
    fast.save_pretrained(folder)


def _config(task: str, labels: int) -> Any:
    size = len(vocabulary())
    if task == "causal-lm":
        return transformers.LlamaConfig(
            vocab_size=size, pad_token_id=0, bos_token_id=2, eos_token_id=3, **SHAPE
        )
    if task == "seq2seq-lm":
        return transformers.T5Config(
            vocab_size=size,
            d_model=32,
            d_ff=48,
            d_kv=8,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=3,
            decoder_start_token_id=0,
        )
    names = dict(enumerate(TAGS)) if task == "token-classification" else {}
    named = {"id2label": names, "label2id": {v: k for k, v in names.items()}} if names else {}
    if task == "text-classification":
        named = {"num_labels": labels}
    return transformers.BertConfig(vocab_size=size, pad_token_id=0, **named, **SHAPE)


def _manifest(task: str, labels: int, padding: str) -> str:
    axes = (
        '["batch", "choices", "sequence"]' if task == "multiple-choice" else '["batch", "sequence"]'
    )
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if task not in ("causal-lm", "seq2seq-lm") else []
    highest = {"input_ids": len(vocabulary()) - 1}
    inputs = "".join(_tensor("inputs", n, "int64", axes, highest.get(n, 1)) for n in names)
    if task == "seq2seq-lm":
        top = highest["input_ids"]
        inputs += _tensor("inputs", "decoder_input_ids", "int64", '["batch", "target"]', top)
    sizes = {"vocabulary": str(len(vocabulary())), "labels": str(labels)}
    tail = ", ".join(sizes.get(axis, f'"{axis}"') for axis in CLASSES[task][1:])
    outputs = {"logits": f'["batch", {tail}]'}
    if task == "question-answering":
        outputs = dict.fromkeys(("start_logits", "end_logits"), axes)
    if task == "sentence-embedding":
        outputs = {"last_hidden_state": '["batch", "sequence", 32]'}
        outputs["sentence_embedding"] = '["batch", 32]'
    declared = "".join(_tensor("outputs", n, "float32", a) for n, a in outputs.items())
    ranges = f"sequence = {{ min = 1, max = {LENGTH} }}\n"
    ranges += "target = { min = 1, max = 32 }\n" if task == "seq2seq-lm" else ""
    ranges += "choices = { min = 2, max = 4 }\n" if task == "multiple-choice" else ""
    pooling = 'pooling = "mean"\nnormalize = true\n' if task == "sentence-embedding" else ""
    causal = str(task == "causal-lm").lower()
    cache = str(task in ("causal-lm", "seq2seq-lm")).lower()
    return (
        f'spec = "1.0"\nprofile = "reproducible"\n[model]\nname = "tiny"\nversion = "1.0.0"\n'
        f'task = "{task}"\nlicense = "MIT"\n[loader]\nkind = "transformers"\n'
        f'class = "{CLASSES[task][0]}"\ndtype = "float32"\n{pooling}[dependencies]\n'
        'python = ">=3.11"\nrequires = ["torch>=2.10", "transformers>=4.57,<6"]\n'
        f"{inputs}{declared}[interface.axes]\n{ranges}[interface.capabilities]\n"
        f"causal = {causal}\nkv_cache = {cache}\npadding = [{padding}]\n"
    )


def _tensor(kind: str, name: str, dtype: str, axes: str, highest: int | None = None) -> str:
    span = "" if highest is None else f"range = [0, {highest}]\n"
    return f'[[interface.{kind}]]\nname = "{name}"\ndtype = "{dtype}"\naxes = {axes}\n{span}'


def write_rows(folder: Path, rows: list[dict[str, Any]], path: str = DATA) -> None:
    """Write rows as a data file of the package."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text("".join(lines), "utf-8")


def claim(folder: Path, metric: str, value: float, tolerance: float = 0.0, **more: Any) -> None:
    """Append a claimed score to the manifest."""
    table = {"metric": metric, "data": DATA, "value": float(value), "tolerance": float(tolerance)}
    lines = [f"{key} = {json.dumps(one)}\n" for key, one in {**table, **more}.items()]
    with (folder / "slm.toml").open("a", encoding="utf-8") as file:
        file.write("\n[[evaluation]]\n" + "".join(lines))
