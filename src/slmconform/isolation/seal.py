"""A seal over what judges: own code shares the process of the checks and must not change them.

Taken before the package's code is run, looked at after each run of it and before each answer is
sent. What is sealed is told by identity: modules, their functions, classes and constants, the
attributes of those classes, what closures hold, and what could run in between. Native code can get
around it, which `isolation.audit` tells of, and so can a thread that is quick enough, which nothing
does: a verdict on own code is about code that does not set out to deceive.

Own code can reach the seal, too. So it is made of tuples, and whoever runs own code takes its
`checker` before that and calls it after: by then a module may hold another in its place.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import EnumType
from operator import is_
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, TypeVar

from slmconform.isolation.modules import judging

# What the checks compute and answer with.
_USED = (
    *("builtins", "json", "json.encoder", "json.decoder", "os", "posixpath", "math", "hashlib"),
    *("re", "functools", "itertools", "operator", "contextlib", "copy", "inspect", "io"),
    *("pathlib", "random", "struct", "time", "tomllib", "pydantic.main", "numpy"),
    *("safetensors", "safetensors.torch", "torch", "torch.nn", "torch.nn.functional"),
    *("torch.linalg", "torch.autograd", "torch.utils._python_dispatch"),
)
# Classes of those whose attributes count as well as their identity.
_CLASSES = frozenset({"BaseModel", "Module", "Parameter", "Path", "Tensor", "TorchDispatchMode"})
# Classes of records that answers are made of: pydantic completes them now, not on first use.
_ANSWERS = "slmconform.standard.report"
# Attributes of classes that python and pydantic fill in on first use.
_COMPLETED_LATER = ("__dict__", "__weakref__", "_abc_", "__pydantic_", "__signature__")
# What torch itself sets anew: the storage of its default dtype, and whether a mode is on.
_MODE = "torch.utils._python_dispatch._is_in"
_VARYING = frozenset(
    {
        *(
            "torch.Storage",
            f"{_MODE}_torch_dispatch_mode",
            f"{_MODE}_non_infra_torch_dispatch_mode",
        ),
        f"{_MODE}_any_mode_without_ignore_compile_internals",
        *("torch.nn.Module.__init__", "torch.nn.Module.__setstate__"),  # when dynamo is imported
        *(f"time.{name}" for name in ("altzone", "daylight", "timezone", "tzname")),  # by tzset
    }
)
_HIDEABLE = frozenset(vars(builtins))
_CONSTANTS = (bool, int, float, str, bytes, tuple, frozenset, ModuleType)

T = TypeVar("T")

BROKEN = 71
"""Exit status of a process whose seal was broken."""

MARK = "slmconform: the seal is broken: "
"""How the line begins in which that process says what was changed."""

_active: list[Seal] = []
_prepared: list[_Taking] = []


class _Space(NamedTuple):
    """The names of a module or class, and what they stood for.

    A new name in a module may hide one of Python's from its functions: those are ``absent``.
    """

    names: Mapping[str, Any]
    prefix: str
    known: tuple[str, ...]
    values: tuple[Any, ...]
    size: int
    absent: frozenset[str]


class Seal(NamedTuple):
    """The state of everything that judges, as it was when the seal was taken."""

    modules: tuple[tuple[str, ModuleType], ...]
    spaces: tuple[_Space, ...]
    contents: tuple[tuple[Any, str, Any], ...]
    between: _Between


def take(more: Iterable[str] = ()) -> Callable[[], None]:
    """Seal what judges, and return what looks at the seal; it ends this process where it broke.

    ``more`` are further modules that the checks will compute with, such as libraries of metrics.
    """
    if not _prepared:
        prepare()
    taking = _prepared.pop()
    for module in _imported(more):
        taking.module(module)
    contents = tuple(taking.contents.values())
    seal = Seal(tuple(taking.modules), tuple(taking.spaces), contents, _between())
    _active.append(seal)
    return checker()


def prepare() -> None:
    """Collect what every seal holds: once, in the process that jobs are forked from."""
    taking = _Taking()
    for module in map(importlib.import_module, (*judging(), *_USED)):
        taking.module(module)
    _prepared.append(taking)


def checker() -> Callable[[], None]:
    """What looks at the seal where there is one; to be had before own code runs."""
    if not _active:
        return _nothing
    seal, check = _active[0], _end_if_broken
    return lambda: check(seal)


def guarded(run: Callable[[], T]) -> T:
    """Run what may run own code, then look at the seal."""
    check = checker()
    try:
        return run()
    finally:
        check()


def _nothing() -> None:
    pass


# The functions that own code would have to replace first are held where it cannot: among the
# defaults of these two, whose change is an audit event.
def _broken(
    seal: Seal,
    loaded: Callable[[str], Any] = sys.modules.get,
    every: Callable[..., bool] = all,
    each: Callable[..., Any] = map,
    same: Callable[[Any, Any], bool] = is_,
    size: Callable[[Any], int] = len,
) -> str:
    """What is not as it was, empty where all is."""
    for name, module in seal.modules:
        if loaded(name) is not module:
            return f"sys.modules[{name!r}]"
    for names, prefix, known, values, before, absent in seal.spaces:
        if not every(each(same, each(names.get, known), values)):
            pairs = zip(known, values, strict=True)
            return f"{prefix}.{next(name for name, one in pairs if names.get(name) is not one)}"
        if size(names) != before and (new := names.keys() & absent):
            return f"{prefix}.{new.pop()}"
    if size(_active) != 1 or _active[0] is not seal:
        return f"{__name__}._active"
    for holder, name, value in seal.contents:
        if not _holds(holder, value):
            return name
    return _changed(seal.between)


def _end_if_broken(
    seal: Seal,
    broken: Callable[[Seal], str] = _broken,
    write: Callable[[int, bytes], int] = os.write,
    leave: Callable[[int], Any] = os._exit,
) -> None:
    """End this process at once where anything was changed: no answer of it is worth a thing."""
    if what := broken(seal):
        write(2, f"\n{MARK}{what}\n".encode(errors="backslashreplace"))
        leave(BROKEN)


class _Taking:
    """Collects what a seal holds."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, ModuleType]] = []
        self.spaces: list[_Space] = []
        self.contents: dict[int, tuple[Any, str, Any]] = {}

    def module(self, module: ModuleType) -> None:
        """Take a module: all of it where it is one of ours."""
        prefix = module.__name__
        own = prefix.startswith("slmconform.")
        kept: dict[str, Any] = {}
        for key, value in list(vars(module).items()):
            name = f"{prefix}.{key}"
            if name in _VARYING:
                continue
            if own or callable(value) or isinstance(value, _CONSTANTS):
                kept[key] = value
            if isinstance(value, type) and (value.__module__ == prefix if own else key in _CLASSES):
                self._class(value, name)
            elif own and isinstance(value, dict | list | set) and not key.startswith("__"):
                if value is not _active and value is not _prepared:  # which change by sealing
                    self._content(value, name)
            elif own and isinstance(value, FunctionType):
                self._cells(value, name)
        self.modules.append((prefix, module))
        self._space(vars(module), prefix, kept, _HIDEABLE.difference(vars(module)))

    def _space(
        self, names: Mapping[str, Any], prefix: str, kept: dict[str, Any], absent: frozenset[str]
    ) -> None:
        known, values = tuple(kept), tuple(kept.values())
        self.spaces.append(_Space(names, prefix, known, values, len(names), absent))

    def _class(self, kind: type, name: str) -> None:
        later: tuple[str, ...] = _COMPLETED_LATER
        if kind.__module__ == _ANSWERS and hasattr(kind, "model_rebuild"):
            kind.model_rebuild()
            later = ("__dict__", "__weakref__", "_abc_", "__signature__")
        attributes = {
            key: value
            for key, value in vars(kind).items()
            if not key.startswith(later) and f"{name}.{key}" not in _VARYING
        }
        self._space(vars(kind), name, attributes, frozenset())
        if isinstance(kind, EnumType):
            self._content(kind, name)

    def _cells(self, function: FunctionType, name: str) -> None:
        for cell in function.__closure__ or ():
            if callable(_held(cell)):
                self._content(cell, name)

    def _content(self, holder: Any, name: str) -> None:
        self.contents.setdefault(id(holder), (holder, name, _content(holder)))


def _imported(names: Iterable[str]) -> Iterator[ModuleType]:
    """Modules to seal, imported now: one that came later would not be known."""
    for name in names:
        try:
            yield importlib.import_module(name)
        except ImportError:  # the check that computes with it says so
            continue


def _content(holder: Any) -> tuple[Any, ...] | frozenset[Any]:
    """What a container or cell holds, by identity; checks in it by what they run."""
    if isinstance(holder, EnumType):
        return tuple(member._value_ for member in list[Any](holder))
    if isinstance(holder, dict):
        return frozenset((key, _identity(value)) for key, value in holder.items())
    if isinstance(holder, list):
        return tuple(_identity(value) for value in holder)
    if isinstance(holder, set):
        return frozenset(_identity(value) for value in holder)
    return (_identity(_held(holder)),)


def _holds(holder: Any, content: tuple[Any, ...] | frozenset[Any]) -> bool:
    """Whether a holder has what it had; tables may have grown, since some are caches."""
    now = _content(holder)
    if isinstance(now, frozenset) and isinstance(content, frozenset):
        return now >= content
    return now == content


def _identity(value: Any) -> Any:
    function = getattr(value, "function", None)
    return (id(value), id(function)) if function is not None else id(value)


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


class _Between(NamedTuple):
    """What can run between two steps of a check, or in place of what it calls."""

    tensor: type
    names: frozenset[str]
    operators: set[str]
    known: frozenset[str]
    frames: Callable[[], Any]
    hooks: tuple[int, ...]


def _between() -> _Between:
    import torch
    from torch._C._dynamo import eval_frame
    from torch.library import _impls

    frames: Callable[[], Any] = eval_frame.get_eval_frame_callback
    names = frozenset(vars(torch.Tensor))
    return _Between(torch.Tensor, names, _impls, frozenset(_impls), frames, _hooks(frames))


def _changed(before: _Between) -> str:
    """What is not as it was, empty where all is."""
    # New attributes of tensors may not hide one of the class below: functions of C++.
    base = before.tensor.__base__
    if any(hasattr(base, name) for name in vars(before.tensor).keys() - before.names):
        return "torch.Tensor"
    if any(map(_overrides, before.operators - before.known)):
        return "an operator of torch"
    if _hooks(before.frames) != before.hooks:
        return "a handler of signals, gc, frames or traces"
    return ""


def _hooks(frames: Callable[[], Any]) -> tuple[int, ...]:
    signals = [id(signal.getsignal(number)) for number in range(1, signal.NSIG)]
    traces = (sys.gettrace(), sys.getprofile(), frames())
    return (*signals, *map(id, gc.callbacks), *map(id, traces))


def _overrides(operator: str) -> bool:
    """Whether a registration replaces an operator of torch.

    Shapes may be computed otherwise, and `torch.vmap` registers its own for its own tensors.
    """
    return operator.startswith("aten/") and not operator.endswith(("/Meta", "/FuncTorchBatched"))
