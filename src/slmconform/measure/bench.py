"""The bench: a package with its loaded model and every measurement made of it so far."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import torch

from slmconform.engine.registry import Inconclusive, Nonconformance, Unanswered
from slmconform.model import inference, probes, torch_loader, transformers_loader
from slmconform.model.float64 import ForcedFloat64, NoFloat64Kernel, float64_twin
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.model.probes import Inputs, TokenRules
from slmconform.package.read import Package
from slmconform.standard.manifest import InterfaceSection, LoaderSection
from slmconform.standard.report import Timing

if TYPE_CHECKING:
    from slmconform.measure.replay import Replay

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What the caller chose for the dynamic part. ``dtype`` overrides the declared one."""

    device: torch.device
    scratch: Path
    dtype: str | None = None


def measurement(
    function: Callable[Concatenate[Bench, P], T],
) -> Callable[Concatenate[Bench, P], T]:
    """Take a measurement once per bench and arguments; what it raised is remembered too."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.lstrip('_')}"

    @functools.wraps(function)
    def once(bench: Bench, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (name, *args, *sorted(kwargs.items()))
        return bench.remember(key, lambda: function(bench, *args, **kwargs))

    return once


class Bench:
    """Loads lazily, measures once, counts forward passes and time.

    Without a manifest, loader and interface are inferred (``declared`` is then False).
    """

    def __init__(self, package: Package, options: Options, replay: Replay | None = None) -> None:
        self.package, self.options, self._replay = package, options, replay
        self.forwards = 0
        self.timings: list[Timing] = []
        self._values: dict[Any, tuple[Any, BaseException | None]] = {}
        self._running: list[list[float]] = []
        manifest = package.manifest
        self._output_names = names_of(manifest.interface) if manifest else ()

    @property
    def replay(self) -> Replay:
        """The second process, which was started before anything was loaded here."""
        if self._replay is None:
            raise RuntimeError("no second process was started for this bench")
        return self._replay

    @property
    def declared(self) -> bool:
        """Whether the interface was declared rather than inferred."""
        return self.package.manifest is not None

    def forget(self) -> None:
        """Let go of the loaded model and of all that was measured."""
        self._values.clear()

    def remember(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The value of a measurement, taken now if it was not before."""
        if key not in self._values:
            self._values[key] = self._measure(key, make)
        value, error = self._values[key]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def _measure(
        self, key: tuple[Any, ...], make: Callable[[], T]
    ) -> tuple[T | None, BaseException | None]:
        nested = [0.0, 0.0]  # seconds and passes of the measurements taken inside this one
        self._running.append(nested)
        start, before = time.perf_counter(), self.forwards
        try:
            outcome: tuple[T | None, BaseException | None] = (make(), None)
        except (CandidateError, Nonconformance, Unanswered, NoFloat64Kernel) as error:
            outcome = (None, error)
        finally:
            self._running.pop()
        seconds, passes = time.perf_counter() - start, self.forwards - before
        name = " ".join(str(part) for part in key)
        own = Timing(
            measurement=name,
            seconds=round(seconds - nested[0], 6),
            forwards=int(passes - nested[1]),
        )
        self.timings.append(own)
        if self._running:
            self._running[-1][0] += seconds
            self._running[-1][1] += passes
        return outcome

    @property
    def task(self) -> str:
        """The declared or inferred task."""
        manifest = self.package.manifest
        return manifest.model.task if manifest else self._inferred()[0]

    @property
    def loader(self) -> LoaderSection:
        """The declared or inferred loader, with the dtype that the caller chose."""
        manifest = self.package.manifest
        loader = manifest.loader if manifest else self._inferred()[1]
        if self.options.dtype:
            loader = loader.model_copy(update={"dtype": self.options.dtype})
        return loader

    @measurement
    def _inferred(self) -> tuple[str, LoaderSection]:
        return inference.infer_loader(self.package)

    @property
    def interface(self) -> InterfaceSection:
        """The declared interface, or the one measured on the loaded model."""
        manifest = self.package.manifest
        return manifest.interface if manifest else self._measured_interface()

    @measurement
    def _measured_interface(self) -> InterfaceSection:
        interface = inference.infer_interface(self.model, self.package, self.count)
        self.model.output_names = self._output_names = names_of(interface)
        return interface

    @functools.cached_property
    def rules(self) -> TokenRules:
        """What random tokens have to respect for this model."""
        return TokenRules.of(self.model.config, self.task)

    @property
    def model(self) -> LoadedModel:
        """The model in its own dtype on the device."""
        return self._loaded(self.loader.dtype)

    @measurement
    def _loaded(self, dtype: str) -> LoadedModel:
        return self.load(self.package.root, dtype)

    def load(self, root: Path, dtype: str | None = None) -> LoadedModel:
        """Load the model anew; own code comes from the package even if the weights do not."""
        loader = self.loader
        if dtype:
            loader = loader.model_copy(update={"dtype": dtype})
        device = self.options.device
        if loader.kind == "transformers":
            model = transformers_loader.load(root, loader, self.task, device)
        else:
            own = self.package.root
            model = torch_loader.load(own, loader, self.task, device, weights=root)
        model.output_names = self._output_names
        return model

    @property
    def oracle(self) -> LoadedModel:
        """The same model in float64; run it with `float64`."""
        return self._oracle()

    @measurement
    def _oracle(self) -> LoadedModel:
        return self.model.with_module(float64_twin(self.model.module))

    def count(self, passes: int = 1) -> None:
        """Note forward passes."""
        self.forwards += passes

    def native(self, inputs: Inputs) -> Outputs:
        """One forward pass in the model's own dtype."""
        self.count()
        return self.model.forward(inputs)

    def float64(self, inputs: Inputs) -> Outputs:
        """One forward pass in forced float64; inconclusive where an op has no such kernel."""
        return self.in_float64(lambda oracle: oracle.forward(double(inputs)))

    def in_float64(self, use: Callable[[LoadedModel], T]) -> T:
        """Use the float64 model under the forcing mode, as one forward pass."""
        try:
            oracle = self.oracle
            self.count()
            with ForcedFloat64():
                return use(oracle)
        except NoFloat64Kernel as error:
            raise Inconclusive(f"no float64 oracle: {error}") from error
        except CandidateError as error:
            if isinstance(error.__cause__, NoFloat64Kernel):
                raise Inconclusive(f"no float64 oracle: {error.__cause__}") from error
            raise

    @measurement
    def inputs(self, which: str) -> Inputs:
        """The probe of a size: "smallest", "typical" (the recorded one if any), "largest"."""
        if which == "typical":
            recorded = self.recorded_inputs()
            if recorded is not None:
                return recorded
        return probes.build(self.interface, probes.sizes(self.interface, which), self.rules)

    def recorded_inputs(self) -> Inputs | None:
        """The probe inputs of the evidence, if it has those that the interface declares."""
        evidence = self.package.evidence
        declared = sorted(spec.name for spec in self.interface.inputs)
        if evidence is None or sorted(evidence.inputs) != declared:
            return None
        tensors = self.evidence_tensors()
        return {name: tensors[f"input.{name}"] for name in evidence.inputs}

    @measurement
    def evidence_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the evidence."""
        from safetensors.torch import load_file

        from slmconform.standard.files import EVIDENCE_TENSORS

        return load_file(self.package.root / EVIDENCE_TENSORS)


def names_of(interface: InterfaceSection) -> tuple[str, ...]:
    """The names of the declared outputs."""
    return tuple(spec.name for spec in interface.outputs)


def double(inputs: Inputs) -> Inputs:
    """Floating-point inputs in float64, others as they are."""
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
