"""The data files that a manifest names: what a row of each task holds, and what may be claimed.

A row is judged as data, without tokenizer or model: its keys, their types, labels that the
configuration knows, answers that stand in their context, references that lead somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slmconform.package.json_lines import DataFile, Row, read_lines, row_refused
from slmconform.package.labels import CLASSES, answer_size, judge_label
from slmconform.package.number_rows import FLOAT32, judge_inputs, shape_of
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.strict_json import DIGIT_LIMIT
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import EvaluationSection, Manifest

if TYPE_CHECKING:
    from slmconform.package.read import Package

TRAINING = "training"
RANKING = ("ndcg", "recall")
TAG = re.compile(r"O|[BIES]-.+")
LONGEST_AXIS = 2**31


@dataclass(frozen=True)
class Known:
    """What the package says of labels: their names, and how many outputs answer (None: any)."""

    labels: Mapping[str, int]
    outputs: int | None


Rule = Callable[[Any, Known], str]  # what was wanted; empty where the value is right


@dataclass(frozen=True)
class Form:
    """One format of a row, and the uses that it serves: metrics, or training."""

    required: Mapping[str, Rule]
    optional: Mapping[str, Rule] = field(default_factory=dict)
    uses: tuple[str, ...] = ()


def label_names(package: Package) -> dict[str, int]:
    """Label names and their indices, from ``id2label`` of config.json.

    transformers leaves the table out where it holds its two default names.
    """
    config = package.config or {}
    table = config.get("id2label")
    if isinstance(table, dict):
        numbered = (at for at in table if at.isdecimal() and len(at) <= DIGIT_LIMIT)
        return {str(table[at]): int(at) for at in numbered}
    manifest = package.manifest
    if manifest is None or manifest.loader.kind == "transformers":
        return {"LABEL_0": 0, "LABEL_1": 1}
    return {}


def read_data(package: Package, path: str, use: str) -> DataFile:
    """A data file whose rows fit the task and the use: a metric, or "training".

    Raises `PackageProblem` with file and line.
    """
    data = read_lines(package.folder, path)
    judge_rows(package, data.rows, use)
    return data


def judge_rows(package: Package, rows: Sequence[Row], use: str) -> None:
    """Raise `PackageProblem` for the first row that does not fit the task and the use."""
    manifest = package.require_manifest()
    known = Known(label_names(package), answer_size(manifest.interface))
    if use == "seqeval-f1":
        _judge_scheme(known)
    forms = [f for f in _forms(manifest) if not f.uses or use in f.uses]
    training = use == TRAINING
    loss = (manifest.training.loss if manifest.training else "") if training else None
    for row in rows:
        _judge_row(row, forms, known)
        sizes: dict[str, int] = {}
        if "inputs" in row:
            sizes = judge_inputs(manifest.interface, row["inputs"], row.where, cut=training)
        judge_label(manifest, row, use, sizes, loss)
    if use in RANKING and manifest.model.task == "sentence-embedding":
        _judge_ranking(rows)
    _judge_labels(rows, as_numbers=known.outputs == 1 or manifest.model.task == "tensor")


def _judge_scheme(known: Known) -> None:
    odd = [name for name in known.labels if not TAG.fullmatch(name)]
    if odd or not known.labels:
        got = f"labels {shown(', '.join(odd))}" if odd else "no id2label"
        want = "O, and spans as B-, I-, E- or S- with their class"
        fix = "name the labels so, or claim macro-f1"
        raise PackageProblem("tag-scheme", "config.json: id2label", got, want, fix)
    named = set(known.labels.values())
    if named != set(range(known.outputs or 0)):
        got = f"{len(named)} indices with a name of their own"
        want = f"one name for each of the {known.outputs or 'declared'} outputs"
        fix = "name every label once, and declare how many there are in interface.outputs"
        raise PackageProblem("tag-scheme", "config.json: id2label", got, want, fix)


def _forms(manifest: Manifest) -> Sequence[Form]:
    """The formats of the task, in text and in numbers."""
    return [*FORMS.get(manifest.model.task, ()), *NUMBERS.get(manifest.model.task, ())]


def _judge_row(row: Row, forms: Sequence[Form], known: Known) -> None:
    form = max(forms, key=lambda form: len(form.required.keys() & row.keys()))
    for key in row:
        if key not in form.required and key not in form.optional:
            keys = ", ".join([*form.required, *form.optional])
            raise _row("unknown-key", row, f"the key {shown(key)}", f"of {keys}")
    for key, rule in (*form.required.items(), *form.optional.items()):
        if key not in row:
            if key in form.required:
                raise _row("missing-key", row, f"no key {key}", ", ".join(form.required))
            continue
        if want := rule(row[key], known):
            raise _row("wrong-value", row, f"{key}: {shown(row[key])}", want)
    if form.required.keys() >= {"tokens", "tags"} and len(row["tokens"]) != len(row["tags"]):
        got = f"{len(row['tokens'])} tokens and {len(row['tags'])} tags"
        raise _row("unequal-lengths", row, got, "one tag a token")
    if "answers" in row and not any(answer in row["context"] for answer in row["answers"]):
        raise _row("answer-elsewhere", row, "no answer stands in the context", "a passage of it")
    if "choices" in row and row["label"] >= len(row["choices"]):
        want = f"below {len(row['choices'])}"
        raise _row("wrong-value", row, f"label: {row['label']}", want)


def _judge_ranking(rows: Sequence[Row]) -> None:
    """Ids once, positives among them, and something to look for."""
    corpus: dict[str, str] = {}
    for row in rows:
        if (name := row.get("id")) is not None:
            if name in corpus:
                got = f"the id {shown(name)} stands at {corpus[name]} too"
                raise _row("duplicate-id", row, got, "every id once")
            corpus[name] = row.where
    queries = [row for row in rows if "query" in row]
    for row in queries:
        for name in row["positives"]:
            if name not in corpus:
                got = f"the positive {shown(name)} has no row"
                raise _row("unknown-id", row, got, "the id of a row of the corpus")
    if len(corpus) < 2 or not queries:
        got = f"{len(corpus)} texts and {len(queries)} queries"
        raise _row("nothing-to-rank", rows[-1], got, "two texts or more, and a query")


def _judge_labels(rows: Sequence[Row], *, as_numbers: bool) -> None:
    """All labels of a file are of one kind: classes, several labels, or numbers.

    Where labels are read ``as_numbers``, an integer is one too.
    """
    first: Row | None = None
    for row in rows:
        if isinstance(row.get("label"), (list, str, int, float)):
            first = first or row
            kinds = {_kind(one["label"], as_numbers=as_numbers) for one in (row, first)}
            if len(kinds) > 1:
                got = f"label {shown(row['label'])} beside {shown(first['label'])} at {first.where}"
                raise _row("mixed-labels", row, got, "labels of one kind")


def _kind(label: Any, *, as_numbers: bool) -> str:
    if isinstance(label, list):
        return "list"
    return "number" if isinstance(label, float) or as_numbers else "class"


def _row(code: str, row: Row, got: str, want: str) -> PackageProblem:
    return row_refused(code, row.where, got, want)


# --- what the values of a row are --------------------------------------------------------------


def _text(value: Any, _: Known) -> str:
    return "" if isinstance(value, str) else "a string"


def _some_text(value: Any, _: Known) -> str:
    return "" if isinstance(value, str) and value.strip() else "a string with something in it"


def _texts(value: Any, known: Known) -> str:
    whole = isinstance(value, list) and value and not any(_some_text(v, known) for v in value)
    return "" if whole else "a list of strings, none empty"


def _choices(value: Any, known: Known) -> str:
    return _texts(value, known) or ("" if len(value) > 1 else "two choices or more")


def _number(value: Any, _: Known) -> str:
    right = shape_of(value) == () and abs(value) <= FLOAT32
    return "" if right else "a number that float32 holds"


def _index(value: Any, known: Known) -> str:
    limit = known.outputs or LONGEST_AXIS
    right = type(value) is int and 0 <= value < limit
    return "" if right else f"an integer from 0 below {limit}"


def _any_index(value: Any, _: Known) -> str:
    right = type(value) is int and 0 <= value < LONGEST_AXIS
    return "" if right else "an integer from 0"


def _tags(value: Any, known: Known) -> str:
    names = ", ".join(sorted(known.labels)) or "none: config.json has no id2label"
    right = isinstance(value, list) and all(
        isinstance(one, str) and one in known.labels for one in value
    )
    return "" if right else f"a list of label names ({names[:200]})"


def _label(value: Any, known: Known) -> str:
    """Index, name, list of 0 and 1; for one output 0, 1 or any number."""
    if known.outputs == 1:
        return _number(value, known)
    if isinstance(value, str):
        names = ", ".join(sorted(known.labels)) or "config.json has no id2label"
        return "" if value in known.labels else f"a label name ({names[:200]})"
    if isinstance(value, list):
        right = all(type(one) is int and one in (0, 1) for one in value)
        right = right and known.outputs in (None, len(value))
        return "" if right else f"a list of {known.outputs} zeros and ones"
    return _index(value, known)


def _messages(value: Any, _: Known) -> str:
    right = (
        isinstance(value, list)
        and value
        and all(
            isinstance(m, dict)
            and m.keys() == {"role", "content"}
            and all(isinstance(one, str) for one in m.values())
            for m in value
        )
    )
    return "" if right else 'a list of {"role": ..., "content": ...}'


def _inputs(value: Any, _: Known) -> str:
    given = value.values() if isinstance(value, dict) else ()
    right = given and all(shape_of(one) is not None for one in given)
    return "" if right else "input names with rectangular lists of numbers, without a batch axis"


def _numbers(value: Any, _: Known) -> str:
    right = shape_of(value) is not None
    return "" if right else "a number, or rectangular lists of numbers"


def _integers(value: Any, _: Known) -> str:
    right = isinstance(value, list) and value and all(type(one) is int for one in value)
    return "" if right else "a list of integers"


def _span(value: Any, known: Known) -> str:
    right = not _integers(value, known) and len(value) == 2 and 0 <= value[0] <= value[1]
    return "" if right else "first and last token of the answer"


FORMS: Mapping[str, Sequence[Form]] = {
    "text-classification": (Form({"text": _text, "label": _label}, {"text_pair": _text}),),
    "token-classification": (Form({"tokens": _texts, "tags": _tags}),),
    "question-answering": (
        Form({"question": _some_text, "context": _some_text, "answers": _texts}),
    ),
    "multiple-choice": (Form({"prompt": _text, "choices": _choices, "label": _any_index}),),
    "causal-lm": (
        Form({"text": _some_text}, uses=(TRAINING, "perplexity")),
        Form({"messages": _messages, "answer": _some_text}, uses=(TRAINING, "exact-match")),
        Form({"prompt": _text, "answer": _some_text}, uses=(TRAINING, "exact-match")),
    ),
    "masked-lm": (Form({"text": _some_text, "answer": _some_text}),),
    "seq2seq-lm": (Form({"source": _text, "target": _text}),),
    "sentence-embedding": (
        Form({"text": _text, "text_pair": _text}, {"score": _number}, uses=(TRAINING,)),
        Form({"text": _text, "text_pair": _text, "score": _number}, uses=("spearman",)),
        Form({"id": _some_text, "text": _text}, uses=RANKING),
        Form({"query": _some_text, "positives": _texts}, uses=RANKING),
    ),
}
# Rows of numbers; a text to write, and a pair of sentences, are compared as texts.
NUMBERS: Mapping[str, Sequence[Form]] = {
    "text-classification": (Form({"inputs": _inputs, "label": _label}),),
    "token-classification": (Form({"inputs": _inputs, "label": _integers}),),
    "question-answering": (Form({"inputs": _inputs, "label": _span}),),
    "multiple-choice": (Form({"inputs": _inputs, "label": _any_index}),),
    "causal-lm": (Form({"inputs": _inputs}, {"label": _integers}, uses=(TRAINING, "perplexity")),),
    "masked-lm": (Form({"inputs": _inputs, "label": _integers}),),
    "seq2seq-lm": (Form({"inputs": _inputs, "label": _integers}, uses=(TRAINING,)),),
    "sequence-scoring": (Form({"inputs": _inputs, "target": _index}),),
    "tensor": (Form({"inputs": _inputs, "label": _numbers}),),
}

# --- what may be claimed -----------------------------------------------------------------------

METRICS: Mapping[str, tuple[str, ...]] = {
    "text-classification": (*CLASSES, "spearman"),
    "token-classification": (*CLASSES, "seqeval-f1"),
    "question-answering": ("exact-match",),
    "multiple-choice": ("accuracy",),
    "causal-lm": ("perplexity", "exact-match"),
    "masked-lm": ("accuracy",),
    "seq2seq-lm": ("exact-match",),
    "sentence-embedding": ("spearman", *RANKING),
    "sequence-scoring": ("accuracy", *RANKING),
    "tensor": (*CLASSES, "spearman"),
}
RANGES = {"perplexity": (1.0, float("inf")), "matthews": (-1.0, 1.0), "spearman": (-1.0, 1.0)}


def evaluation_problems(manifest: Manifest) -> Iterator[PackageProblem]:
    """Claims that cannot hold: a metric of another task, k out of place, a score out of range."""
    claimed: dict[tuple[object, ...], int] = {}
    for at, section in enumerate(manifest.evaluation):
        yield from _section_problems(manifest.model.task, section, f"evaluation[{at}]")
        same = claimed.setdefault((section.metric, section.data, section.k), at)
        if same != at:
            got = f"{section.metric} over {section.data} is claimed by evaluation[{same}] too"
            yield _claim("claim-twice", f"evaluation[{at}]", got, "every score once")


def _section_problems(
    task: str, section: EvaluationSection, where: str
) -> Iterator[PackageProblem]:
    if section.metric not in METRICS[task]:
        want = f"one of {', '.join(METRICS[task])}"
        yield _claim(
            "metric-of-another-task", f"{where}.metric", f"{section.metric} of a {task}", want
        )
    if (section.k is None) == (section.metric in RANKING):
        got = "no k" if section.k is None else f"k = {section.k} of {section.metric}"
        want = "k, the number of places that count" if section.k is None else "no k"
        yield _claim("cutoff", f"{where}.k", got, want)
    low, high = RANGES.get(section.metric, (0.0, 1.0))
    if not low <= section.value <= high:
        want = f"{low:g} to {high:g}" if high <= 1 else f"{low:g} or more"
        yield _claim(
            "score-range", f"{where}.value", f"{section.metric} of {section.value:g}", want
        )


def _claim(code: str, key: str, got: str, want: str) -> PackageProblem:
    fix = "correct the claim, or model.task"
    return PackageProblem(code, f"{MANIFEST}: {key}", got, want, fix)
