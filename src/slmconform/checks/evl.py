"""EVL: the claimed scores come out again, and are worth claiming."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import (
    Nonconformance,
    NoReference,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)
from slmconform.package.problem import PackageProblem
from slmconform.standard.files import EVIDENCE, MANIFEST

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.measure.evaluation import Score
    from slmconform.package.read import Package
    from slmconform.standard.manifest import EvaluationSection, Manifest

ROUNDING = 1e-12  # of decimal numbers written in binary
UNCLAIMED = (
    f"{MANIFEST} claims no score; write [[evaluation]] with metric, data, value and tolerance"
)
SAME_OUTPUTS = ("SLM-REF-001", "SLM-REF-002", "SLM-REF-003", "SLM-TOK-006", "SLM-TOK-008")


@check(
    "SLM-EVL-001",
    stage=Stage.STATIC,
    needs=("SLM-MAN-001", "SLM-MAN-003", "SLM-MAN-004", "SLM-PKG-001", "SLM-PKG-002"),
)
def data_are_those_recorded(package: Package) -> str:
    """Each data file consists of JSON lines in the format of the task and has its digest."""
    manifest = package.require_manifest()
    uses = _uses(manifest)
    if not uses:
        raise NotApplicable(f"{MANIFEST} names no data file")
    from slmconform.package.dataset import read_data  # only where there is a file to judge

    recorded = _recorded(package)
    rows: dict[str, int] = {}
    for path, use in uses:
        try:
            data = read_data(package, path, use)
        except PackageProblem as problem:
            raise problem.finding() from None
        rows[path] = len(data.rows)
        want = recorded.get(path, data.sha256)
        if data.sha256 != want:
            raise Nonconformance(
                code="data-differ",
                where=path,
                got=f"sha256 {data.sha256[:16]}…",
                want=f"{want[:16]}…, as {EVIDENCE} says",
                why="the data were changed after the recording",
                fix="restore the file, or record again: `slmconform record`",
            )
    if new := [path for path in rows if package.evidence and path not in recorded]:
        raise NoReference(f"not recorded: {', '.join(new)}; `slmconform record` records data files")
    return ", ".join(f"{count} rows in {path}" for path, count in rows.items())


def _recorded(package: Package) -> dict[str, str]:
    """The recorded digest of each data file."""
    evidence = package.evidence
    if evidence is None:
        return {}
    found = {one.data: one.sha256 for one in evidence.evaluations}
    if evidence.training and evidence.training.data_sha256:
        found[str(evidence.training.recipe.get("data"))] = evidence.training.data_sha256
    return found


def _uses(manifest: Manifest) -> list[tuple[str, str]]:
    """Each data file with what it is used for."""
    found = [(section.data, str(section.metric)) for section in manifest.evaluation]
    if manifest.training and manifest.training.data:
        from slmconform.package.dataset import TRAINING

        found.append((manifest.training.data, TRAINING))
    return list(dict.fromkeys(found))


@check("SLM-EVL-002", stage=Stage.DYNAMIC, needs=("SLM-EVL-001", *SAME_OUTPUTS))
def scores_come_out_again(bench: Bench) -> str:
    """Each declared score is within its tolerance of the recomputed one."""
    seen = []
    for section, found in _scores(bench):
        gap = abs(section.value - found.value)
        if not gap <= section.tolerance + ROUNDING:
            raise Nonconformance(
                code="score-differs",
                where=f"{section.data}: {_named(section)}",
                got=f"{found.value:.6g} over {found.rows} rows, "
                f"95 % interval {found.low:.4g} to {found.high:.4g}",
                want=f"{section.value:.6g} within {section.tolerance:g}, as {MANIFEST} claims",
                why=f"the two are {gap:.3g} apart",
                fix="claim the recomputed score; if it should be better, compare the order of the "
                "labels, the tokenizer and the chat template with those used in training",
            )
        seen.append(f"{_named(section)} {found.value:.4g} [{found.low:.4g}, {found.high:.4g}]")
    return ", ".join(seen)


@check("SLM-EVL-003", stage=Stage.DYNAMIC, needs=("SLM-EVL-002",))
def scores_beat_the_trivial_answer(bench: Bench) -> str:
    """Each declared score is better than that of the trivial answer."""
    seen = []
    for section, found in _scores(bench):
        if found.baseline is None:
            continue
        sign = -1 if section.metric == "perplexity" else 1
        if not sign * section.value > sign * found.baseline:
            raise Nonconformance(
                code="no-better-than-trivial",
                where=f"{section.data}: {_named(section)}",
                got=f"{section.value:.6g}",
                want=f"better than {found.baseline:.6g}, which {_TRIVIAL[section.metric]} reaches",
                why="the score shows nothing that the model has learnt",
                fix="train further, or claim a metric that the model is good at",
            )
        seen.append(f"{_named(section)} {section.value:.4g} against {found.baseline:.4g}")
    return ", ".join(seen)


@check("SLM-EVL-004", stage=Stage.DYNAMIC, needs=("SLM-EVL-002",))
def tolerances_are_no_wider_than_the_noise(bench: Bench) -> str:
    """No tolerance exceeds half the 95 % interval, unless the manifest says why."""
    seen = []
    for section, found in _scores(bench):
        half = (found.high - found.low) / 2 or 1 / found.rows
        if not section.tolerance <= half + ROUNDING and not section.reason.strip():
            raise Nonconformance(
                code="tolerance-too-wide",
                where=f"{section.data}: {_named(section)}",
                got=f"a tolerance of {section.tolerance:g}",
                want=f"at most {half:.3g}, half the interval over {found.rows} rows, or a reason",
                why="a wider tolerance lets a score pass that is worse by more than chance",
                fix="lower the tolerance, add rows, or write why in `reason`",
            )
        seen.append(f"{_named(section)} {section.tolerance:g} of {half:.3g}")
    return ", ".join(seen)


_TRIVIAL = {
    **dict.fromkeys(("accuracy", "macro-f1", "micro-f1", "matthews"), "the most frequent class"),
    "seqeval-f1": "the most frequent tag",
    "spearman": "any order by chance",
    "exact-match": "one constant answer",
    "perplexity": "the frequency of each token",
    **dict.fromkeys(("ndcg", "recall"), "one order for all, by popularity"),
}


def _scores(bench: Bench) -> list[tuple[EvaluationSection, Score]]:
    """Each claim with its recomputed score."""
    from slmconform.measure.evaluation import scored

    claims = bench.package.require_manifest().evaluation
    if not claims:
        raise NotExamined(UNCLAIMED)
    return [(section, scored(bench, section)) for section in claims]


def _named(section: EvaluationSection) -> str:
    return section.metric if section.k is None else f"{section.metric}@{section.k}"
