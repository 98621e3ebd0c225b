"""Claims judged by the engine: each defect fails one requirement, and its legal twin none."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import pytest
from evaluation_packages import DATA, TAGS, WORDS, build, claim, write_rows

from slmconform.checks.evl import scores_come_out_again
from slmconform.engine.examine import CheckOptions, examine
from slmconform.engine.registry import NoReference
from slmconform.measure.evaluation import records
from slmconform.measure.opening import opened
from slmconform.measure.prediction import run, sequences_of
from slmconform.recording.record import RecordOptions, record
from slmconform.report.text import View, render
from slmconform.standard.report import Outcome

EVIDENCE = "conformance/evidence.json"
AREA = [f"SLM-EVL-00{number}" for number in range(1, 5)]


def learnt(folder: Path) -> None:
    """Tags that the model itself gives, every seventh row excepted."""
    rows = []
    for at in range(60):
        tokens = [WORDS[(5 * at + 3 * n + at * n) % len(WORDS)] for n in range(1 + at % 9)]
        rows.append({"tokens": tokens, "tags": ["O"] * len(tokens)})
    arguments = {"package": str(folder), "device": "cpu", "scratch": str(folder.parent)}
    with opened(arguments) as (bench, _):
        best = run(bench, sequences_of(bench, rows), lambda seen: seen.answer[1:].argmax(-1))
    for at, (row, classes) in enumerate(zip(rows, best, strict=True)):
        for place in range(len(row["tags"])):
            tag = TAGS[int(classes[place])]
            row["tags"][place] = tag if at % 7 else TAGS[(TAGS.index(tag) + 1) % 5]
    write_rows(folder, rows)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, float]:
    """A package whose data the model answers mostly right, and its span F1."""
    folder = build(tmp_path_factory.mktemp("scores") / "tagger", "token-classification")
    learnt(folder)
    claim(folder, "seqeval-f1", 0.5)
    with opened({"package": str(folder), "device": "cpu", "scratch": str(folder)}) as (bench, _):
        found = records(bench)[0]
    text = (folder / "slm.toml").read_text("utf-8").partition("\n[[evaluation]]")[0]
    (folder / "slm.toml").write_text(text, "utf-8")
    assert found.baseline < found.low < found.value < 1.0
    return folder, found.value


@pytest.fixture
def tagger(original, tmp_path) -> tuple[Path, float]:
    """A copy without claims."""
    folder, value = original
    return Path(shutil.copytree(folder, tmp_path / "tagger")), value


@pytest.fixture(scope="module")
def recorded(original, tmp_path_factory, server) -> Path:
    """The package recorded, with a right claim and its record; not to be changed."""
    folder, value = original
    folder = Path(shutil.copytree(folder, tmp_path_factory.mktemp("recorded") / "tagger"))
    record(folder, RecordOptions(), server=server)
    claim(folder, "seqeval-f1", round(value, 3), 0.001)
    with opened({"package": str(folder), "device": "cpu", "scratch": str(folder)}) as (bench, _):
        rows = [one.model_dump(mode="json") for one in records(bench)]
    evidence = json.loads((folder / EVIDENCE).read_text("utf-8")) | {"evaluations": rows}
    (folder / EVIDENCE).write_text(json.dumps(evidence, indent=1), "utf-8")
    return folder


def judged(folder, server):
    """Outcomes and findings of the area and of all that it needs."""
    report = examine(folder, CheckOptions(only=("SLM-EVL",)), server=server)
    text = render(report, View(verbose=True))
    return {r.id: r for r in report.results}, [r.id for r in report.failures], text


def expect(folder, server, failing, code="", *words):
    results, failures, text = judged(folder, server)
    assert failures == ([failing] if failing else []), text
    for one in AREA:
        outcome = results[one].outcome
        if not failing:
            assert outcome is Outcome.PASS, text
        elif one > failing or one[:7] != failing[:7]:
            assert outcome is Outcome.BLOCKED, text
    if failing:
        finding = results[failing].finding
        assert finding.code == code
        said = " ".join((finding.got, finding.want, finding.where, finding.why))
        assert not [word for word in words if word not in said], text
    return results


def test_twin_claims_that_hold(tagger, server):
    folder, value = tagger
    claim(folder, "seqeval-f1", round(value, 3), 0.001)
    claim(folder, "accuracy", 0.8, 1.0, reason="it differs between devices")
    results = expect(folder, server, None)
    assert f"60 rows in {DATA}" in results["SLM-EVL-001"].detail
    assert "seqeval-f1" in results["SLM-EVL-002"].detail


def test_labels_in_another_order(tagger, server):
    folder, value = tagger
    claim(folder, "seqeval-f1", value, 0.001)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["id2label"]["1"], config["id2label"]["3"] = TAGS[3], TAGS[1]
    config["label2id"] = {name: int(at) for at, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    expect(folder, server, "SLM-EVL-002", "score-differs", "seqeval-f1")


def test_data_edited_after_the_recording(recorded, tmp_path, server):
    folder = Path(shutil.copytree(recorded, tmp_path / "tagger"))
    expect(folder, server, None)
    lines = (folder / DATA).read_text("utf-8").splitlines(keepends=True)
    (folder / DATA).write_text("".join(lines[1:]), "utf-8")
    expect(folder, server, "SLM-EVL-001", "data-differ", "sha256", EVIDENCE)


def test_data_that_no_recording_has_seen(recorded, tmp_path, server):
    folder = Path(shutil.copytree(recorded, tmp_path / "tagger"))
    evidence = json.loads((folder / EVIDENCE).read_text("utf-8")) | {"evaluations": []}
    (folder / EVIDENCE).write_text(json.dumps(evidence), "utf-8")
    results, failures, text = judged(folder, server)
    assert failures == []
    assert results["SLM-EVL-001"].outcome is Outcome.NO_REFERENCE, text
    assert f"not recorded: {DATA}" in results["SLM-EVL-001"].detail
    assert results["SLM-EVL-002"].outcome is Outcome.PASS, text


def test_labels_reordered_after_the_recording(recorded, tmp_path, server):
    """What else holds the configuration fails, and the scores are not asked."""
    folder = Path(shutil.copytree(recorded, tmp_path / "tagger"))
    text = (folder / "config.json").read_text("utf-8")
    swapped = text.replace("B-PER", "?").replace("B-LOC", "B-PER").replace("?", "B-LOC")
    (folder / "config.json").write_text(swapped, "utf-8")
    results, failures, text = judged(folder, server)
    assert len(failures) == 1, text
    if failures != ["SLM-EVL-002"]:
        assert results["SLM-EVL-002"].outcome is Outcome.BLOCKED, text


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (
            b'{"tokens": ["lamp"], "tags": ["O"]}\n{"tokens": ["\xff"], "tags": ["O"]}\n',
            "not-utf8",
            2,
        ),
        (b'{"tokens": ["lamp"], "tags": ["ORG"]}\n', "wrong-value", 1),
        (b"", "empty-file", 0),
    ],
)
def test_data_that_cannot_be_read(tagger, server, data, code, line):
    folder, value = tagger
    claim(folder, "seqeval-f1", value)
    (folder / DATA).write_bytes(data)
    expect(folder, server, "SLM-EVL-001", code, f"{DATA}:{line}" if line else DATA)


def test_rows_that_the_model_cannot_take(tagger, server):
    folder, value = tagger
    claim(folder, "seqeval-f1", value)
    write_rows(folder, [{"tokens": ["lamp"] * 60, "tags": ["O"] * 60}])
    expect(folder, server, "SLM-EVL-002", "row-too-long", "62 tokens", "at most 48", f"{DATA}:1")


def test_no_claim_is_not_examined(tagger, server):
    folder, _ = tagger
    results, failures, text = judged(folder, server)
    assert failures == []
    assert results[AREA[0]].outcome is Outcome.NOT_APPLICABLE, text
    for one in AREA[1:]:
        assert results[one].outcome is Outcome.NOT_EXAMINED, text
        assert "[[evaluation]]" in results[one].detail


def test_a_missing_library_is_no_reference(tagger, monkeypatch):
    folder, value = tagger
    claim(folder, "seqeval-f1", value)
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.partition(".")[0] == "seqeval":
            raise ModuleNotFoundError("No module named 'seqeval'", name="seqeval")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    arguments = {"package": str(folder), "device": "cpu", "scratch": str(folder)}
    with opened(arguments) as (bench, _), pytest.raises(NoReference, match="pip install"):
        scores_come_out_again(bench)
