"""Twenty-two broken folders: what transformers makes of them, and what a check says.

    python conformance_tests/hostile/broken_folders.py PYTHON [PYTHON ...] > docs/broken-folders.md

Each PYTHON is an interpreter with another version of transformers; the one that runs this file
checks. Each folder is loaded in a process of its own, with 4 GiB and 30 seconds to do it in.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE)]

import numpy as np  # noqa: E402 - after the path, when this file is run
from package_builders import CONFIG, llama_tensors  # noqa: E402
from safetensors.numpy import save  # noqa: E402
from sound_package import sound  # noqa: E402

import slmconform  # noqa: E402
from slmconform.standard.report import Outcome  # noqa: E402

Build = Callable[[Path], object]
INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"
UP = "model.layers.0.mlp.up_proj.weight"
TOLD = (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)

# Read by another interpreter: knows this project only by the folders on its standard input.
LOADER = """
import json, os, resource, signal, sys, tempfile
import torch, transformers
from transformers import AutoModelForCausalLM, LlamaForCausalLM

def load(folder):
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    signal.alarm(30)
    try:
        AutoModelForCausalLM.from_pretrained(folder)
    except BaseException as error:
        print(f"raises `{type(error).__name__}`", file=said, flush=True)
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)

found = {}
for name, folder in json.load(sys.stdin).items():
    said, log = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    child = os.fork()
    if not child:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        load(folder)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said.seek(0), log.seek(0)
    warned = [line for line in log.read().replace("\\r", "\\n").split("\\n") if "it/s" not in line]
    if status == 0:
        outcome = "loads with a warning" if any(map(str.strip, warned)) else "loads"
    elif status == -signal.SIGALRM:
        outcome = "hangs"
    else:
        outcome = said.read().strip() or f"ends by {signal.Signals(-status).name}"
    found[name] = outcome
print(json.dumps({"version": transformers.__version__, "found": found}))
"""


def config(**changes: object) -> Build:
    """Other values in config.json."""
    return lambda folder: sound(folder, config=dict(changes))


def text(old: str, new: str) -> Build:
    """Another spelling in config.json."""
    whole = json.dumps(CONFIG)
    assert old in whole, old
    return lambda folder: sound(folder, files={"config.json": whole.replace(old, new)})


def weights(**changes: np.ndarray | None) -> Build:
    """Other tensors: by the last part of their names, None for none."""

    def build(folder: Path) -> None:
        tensors = llama_tensors()
        for end, value in changes.items():
            name = UP.replace("up_proj", end) if end.endswith("_proj") else end
            tensors.pop(name, None)
            if value is not None:
                tensors[name] = value
        sound(folder, tensors=tensors)

    return build


def sharded(change: Callable[[Path, dict[str, object]], object]) -> Build:
    """Two shards whose index, or files, were changed."""

    def build(folder: Path) -> None:
        sound(folder, shards=2)
        index = json.loads((folder / INDEX).read_text())
        change(folder, index)
        (folder / INDEX).write_text(json.dumps(index))

    return build


def moved(place: Callable[[Path], str]) -> Build:
    """The first shard lies outside of the package, where the index finds it."""

    def change(folder: Path, index: dict) -> None:
        (folder / SHARD).rename(folder.parent / "outside.safetensors")
        files = index["weight_map"]
        index["weight_map"] = {n: place(folder) if f == SHARD else f for n, f in files.items()}

    return sharded(change)


def linked(folder: Path, _: object) -> None:
    """The first shard is a link to a file outside."""
    outside = (folder / SHARD).rename(folder.parent / "outside.safetensors")
    (folder / SHARD).symlink_to(outside)


def file(name: str, content: bytes) -> Build:
    """Another file, or another content of one."""
    return lambda folder: sound(folder, files={name: content})


def bad(value: float) -> np.ndarray:
    """A tensor in which one value is this one."""
    tensor = llama_tensors()[UP].copy()
    tensor[3, 3] = value
    return tensor


def twice(folder: Path) -> None:
    """A header in which one tensor has two entries, the first with the place of another tensor."""
    sound(folder)
    size = int.from_bytes(WHOLE[:8], "little")
    entries = json.loads(WHOLE[8 : 8 + size])
    gate = UP.replace("up_proj", "gate_proj")  # of the same shape
    header = f"{{{json.dumps(UP)}: {json.dumps(entries[gate])}, {json.dumps(entries)[1:]}".encode()
    data = WHOLE[8 + size :]
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)


WHOLE = save(llama_tensors(), {"format": "pt"})
FOLDERS: dict[str, Build] = {
    # What a loader takes without a word.
    "a shard path with `../`": moved(lambda _: "../outside.safetensors"),
    "an absolute shard path": moved(lambda folder: str(folder.parent / "outside.safetensors")),
    "a shard that is a link to a file outside": sharded(linked),
    "an index that names a tensor of no file": sharded(
        lambda _, index: index["weight_map"].update({"model.extra.weight": SHARD})
    ),
    "an index whose `total_size` lies": sharded(
        lambda _, index: index["metadata"].update(total_size=10**12)
    ),
    "a tensor that is missing": weights(up_proj=None),
    "a tensor that no parameter takes": weights(extra=np.ones(3, np.float32)),
    "one layer fewer in config.json": config(num_hidden_layers=1),
    "a tensor in float64": weights(up_proj=llama_tensors()[UP].astype(np.float64)),
    "a NaN among the weights": weights(up_proj=bad(float("nan"))),
    "two entries for one tensor": twice,
    "a key that stands twice in config.json": text(
        '"rope_theta"', '"rope_theta": 5.0, "rope_theta"'
    ),
    "`rms_norm_eps: NaN`": text("1e-06", "NaN"),
    "a pickle beside the weights": file("pytorch_model.bin", pickle.dumps({"a": 1})),
    # What it refuses, each in its own words, some after a long time.
    "a tensor of another shape": weights(up_proj=np.ones((12, 9), np.float32)),
    "weights that are cut off": file("model.safetensors", WHOLE[:-100]),
    "a pickle called model.safetensors": file("model.safetensors", pickle.dumps({"a": 1})),
    "a shard that is not there": sharded(lambda folder, _: (folder / SHARD).unlink()),
    "100,000 lists in each other": text(
        '"llama"', f'"llama", "x": {"[" * 100_000 + "]" * 100_000}'
    ),
    "3 heads for a width of 8": config(num_attention_heads=3, num_key_value_heads=3),
    "a vocabulary of 10^12": config(vocab_size=10**12),
    "an intermediate size of 2^30": config(intermediate_size=2**30),
}

HEAD = """\
# Twenty-two broken folders

A Llama of 1,256 parameters, broken in one way each. `loads` means that
`AutoModelForCausalLM.from_pretrained` returned a model without a word; a warning is one in the log.
The last column is what `slmconform check` says: one requirement, by its id and failure code, before
anything of the folder is run where it can be told from the files.

Written by `conformance_tests/hostile/broken_folders.py`, which builds the folders; a test compares
it with what the installed versions do.

"""


def built(root: Path) -> dict[str, Path]:
    """Every folder, built below a directory."""
    folders = {}
    for number, (name, build) in enumerate(FOLDERS.items()):
        folders[name] = root / str(number) / "package"
        build(folders[name])
    return folders


def loaded(python: str, folders: dict[str, Path]) -> tuple[str, dict[str, str]]:
    """The version of transformers of an interpreter, and what it makes of each folder."""
    ran = subprocess.run(
        [python, "-W", "ignore", "-c", LOADER],
        input=json.dumps({name: str(folder) for name, folder in folders.items()}),
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    answer = json.loads(ran.stdout.splitlines()[-1])
    return answer["version"], answer["found"]


def checked(folder: Path) -> str:
    """What a check says, as it stands in the page."""
    report = slmconform.check(folder, profile="runnable", device="cpu")
    told = [one for one in report.results if one.outcome in TOLD]
    return ", ".join(
        f"{one.outcome.value.upper()} {one.id} `{one.finding.code if one.finding else ''}`"
        for one in told
    )


def table(pythons: list[str], root: Path) -> Iterator[str]:
    """The lines of the page's table."""
    folders = built(root)
    columns = [loaded(python, folders) for python in pythons]
    heads = [f"transformers {version}" for version, _ in columns]
    yield f"| broken | {' | '.join(heads)} | slmconform |"
    yield "|---" * (len(columns) + 2) + "|"
    for name, folder in folders.items():
        cells = [name, *(found[name] for _, found in columns), checked(folder)]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the page."""
    with tempfile.TemporaryDirectory() as root:
        print(HEAD + "\n".join(table(sys.argv[1:], Path(root))))


if __name__ == "__main__":
    main()
