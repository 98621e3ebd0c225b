"""What a check knows so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from slmconform.engine.options import CheckOptions, Watch
from slmconform.package.read import Package
from slmconform.standard.catalogue import Catalogue
from slmconform.standard.report import Outcome, Result, SelfTest, Setting, Timing

if TYPE_CHECKING:
    from slmconform.engine.waivers import Excuse
    from slmconform.standard.waivers import Waiver


@dataclass
class Run:
    """What is known so far; ``peak_bytes`` is the peak memory of the model's process."""

    package: Package
    options: CheckOptions
    catalogue: Catalogue
    watch: Watch
    waivers: tuple[Waiver, ...] = ()
    results: dict[str, Result] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    setting: Setting = field(default_factory=Setting)
    timings: list[Timing] = field(default_factory=list)
    self_test: list[SelfTest] = field(default_factory=list)
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
    def model_name(self) -> str:
        """The name that the manifest declares; empty where there is none."""
        return self.package.manifest.model.name if self.package.manifest else ""

    @cached_property
    def excuses(self) -> tuple[Excuse, ...]:
        """The failures that are waived here and today."""
        if not self.waivers:
            return ()
        from slmconform.engine.waivers import excuses

        return excuses(self.waivers, self.model_name)

    def excuse(self, one: Result) -> Result:
        """A result that was reached here, waived where it is a failure that is."""
        if not self.excuses:
            return one
        from slmconform.engine.waivers import excused

        return excused(one, self.excuses, self.setting.device)

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
