"""Evidence travels: recorded under one transformers, checked under another, at 1e-10."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from slmconform.api import check
from slmconform.standard.report import Outcome, Verdict

RECORDED = Path(__file__).parent / "recorded"
PACKAGES = sorted(path.parent for path in RECORDED.glob("*/*/slm.toml"))
MOVED = "llama-rope-moved"


def test_both_lines_of_transformers_have_recorded_every_shape():
    shapes = {(p.parent.name.split(".")[0], p.name) for p in PACKAGES if p.name != MOVED}
    lines = ("transformers-4", "transformers-5")
    assert shapes == {(line, shape) for line in lines for shape in ("bert", "gpt2", "llama")}


@pytest.mark.parametrize(
    "package",
    [p for p in PACKAGES if p.name != MOVED],
    ids=lambda p: f"{p.parent.name}-{p.name}",
)
def test_evidence_of_another_version_checks_clean(package: Path, tmp_path: Path):
    copied = shutil.copytree(package, tmp_path / package.name)
    report = check(copied)
    assert report.verdict is Verdict.CONFORMANT, report.failures
    outcomes = {r.id: r.outcome for r in report.results}
    assert report.profile == "trainable"
    for one in ("SLM-DET-003", "SLM-REF-001", "SLM-REF-002", "SLM-GRD-005", "SLM-TRN-001"):
        assert outcomes[one] is Outcome.PASS


def test_a_rotary_base_that_an_older_version_does_not_find_is_reported(tmp_path: Path):
    """transformers 5 writes `rope_parameters`; 4.57 looks for `rope_theta` and takes 10000."""
    (package,) = [p for p in PACKAGES if p.name == MOVED]
    report = check(shutil.copytree(package, tmp_path / package.name))
    if version("transformers").startswith("5"):
        assert report.verdict is Verdict.CONFORMANT, report.failures
        return
    (failure,) = report.failures
    assert failure.id == "SLM-DET-003"
    assert failure.finding is not None
    assert "rope_theta = 10000.0" in failure.finding.got
    assert "rope_theta = 5000.0" in failure.finding.want
