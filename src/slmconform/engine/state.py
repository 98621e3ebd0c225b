"""What a check knows so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from slmconform.engine.options import CheckOptions, Watch
from slmconform.package.read import Package
from slmconform.standard.catalogue import Catalogue
from slmconform.standard.report import Outcome, Result, Setting, Timing


@dataclass
class Run:
    """What is known so far; ``peak_bytes`` is the peak memory of the model's process."""

    package: Package
    options: CheckOptions
    catalogue: Catalogue
    watch: Watch
    results: dict[str, Result] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    setting: Setting = field(default_factory=Setting)
    timings: list[Timing] = field(default_factory=list)
    log: str = ""
    peak_bytes: int | None = None

    def add(self, one: Result) -> None:
        """Note a result."""
        self.results[one.id], self.outcomes[one.id] = one, one.outcome

    def take_back(self, one: str) -> None:
        """Forget a result that turned out to be worth nothing."""
        self.results.pop(one, None)
        self.outcomes.pop(one, None)

    @property
    def own_code(self) -> str:
        """An entry point of the package's own code; empty where it brings none."""
        return own_code(self.package)


def own_code(package: Package) -> str:
    """An entry point of a package's own code; empty where it brings none."""
    manifest = package.manifest
    if manifest is None:
        return ""
    if manifest.loader.kind == "torch":
        return manifest.loader.entry or "the package"
    return (manifest.training.entry if manifest.training else None) or ""
