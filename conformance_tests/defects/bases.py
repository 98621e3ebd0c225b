"""The sound packages that defects are made of, each built once and copied for each defect."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import claimed_packages
import packages
import training_packages

from slmconform.isolation.client import ForkServer

REFERENCE = Path(__file__).parents[2] / "reference_models"
Build = Callable[[Path, ForkServer], object]

BUILT: Mapping[str, Build] = {
    **{
        name: lambda folder, server, name=name: packages.recorded(name, folder, server)
        for name in packages.BUILDERS
    },
    **{
        f"learner-{name}": lambda folder, server, name=name: training_packages.recorded(
            name, folder, server
        )
        for name in ("tagger", "writer", "classifier", "llama", "bert")
    },
    "claims": claimed_packages.recorded,
}
ARCHITECTURE = {
    "bert-ner": "BERT",
    "bert-sentiment": "BERT",
    "llama-assistant": "Llama",
    "minilm-retrieval": "ELECTRA",
    "t5-rewrite": "T5",
    "torch-recommender": "own code: recommender",
    "learner-llama": "Llama",
    "learner-bert": "BERT",
}


def architecture(package: str) -> str:
    """What a package is, in a word."""
    return ARCHITECTURE.get(package, "own code: encoder")


@dataclass
class Bases:
    """Packages by name; what is not a reference model is built below ``root`` when asked for."""

    root: Path
    server: ForkServer
    made: dict[str, Path] = field(default_factory=dict)

    def original(self, name: str) -> Path:
        """The folder of a package, not to be changed."""
        if name not in self.made:
            if (REFERENCE / name).is_dir():
                self.made[name] = REFERENCE / name
            else:
                folder = self.root / name
                BUILT[name](folder, self.server)
                self.made[name] = folder
        return self.made[name]

    def copy(self, name: str, folder: Path) -> Path:
        """A copy of a package, to be changed."""
        return Path(shutil.copytree(self.original(name), folder))
