"""Every row that the published page shows is read as its task says."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from evaluation_packages import DATA, NUMBERS, build
from package_builders import MIT

from slmconform.package.dataset import METRICS, read_data
from slmconform.package.read import Package
from slmconform.standard.catalogue import spec_folder
from slmconform.standard.manifest import EvaluationSection
from slmconform.standard.tasks import TASKS

PAGE = (spec_folder() / "evl.md").read_text("utf-8")
FENCES = re.findall(r"^```jsonl (\S+)(?: (\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("task", "use", "text"), FENCES)
def test_rows_of_the_page(tmp_path, task, use, text):
    folder = tmp_path / "package"
    if TASKS[task].text:
        build(folder, task)
    else:
        folder.mkdir()
        (folder / "conformance").mkdir()
        text_of = NUMBERS.format(task=task)
        if task == "sequence-scoring":
            text_of = text_of.replace('"values"', '"item_ids"').replace(
                '"batch", 2, 2', '"batch", 3'
            )
        (folder / "slm.toml").write_text(text_of, "utf-8")
        (folder / "LICENSE").write_text(MIT, "utf-8")
    (folder / DATA).write_text(text, "utf-8")
    assert len(read_data(Package(folder), DATA, use or "training").rows) == text.count("\n")


def test_the_claim_of_the_page_is_valid():
    shown = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(shown) == 1
    for table in tomllib.loads(shown[0])["evaluation"]:
        assert EvaluationSection(**table).metric in METRICS["causal-lm"]


def test_every_task_and_metric_is_on_the_page():
    assert {task for task, _, _ in FENCES} == set(TASKS) == set(METRICS)
    table = PAGE.partition("## Metrics")[2].partition("F1 and Matthews")[0]
    shown = set(re.findall(r"`([a-z0-9-]+)`", table)) - {"k"}
    assert shown == {metric for metrics in METRICS.values() for metric in metrics}
    assert all(json.loads(line) for _, _, text in FENCES for line in text.splitlines())
