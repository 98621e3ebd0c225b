"""Rows that the tokenizer, its chat template or the interface cannot take: each is named."""

from __future__ import annotations

import json

import pytest
from evaluation_packages import DATA, write_rows

from slmconform.engine.registry import Nonconformance
from slmconform.measure.dataset import training_batch
from slmconform.measure.evaluation import scored
from slmconform.package.problem import PackageProblem
from slmconform.standard.manifest import EvaluationSection

CHAT = {"messages": [{"role": "user", "content": "hello"}], "answer": "yes"}
LAMP = {"prompt": "the lamp", "answer": "is"}
QUESTION = {"question": "who " * 60, "context": "Anna is late", "answers": ["Anna"]}


def template(folder, text):
    """Another chat template, or none."""
    files = [folder / "chat_template.jinja", folder / "tokenizer_config.json"]
    files[0].unlink(missing_ok=True)
    config = json.loads(files[1].read_text("utf-8"))
    config.pop("chat_template", None)
    if text is not None:
        config["chat_template"] = text
    files[1].write_text(json.dumps(config), "utf-8")


def refused(make, where="row 1"):
    """The code and the words with which a row is refused."""
    with pytest.raises(PackageProblem) as caught:
        make()
    assert caught.value.where == where
    assert len(str(caught.value)) < 500
    return caught.value.code, caught.value.got


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "chat_template"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ messages[3]['content'] }}", "UndefinedError"),
    ],
)
def test_conversations_that_the_template_refuses(package, bench, text, said):
    folder = package("causal-lm")
    template(folder, text)
    one = bench(folder)
    code, got = refused(lambda: training_batch(one, [CHAT]))
    assert code == "row-not-encoded"
    assert said in got
    assert training_batch(one, [LAMP])[0]["input_ids"].shape == (1, 4)


def test_a_template_that_refuses_is_named_by_an_evaluation(package, bench):
    folder = package("causal-lm")
    template(folder, "{{ raise_exception('no') if messages[0]['content'] == 'no' else 'or' }}")
    no = {"messages": [{"role": "user", "content": "no"}], "answer": "yes"}
    section = EvaluationSection(metric="exact-match", data=DATA, value=1.0, tolerance=0.0)
    write_rows(folder, [CHAT])
    assert scored(bench(folder), section).rows == 1
    write_rows(folder, [CHAT, no])
    with pytest.raises(Nonconformance) as caught:
        scored(bench(folder), section)
    assert (caught.value.code, caught.value.where) == ("row-not-encoded", f"{DATA}:2")


def test_a_question_that_leaves_no_room(package, bench):
    one = bench(package("question-answering"))
    code, _ = refused(lambda: training_batch(one, [QUESTION]))
    assert code in ("row-not-encoded", "input-shape")
    short = {**QUESTION, "question": "who", "context": "Anna " * 60}
    assert training_batch(one, [short])[0]["input_ids"].shape == (1, 48)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("causal-lm", {"text": " "}),
        ("seq2seq-lm", {"source": "", "target": "lamp"}),
    ],
)
def test_texts_without_a_token(package, bench, task, row):
    code, _ = refused(lambda: training_batch(bench(package(task)), [row]))
    assert code == "row-empty"


def test_a_prompt_without_a_token(package, bench):
    folder = package("causal-lm")
    section = EvaluationSection(metric="exact-match", data=DATA, value=1.0, tolerance=0.0)
    write_rows(folder, [LAMP, {"prompt": "", "answer": "is"}])
    with pytest.raises(Nonconformance) as caught:
        scored(bench(folder), section)
    assert (caught.value.code, caught.value.where) == ("row-empty", f"{DATA}:2")


def test_tokens_that_no_output_stands_for(package, bench):
    folder = package("causal-lm")
    text = (folder / "slm.toml").read_text("utf-8")
    changed = text.replace('["batch", "sequence", 41]', '["batch", "sequence", 9]')
    (folder / "slm.toml").write_text(changed, "utf-8")
    assert changed != text
    one = bench(folder)
    code, got = refused(lambda: training_batch(one, [{"text": "the a parcel yes"}]))
    assert code == "label-range"
    assert "9 outputs" in got
    assert training_batch(one, [{"text": "the a parcel"}])[1]["labels"].shape == (1, 3)


def test_a_fixed_length(package, bench):
    """A model that takes four tokens and no others."""
    folder = package("text-classification")
    text = (folder / "slm.toml").read_text("utf-8")
    fixed = text.replace('["batch", "sequence"]', '["batch", 4]')
    (folder / "slm.toml").write_text(fixed, "utf-8")
    one = bench(folder)
    row = {"text": "red lamp", "label": 1}
    assert training_batch(one, [row])[0]["input_ids"].shape == (1, 4)
    long = {**row, "text": "the red lamp"}
    code, _ = refused(lambda: training_batch(one, [row, long]), "row 2")
    assert code == "input-shape"


def test_numbers_of_an_answer_are_cut(package, bench):
    one = bench(package("question-answering"))
    given = {"input_ids": [5] * 10, "token_type_ids": [0] * 10}
    rows = [{"inputs": given, "label": label} for label in ([2, 3], [2, 8])]
    inputs, labels = training_batch(one, rows, 6)
    assert inputs["input_ids"].shape == (2, 6)
    assert labels["start_positions"].tolist() == [2, 0]
    assert labels["end_positions"].tolist() == [3, 0]


def test_numbers_of_a_text_to_write(package, bench):
    one = bench(package("seq2seq-lm"))
    row = {"inputs": {"input_ids": [5, 6]}, "label": [7, 8, 3]}
    inputs, labels = training_batch(one, [row])
    assert inputs["decoder_input_ids"].tolist() == [[0, 7, 8]]
    assert labels["labels"].tolist() == [[7, 8, 3]]
    code, _ = refused(lambda: training_batch(one, [{**row, "label": [7, -100, 3]}]))
    assert code == "label-range"
    long = {**row, "label": [7] * 20}
    long["inputs"] = {"input_ids": [5, 6], "decoder_input_ids": [0] + [7] * 19}
    inputs, labels = training_batch(one, [long], 8)
    assert inputs["decoder_input_ids"].shape == labels["labels"].shape == (1, 8)
