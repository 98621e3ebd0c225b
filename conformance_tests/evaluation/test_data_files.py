"""Data files that are not what they have to be: each is refused with file, line and reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from evaluation_packages import DATA, write_rows

from slmconform.package import json_lines
from slmconform.package.dataset import evaluation_problems, label_names, read_data
from slmconform.package.json_lines import read_lines
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.standard.manifest import EvaluationSection

GOOD = b'{"text": "the lamp", "label": 1}\n'
FILES = {
    "empty-file": (b"", ""),
    "not-utf8": (GOOD + b'{"text": "\xff", "label": 0}\n', ":2"),
    "byte-order-mark": (b"\xef\xbb\xbf" + GOOD, ":1"),
    "not-json": (GOOD + b"{'text': 1}\n", ":2"),
    "empty-line": (GOOD + b"\n" + GOOD, ":2"),
    "not-an-object": (GOOD + b"[1, 2]\n", ":2"),
    "duplicate-key": (b'{"text": "a", "text": "b", "label": 0}\n', ":1"),
    "not-finite": (b'{"text": "a", "label": NaN}\n', ":1"),
    "too-many-digits": (b'{"text": "a", "label": ' + b"1" * 5000 + b"}\n", ":1"),
    "too-deep": (b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", ":1"),
    "lone-surrogate": (GOOD + b'{"text": "a\\ud800b", "label": 0}\n', ":2"),
    "long-line": (GOOD + b'{"text": "' + b"a" * json_lines.LINE_LIMIT + b'"}\n', ":2"),
    "too-many-rows": (b"{}\n" * (json_lines.ROW_LIMIT + 1), ""),
}


@pytest.mark.parametrize("code", FILES)
def test_files_that_are_no_json_lines(package, code):
    folder = package("text-classification")
    data, line = FILES[code]
    (folder / DATA).write_bytes(data)
    with pytest.raises(PackageProblem) as caught:
        read_data(Package(folder), DATA, "accuracy")
    assert caught.value.code == code
    assert caught.value.where.startswith(f"{DATA}{line}")
    assert len(str(caught.value)) < 600


def test_a_file_that_is_too_large(package, monkeypatch):
    folder = package("text-classification")
    monkeypatch.setattr(json_lines, "FILE_LIMIT", 100)
    (folder / DATA).write_bytes(GOOD * 10)
    with pytest.raises(PackageProblem) as caught:
        read_lines(Package(folder).folder, DATA)
    assert caught.value.code == "too-large"


@pytest.mark.parametrize(
    ("code", "data", "line"),
    [
        ("not-json", GOOD.replace(b"\n", b"\r") * 2, 1),
        ("empty-line", GOOD.replace(b"\n", b"\r\n") + b"\r\n", 2),
        ("empty-line", b"\n", 1),
        ("byte-order-mark", GOOD.decode().encode("utf-16"), 1),
        ("not-finite", GOOD + b'{"text": "a", "label": -Infinity}', 2),
        ("not-finite", b'{"text": "a", "label": 1e999}', 1),
        ("duplicate-key", b'{"inputs": {"a": [1], "a": [2]}, "label": 0}', 1),
        ("wrong-value", b'{"text": "a", "label": 1' + b"0" * 30 + b"}", 1),
        ("wrong-value", b'{"text": "a", "label": ' + b"[" * 60 + b"]" * 60 + b"}", 1),
    ],
)
def test_odd_lines_give_one_finding_with_their_number(package, code, data, line):
    folder = package("text-classification")
    (folder / DATA).write_bytes(data)
    with pytest.raises(PackageProblem) as caught:
        read_data(Package(folder), DATA, "accuracy")
    assert (caught.value.code, caught.value.where) == (code, f"{DATA}:{line}")


def test_twin_windows_line_breaks_and_whole_pairs_of_surrogates(package):
    folder = package("text-classification")
    pair = b'{"text": "\\ud83d\\ude00 \\\\ud800", "label": 1}\r\n'
    (folder / DATA).write_bytes(GOOD.replace(b"\n", b"\r\n") + pair)
    rows = read_data(Package(folder), DATA, "accuracy").rows
    assert [row["text"] for row in rows] == ["the lamp", "\U0001f600 \\ud800"]


def test_twin_the_last_line_may_end_without_a_break(package):
    folder = package("text-classification")
    (folder / DATA).write_bytes(GOOD * 2 + GOOD.rstrip())
    data = read_lines(Package(folder).folder, DATA)
    assert [row.where for row in data.rows] == [f"{DATA}:{at}" for at in (1, 2, 3)]


@dataclass(frozen=True)
class Case:
    """A row, or several, of a task; ``code`` is how it is refused, empty where it is right."""

    task: str
    rows: tuple[dict, ...]
    code: str = ""
    use: str = "training"
    options: dict = field(default_factory=dict)


def one(task, code="", use="training", options=None, **row):
    return Case(task, (row,), code, use, options or {})


EMBED = "sentence-embedding"
TEXT, TOKEN = "text-classification", "token-classification"
CHAT = [{"role": "user", "content": "where is the lamp"}]
PAIR = {"text": "the lamp", "text_pair": "a lamp"}
CORPUS = ({"id": "a", "text": "the lamp"}, {"id": "b", "text": "the shop"})
QUERY = {"query": "lamp", "positives": ["a"]}
CASES = [
    one(TEXT, text="the lamp", label=4),
    one(TEXT, text="the lamp", text_pair="the shop", label="LABEL_4"),
    one(TEXT, text="", label=[0, 1, 0, 0, 1]),
    one(TEXT, text="the lamp", label=0.75, options={"labels": 1}),
    one(TEXT, "wrong-value", text=7, label=1),
    one(TEXT, "wrong-value", text="the lamp", label=5),
    one(TEXT, "wrong-value", text="the lamp", label=-1),
    one(TEXT, "wrong-value", text="the lamp", label=True),
    one(TEXT, "wrong-value", text="the lamp", label=None),
    one(TEXT, "wrong-value", text="the lamp", label=0.5),
    one(TEXT, "wrong-value", text="the lamp", label="POSITIVE"),
    one(TEXT, "wrong-value", text="the lamp", label=[0, 1]),
    one(TEXT, "wrong-value", text="the lamp", label=[0, 1, 0, 0, 2]),
    one(TEXT, "wrong-value", text="the lamp", label="LABEL_0", options={"labels": 1}),
    one(TEXT, "missing-key", text="the lamp"),
    one(TEXT, "unknown-key", text="the lamp", label=1, lable=1),
    Case(TEXT, ({"text": "a", "label": 1}, {"text": "a", "label": [0] * 5}), "mixed-labels"),
    Case(TEXT, ({"text": "a", "label": 3}, {"text": "a", "label": 2.5}), options={"labels": 1}),
    one(TEXT, "label-range", "accuracy", text="a", label=0.5, options={"labels": 1}),
    one(TEXT, "", "accuracy", text="a", label=1, options={"labels": 1}),
    one(TEXT, "wrong-value", text="a", label=1e39, options={"labels": 1}),
    one(EMBED, "unknown-key", "spearman", inputs={"input_ids": [5]}, label=1),
    one("causal-lm", "unknown-key", "exact-match", inputs={"input_ids": [5, 6]}, label=[5, 6]),
    one(TOKEN, tokens=["Anna"], tags=["B-PER"]),
    one(TOKEN, "unequal-lengths", tokens=["Anna", "is"], tags=["B-PER"]),
    one(TOKEN, "wrong-value", tokens=["Anna"], tags=["B-ORG"]),
    one(TOKEN, "wrong-value", tokens=["Anna"], tags=[1]),
    one(TOKEN, "wrong-value", tokens=[], tags=[]),
    one(TOKEN, "wrong-value", tokens=["Anna", " "], tags=["O", "O"]),
    one(TOKEN, "wrong-value", tokens="Anna", tags="O"),
    one("question-answering", question="who", context="Anna is late", answers=["Anna"]),
    one("question-answering", "answer-elsewhere", question="who", context="Anna", answers=["Oslo"]),
    one("question-answering", "wrong-value", question="who", context="Anna", answers=[]),
    one("multiple-choice", prompt="the lamp", choices=["is red", "is late"], label=1),
    one("multiple-choice", "wrong-value", prompt="a", choices=["b", "c"], label=2),
    one("multiple-choice", "wrong-value", prompt="a", choices=["b"], label=0),
    one("causal-lm", text="the lamp is red"),
    one("causal-lm", prompt="the lamp", answer="is red"),
    one("causal-lm", messages=CHAT, answer="the shop", use="exact-match"),
    one("causal-lm", "unknown-key", text="the lamp", use="exact-match"),
    one("causal-lm", "unknown-key", prompt="the lamp", answer="is", use="perplexity"),
    one("causal-lm", "wrong-value", messages=[{"role": "user"}], answer="yes"),
    one("causal-lm", "wrong-value", messages=[], answer="yes"),
    one("masked-lm", text="the [MASK] is red", answer="lamp"),
    one("masked-lm", "wrong-value", text="the [MASK] is red", answer=["lamp"]),
    one("seq2seq-lm", source="red lamp", target="lamp red"),
    one("seq2seq-lm", "missing-key", source="red lamp"),
    Case(EMBED, (PAIR,)),
    Case(EMBED, ({**PAIR, "score": 0.5},), use="spearman"),
    Case(EMBED, (PAIR,), "missing-key", "spearman"),
    Case(EMBED, ({**PAIR, "score": "0.5"},), "wrong-value", "spearman"),
    Case(EMBED, (*CORPUS, QUERY), use="ndcg"),
    Case(EMBED, (*CORPUS, QUERY, CORPUS[0]), "duplicate-id", "ndcg"),
    Case(EMBED, (*CORPUS, {**QUERY, "positives": ["c"]}), "unknown-id", "recall"),
    Case(EMBED, CORPUS, "nothing-to-rank", "recall"),
    Case(EMBED, (CORPUS[0], QUERY), "nothing-to-rank", "recall"),
    Case(EMBED, (*CORPUS, {**QUERY, "positives": []}), "wrong-value", "recall"),
    one("causal-lm", inputs={"input_ids": [5, 6, 7]}),
    one("causal-lm", "wrong-value", inputs={"input_ids": [5, "6"]}),
    one("causal-lm", "wrong-value", inputs={"input_ids": [[5, 6], [7]]}),
    one("causal-lm", "wrong-value", inputs={}),
    one("causal-lm", "wrong-value", inputs={"input_ids": [5, True]}),
    one(TEXT, "missing-key", inputs={"input_ids": [5]}),
    one("question-answering", inputs={"input_ids": [5, 6]}, label=[0, 1]),
    one("question-answering", "wrong-value", inputs={"input_ids": [5, 6]}, label=[1, 0]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.task}-{c.code or 'right'}")
def test_rows_of_each_task(package, case):
    folder = package(case.task, **case.options)
    write_rows(folder, list(case.rows))
    if not case.code:
        assert len(read_data(Package(folder), DATA, case.use).rows) == len(case.rows)
        return
    with pytest.raises(PackageProblem) as caught:
        read_data(Package(folder), DATA, case.use)
    assert caught.value.code == case.code
    assert caught.value.where == f"{DATA}:{len(case.rows)}"
    assert caught.value.want


def test_span_scores_need_tags_of_a_scheme(package):
    folder = package(TOKEN)
    write_rows(folder, [{"tokens": ["Anna"], "tags": ["B-PER"]}])
    assert read_data(Package(folder), DATA, "seqeval-f1")
    text = (folder / "config.json").read_text("utf-8")
    (folder / "config.json").write_text(text.replace("I-PER", "PER"), "utf-8")
    with pytest.raises(PackageProblem) as caught:
        read_data(Package(folder), DATA, "seqeval-f1")
    assert caught.value.code == "tag-scheme"
    assert read_data(Package(folder), DATA, "macro-f1")


def test_span_scores_need_a_name_for_every_output(package):
    folder = package(TOKEN)
    write_rows(folder, [{"tokens": ["Anna"], "tags": ["B-PER"]}])
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["id2label"]["2"] = "B-LOC"
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(PackageProblem) as caught:
        read_data(Package(folder), DATA, "seqeval-f1")
    assert (caught.value.code, caught.value.want) == (
        "tag-scheme",
        "one name for each of the 5 outputs",
    )


def test_label_names_without_a_table(package):
    folder = package(TEXT, labels=2)
    table = json.loads((folder / "config.json").read_text("utf-8"))
    table.pop("id2label", None)
    (folder / "config.json").write_text(json.dumps(table), "utf-8")
    assert label_names(Package(folder)) == {"LABEL_0": 0, "LABEL_1": 1}


CLAIMS = [
    (TEXT, {"metric": "accuracy"}, ""),
    (TEXT, {"metric": "seqeval-f1"}, "metric-of-another-task"),
    (TEXT, {"metric": "accuracy", "k": 3}, "cutoff"),
    (EMBED, {"metric": "ndcg"}, "cutoff"),
    (EMBED, {"metric": "ndcg", "k": 3}, ""),
    (TEXT, {"metric": "accuracy", "value": 91.3}, "score-range"),
    (TEXT, {"metric": "matthews", "value": -0.2}, ""),
    (TEXT, {"metric": "matthews", "value": -1.2}, "score-range"),
    ("causal-lm", {"metric": "perplexity", "value": 12.5}, ""),
    ("causal-lm", {"metric": "perplexity", "value": 0.9}, "score-range"),
]


@pytest.mark.parametrize(("task", "claim", "code"), CLAIMS)
def test_claims_that_cannot_hold(package, task, claim, code):
    manifest = Package(package(task)).require_manifest()
    section = EvaluationSection(**{"data": DATA, "value": 0.5, "tolerance": 0.0, **claim})
    claimed = manifest.model_copy(update={"evaluation": [section]})
    assert [p.code for p in evaluation_problems(claimed)] == ([code] if code else [])
    twice = manifest.model_copy(update={"evaluation": [section, section]})
    assert "claim-twice" in [p.code for p in evaluation_problems(twice)]
