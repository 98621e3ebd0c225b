"""Loading a hub-style folder with transformers: offline, safetensors only, no remote code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slmconform.model.loaded import DTYPES, CandidateError, LoadedModel, Loading
from slmconform.standard.manifest import LoaderSection

OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load(root: Path, loader: LoaderSection, task: str, device: torch.device) -> LoadedModel:
    """Load the declared class; tensors that do not fit are reported, never hidden.

    Raises `CandidateError` with phase "load" for whatever the library raises.
    """
    try:
        cls = class_of(loader)
        attention = {"attn_implementation": loader.attention} if loader.attention else {}
        module, info = cls.from_pretrained(
            str(root),
            dtype=DTYPES[loader.dtype],
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **attention,
            **OFFLINE,
        )
    except Exception as error:
        raise CandidateError("load", error) from error
    module.eval()
    return LoadedModel(module.to(device), task, loader, device, _loading(info))


def class_of(loader: LoaderSection) -> Any:
    """The declared class of transformers; LookupError where this version has none of its name."""
    import transformers

    cls = getattr(transformers, loader.class_ or "", None)
    if cls is None:
        raise LookupError(f"transformers {transformers.__version__} has no class {loader.class_!r}")
    return cls


def _loading(info: dict[str, Any]) -> Loading:
    return Loading(
        missing=tuple(sorted(map(str, info.get("missing_keys") or ()))),
        unexpected=tuple(sorted(map(str, info.get("unexpected_keys") or ()))),
        mismatched=tuple(
            sorted(
                str(row[0] if isinstance(row, (tuple, list)) else row)
                for row in info.get("mismatched_keys") or ()
            )
        ),
    )


def load_tokenizer(root: Path) -> Any:
    """The tokenizer of the folder; raises `CandidateError` with phase "tokenizer"."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(root), **OFFLINE)
    except BaseException as error:
        if not is_failure(error):
            raise
        raise CandidateError("tokenizer", error) from error


def is_failure(error: BaseException) -> bool:
    """Whether the library failed: its panics are no `Exception`, unlike a wish to stop."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
