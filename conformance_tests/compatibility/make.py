"""Build and record the packages of this folder under the installed transformers.

Run once under each version of transformers that evidence has to travel from:
``python conformance_tests/compatibility/make.py``. The tests check every recording under the
version that they run on.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers

from slmconform.api import check, record
from slmconform.recording.init import InitOptions, init

HERE = Path(__file__).parent
REQUIRES = 'requires = ["torch>=2.10", "transformers>=4.57,<6"]'
SHAPE = {"vocab_size": 96, "initializer_range": 0.3}
CONFIGS = {
    "bert": (
        "BertForTokenClassification",
        transformers.BertConfig(
            **SHAPE,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=64,
            num_labels=5,
        ),
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        transformers.GPT2Config(
            **SHAPE, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
        ),
    ),
    "llama": (
        "LlamaForCausalLM",
        transformers.LlamaConfig(
            **SHAPE,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            rope_theta=5000.0,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
}


def build(name: str, folder: Path, *, readable: bool = True) -> None:
    """Save one model, write its manifest with the range to be proved, record and check it.

    ``readable``: transformers 5 writes the rotary base where 4.57 does not look for it and takes
    its default without a word; write it in the old place too.
    """
    class_name, config = CONFIGS[name]
    torch.manual_seed(11)
    model = getattr(transformers, class_name)(config).eval()
    model.save_pretrained(folder)
    table = json.loads((folder / "config.json").read_text("utf-8"))
    if readable and "rope_parameters" in table:
        table["rope_theta"] = table["rope_parameters"]["rope_theta"]
        (folder / "config.json").write_text(json.dumps(table, indent=2) + "\n", "utf-8")
    shutil.copy(HERE.parents[1] / "LICENSE", folder)
    init(folder, InitOptions(name=name, license="Apache-2.0", profile="trainable"))
    manifest = folder / "slm.toml"
    lines = manifest.read_text("utf-8").splitlines()
    lines = [REQUIRES if line.startswith("requires") else line for line in lines]
    lines = ["steps = 10" if line.startswith("steps") else line for line in lines]
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    record(folder)
    report = check(folder)
    if report.exit_status:
        raise SystemExit(f"{folder}: {report.failures}")


def main() -> None:
    """Replace the recordings of the installed version."""
    recorded = HERE / "recorded" / f"transformers-{transformers.__version__}"
    shutil.rmtree(recorded, ignore_errors=True)
    for name in CONFIGS:
        build(name, recorded / name)
    if transformers.__version__ >= "5":
        build("llama", recorded / "llama-rope-moved", readable=False)
    print(f"recorded {recorded}")


if __name__ == "__main__":
    main()
