"""The model that a configuration describes, built without memory before the weights are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from slmconform.model.loaded import CandidateError
from slmconform.model.transformers_loader import OFFLINE, class_of
from slmconform.standard.manifest import LoaderSection


class TooLarge(Exception):
    """More was registered than is allowed; the rest was not built."""


@dataclass
class Outline:
    """How many values the parameters and the buffers of a model have, and how many may be.

    A value counts as soon as it is registered, tied ones once. Building ends with what exceeds a
    limit: a million experts take minutes and gigabytes even without memory for their values.
    """

    parameter_limit: int
    buffer_limit: int
    parameters: int = 0
    buffers: int = 0
    _seen: dict[int, Tensor] = field(default_factory=dict)  # kept, so that no id is used again

    @property
    def fits(self) -> bool:
        """Whether neither limit is exceeded."""
        return self.parameters <= self.parameter_limit and self.buffers <= self.buffer_limit

    def parameter(self, _: nn.Module, __: str, tensor: Tensor | None) -> None:
        """Count a parameter that is being registered; raises `TooLarge`."""
        self.parameters += self._new(tensor)
        self._require_fit()

    def buffer(self, _: nn.Module, __: str, tensor: Tensor | None) -> None:
        """Count a buffer that is being registered; raises `TooLarge`."""
        self.buffers += self._new(tensor)
        self._require_fit()

    def _new(self, tensor: Tensor | None) -> int:
        if tensor is None or id(tensor) in self._seen:
            return 0
        self._seen[id(tensor)] = tensor
        return tensor.numel()

    def _require_fit(self) -> None:
        if not self.fits:
            raise TooLarge


def outline(root: Path, loader: LoaderSection, *, parameters: int, buffers: int) -> Outline:
    """Build the declared class from its configuration alone, within limits.

    Nothing is allocated and no random number is drawn. Raises `CandidateError` with phase
    "outline" for whatever the library raises.
    """
    seen = Outline(parameters, buffers)
    try:
        cls = class_of(loader)
        config = cls.config_class.from_pretrained(str(root), **OFFLINE)
        with torch.device("meta"), _nothing_drawn()(), _counted(seen):
            cls(config)
    except TooLarge:
        pass
    except Exception as error:
        raise CandidateError("outline", error) from error
    return seen


@contextmanager
def _counted(seen: Outline) -> Iterator[None]:
    hooks = (
        registration.register_module_parameter_registration_hook(seen.parameter),
        registration.register_module_buffer_registration_hook(seen.buffer),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _nothing_drawn() -> Any:
    """The library's own way to build without initial values, which version 5 moved."""
    import transformers

    place = "modeling_utils" if transformers.__version__ < "5" else "initialization"
    return import_module(f"transformers.{place}").no_init_weights
