"""Loading own code behind an entry point ``file.py:function``; only with ``--trust-code``.

The function takes the content of ``config.json`` (an empty dict where there is none) and returns
the module; the weights are put into it from ``model.safetensors``, strictly.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from slmconform.isolation.seal import guarded
from slmconform.model.device import kept_flags
from slmconform.model.loaded import DTYPES, CandidateError, LoadedModel, Loading
from slmconform.standard.manifest import LoaderSection

T = TypeVar("T")


def load(
    root: Path,
    loader: LoaderSection,
    task: str,
    device: torch.device,
    *,
    weights: Path | None = None,
) -> LoadedModel:
    """Build the module by its entry point and fill it from ``model.safetensors``.

    ``weights`` is the folder of the weights where it is not ``root``.

    Raises `CandidateError` with phase "load" for whatever the code or the weights raise.
    """
    from safetensors.torch import load_file

    try:
        build = entry_function(root, loader.entry or "")
        module = _guarded(lambda: build(_config(root)))
        if not isinstance(module, nn.Module):
            raise TypeError(f"{loader.entry} returned {type(module).__name__}, not nn.Module")
        tensors = load_file(str((weights or root) / "model.safetensors"))
        loading = _guarded(lambda: _fill(module.to(DTYPES[loader.dtype]), tensors))
    except Exception as error:
        raise CandidateError("load", error) from error
    _guarded(lambda: module.eval().to(device))
    model = LoadedModel(module, task, loader, device, loading)
    model.tensors()  # raises for those that could not be compared
    return model


def _guarded(run: Callable[[], T]) -> T:
    """Run own code; torch's settings are those of the measurement again, whatever it set."""
    with kept_flags():
        return guarded(run)


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor]) -> Loading:
    own = module.state_dict()
    fitting = {
        name: value
        for name, value in tensors.items()
        if name in own and own[name].shape == value.shape
    }
    result = module.load_state_dict(fitting, strict=False)
    mismatched = {n for n in tensors if n in own and n not in fitting}
    missing = set(result.missing_keys) - mismatched - _tied_to_loaded(module, set(fitting))
    return Loading(
        missing=tuple(sorted(missing)),
        unexpected=tuple(sorted(set(tensors) - own.keys())),
        mismatched=tuple(sorted(mismatched)),
    )


def _tied_to_loaded(module: nn.Module, loaded: set[str]) -> set[str]:
    """Names whose parameter is another name of a loaded one (safetensors stores it once)."""
    names: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return {name for group in names.values() if group & loaded for name in group}


def _config(root: Path) -> dict[str, Any]:
    path = root / "config.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def entry_function(root: Path, entry: str) -> Callable[..., Any]:
    """The function ``file.py:name`` of the package; its file may import its neighbours."""
    file, _, function = entry.partition(":")
    path = root.resolve() / file  # its own name, whatever it is a link to
    name = f"slm_candidate_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], run = module, spec.loader.exec_module
    sys.path.insert(0, str(root))
    try:
        _guarded(lambda: run(module))
    finally:
        sys.path.remove(str(root))
    found = getattr(module, function, None)
    if not callable(found):
        raise AttributeError(f"{file} defines no function {function!r}")
    return found  # type: ignore[no-any-return]
