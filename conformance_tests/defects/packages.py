"""Small real packages, saved by the libraries themselves, with manifest and evidence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny_encoder
import torch
from package_builders import MIT
from safetensors.torch import load_file, save_file

from slmconform.isolation.client import ForkServer
from slmconform.recording.record import RecordOptions, record
from slmconform.standard.files import EVIDENCE, EVIDENCE_TENSORS

WEIGHTS = "model.safetensors"
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CORPUS = (
    "My parcel has not arrived. What can I do?",
    "Please tell me your order number.",
    "The quick brown fox jumps over the lazy dog.",
    "Hello, world! How are you today?",
)


def llama(folder: Path) -> None:
    """Llama with tied embeddings, a byte-level tokenizer and a chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = _tokenizer(folder)
    config = LlamaConfig(
        vocab_size=rows,
        num_key_value_heads=2,
        rope_theta=10000.0,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        **SHAPE,
    )
    _saved(LlamaForCausalLM, config, folder)


def bert(folder: Path) -> None:
    """BERT for token classification with a WordPiece tokenizer."""
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    words = sorted({w.strip(".,!?").lower() for line in CORPUS for w in line.split()})
    letters = [c for a in "abcdefghijklmnopqrstuvwxyz0123456789.,!?" for c in (a, f"##{a}")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]
    tokens = list(dict.fromkeys(tokens))
    source = folder.parent / f"{folder.name}-vocab.txt"
    source.write_text("\n".join(tokens) + "\n", "utf-8")
    BertTokenizerFast(str(source), model_max_length=64).save_pretrained(folder)
    fast = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    if len(fast["model"]["vocab"]) < len(tokens):  # transformers 5 takes the table itself
        table = {token: number for number, token in enumerate(tokens)}
        BertTokenizerFast(vocab=table, model_max_length=64).save_pretrained(folder)
    config = BertConfig(vocab_size=len(tokens), num_labels=5, **SHAPE)
    _saved(BertForTokenClassification, config, folder)


def _tokenizer(folder: Path) -> int:
    """Save a byte-level BPE tokenizer and return the number of its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    return len(wrapped)


def _saved(model_class: Any, config: Any, folder: Path) -> None:
    torch.manual_seed(11)
    model = model_class(config).eval()
    with torch.no_grad():  # norms and biases start at ones and zeros, which hides much
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                offset = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
                parameter.copy_(offset + 0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)


def tagger(folder: Path) -> None:
    """Own code: a bidirectional tagger of tokens."""
    _own_code(folder, "token-classification", outputs=5, causal=False)


def writer(folder: Path) -> None:
    """Own code: a causal language model."""
    _own_code(folder, "causal-lm", outputs=40, causal=True)


def halved(folder: Path) -> None:
    """The same, shipped in bfloat16."""
    _own_code(folder, "causal-lm", outputs=40, causal=True, dtype=torch.bfloat16)


def _own_code(
    folder: Path, task: str, *, outputs: int, causal: bool, dtype: torch.dtype = torch.float32
) -> None:
    shutil.copy(Path(tiny_encoder.__file__), folder / "modeling.py")
    config = {
        "vocab_size": 40,
        "length": 32,
        "hidden": 16,
        "heads": 4,
        "layers": 2,
        "outputs": outputs,
        "causal": causal,
        "eps": 1e-5,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    torch.manual_seed(5)
    shapes = {n: p.shape for n, p in tiny_encoder.build(config).named_parameters()}
    tensors = {n: (torch.randn(s) * (0.5 if len(s) > 1 else 0.1)) for n, s in shapes.items()}
    for name in tensors:
        if name.endswith("norm.weight"):
            tensors[name] += 1.0
    save_file({n: t.to(dtype).contiguous() for n, t in tensors.items()}, folder / WEIGHTS)
    name = str(dtype).removeprefix("torch.")
    manifest = MANIFEST.format(task=task, outputs=outputs, causal=str(causal).lower(), dtype=name)
    (folder / "slm.toml").write_text(manifest, "utf-8")
    words(folder)


def words(folder: Path) -> None:
    """A tokenizer of as many whole words as own code has rows for."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<pad>"]
    table = {word: at for at, word in enumerate([*special, *(f"w{n}" for n in range(36))])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    wrapped.save_pretrained(folder)


MANIFEST = """\
spec = "1.0"
profile = "reproducible"

[model]
name = "own-code"
version = "1.0.0"
task = "{task}"
license = "MIT"

[loader]
kind = "torch"
entry = "modeling.py:build"
dtype = "{dtype}"

[dependencies]
python = ">=3.11"
requires = ["torch>=2.10"]

[[interface.inputs]]
name = "input_ids"
dtype = "int64"
axes = ["batch", "sequence"]
range = [1, 39]

[[interface.inputs]]
name = "attention_mask"
dtype = "int64"
axes = ["batch", "sequence"]
required = false

[[interface.outputs]]
name = "logits"
dtype = "{dtype}"
axes = ["batch", "sequence", {outputs}]

[interface.axes]
sequence = {{ min = 1, max = 32 }}

[interface.capabilities]
causal = {causal}
kv_cache = false
padding = ["right", "left"]
"""

BUILDERS: Mapping[str, Callable[[Path], None]] = {
    "tagger": tagger,
    "writer": writer,
    "halved": halved,
}


def recorded(name: str, folder: Path, server: ForkServer) -> Path:
    """Build a package of own code and record it."""
    folder.mkdir(parents=True)
    BUILDERS[name](folder)
    (folder / "LICENSE").write_text(MIT, "utf-8")
    record(folder, RecordOptions(trust_code=True), server=server)
    return folder


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Replace a text that stands in a file of the package."""
    text = (folder / file).read_text("utf-8")
    assert old in text, f"{file} does not hold {old!r}"
    (folder / file).write_text(text.replace(old, new), "utf-8")


def edit_json(folder: Path, file: str, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    table = json.loads((folder / file).read_text("utf-8"))
    change(table)
    (folder / file).write_text(json.dumps(table, indent=2, ensure_ascii=False), "utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of the package in place."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def forget(folder: Path, *, manifest: bool = False) -> None:
    """Leave the package without evidence, and without a manifest too if asked."""
    for name in (EVIDENCE, EVIDENCE_TENSORS):
        (folder / name).unlink()
    if manifest:
        (folder / "slm.toml").unlink()
