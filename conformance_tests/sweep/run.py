"""The whole sweep, or a shard of it: every pair built, checked and held against its expectation.

    PYTHONPATH=src python conformance_tests/sweep/run.py --jobs 8 --device cpu --out sweep.json

Prints a line a pair as it comes, then the counts, the wall time and what was not expected. The
exit status is 1 where something was not.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before the libraries are imported, and not where a test imports this
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import torch
import transformers
from sweep_outcomes import Examined, examined, surprise
from sweep_pairs import Pair, enumerated, shard_of


def work(pipe: Connection, device: str) -> None:
    """A worker: pairs in, records out, with one fork server of its own."""
    import warnings

    from slmconform.isolation.client import ForkServer

    warnings.simplefilter("ignore")  # the architectures' own: deprecated calls, TorchScript
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with ForkServer() as server:
        while (pair := pipe.recv()) is not None:
            with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
                try:
                    one = examined(pair, Path(folder), server, device)
                except Exception as error:
                    detail = f"{type(error).__name__}: {error}"
                    one = Examined(pair.name, pair.cls, "broken", detail)
            pipe.send(one)


class Sweep:
    """Workers fed from one list; what they answer is printed and kept."""

    def __init__(self, pairs: list[Pair], device: str) -> None:
        self._left: Iterator[Pair] = iter(pairs)
        self._total, self._device = len(pairs), device
        self._lock = threading.Lock()
        self.done: list[Examined] = []
        self.begun = time.perf_counter()

    def run(self, jobs: int) -> None:
        """Feed the workers until nothing is left."""
        feeders = [threading.Thread(target=self._feed, daemon=True) for _ in range(jobs)]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            while feeder.is_alive():  # in steps, so that a signal is heard
                feeder.join(0.5)

    def _feed(self) -> None:
        worker, pipe = self._worker()
        while True:
            with self._lock:
                pair = next(self._left, None)
            if pair is None:
                pipe.send(None)
                worker.join()
                return
            try:
                pipe.send(pair)
                one = pipe.recv()
            except (EOFError, OSError):  # it died of the pair
                worker.join()
                detail = f"its worker ended with exit code {worker.exitcode}"
                one = Examined(pair.name, pair.cls, "broken", detail)
                worker, pipe = self._worker()
            self._take(one)

    def _worker(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        worker = context.Process(target=work, args=(there, self._device))
        worker.start()
        there.close()
        return worker, here

    def _take(self, one: Examined) -> None:
        with self._lock:
            self.done.append(one)
            odd = surprise(one)
            told = ", ".join(f"{key} {value}" for key, value in one.told.items()) or one.detail
            print(
                f"[{len(self.done)}/{self._total}] {one.pair}: {one.kind} {one.seconds:.1f} s"
                f"{' ' + told if told else ''}{'  UNEXPECTED' if odd else ''}",
                flush=True,
            )

    def summary(self) -> dict[str, Any]:
        """Counts by kind, wall time, and every pair that differs from its expectation."""
        done = sorted(self.done, key=lambda one: one.pair)
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "device": self._device,
            "pairs": self._total,
            "examined": len(done),
            "kinds": dict(collections.Counter(one.kind for one in done)),
            "seconds": round(time.perf_counter() - self.begun, 1),
            "unexpected": {one.pair: odd for one in done if (odd := surprise(one))},
            "results": [one.as_json() for one in done],
        }


def chosen(options: argparse.Namespace) -> list[Pair]:
    """The pairs of the shard, or those that are named."""
    pairs, _ = enumerated()
    if options.only:
        return [p for p in pairs if p.name in options.only or p.type in options.only]
    return shard_of(pairs, options.shard)


def main() -> int:
    """Run, print, write; 0 where everything was as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shard", default="1/1", help="such as 2/8")
    parser.add_argument("--out", type=Path, help="where the records are written as JSON")
    parser.add_argument("--only", nargs="*", help="model types or pairs")
    options = parser.parse_args()
    sweep = Sweep(chosen(options), options.device)

    def finish(*_: object) -> None:
        raise SystemExit(130)

    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, finish)
    try:
        sweep.run(options.jobs)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        summary = sweep.summary()
        if options.out:
            options.out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        for pair, odd in summary["unexpected"].items():
            print(f"UNEXPECTED {pair}: {odd}")
        told = {key: summary[key] for key in summary if key not in ("results", "unexpected")}
        print(json.dumps(told), f"{len(summary['unexpected'])} unexpected", flush=True)
        for worker in multiprocessing.active_children():
            worker.terminate()
    return 1 if summary["unexpected"] else 0


if __name__ == "__main__":
    sys.exit(main())
