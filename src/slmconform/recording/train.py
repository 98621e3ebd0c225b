"""`slmconform train`: the reference training of a package once more, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slmconform.engine.confinement import confinement
from slmconform.engine.model_process import UNTRUSTED_CODE
from slmconform.engine.options import CouldNotRun, ProcessOptions
from slmconform.engine.state import own_code
from slmconform.harmless import printable
from slmconform.isolation.client import ForkServer, shared_server
from slmconform.isolation.scratch import scratch_folder
from slmconform.package.read import Package
from slmconform.recording.asking import NoAnswer, ask
from slmconform.recording.record import declared
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import ModelSection

FORGED = "the model's process sent what no training sends"


class TrainingRefused(Exception):
    """The package was not trained; ``exit_status`` tells whether it fails (1) or is open (3)."""

    def __init__(self, reason: str, exit_status: int) -> None:
        super().__init__(reason)
        self.exit_status = exit_status


class News(BaseModel):
    """What the model's process sends while it trains: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plan(News):
    """What is going to be trained, ``steps`` of the ``recorded`` or declared ones.

    ``unanswered`` says why no step can be judged, "" where all can; ``referenced`` whether
    float64 losses are recorded nevertheless.
    """

    device: str
    dtype: str
    steps: int = Field(ge=1)
    whole: int = Field(ge=1)
    referenced: bool
    unanswered: str

    @property
    def bounded(self) -> bool:
        """Whether there is an allowed deviation."""
        return not self.unanswered


class Step(News):
    """The loss before a step, counted from 1, and what it is held against where that is known.

    ``reference`` is the recorded float64 loss, ``deviation`` that of `measure.envelope`.
    """

    step: int
    loss: float
    reference: float | None
    deviation: float | None = Field(ge=0)
    allowed: float | None = Field(gt=0, allow_inf_nan=False)
    learning_rate: float

    @property
    def outside(self) -> bool:
        """Whether the deviation is more than allowed."""
        if self.deviation is None or self.allowed is None:
            return False
        return self.deviation > self.allowed

    @property
    def share(self) -> float | None:
        """The deviation as a share of the allowed one."""
        if self.deviation is None or self.allowed is None:
            return None
        return self.deviation / self.allowed


@dataclass
class Curve:
    """A training as far as it has come."""

    root: Path
    model: ModelSection
    plan: Plan
    steps: list[Step] = field(default_factory=list)

    @property
    def outside(self) -> list[Step]:
        """The steps outside the envelope."""
        return [one for one in self.steps if one.outside]

    @property
    def worst(self) -> Step:
        """The step with the largest share of its allowed deviation, else the largest deviation."""

        def size(one: Step) -> float:
            value = one.deviation if one.share is None else one.share
            return math.inf if value is None else value

        return max(self.steps, key=size)

    @property
    def exit_status(self) -> int:
        """0 within the envelope, 1 outside it, 3 where there is none."""
        if not self.plan.bounded:
            return 3
        return 1 if self.outside else 0


class Follower(Protocol):
    """Whoever is told of a training while it runs."""

    def watch(self, phase: str) -> None:
        """What is done before the first step."""

    def begin(self, curve: Curve) -> None:
        """The curve that is about to grow."""

    def step(self, one: Step) -> None:
        """A step was made; it is the last of the curve."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ProcessOptions):
    """What a caller may choose; ``steps`` to train only the first ones."""

    steps: int | None = None


def train(
    path: Path | str,
    options: TrainOptions,
    follower: Follower,
    *,
    server: ForkServer | None = None,
) -> Curve:
    """Train by the recipe from the shipped weights, in the model's own process; nothing is kept.

    Raises `TrainingRefused` where own code is not trusted or the recipe is not the recorded one,
    `CouldNotRun` where there is no recipe or the training breaks off, and `UnreadablePackage`.
    """
    package = Package(path, hub_cache=options.hub_cache)
    _require_trainable(package, options)
    growing = _Growing(package, follower)
    with scratch_folder() as scratch:
        arguments = {
            "package": str(package.root),
            "device": options.device,
            "steps": options.steps,
            "hub_cache": package.hub_cache,
        }
        try:
            answer = ask(
                server or shared_server(),
                "train",
                arguments,
                confinement(package, options, scratch),
                watch=follower.watch,
                follow=growing.take,
            )
        except NoAnswer as error:
            raise CouldNotRun(f"the training broke off{growing.place}: {error}") from None
    if "differs" in answer:
        raise TrainingRefused(str(answer["differs"]), 1)
    if "refused" in answer:
        raise CouldNotRun(f"{answer['refused']}{growing.place}")
    return growing.finished()


def _require_trainable(package: Package, options: TrainOptions) -> None:
    """What can be refused before the model is run."""
    if declared(package).training is None:
        raise CouldNotRun(
            f"{package.root / MANIFEST} has no [training] table: declare the reference recipe"
        )
    entry = own_code(package)
    if entry and not options.trust_code:
        raise TrainingRefused(f"{entry} {UNTRUSTED_CODE}", 3)


class _Growing:
    """Takes the news of the model's process, only as far as they can be those of a training."""

    def __init__(self, package: Package, follower: Follower) -> None:
        self._package, self._follower = package, follower
        self._curve: Curve | None = None

    def take(self, news: dict[str, Any]) -> None:
        """Take a plan, then its steps in order; raises `CouldNotRun` for anything else."""
        try:
            if self._curve is None:
                model = declared(self._package).model
                self._curve = Curve(self._package.root, model, Plan.model_validate(news))
                self._follower.begin(self._curve)
                return
            one = Step.model_validate(news)
        except ValidationError as error:
            key = printable(".".join(map(str, error.errors()[0]["loc"])))
            raise CouldNotRun(f"{FORGED}: {key}: {error.errors()[0]['msg']}") from None
        done, plan = len(self._curve.steps), self._curve.plan
        if one.step != done + 1 or one.step > plan.steps:
            raise CouldNotRun(f"{FORGED}: step {one.step} after step {done} of {plan.steps}")
        if plan.bounded and one.share is None:
            raise CouldNotRun(f"{FORGED}: step {one.step} without its allowed deviation")
        self._curve.steps.append(one)
        self._follower.step(one)

    @property
    def place(self) -> str:
        """How far it has come, for a sentence."""
        return f" after step {len(self._curve.steps)}" if self._curve else ""

    def finished(self) -> Curve:
        """The whole curve; raises `CouldNotRun` where steps are missing."""
        curve = self._curve
        if curve is None or len(curve.steps) != curve.plan.steps:
            raise CouldNotRun(f"the model's process ended as if complete{self.place}")
        return curve
