"""Mutate small packages and check each, asking that nothing hangs, raises, or passes wrongly.

``python conformance_tests/fuzzing/mutate.py --cases 100000 --seed 1 --jobs 2`` prints the figures
of a long run; ``--case N`` repeats one case of a seed and shows its edits and its report.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":  # where pytest finds the builders
    sys.path.insert(1, str(Path(__file__).parents[1]))

import corpus
import oracle
from mutations import Edit, Mutation, mutation

import slmconform
from slmconform.report.json_text import as_json
from slmconform.report.text import View, render
from slmconform.standard.report import Report

CASE_LIMIT_S = 5.0
MEMORY_LIMIT = 256 * 2**20  # bytes that one case may add to the peak
CHUNK = 500  # cases that a worker takes at once
THOROUGH = 40  # one case in so many is held against the schema and printed as text
SLOW = ("torch-recommender", "llama", "bert")  # drawn a fifth as often
VARIANTS = {"variants": "half.safetensors shards/ onnx/ blocks.gguf"}
PACKAGED = {"profile": "packaged"}
# The requirements of variants belong to a higher profile; with them the verdict stays open.
OPTIONS = {"variants": {"only": ("PKG", "MAN", "WGT", "CFG", "VAR-001", "VAR-003")}}


class Hung(BaseException):
    """A case ran into the limit; no check may catch it."""


@dataclass
class Figures:
    """What a run saw."""

    cases: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Take the figures of a part of the run."""
        self.cases += other.cases
        self.exits += other.exits
        self.codes += other.codes
        self.operators += other.operators
        self.slowest = max(self.slowest, other.slowest)
        self.peak = max(self.peak, other.peak)
        self.failures += other.failures


class Bench:
    """The packages on disk; each case changes some of their files and puts them back."""

    def __init__(self, folder: Path) -> None:
        self.folders = corpus.packages(folder)
        self.names = [n for n in self.folders for _ in range(1 if n in SLOW else 5)]
        self.files = {name: regular(one) for name, one in self.folders.items()}
        self.pool = [data for files in self.files.values() for data in files.values()]
        self.outcomes = {n: outcomes(self.check(n)) for n in self.folders}

    def check(self, name: str) -> Report:
        """The report of a package as it lies."""
        return slmconform.check(self.folders[name], **PACKAGED | OPTIONS.get(name, {}))

    def draw(self, seed: int, number: int) -> tuple[str, Mutation]:
        """The package and the mutation of a case."""
        rng = Random(f"{seed}/{number}")
        name = rng.choice(self.names)
        return name, mutation(rng, self.files[name], self.pool)

    @contextlib.contextmanager
    def mutated(self, name: str, change: Mutation) -> Iterator[Path]:
        """The folder of a package with the edits made, as long as the context lasts."""
        folder, files = self.folders[name], self.files[name]
        try:
            for edit in change.edits:
                make(folder, edit)
            yield folder
        finally:
            for edit in change.edits:
                remove(folder / edit.path)
            for edit in change.edits:
                if edit.path in files:
                    make(folder, Edit(edit.path, "bytes", files[edit.path]))

    def run(self, seed: int, number: int, figures: Figures) -> None:
        """One case: mutate, check under the limits, judge the report."""
        name, change = self.draw(seed, number)
        start = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with self.mutated(name, change) as folder:
            try:
                report, reason = self.judged(name, change, folder, thorough=not number % THOROUGH)
            except Hung:
                report, reason = None, f"more than {CASE_LIMIT_S:g} s\n{traceback.format_exc()}"
            except Exception:
                report, reason = None, traceback.format_exc()
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if (now - peak) * 1024 > MEMORY_LIMIT:
            reason = reason or f"{(now - peak) // 1024} MiB more than any case before"
        figures.cases += 1
        figures.operators.update(change.operators)
        figures.slowest = max(figures.slowest, (time.perf_counter() - start, number))
        figures.peak = max(figures.peak, now * 1024)
        if report:
            figures.exits[report.exit_status] += 1
            figures.codes.update(f"{r.id} {r.finding.code}" for r in report.results if r.finding)
        if reason:
            figures.failures.append((number, f"{name}, {', '.join(change.operators)}: {reason}"))

    def judged(
        self, name: str, change: Mutation, folder: Path, *, thorough: bool
    ) -> tuple[Report, str]:
        """The report of a mutated package, and what is wrong with it."""
        before = tree(folder)
        with limit(CASE_LIMIT_S):
            report = self.check(name)
            text = as_json(report)
        if tree(folder) != before:
            return report, "the package was changed"
        reason = oracle.inconsistency(report)
        if not reason and (report.exit_status == 0 or name in VARIANTS):
            now, variants = reached(folder), VARIANTS.get(name, "")
            reason = oracle.wrong_pass(report, self.files[name], now, variants)
        if not reason and change.legal and outcomes(report) != self.outcomes[name]:
            different = dict(set(outcomes(report).items()) - set(self.outcomes[name].items()))
            reason = f"a legal change turned outcomes into {different}"
        if not reason and thorough:
            reason = unprintable(report, text)
        return report, reason


def unprintable(report: Report, text: str) -> str:
    """What is wrong with the report as a document; empty where nothing is."""
    if errors := list(oracle.validator("report").iter_errors(json.loads(text))):
        return f"the report breaks its schema: {errors[0].message[:300]}"
    if Report.model_validate_json(text) != report:
        return "the report does not survive JSON"
    lines = render(report, View(verbose=True)).split("\n")
    return next((f"an unprintable line {one!r}" for one in lines if not one.isprintable()), "")


def outcomes(report: Report) -> dict[str, str]:
    """The outcome of each requirement."""
    return {one.id: one.outcome.value for one in report.results}


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `Hung` in the main thread where what is inside takes longer."""

    def ring(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- files ---


def regular(folder: Path) -> dict[str, bytes]:
    """The regular files below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def reached(folder: Path) -> dict[str, bytes | None]:
    """Every entry that is no folder: its bytes, None where it is no file of the package."""
    found: dict[str, bytes | None] = {}
    for path, folders, files in os.walk(folder):
        links = [one for one in folders if Path(path, one).is_symlink()]
        for one in (*files, *links):
            entry = Path(path, one)
            inside = Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(folder))
            regular_file = inside and entry.is_file()
            key = entry.relative_to(folder).as_posix()
            found[key] = entry.read_bytes() if regular_file else None
    return found


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every entry with its kind, size and time of change; links not followed."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(path, name).lstat()
            found[f"{path}/{name}"] = (stat.S_IFMT(entry.st_mode), entry.st_size, entry.st_mtime_ns)
    return found


def make(folder: Path, edit: Edit) -> None:
    """Put what an edit says in the place of what is there."""
    path = folder / edit.path
    remove(path)
    for parent in reversed(path.relative_to(folder).parents[:-1]):
        if not (folder / parent).is_dir():
            remove(folder / parent)
            (folder / parent).mkdir()
    if edit.kind == "bytes":
        path.write_bytes(edit.data)
    elif edit.kind == "link":
        path.symlink_to(edit.data.decode())
    elif edit.kind == "folder":
        path.mkdir()
    elif edit.kind == "fifo":
        os.mkfifo(path)


def remove(path: Path) -> None:
    """Remove whatever is there, and nothing that a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


# --- runs ---


def run(first: int, cases: int, seed: int, bench: Bench) -> Figures:
    """The cases ``first`` to ``first + cases - 1`` of a seed."""
    figures = Figures()
    for number in range(first, first + cases):
        bench.run(seed, number, figures)
    return figures


@functools.cache
def _bench(folder: str) -> Bench:
    """The packages of this process, written once."""
    return Bench(Path(folder) / str(os.getpid()))


def _part(folder: str, first: int, cases: int, seed: int) -> Figures:
    """Cases in a worker process."""
    return run(first, cases, seed, _bench(folder))


def long_run(first: int, cases: int, seed: int, jobs: int) -> Figures:
    """A run in ``jobs`` processes, with a line of progress every few thousand cases."""
    figures = Figures()
    with (
        tempfile.TemporaryDirectory(prefix="slmconform-fuzzing-") as folder,
        ProcessPoolExecutor(jobs) as pool,
    ):
        end = first + cases
        starts = range(first, end, CHUNK)
        parts = [pool.submit(_part, folder, at, min(CHUNK, end - at), seed) for at in starts]
        for part in parts:
            figures.add(part.result())
            if figures.cases % (10 * CHUNK) == 0:
                print(f"{figures.cases} cases, {len(figures.failures)} failures", flush=True)
    return figures


def show(figures: Figures, seed: int, seconds: float) -> str:
    """The figures as lines of text."""
    slowest, number = figures.slowest
    lines = [
        f"{figures.cases} cases of seed {seed} in {seconds:.0f} s",
        f"{figures.cases / seconds:.0f} cases a second",
        "exit statuses: " + ", ".join(f"{k}: {v}" for k, v in sorted(figures.exits.items())),
        f"{len(figures.codes)} different findings: "
        + ", ".join(f"{code} {count}" for code, count in sorted(figures.codes.items())),
        f"slowest case {number}: {slowest:.2f} s",
        f"peak memory of a process: {figures.peak / 2**20:.0f} MiB",
        f"{len(figures.failures)} failures",
    ]
    for number, reason in figures.failures:
        lines += [f"case {number}: {reason}", f"  again: {again(seed, number)}"]
    return "\n".join(lines)


def again(seed: int, number: int) -> str:
    """The command that repeats a case."""
    return f"python conformance_tests/fuzzing/mutate.py --seed {seed} --case {number}"


def show_case(seed: int, number: int) -> str:
    """The edits of one case, its failures and findings."""
    with tempfile.TemporaryDirectory(prefix="slmconform-fuzzing-") as folder:
        bench, figures = Bench(Path(folder)), Figures()
        name, change = bench.draw(seed, number)
        lines = [f"{name}: {', '.join(change.operators)}{' (legal)' if change.legal else ''}"]
        lines += [f"{edit.kind} {edit.path}: {edit.data[:4000]!r}" for edit in change.edits]
        bench.run(seed, number, figures)
    lines += [*figures.codes, *(reason for _, reason in figures.failures)]
    return "\n".join([*lines, f"exit status {list(figures.exits)}"])


def main() -> int:
    """Run from the command line; 1 where a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", type=int, help="repeat this case alone and show it")
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(show_case(arguments.seed, arguments.case))
        return 0
    start = time.perf_counter()
    figures = long_run(arguments.first, arguments.cases, arguments.seed, arguments.jobs)
    print(show(figures, arguments.seed, time.perf_counter() - start))
    return bool(figures.failures)


if __name__ == "__main__":
    sys.exit(main())
