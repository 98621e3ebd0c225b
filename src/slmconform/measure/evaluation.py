"""Claimed scores computed again: the data file, the model's answers, the metric, its interval."""

from __future__ import annotations

from dataclasses import dataclass

from slmconform.measure.answers import answers_of, kind_of
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.interval import interval
from slmconform.measure.metrics import Answers, Report, count_of, value_of
from slmconform.package.dataset import judge_rows
from slmconform.package.json_lines import DataFile, read_lines
from slmconform.package.problem import PackageProblem
from slmconform.standard.evidence import EvaluationRecord
from slmconform.standard.manifest import EvaluationSection


@dataclass(frozen=True)
class Score:
    """A metric over a data file: its value, 95 % interval, and the trivial answer's value."""

    value: float
    low: float
    high: float
    baseline: float | None
    rows: int
    report: Report
    libraries: dict[str, str]


def scored(bench: Bench, section: EvaluationSection) -> Score:
    """The score that a section claims, computed from its data.

    Raises `Nonconformance` where a row does not fit the interface, `NoReference` where a library
    is missing, `Inconclusive` where the metric is undefined.
    """
    return score(bench, section.metric, section.data, section.k)


@measurement
def score(bench: Bench, metric: str, path: str, k: int | None) -> Score:
    """A metric over a data file of the package; metrics of one kind share the passes over it."""
    try:
        judge_rows(bench.package, lines(bench, path).rows, metric)
        answers = answers_to(bench, path, kind_of(bench.task, metric))
    except PackageProblem as problem:
        raise problem.finding() from None
    found = value_of(metric, answers, k)
    low, high = interval(metric, answers, k)
    rows = count_of(answers)
    return Score(found.value, low, high, found.baseline, rows, found.report, found.libraries)


@measurement
def lines(bench: Bench, path: str) -> DataFile:
    """A data file of the package; raises `PackageProblem`."""
    return read_lines(bench.package.folder, path)


@measurement
def answers_to(bench: Bench, path: str, kind: str) -> Answers:
    """The answers of one kind to the rows of a file; raises `PackageProblem`."""
    return answers_of(bench, lines(bench, path).rows, kind)


def records(bench: Bench) -> list[EvaluationRecord]:
    """What evidence keeps of each claimed score; raises as `scored` does."""
    manifest = bench.package.require_manifest()
    return [_record(bench, section) for section in manifest.evaluation]


def _record(bench: Bench, section: EvaluationSection) -> EvaluationRecord:
    found = scored(bench, section)
    return EvaluationRecord(
        metric=section.metric,
        k=section.k,
        data=section.data,
        sha256=lines(bench, section.data).sha256,
        rows=found.rows,
        value=found.value,
        low=found.low,
        high=found.high,
        baseline=found.baseline,
        report=found.report,
        libraries=found.libraries,
    )
