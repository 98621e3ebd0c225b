"""Training batches: the declared inputs, and labels only where there is something to learn."""

from __future__ import annotations

import pytest
import torch
from evaluation_packages import vocabulary
from torch.nn import functional

from slmconform.engine.registry import Inconclusive
from slmconform.measure.batches import tokens_of
from slmconform.measure.dataset import training_batch
from slmconform.package.problem import PackageProblem
from slmconform.standard.manifest import InputSpec

V = vocabulary()
CLS, SEP, MASK = V["[CLS]"], V["[SEP]"], V["[MASK]"]


def ids(text):
    return [V[word] for word in text.split()]


def rows_of(tensor):
    return tensor.tolist()


def test_tags_stand_at_the_words(package, bench):
    rows = [
        {"tokens": ["Anna", "is", "late"], "tags": ["B-PER", "O", "O"]},
        {"tokens": ["Oslo"], "tags": ["B-LOC"]},
    ]
    inputs, labels = training_batch(bench(package("token-classification")), rows, 7)
    assert rows_of(inputs["input_ids"]) == [
        [CLS, *ids("Anna is late"), SEP, 0, 0],
        [CLS, *ids("Oslo"), SEP, 0, 0, 0, 0],
    ]
    assert rows_of(inputs["attention_mask"]) == [[1] * 5 + [0] * 2, [1] * 3 + [0] * 4]
    assert rows_of(labels["labels"]) == [[-100, 1, 0, 0, -100, -100, -100], [-100, 3, *[-100] * 5]]


def test_left_padding_moves_labels_too(package, bench):
    one = bench(package("token-classification", padding='"left"'))
    rows = [{"tokens": ["Oslo"], "tags": ["B-LOC"]}]
    inputs, labels = training_batch(one, rows, 5)
    assert rows_of(inputs["input_ids"]) == [[0, 0, CLS, *ids("Oslo"), SEP]]
    assert rows_of(inputs["attention_mask"]) == [[0, 0, 1, 1, 1]]
    assert rows_of(labels["labels"]) == [[-100, -100, -100, 3, -100]]


def test_training_rows_are_cut_and_others_refused(package, bench):
    one = bench(package("token-classification"))
    long = {"tokens": ["lamp"] * 60, "tags": ["O"] * 60}
    inputs, labels = training_batch(one, [long])
    assert inputs["input_ids"].shape == labels["labels"].shape == (1, 48)
    assert int((labels["labels"] == 0).sum()) == 46
    assert training_batch(one, [long], 9)[0]["input_ids"].shape == (1, 9)


def test_rows_of_unlike_length_without_declared_padding(package, bench):
    one = bench(package("token-classification", padding=""))
    rows = [{"tokens": ["lamp"] * n, "tags": ["O"] * n} for n in (3, 2)]
    assert training_batch(one, rows[:1])[0]["input_ids"].shape == (1, 5)
    with pytest.raises(PackageProblem) as caught:
        training_batch(one, rows)
    assert (caught.value.code, caught.value.where) == ("padding-undeclared", "row 2")


@pytest.mark.parametrize(
    ("label", "labels", "want"),
    [(2, 5, 2), ("LABEL_3", 5, 3), ([0, 1, 1, 0, 0], 5, [0.0, 1.0, 1.0, 0.0, 0.0]), (1, 1, [1.0])],
)
def test_labels_of_a_text(package, bench, label, labels, want):
    one = bench(package("text-classification", labels=labels))
    row = {"text": "red lamp", "text_pair": "good", "label": label}
    inputs, found = training_batch(one, [row])
    assert rows_of(inputs["input_ids"]) == [[CLS, *ids("red lamp"), SEP, *ids("good"), SEP]]
    assert rows_of(inputs["token_type_ids"]) == [[0, 0, 0, 0, 1, 1]]
    assert rows_of(found["labels"]) == [want]
    assert found["labels"].is_floating_point() == isinstance(want, list)


def test_an_answer_is_a_span(package, bench):
    one = bench(package("question-answering"))
    rows = [
        {"question": "who is late", "context": "the lamp or Anna please", "answers": ["or Anna"]},
        {"question": "who", "context": "lamp", "answers": ["lamp"]},
    ]
    inputs, labels = training_batch(one, rows)
    for row, answer in enumerate(("or Anna", "lamp")):
        first, last = (int(labels[name][row]) for name in ("start_positions", "end_positions"))
        assert rows_of(inputs["input_ids"][row, first : last + 1]) == ids(answer)
    cut = training_batch(one, rows, 7)[1]
    assert rows_of(cut["start_positions"])[0] == rows_of(cut["end_positions"])[0] == 0


def test_choices_are_padded_to_each_other(package, bench):
    rows = [{"prompt": "the lamp", "choices": ["is red", "is"], "label": 1}]
    inputs, labels = training_batch(bench(package("multiple-choice")), rows, 8)
    assert inputs["input_ids"].shape == (1, 2, 8)
    assert rows_of(inputs["attention_mask"].sum(-1)) == [[7, 6]]
    assert rows_of(inputs["token_type_ids"]) == [
        [[0] * 4 + [1] * 3 + [0], [0] * 4 + [1] * 2 + [0] * 2]
    ]
    assert rows_of(labels["labels"]) == [1]


def test_prompts_carry_no_label(package, bench):
    rows = [
        {"text": "the lamp is red"},
        {"prompt": "the lamp", "answer": "is"},
        {"messages": [{"role": "user", "content": "hello"}], "answer": "yes"},
    ]
    inputs, labels = training_batch(bench(package("causal-lm")), rows)
    assert rows_of(inputs["input_ids"]) == [
        ids("the lamp is red"),
        [*ids("the lamp is"), SEP],
        [*ids("hello or yes"), SEP],
    ]
    unlabelled = [-100, -100]
    assert rows_of(labels["labels"]) == [
        ids("the lamp is red"),
        [*unlabelled, *ids("is"), SEP],
        [*unlabelled, *ids("yes"), SEP],
    ]


def test_long_prompts_are_cut_before_answers(package, bench):
    row = {"prompt": "the lamp " * 30, "answer": "is red"}
    inputs, labels = training_batch(bench(package("causal-lm")), [row], 6)
    assert rows_of(inputs["input_ids"]) == [[*ids("lamp the lamp is red"), SEP]]
    assert rows_of(labels["labels"]) == [[-100, -100, -100, *ids("is red"), SEP]]


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm", "token-classification"])
def test_labels_are_those_of_the_library(package, bench, task):
    """The library's own loss with these labels is the cross-entropy of the places they name."""
    rows = {
        "causal-lm": [
            {"prompt": "the lamp", "answer": "is red"},
            {"prompt": "a", "answer": "shop"},
        ],
        "seq2seq-lm": [{"source": "a b", "target": "red lamp"}, {"source": "red", "target": "no"}],
        "token-classification": [{"tokens": ["Anna", "is"], "tags": ["B-PER", "O"]}],
    }[task]
    one = bench(package(task))
    inputs, labels = training_batch(one, rows, 8)
    with torch.no_grad():
        own = one.model.module(**inputs, **labels)
    logits, wanted = own.logits, labels["labels"]
    if task == "causal-lm":
        logits, wanted = logits[:, :-1], wanted[:, 1:]
    loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    assert float(own.loss) == pytest.approx(float(loss), abs=1e-6)


def test_a_text_to_write_is_shifted_for_the_decoder(package, bench):
    rows = [{"source": "red lamp", "target": "lamp"}, {"source": "a", "target": "the old shop"}]
    inputs, labels = training_batch(bench(package("seq2seq-lm")), rows)
    assert rows_of(inputs["decoder_input_ids"]) == [
        [0, *ids("lamp"), 0, 0],
        [0, *ids("the old shop")],
    ]
    assert rows_of(labels["labels"]) == [
        [*ids("lamp"), SEP, -100, -100],
        [*ids("the old shop"), SEP],
    ]
    wide = training_batch(bench(package("seq2seq-lm")), rows, 40)
    assert wide[0]["input_ids"].shape == (2, 40)
    assert wide[1]["labels"].shape == (2, 32)


def test_only_the_mask_carries_a_label(package, bench):
    row = {"text": "the [MASK] is red", "answer": "lamp"}
    inputs, labels = training_batch(bench(package("masked-lm")), [row])
    assert rows_of(inputs["input_ids"]) == [[CLS, V["the"], MASK, *ids("is red"), SEP]]
    assert rows_of(labels["labels"]) == [[-100, -100, V["lamp"], -100, -100, -100]]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "the lamp is red", "answer": "lamp"}, "mask-count"),
        ({"text": "[MASK] [MASK]", "answer": "lamp"}, "mask-count"),
        ({"text": "the [MASK]", "answer": "lamp shop"}, "answer-tokens"),
        ({"text": "the [MASK]", "answer": "zebra"}, "answer-tokens"),
    ],
)
def test_masks_that_cannot_be_filled(package, bench, row, code):
    from slmconform.measure.prediction import sequences_of

    with pytest.raises(PackageProblem) as caught:
        sequences_of(bench(package("masked-lm")), [row])
    assert caught.value.code == code


def test_pairs_are_all_first_then_all_second(package, bench):
    rows = [{"text": "red lamp", "text_pair": "lamp"}, {"text": "shop", "text_pair": "old shop"}]
    inputs, labels = training_batch(bench(package("sentence-embedding")), rows)
    texts = ["red lamp", "shop", "lamp", "old shop"]
    want = [[CLS, *ids(t), SEP, *[0] * (2 - len(t.split()))] for t in texts]
    assert rows_of(inputs["input_ids"]) == want
    assert rows_of(labels["pairs"]) == [0, 1]


def test_rows_of_numbers(package, bench):
    rows = [{"inputs": {"input_ids": [5, 6, 7]}}, {"inputs": {"input_ids": [8]}, "label": [9]}]
    inputs, labels = training_batch(bench(package("causal-lm")), rows, 4)
    assert rows_of(inputs["input_ids"]) == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert rows_of(inputs["attention_mask"]) == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert rows_of(labels["labels"]) == [[5, 6, 7, -100], [9, -100, -100, -100]]


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"input_ids": [500]}, "input-range"),
        ({"input_ids": [[5]]}, "input-shape"),
        ({"attention_mask": [1]}, "input-missing"),
    ],
)
def test_rows_of_numbers_that_do_not_fit(package, bench, inputs, code):
    with pytest.raises(PackageProblem) as caught:
        training_batch(
            bench(package("causal-lm")), [{"inputs": {"input_ids": [5]}}, {"inputs": inputs}]
        )
    assert (caught.value.code, caught.value.where) == (code, "row 2")


def test_a_decoder_without_a_start_token(package, bench):
    folder = package("seq2seq-lm")
    text = (folder / "config.json").read_text("utf-8")
    config = text.replace('"decoder_start_token_id": 0', '"decoder_start_token_id": null')
    assert config != text
    (folder / "config.json").write_text(config, "utf-8")
    with pytest.raises(Inconclusive, match="decoder_start_token_id"):
        training_batch(bench(folder), [{"source": "a", "target": "b"}])


@pytest.mark.parametrize(
    ("axes", "shape", "tokens"),
    [
        (["batch", "sequence"], (2, 70), 70),
        (["batch", "sequence", 96], (2, 3, 96), 3),
        (["batch", 96], (2, 96), 0),
        (["batch", "target"], (2, 5), 5),
    ],
)
def test_features_are_no_tokens(axes, shape, tokens):
    spec = InputSpec(name="values", dtype="float32", axes=axes)
    assert tokens_of(spec, {"values": torch.zeros(shape)}) == tokens
    assert tokens_of(spec, {}) == 0
