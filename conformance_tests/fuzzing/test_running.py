"""Mutations that the static stage lets through, run: in time, with an answer, no wrong pass."""

from __future__ import annotations

import json
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import corpus
import mutate
import oracle
import pytest
from mutations import mutation

from slmconform.engine.examine import CheckOptions, examine
from slmconform.report.json_text import as_json
from slmconform.standard.report import Outcome, Report

CASES = 40
TIMEOUT = 20.0  # seconds for one model
READ = ("config.json", "generation_config.json", "model.safetensors", "slm.toml")
READ_BY_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


class Running(mutate.Bench):
    """Packages that a runnable profile passes, with the files that are read when a model runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        source = corpus.REFERENCE / "bert-sentiment"
        self.folders["bert-sentiment"] = corpus.copied(source, folder / source.name)
        self.files["bert-sentiment"] = mutate.regular(folder / source.name)
        self.names = ["single", "bare", "bert-sentiment"]

    def draw(self, seed: int, number: int) -> tuple[str, Any]:
        """A mutation of one of the files that are read when a model runs."""
        rng = mutate.Random(f"running/{seed}/{number}")
        name = rng.choice(self.names)
        read = (*READ, *READ_BY_TOKENIZERS)
        files = {path: data for path, data in self.files[name].items() if path in read}
        return name, mutation(rng, files, self.pool)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    return Running(tmp_path_factory.mktemp("running"))


def run(folder: Path, server: Any) -> Report:
    return examine(folder, CheckOptions(profile="runnable", timeout=TIMEOUT), server=server)


@pytest.mark.slow
def test_the_packages_run_before_they_are_mutated(running, server):
    for name in running.names:
        report = run(running.folders[name], server)
        assert [one.id for one in report.results if one.outcome is Outcome.ERROR] == []
        assert report.exit_status == 0, name


@pytest.mark.slow
def test_what_the_static_stage_lets_through_runs_to_an_answer(running, server):
    told: list[str] = []
    exits: dict[int, int] = {}
    number = ran = 0
    while ran < CASES:
        number += 1
        name, change = running.draw(1, number)
        with running.mutated(name, change) as folder:
            if mutate.slmconform.check(folder, profile="packaged").exit_status == 1:
                continue
            ran += 1
            before, start = mutate.tree(folder), time.monotonic()
            report = run(folder, server)
            seconds = time.monotonic() - start
            why = wrong(report, folder, running.files[name])
            if mutate.tree(folder) != before:
                why = "the package was changed"
            if seconds > TIMEOUT + 10:
                why = f"{seconds:.0f} s"
        exits[report.exit_status] = exits.get(report.exit_status, 0) + 1
        if why:
            told.append(f"case {number}, {name}, {', '.join(change.operators)}: {why}")
    assert told == []
    assert exits.keys() >= {0, 1}


def wrong(report: Report, folder: Path, base: oracle.Tree) -> str:
    """What a report of a run should not say."""
    json.loads(as_json(report))
    raised = [
        f"{one.id}: {one.finding.got} at {one.finding.where}"
        for one in report.results
        if one.finding and one.finding.code == "exception"
    ]
    if raised:
        return "; ".join(raised)
    if report.exit_status not in (0, 1, 3):
        return f"exit status {report.exit_status}"
    if report.exit_status == 0:
        return oracle.wrong_pass(report, base, mutate.reached(folder)) or unloadable(folder)
    return ""


def unloadable(folder: Path) -> str:
    """Why transformers does not load the model whole, or what it computes is not finite."""
    import torch
    import transformers

    config = json.loads((folder / "config.json").read_bytes())
    manifest = folder / "slm.toml"
    loader = tomllib.loads(manifest.read_text("utf-8"))["loader"] if manifest.exists() else {}
    named = loader.get("class") or config["architectures"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, loaded = getattr(transformers, named).from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False, attn_implementation="eager"
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loaded[kind]:
            return f"passed with {kind} {sorted(map(str, loaded[kind]))[:3]}"
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    return "" if bool(logits.isfinite().all()) else "passed with outputs that are not finite"
