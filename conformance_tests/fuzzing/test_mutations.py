"""A short run of the mutations of every package, and what keeps the run itself honest."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import mutate
import pytest
from mutations import Edit, Mutation, mutation

from slmconform.standard.report import Outcome

CASES = 1500
SEED = 20_261_126


@pytest.mark.slow
def test_no_mutation_hangs_raises_or_passes_wrongly(bench):
    figures = mutate.run(0, CASES, SEED, bench)
    assert figures.failures == [], mutate.show(figures, SEED, 1)
    assert figures.cases == CASES
    assert set(figures.exits) == {0, 1, 3}
    assert len(figures.codes) > 60


@pytest.mark.long
def test_a_hundred_thousand_mutations():
    """As `mutate.py --cases 100000 --seed 1 --jobs 2`."""
    figures = mutate.long_run(0, 100_000, 1, 2)
    assert figures.failures == [], mutate.show(figures, 1, 1)


def test_the_packages_are_sound_before_they_are_mutated(bench):
    for name in bench.folders:
        report = bench.check(name)
        assert not any(one.outcome in (Outcome.FAIL, Outcome.ERROR) for one in report.results), name
        assert report.exit_status == (3 if name in ("unrecorded", "variants") else 0)
        assert mutate.oracle.inconsistency(report) == ""


def test_a_seed_repeats_its_mutations(bench):
    for number in range(50):
        assert bench.draw(1, number) == bench.draw(1, number)
    drawn = [bench.draw(seed, 0) for seed in range(20)]
    assert len({repr(one) for one in drawn}) > 15


def test_a_package_is_put_back_after_each_case(bench):
    before = {name: mutate.regular(one) for name, one in bench.folders.items()}
    mutate.run(0, 60, 7, bench)
    assert {name: mutate.regular(one) for name, one in bench.folders.items()} == before


@pytest.mark.parametrize("kind", ["gone", "link", "folder", "fifo", "bytes"])
def test_every_kind_of_entry_is_made_and_removed(tmp_path, kind):
    (tmp_path / "a").write_bytes(b"x")
    mutate.make(tmp_path, Edit("a/b", kind, b"elsewhere"))
    assert (tmp_path / "a").is_dir()
    mutate.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_operators_leave_most_packages_changed(bench):
    rng, files = Random(3), bench.files["fast"]
    made = [mutation(rng, files, bench.pool) for _ in range(300)]
    changed = [
        one
        for one in made
        if any(edit.kind != "bytes" or files.get(edit.path) != edit.data for edit in one.edits)
    ]
    assert len(changed) > 270
    assert len({name for one in made for name in one.operators}) > 20


# --- the judge of the run can fail ---


def reason(bench, name: str, *edits: Edit) -> str:
    change = Mutation(edits, ("made",))
    with bench.mutated(name, change) as folder:
        return bench.judged(name, change, folder, thorough=True)[1]


def forged(bench, monkeypatch, name: str) -> None:
    """Let every check see the sound package, as a check that looks at nothing would."""
    report = bench.check(name)
    monkeypatch.setattr(mutate.slmconform, "check", lambda *_, **__: report)


WRONG = {
    "weights": ("single", "model.safetensors", lambda data: data[:-1] + b"\x11"),
    "cut-off": ("single", "model.safetensors", lambda data: data[:-1]),
    "shard": ("sharded", "model-00002-of-00003.safetensors", lambda data: data[:-1] + b"\x11"),
    "json": ("single", "config.json", lambda data: data + b"}"),
    "recorded": ("single", "config.json", lambda data: data + b" "),
    "manifest": ("single", "slm.toml", lambda data: data.replace(b"tiny", b"other")),
    "schema": ("single", "slm.toml", lambda data: data + b"\n[more]\n"),
    "evidence": (
        "single",
        "conformance/evidence.json",
        lambda data: data.replace(b"F32", b"F16", 1),
    ),
    "probe": ("single", "conformance/evidence.safetensors", lambda data: data + b" "),
    "variant": ("variants", "blocks.gguf", lambda data: data[:-1] + b"\x11"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_check_that_looks_at_nothing_is_told(bench, monkeypatch, case):
    name, path, change = WRONG[case]
    edit = Edit(path, "bytes", change(bench.files[name][path]))
    assert reason(bench, name, edit) == ""
    forged(bench, monkeypatch, name)
    assert "pass" in reason(bench, name, edit)


def test_an_entry_that_is_no_file_is_told(bench, monkeypatch):
    forged(bench, monkeypatch, "single")
    for kind in ("fifo", "link"):
        assert "no regular file" in reason(bench, "single", Edit("LICENSE", kind, b"/etc/hosts"))


def test_a_case_that_hangs_is_ended_and_told(bench, monkeypatch):
    monkeypatch.setattr(mutate, "CASE_LIMIT_S", 0.2)
    monkeypatch.setattr(mutate.slmconform, "check", lambda *_, **__: time.sleep(30))
    figures, start = mutate.Figures(), time.monotonic()
    bench.run(1, 0, figures)
    assert time.monotonic() - start < 5
    assert "more than 0.2 s" in figures.failures[0][1]
    assert "--seed 1 --case 0" in mutate.show(figures, 1, 1)


def test_a_changed_package_and_a_traceback_are_told(bench, monkeypatch):
    def meddling(folder, **_):
        (Path(folder) / "left").write_text("x")
        return report

    def raising(*_, **__):
        raise KeyError("x")

    report = bench.check("single")
    monkeypatch.setattr(mutate.slmconform, "check", meddling)
    left = Edit("left", "gone")
    assert reason(bench, "single", left) == "the package was changed"
    monkeypatch.setattr(mutate.slmconform, "check", raising)
    figures = mutate.Figures()
    bench.run(1, 0, figures)
    assert "KeyError: 'x'" in figures.failures[0][1]
