"""A loaded model behind one face, whichever loader made it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slmconform.isolation.seal import guarded
from slmconform.standard.manifest import LoaderSection

DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}

Outputs = dict[str, Tensor]

_ATTRIBUTES = frozenset(dir(Tensor))
_HARMLESS = frozenset({"__module__", "__doc__", "__dict__", "__weakref__", "__new__", "__init__"})


class CandidateError(RuntimeError):
    """The candidate raised while loading or running; ``phase`` says where."""

    def __init__(self, phase: str, cause: BaseException) -> None:
        lines = str(cause).strip().splitlines() or [""]
        text = lines[0] if len(lines[0]) > 20 else " ".join(lines[:3])
        super().__init__(f"{type(cause).__name__}: {text[:600]}")
        self.phase = phase


@dataclass(frozen=True)
class Loading:
    """What the loader said: names of tensors that did not fit."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


@dataclass
class LoadedModel:
    """A module in evaluation mode on one device, and how its outputs are named.

    ``output_names`` are the outputs that the interface declares; a module that returns a tensor
    or a tuple gives them in this order.
    """

    module: nn.Module
    task: str
    loader: LoaderSection
    device: torch.device
    loading: Loading = field(default_factory=Loading)
    output_names: tuple[str, ...] = ()

    @cached_property
    def accepts(self) -> frozenset[str]:
        """The names of the arguments of ``forward``."""
        return frozenset(inspect.signature(self.module.forward).parameters)

    @property
    def cache_name(self) -> str:
        """What a key-value cache is called, taken or returned; empty where none is taken.

        Version 5.24 of transformers calls it otherwise than those before.
        """
        return next((name for name in ("past_key_values", "cache") if name in self.accepts), "")

    @property
    def config(self) -> Any:
        """The configuration object of a transformers model, else None."""
        return getattr(self.module, "config", None)

    def with_module(self, module: nn.Module) -> LoadedModel:
        """The same face over another module, such as the float64 twin."""
        return replace(self, module=module)

    def call(self, inputs: Mapping[str, Any], *, gradients: bool = False) -> Any:
        """One forward pass; what the module returned, untouched."""
        placed = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        try:
            with torch.set_grad_enabled(gradients), same_modes():
                return guarded(lambda: self.module(**placed))
        except Exception as error:
            raise CandidateError("forward", error) from error

    def forward(self, inputs: Mapping[str, Tensor], *, gradients: bool = False) -> Outputs:
        """One forward pass without cache: the outputs by name, on the device."""
        returned = self.call({**inputs, **self.plain}, gradients=gradients)
        return self.outputs(returned, inputs)

    @property
    def plain(self) -> dict[str, Any]:
        """The arguments that ask a transformers model for named outputs and no cache."""
        if self.loader.kind != "transformers":
            return {}
        wanted = {"use_cache": False, "return_dict": True}
        return {name: value for name, value in wanted.items() if name in self.accepts}

    def outputs(self, returned: Any, inputs: Mapping[str, Tensor]) -> Outputs:
        """The tensors of a return value by name, with the sentence embedding where asked."""
        named = self._named(returned)
        if self.loader.pooling and "last_hidden_state" in named:
            named["sentence_embedding"] = pool(
                named["last_hidden_state"],
                inputs.get("attention_mask"),
                self.loader.pooling,
                normalize=self.loader.normalize,
            )
        if self.output_names:
            return {name: named[name] for name in self.output_names if name in named}
        return named

    def _named(self, returned: Any) -> Outputs:
        if isinstance(returned, Mapping):
            return {str(k): _plain(v) for k, v in returned.items() if isinstance(v, Tensor)}
        if not isinstance(returned, (Tensor, tuple, list)):
            error = TypeError(f"forward returned {type(returned).__name__}, not tensors")
            raise CandidateError("forward", error)
        values: Sequence[Any] = (returned,) if isinstance(returned, Tensor) else returned
        names = self.output_names or tuple(f"output{i}" for i in range(len(values)))
        return {
            name: _plain(value)
            for name, value in zip(names, values, strict=False)
            if isinstance(value, Tensor)
        }

    @contextmanager
    def attention(self, implementation: str) -> Iterator[None]:
        """Use another implementation of attention for a while; raises what the library raises."""
        # Switching back by name leaves parts of a model behind, which have configurations of their
        # own: each is put back as it was.
        before = {id(c): (c, c._attn_implementation) for c in self._configurations()}
        try:
            self.module.set_attn_implementation(implementation)  # type: ignore[operator]
            yield
        finally:
            for config, used in before.values():
                config._attn_implementation_internal = used

    def _configurations(self) -> Iterator[Any]:
        """The configuration of every part of the module that chooses its attention by one."""
        for part in self.module.modules():
            config = getattr(part, "config", None)
            if hasattr(config, "_attn_implementation_internal"):
                yield config

    def save(self, folder: Path) -> None:
        """Write weights and configuration as the library itself does."""
        if self.loader.kind == "transformers":
            self.module.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        else:
            from safetensors.torch import save_model

            guarded(lambda: save_model(self.module, str(folder / "model.safetensors")))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by name, tied ones under each of their names."""
        own = guarded(lambda: dict(self.module.state_dict(keep_vars=True)))
        if self.loader.kind == "torch":
            for name, value in own.items():
                _require_own_values(name, value)
        return own

    def ties(self) -> list[list[str]]:
        """Groups of parameter names that share one storage, sorted."""
        groups: dict[int, list[str]] = {}
        named = guarded(lambda: list(self.module.named_parameters(remove_duplicate=False)))
        for name, parameter in named:
            groups.setdefault(id(parameter), []).append(name)
        return sorted(sorted(names) for names in groups.values() if len(names) > 1)


def places(module: nn.Module) -> set[int]:
    """Where the memory of each parameter and buffer begins, whatever the module says of them."""
    parts = vars(module)
    tensors = (*parts["_parameters"].values(), *parts["_buffers"].values())
    found = {one.untyped_storage().data_ptr() for one in tensors if isinstance(one, Tensor)}
    return found.union(*(places(one) for one in parts["_modules"].values() if one is not None))


@contextmanager
def same_modes() -> Iterator[None]:
    """Leave torch's stacks of modes as they were: one left behind answers for every operator."""
    before = _modes()
    yield
    if _modes() != before:
        raise RuntimeError("forward left a torch mode behind, which would change what comes after")


def _modes() -> tuple[int, int]:
    return torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()


def _plain(value: Tensor) -> Tensor:
    """An output, unless its class or an attribute of it could answer in every comparison."""
    if type(value) not in (Tensor, nn.Parameter):
        error = f"forward returned {type(value).__name__}, a class of its own, not a Tensor"
        raise CandidateError("forward", TypeError(error))
    if hidden := _ATTRIBUTES.intersection(vars(value)):
        error = f"forward returned a tensor with a {min(hidden)} of its own"
        raise CandidateError("forward", TypeError(error))
    return value


def _require_own_values(name: str, value: Tensor) -> None:
    """A parameter may be of a class of the package, but for one that answers in its place."""
    kinds = [one for one in type(value).__mro__ if not issubclass(nn.Parameter, one)]
    names = [*vars(value), *(key for one in kinds for key in vars(one))]
    if hidden := _ATTRIBUTES.intersection(names) - _HARMLESS:
        error = f"{name} is of the class {type(value).__name__} with a {min(hidden)} of its own"
        raise CandidateError("load", TypeError(error))


def pool(hidden: Tensor, mask: Tensor | None, how: str, *, normalize: bool) -> Tensor:
    """(batch, sequence, hidden) -> (batch, hidden): sentence-transformers' pooling modes."""
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.int64)
    mask = mask.to(hidden.device)
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    if how == "cls":
        pooled = hidden[:, 0]
    elif how == "last":
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * positions).argmax(dim=1)
        pooled = hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    elif how == "max":
        pooled = hidden.masked_fill(weight == 0, -torch.inf).amax(dim=1)
    else:
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)
    return nn.functional.normalize(pooled, p=2.0, dim=-1) if normalize else pooled
