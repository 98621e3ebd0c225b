"""A package that `init` and `record` made of a stranger's folder is conformant, of each task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from package_builders import MIT
from sweep_models import VOCABULARY, build
from sweep_pairs import named

from slmconform.engine.examine import CheckOptions, examine
from slmconform.isolation.client import ForkServer
from slmconform.package.read import Package
from slmconform.recording.init import InitOptions, init
from slmconform.recording.record import RecordOptions, record
from slmconform.standard.report import Verdict

# The module of DeBERTa in transformers 4 is imported with this warning.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

# One of each task, two mixtures of experts, two with ReLU, one in bfloat16, one padded left.
RECORDED = [
    ("llama/causal-lm", torch.bfloat16),
    ("gpt2/causal-lm", torch.float32),
    ("opt/causal-lm", torch.float32),
    ("mixtral/causal-lm", torch.float32),
    ("qwen3_moe/causal-lm", torch.float32),
    ("bert/masked-lm", torch.float32),
    ("marian/seq2seq-lm", torch.float32),
    ("t5/seq2seq-lm", torch.float32),
    ("bart/text-classification", torch.float32),
    ("distilbert/token-classification", torch.float32),
    ("longformer/question-answering", torch.float32),
    ("roberta/multiple-choice", torch.float32),
    ("bert/sentence-embedding", torch.float32),
]


def add_tokenizer(folder: Path) -> None:
    """Save a tokenizer of whole words, with the special ids of the configuration beside it."""
    config = json.loads((folder / "config.json").read_text())
    special = {
        config[f"{role}_token_id"]: f"<{role}>"
        for role in ("pad", "bos", "eos")
        if config.get(f"{role}_token_id") is not None
    }
    unknown = VOCABULARY - 1
    tokens = {special.get(i, f"word{i}"): i for i in range(unknown)} | {"<unk>": unknown}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(tokens, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    names = {f"{token[1:-1]}_token": token for token in special.values()}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **names)
    made.save_pretrained(folder)


def shorten(folder: Path) -> None:
    """Ten steps of training instead of fifty."""
    manifest = folder / "slm.toml"
    manifest.write_text(manifest.read_text().replace("steps = 50", "steps = 10"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), RECORDED, ids=str)
def test_recorded_package_is_conformant(
    name: str, dtype: torch.dtype, tmp_path: Path, server: ForkServer
) -> None:
    pair, folder = named()[name], tmp_path / "package"
    build(pair, folder, dtype)
    add_tokenizer(folder)
    (folder / "LICENSE").write_text(MIT)
    if pair.task == "sentence-embedding":  # as sentence-transformers declares it
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    init(folder, InitOptions(license="MIT", device="cpu", profile="trainable"), server=server)
    shorten(folder)
    record(folder, RecordOptions(device="cpu"), server=server)
    report = examine(folder, CheckOptions(device="cpu"), server=server)
    told = [(r.id, r.outcome, r.finding or r.detail) for r in report.failures]
    assert (report.verdict, report.profile) == (Verdict.CONFORMANT, "trainable"), told
    assert not report.provisional
    manifest = Package(folder).require_manifest()
    assert manifest.model.task == pair.task
    if pair.type in ("llama", "gpt2"):
        assert set(manifest.interface.capabilities.padding) == {"right", "left"}
