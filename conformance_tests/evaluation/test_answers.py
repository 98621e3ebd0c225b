"""Scores of every task equal those of one row at a time through the plain library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation_packages import DATA, NUMBERS, TAGS, WORDS, claim, write_rows
from package_builders import MIT
from safetensors.torch import save_file
from scipy.stats import spearmanr
from seqeval.metrics import f1_score
from sklearn import metrics as sklearn

from slmconform.engine.registry import Nonconformance
from slmconform.measure import answers
from slmconform.measure.answers import _normal, answers_of
from slmconform.measure.dataset import training_batch
from slmconform.measure.evaluation import lines, records, scored
from slmconform.measure.tokenizing import tokenizer
from slmconform.standard.manifest import EvaluationSection

PADDINGS = ['"right"', '"left"', ""]
OF_BERT = ['"right"', ""]  # it counts places from the first token, padding or not


def words(row, count):
    """Words that differ from row to row."""
    return [WORDS[(7 * row + 3 * at + row * at) % len(WORDS)] for at in range(count)]


def score_of(bench, rows, metric, k=None):
    write_rows(bench.package.root, rows)
    section = EvaluationSection(metric=metric, data=DATA, value=1.0, tolerance=0.0, k=k)
    return scored(bench, section)


def alone(bench, *texts, **more):
    """What the library itself makes of one row without padding."""
    encoded = tokenizer(bench)(*texts, return_tensors="pt", return_token_type_ids=True)
    names = [spec.name for spec in bench.interface.inputs]
    with torch.no_grad():
        return bench.model.module(**{n: encoded[n] for n in names if n in encoded}, **more)


@pytest.mark.parametrize("padding", OF_BERT)
def test_classes_of_texts(package, bench, padding):
    one = bench(package("text-classification", padding=padding))
    rows = [{"text": " ".join(words(at, 1 + at % 9)), "label": at % 5} for at in range(40)]
    got = [int(alone(one, row["text"]).logits.argmax()) for row in rows]
    want = [row["label"] for row in rows]
    assert score_of(one, rows, "accuracy").value == sklearn.accuracy_score(want, got)
    found = score_of(one, rows, "macro-f1")
    assert found.value == sklearn.f1_score(want, got, average="macro", zero_division=0)
    assert found.report.keys() >= {"LABEL_0", "macro avg"}


def test_several_labels_and_one_logit(package, bench):
    one = bench(package("text-classification"))
    texts = [" ".join(words(at, 2 + at % 5)) for at in range(30)]
    rows = [{"text": t, "label": [at % 2, 1, 0, 1, at % 3 // 2]} for at, t in enumerate(texts)]
    got = [(alone(one, text).logits[0] > 0).int().tolist() for text in texts]
    want = [row["label"] for row in rows]
    value = sklearn.f1_score(want, got, average="micro")
    assert score_of(one, rows, "micro-f1").value == value
    single = bench(package("text-classification", labels=1))
    rows = [{"text": t, "label": at % 2} for at, t in enumerate(texts)]
    logits = [float(alone(single, text).logits) for text in texts]
    right = [(logit > 0) == row["label"] for logit, row in zip(logits, rows, strict=True)]
    assert score_of(single, rows, "accuracy").value == sum(right) / len(right)
    rows = [{"text": t, "label": at / 7} for at, t in enumerate(texts)]
    single = bench(package("text-classification", labels=1))
    value = spearmanr([row["label"] for row in rows], logits).statistic
    assert score_of(single, rows, "spearman").value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("padding", OF_BERT)
def test_tags_of_words(package, bench, padding):
    one = bench(package("token-classification", padding=padding))
    rows = []
    for at in range(30):
        tokens = words(at, 1 + at % 8)
        rows.append({"tokens": tokens, "tags": [TAGS[(at + n) % 5] for n in range(len(tokens))]})
    got = []
    for row in rows:
        classes = alone(one, " ".join(row["tokens"])).logits[0, 1:-1].argmax(-1)
        got.append([TAGS[int(c)] for c in classes])
    found = score_of(one, rows, "seqeval-f1")
    assert found.value == f1_score([row["tags"] for row in rows], got)
    passes = one.forwards
    flat = sklearn.accuracy_score(
        [tag for row in rows for tag in row["tags"]], [tag for row in got for tag in row]
    )
    assert score_of(one, rows, "accuracy").value == flat
    assert one.forwards == passes  # the same passes serve both metrics


def test_spans_of_answers(package, bench):
    one = bench(package("question-answering", padding='"right", "left"'))
    rows, right = [], 0
    for at in range(24):
        context = words(at, 3 + at % 7)
        output = alone(one, "who is", " ".join(context))
        start, end = output.start_logits[0, 4:-1], output.end_logits[0, 4:-1]
        pairs = [
            (float(start[a] + end[b]), a, b) for a in range(len(start)) for b in range(a, len(end))
        ]
        _, first, last = max(pairs)
        best = " ".join(context[first : last + 1])
        answer = best if at % 3 else context[0]
        rows.append({"question": "who is", "context": " ".join(context), "answers": [answer]})
        right += _normal(answer) == _normal(best)
    assert score_of(one, rows, "exact-match").value == right / len(rows)
    assert _normal("The lamp,  a Shop!") == "lamp shop"


def test_choices(package, bench):
    one = bench(package("multiple-choice"))
    rows, got = [], []
    for at in range(12):
        choices = [" ".join(words(at + n, 1 + (at + n) % 4)) for n in range(3)]
        rows.append({"prompt": "the lamp", "choices": choices, "label": at % 3})
        options = {"return_tensors": "pt", "padding": True, "return_token_type_ids": True}
        tok = tokenizer(one)(["the lamp"] * 3, choices, **options)
        with torch.no_grad():
            logits = one.model.module(**{k: v.unsqueeze(0) for k, v in tok.items()}).logits
        got.append(int(logits.argmax()))
    value = sklearn.accuracy_score([row["label"] for row in rows], got)
    assert score_of(one, rows, "accuracy").value == value


def test_masks(package, bench):
    one = bench(package("masked-lm"))
    rows, right = [], 0
    for at in range(12):
        before = " ".join(words(at, at % 5))
        text = f"{before} [MASK] is late".strip()
        place = 1 + at % 5
        best = int(alone(one, text).logits[0, place].argmax())
        answer = tokenizer(one).convert_ids_to_tokens(best) if at % 2 else "lamp"
        answer = answer if answer in WORDS else "lamp"
        right += tokenizer(one).convert_tokens_to_ids(answer) == best
        rows.append({"text": text, "answer": answer})
    assert score_of(one, rows, "accuracy").value == right / len(rows)


@pytest.mark.parametrize("padding", PADDINGS)
def test_perplexity(package, bench, padding):
    one = bench(package("causal-lm", padding=padding))
    rows = [{"text": " ".join(words(at, 2 + at % 9))} for at in range(20)]
    loss = count = 0.0
    for row in rows:
        tokens = tokenizer(one)(row["text"], return_tensors="pt")["input_ids"]
        length = tokens.shape[1] - 1
        loss += float(alone(one, row["text"], labels=tokens).loss) * length
        count += length
    value = score_of(one, rows, "perplexity").value
    assert value == pytest.approx(math.exp(loss / count), rel=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_answers_of_a_decoder(package, bench, padding):
    one = bench(package("causal-lm", padding=padding))
    rows = []
    for at in range(12):
        prompt = words(at, 1 + at % 4)
        answer = "lamp" if at % 4 == 0 else generated(one, " ".join(prompt), 6)
        rows.append({"prompt": " ".join(prompt), "answer": answer or "lamp"})
    right = [generated(one, r["prompt"], 64) == r["answer"] for r in rows]
    want = [generated(one, r["prompt"], len(r["answer"].split()) + 9) == r["answer"] for r in rows]
    found = score_of(one, rows, "exact-match").value
    assert found == sum(right) / len(rows) == sum(want) / len(rows)


def generated(bench, text, most, **more):
    tok = tokenizer(bench)
    encoded = tok(text, return_tensors="pt")
    names = ("input_ids", "attention_mask")
    options = {"do_sample": False, "max_new_tokens": most, "pad_token_id": 0, "eos_token_id": 3}
    with torch.no_grad():
        ids = bench.model.module.generate(**{n: encoded[n] for n in names}, **options)[0]
    if bench.task == "causal-lm":
        ids = ids[encoded["input_ids"].shape[1] :]
    return tok.decode(ids, skip_special_tokens=True).strip()


def test_texts_of_an_encoder_decoder(package, bench):
    one = bench(package("seq2seq-lm"))
    rows, right = [], 0
    for at in range(10):
        source = " ".join(words(at, 1 + at % 6))
        best = generated(one, source, 20)
        target = best if at % 2 and len(best.split()) < 15 and best else "lamp"
        rows.append({"source": source, "target": target})
        right += generated(one, source, len(target.split()) + 9) == target
    assert score_of(one, rows, "exact-match").value == right / len(rows)


def test_similarity_and_retrieval(package, bench):
    one = bench(package("sentence-embedding"))
    texts = [" ".join(words(at, 1 + at % 6)) for at in range(24)]

    def vector(text):
        hidden = alone(one, text).last_hidden_state[0].double().mean(0)
        return (hidden / hidden.norm()).numpy()

    pairs = [
        {"text": a, "text_pair": b, "score": at * 0.1}
        for at, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    ]
    cosines = [vector(row["text"]) @ vector(row["text_pair"]) for row in pairs]
    value = spearmanr([row["score"] for row in pairs], cosines).statistic
    assert score_of(one, pairs, "spearman").value == pytest.approx(value, abs=1e-12)
    other = bench(package("sentence-embedding"))
    rows = [{"id": f"t{at}", "text": text} for at, text in enumerate(texts[:16])]
    rows += [{"query": text, "positives": [f"t{at}", "t9"]} for at, text in enumerate(texts[16:])]
    scores = np.array([[vector(q) @ vector(t) for t in texts[:16]] for q in texts[16:]])
    right = np.zeros((8, 16))
    for at in range(8):
        right[at, [at, 9]] = 1
    found = score_of(other, rows, "ndcg", 5)
    assert found.value == pytest.approx(sklearn.ndcg_score(right, scores, k=5), abs=1e-12)
    assert found.rows == 8


def test_a_record_for_evidence(package, bench):
    folder = package("text-classification")
    rows = [{"text": " ".join(words(at, 3)), "label": at % 5} for at in range(20)]
    write_rows(folder, rows)
    claim(folder, "accuracy", 0.2)
    claim(folder, "macro-f1", 0.2)
    first, second = records(bench(folder))
    assert (first.metric, first.rows, first.report, first.k) == ("accuracy", 20, {}, None)
    assert first.low <= first.value <= first.high
    assert first.sha256 == second.sha256
    assert second.report["macro avg"]["f1-score"] == second.value
    assert type(first).model_validate_json(first.model_dump_json()) == first


NEXT = """
import torch

class Next(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.items = torch.nn.Embedding(12, 4)

    def forward(self, item_ids, attention_mask):
        weight = attention_mask.unsqueeze(-1).to(self.items.weight.dtype)
        mean = (self.items(item_ids) * weight).sum(1) / weight.sum(1)
        return mean @ self.items.weight.T

def build(config):
    return Next()
"""
FACE = """
[[interface.inputs]]
name = "item_ids"
dtype = "int64"
axes = ["batch", "sequence"]
range = [0, 11]
role = "tokens"
[[interface.inputs]]
name = "attention_mask"
dtype = "int64"
axes = ["batch", "sequence"]
[[interface.outputs]]
name = "scores"
dtype = "float32"
axes = ["batch", {items}]
[interface.axes]
sequence = {{ min = 1, max = 9 }}
batch = {{ min = 2, max = 3 }}
items = {{ min = 1, max = 90 }}
[interface.capabilities]
padding = ["right"]
"""


def recommender(folder, task, items="12"):
    head = NUMBERS.format(task=task).partition("[[interface")[0]
    folder.mkdir()
    (folder / "modeling.py").write_text(NEXT, "utf-8")
    (folder / "config.json").write_text("{}", "utf-8")
    (folder / "slm.toml").write_text(head + FACE.format(items=items), "utf-8")
    (folder / "LICENSE").write_text(MIT, "utf-8")
    weights = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    save_file({"items.weight": weights}, folder / "model.safetensors")
    return folder, weights


def test_items_to_come(tmp_path, bench):
    folder, weights = recommender(tmp_path / "recommender", "sequence-scoring")
    one = bench(folder)
    rows = [
        {"inputs": {"item_ids": [(3 * at + n) % 12 for n in range(1 + at % 7)]}, "target": at % 12}
        for at in range(31)
    ]
    scores = np.array(
        [(weights[r["inputs"]["item_ids"]].mean(0) @ weights.T).numpy() for r in rows]
    )
    targets = [row["target"] for row in rows]
    want = sklearn.ndcg_score(np.eye(12)[targets], scores, k=5)
    assert score_of(one, rows, "ndcg", 5).value == pytest.approx(want, abs=1e-12)
    want = sklearn.top_k_accuracy_score(targets, scores, k=3, labels=range(12))
    assert score_of(one, rows, "recall", 3).value == pytest.approx(want, abs=1e-12)
    want = sklearn.accuracy_score(targets, scores.argmax(1))
    assert score_of(one, rows, "accuracy").value == want
    assert one.forwards == 11  # batches of two or three, once for all metrics


def test_classes_of_tensors(tmp_path, bench):
    folder, weights = recommender(tmp_path / "tensors", "tensor")
    rows = [{"inputs": {"item_ids": [at % 12, 3]}, "label": at % 5} for at in range(20)]
    got = [int((weights[r["inputs"]["item_ids"]].mean(0) @ weights.T).argmax()) for r in rows]
    want = sklearn.matthews_corrcoef([row["label"] for row in rows], got)
    assert score_of(bench(folder), rows, "matthews").value == want


def test_mixed_numbers_are_correlated(tmp_path, bench):
    folder, _ = recommender(tmp_path / "numbers", "tensor")
    modeling = (folder / "modeling.py").read_text("utf-8")
    single = modeling.replace("mean @ self.items.weight.T", "mean.sum(-1, keepdim=True)")
    (folder / "modeling.py").write_text(single, "utf-8")
    text = (folder / "slm.toml").read_text("utf-8")
    (folder / "slm.toml").write_text(text.replace('["batch", 12]', '["batch", 1]'), "utf-8")
    one = bench(folder)
    labels = [3, 2.5, 4, 0.5]
    rows = [{"inputs": {"item_ids": [at]}, "label": label} for at, label in enumerate(labels)]
    got = one.model.module.items.weight[:4].detach().sum(-1).tolist()
    assert score_of(one, rows, "spearman").value == pytest.approx(spearmanr(labels, got).statistic)
    assert training_batch(one, rows)[1]["labels"].tolist() == labels


BEYOND = [
    ("sequence-scoring", "recall", "target", 11, 12, "label-range"),
    ("tensor", "accuracy", "label", 11, 12, "label-range"),
    ("tensor", "micro-f1", "label", [0, 1] * 6, [0, 1] * 5, "label-shape"),
]


@pytest.mark.parametrize(("task", "metric", "key", "right", "wrong", "code"), BEYOND)
def test_labels_beyond_what_the_model_returns(
    tmp_path, bench, task, metric, key, right, wrong, code
):
    """Where the interface leaves the number of outputs open, the answer says it."""
    folder, _ = recommender(tmp_path / "open", task, '"items"')
    rows = [{"inputs": {"item_ids": [1, 2]}, key: label} for label in (right, right, wrong)]
    k = 3 if metric == "recall" else None
    assert score_of(bench(folder), rows[:2], metric, k).rows == 2
    with pytest.raises(Nonconformance) as caught:
        score_of(bench(folder), rows, metric, k)
    assert (caught.value.code, caught.value.where) == (code, f"{DATA}:3")


def test_a_retrieval_keeps_the_places_of_right_texts_only(package, bench, monkeypatch):
    """Cosines are made block by block and dropped: memory does not grow with queries x texts."""
    one = bench(package("sentence-embedding"))
    rows = [{"id": f"t{at}", "text": " ".join(words(at, 1 + at % 5))} for at in range(40)]
    rows += [{"query": WORDS[at], "positives": [f"t{at}"]} for at in range(20)]
    write_rows(one.package.root, rows)
    whole = answers_of(one, lines(one, DATA).rows, "retrieval")
    monkeypatch.setattr(answers, "BLOCK", 100)
    parts = answers_of(one, lines(one, DATA).rows, "retrieval")
    for a, b in zip(whole.queries, parts.queries, strict=True):
        assert (a.right, a.better, a.equal, a.best) == (b.right, b.better, b.equal, b.best)
        assert len(a.better) == len(a.equal) == 1


def test_an_output_that_is_not_a_number(package, bench, monkeypatch):
    one = bench(package("text-classification"))
    forward = one.model.module.forward

    def broken(*args, **inputs):
        found = forward(*args, **inputs)
        found.logits[0, 0] = torch.nan
        return found

    monkeypatch.setattr(one.model.module, "forward", broken)
    with pytest.raises(Nonconformance) as caught:
        score_of(one, [{"text": "lamp", "label": 1}], "accuracy")
    assert caught.value.code == "not-finite"


def test_a_row_that_is_too_long_is_named(package, bench):
    one = bench(package("text-classification"))
    rows = [{"text": "lamp", "label": 1}, {"text": "lamp " * 60, "label": 1}]
    with pytest.raises(Nonconformance) as caught:
        score_of(one, rows, "accuracy")
    assert (caught.value.code, caught.value.where) == ("row-too-long", f"{DATA}:2")
