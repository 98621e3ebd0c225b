"""The same model in another process: forked before anything is loaded, seeded differently."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from slmconform.isolation.sandbox import redirect
from slmconform.measure.bench import Bench
from slmconform.measure.compare import digest
from slmconform.model.loaded import Outputs

LIMIT = 2**20


@dataclass(frozen=True)
class Fingerprint:
    """sha256 of every output of the typical probe, by name; ``error`` where there is none."""

    outputs: dict[str, str]
    error: str = ""


def fingerprint(outputs: Outputs) -> Fingerprint:
    """Digests of the bytes of the outputs."""
    return Fingerprint({name: digest(value) for name, value in outputs.items()})


class Replay:
    """A forked process that loads the model by itself and digests its outputs.

    Its random generators start elsewhere, so that a tensor which was drawn instead of loaded
    shows as a difference; what libraries and own code keep, they keep elsewhere, so that one that
    was drawn and then kept in a file shows, too. Created before the first load, so that it
    inherits nothing of it.
    """

    def __init__(self, make: Callable[[], Bench], scratch: Path) -> None:
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._read)
            _answer(make, scratch / "second", write)
        os.close(write)

    def result(self) -> Fingerprint:
        """Wait for the other process; what it could not do is told in ``error``."""
        chunks, size = [], 0
        while (chunk := os.read(self._read, 65536)) and size < LIMIT:
            chunks.append(chunk)
            size += len(chunk)
        os.close(self._read)
        _, status = os.waitpid(self._pid, 0)
        try:
            answer = json.loads(b"".join(chunks))
            return Fingerprint(dict(answer["outputs"]), str(answer["error"]))
        except (ValueError, KeyError, TypeError):
            code = os.waitstatus_to_exitcode(status)
            return Fingerprint({}, f"the second process ended with status {code}")


def _answer(make: Callable[[], Bench], scratch: Path, write: int) -> None:
    status = 1
    try:
        # torch renews its thread pool on first use after a fork, and not safely where the threads
        # of a loader come first ("Invalid thread pool!"): let it do so while there is one thread.
        torch.set_num_threads(torch.get_num_threads())
        scratch.mkdir()
        redirect(str(scratch))
        random.seed(271_828)
        torch.manual_seed(271_828)
        try:
            bench = make()
            answer = fingerprint(bench.native(bench.inputs("typical")))
        except Exception as error:
            answer = Fingerprint({}, f"{type(error).__name__}: {str(error)[:500]}")
        line = json.dumps({"outputs": answer.outputs, "error": answer.error})
        os.write(write, line.encode())
        status = 0
    finally:
        os._exit(status)
