"""Losses that raise, teach nothing or do not fit, and gradients behind names that promise much."""

from __future__ import annotations

import json

import pytest
from judging import answers, assert_fails, assert_patched_fails
from packages import edit, edit_weights
from training_packages import learner as built
from training_packages import recipe

from slmconform.standard.report import Outcome

CUSTOM = recipe("custom", entry='"losses.py:loss"')
LOGITS = "outputs['logits']"
FORWARD = "attention_mask: Tensor | None = None, labels: Tensor | None = None\n"
EARLY = "labels = functional.pad(labels[:, 1:], (0, 1), value=-100)\n"


def custom(folder, body):
    """A tagger whose own loss function has a body."""
    made = built(folder / "tagger", "tagger", training=CUSTOM)
    (made / "losses.py").write_text(f"def loss(outputs, labels):\n    {body}\n", "utf-8")
    return made


def test_a_loss_without_any_slope(tmp_path):
    folder = custom(tmp_path, f"return 3.0 + 0.0 * {LOGITS}.sum()")
    said = assert_patched_fails(folder, "SLM-GRD-001", "exactly 0 for every parameter")
    assert said.code == "no-gradient"


BROKEN = {
    "a key that is not there": ("return outputs['scores'].sum()", "KeyError"),
    "a number": (f"return float({LOGITS}.detach().sum())", "not float"),
    "nothing": ("pass", "not NoneType"),
    "a vector": (f"return {LOGITS}.sum(0)", "not of shape"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_loss_function_that_gives_no_loss(tmp_path, name):
    body, words = BROKEN[name]
    said = assert_patched_fails(custom(tmp_path, body), "SLM-GRD-001", words, "training.entry")
    assert said.code == "loss-raises"


def test_a_loss_function_that_gives_no_loss_is_not_recorded(tmp_path):
    folder = custom(tmp_path, "return None")
    assert_fails(folder, "SLM-GRD-001", "not NoneType")


def test_an_entry_that_is_not_there(tmp_path):
    folder = custom(tmp_path, "return None")
    edit(folder, "slm.toml", "losses.py:loss", "losses.py:other")
    assert assert_patched_fails(folder, "SLM-LOS-001", "other").code == "load-raises"


def test_twin_a_loss_of_one_number(tmp_path):
    folder = custom(tmp_path, f"return {LOGITS}.square().mean().reshape(1)")
    assert_patched_fails(folder, None)


def test_an_own_loss_that_raises(tmp_path):
    folder = built(tmp_path / "tagger", "tagger")
    loss = '        return {"logits": logits, "loss": self.loss(logits, labels)}'
    edit(folder, "modeling.py", loss, loss.replace("labels)}", "labels[:, :3])}"))
    assert assert_patched_fails(folder, "SLM-LOS-001").code == "forward-raises"


def test_a_backward_pass_that_raises(tmp_path):
    folder = built(tmp_path / "tagger", "tagger")
    other = (
        "class Other(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x):\n"
        "        return x.clone()\n\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n"
        "        return g[:, :2]\n\n\n"
    )
    edit(folder, "modeling.py", "class Layer(", f"{other}class Layer(")
    head = "logits = self.head(self.norm(states))\n"
    edit(folder, "modeling.py", head, "logits = self.head(self.norm(Other.apply(states)))\n")
    edit(folder, "slm.toml", '"cross-entropy"', '"custom"\nentry = "losses.py:loss"')
    body = f"def loss(outputs, labels):\n    return {LOGITS}.square().mean()\n"
    (folder / "losses.py").write_text(body, "utf-8")
    assert assert_patched_fails(folder, "SLM-GRD-001").code == "backward-raises"


@pytest.mark.parametrize("shifted", [False, True])
def test_a_loss_behind_keywords_that_are_not_named(tmp_path, shifted):
    folder = built(tmp_path / "writer", "writer")
    edit(folder, "modeling.py", FORWARD, "attention_mask=None, **given\n")
    start = "        if attention_mask is None:\n"
    edit(folder, "modeling.py", start, f'        labels = given.get("labels")\n{start}')
    old = "logits, labels = logits[:, :-1], labels[:, 1:]\n"
    edit(folder, "modeling.py", old, f"{old}            {EARLY}" if shifted else old)
    if shifted:
        assert assert_patched_fails(folder, "SLM-LOS-001").code == "shifted-twice"
    else:
        assert_patched_fails(folder, None)
        assert answers(folder)["SLM-LOS-001"].outcome is Outcome.PASS


@pytest.mark.parametrize("name", ["SinusoidalMix", "OtherMix"])
def test_a_wrong_backward_pass_behind_a_name(tmp_path, name):
    """A table of sines is one of the library's; any other class of this name is looked at."""
    folder = built(tmp_path / "tagger", "tagger")
    code = (
        f"class {name}(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x).detach() * 2 - super().forward(x)\n\n\n"
    )
    edit(folder, "modeling.py", "class Layer(", f"{code}class Layer(")
    edit(folder, "modeling.py", "self.wide = nn.Linear(", f"self.wide = {name}(")
    said = assert_patched_fails(folder, "SLM-GRD-001")
    assert said.code == "gradient-differs"


def test_twin_a_head_of_zeros(tmp_path):
    """Nothing can be made large, and nothing is wrong."""
    folder = built(tmp_path / "classifier", "classifier")
    edit_weights(folder, lambda t: t.update({n: t[n] * 0 for n in t if n.startswith("head.")}))
    found = answers(folder)
    assert found["SLM-LOS-005"].outcome is Outcome.INCONCLUSIVE
    assert not [r for r in found.values() if r.outcome in (Outcome.FAIL, Outcome.ERROR)]


# Rows of a file to be trained on.


def rows(folder, *inputs):
    """A tagger that is trained on rows of numbers; the labels are those of the tokens mod 5."""
    made = built(folder / "tagger", "tagger", training=recipe(data='"rows.jsonl"'))
    lines = [json.dumps({"inputs": {"input_ids": ids}, "label": labels}) for ids, labels in inputs]
    (made / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return made


SOME = ([3, 4, 5, 6], [3, 4, 0, 1])
NONE = ([3, 4, 5, 6], [-100, -100, -100, -100])


def test_twin_a_row_whose_labels_do_not_count(tmp_path):
    folder = rows(tmp_path, NONE, SOME, ([9, 8, 7], [4, 3, -100]))
    edit(folder, "slm.toml", "batch_size = 6", "batch_size = 6\naccumulation = 6")
    assert_patched_fails(folder, None)
