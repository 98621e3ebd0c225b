"""Loading the variants of a model: what is made from the base, and what is read from files.

The optional libraries (onnxruntime, gguf) are imported where they are used; without them there
is no answer, never a pass.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from slmconform.engine.registry import NoReference
from slmconform.model.loaded import DTYPES, CandidateError, LoadedModel, Loading, Outputs
from slmconform.package.read import CONFIG

# What a transformers folder needs beside its weights; a variant may bring its own.
CONFIGURATIONS = (CONFIG, "generation_config.json")
ONNX_DTYPES = {
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
    "tensor(double)": torch.float64,
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
}
EXTRAS = {"onnxruntime": "onnx", "gguf": "gguf", "accelerate": "gguf"}


def library(name: str) -> Any:
    """An optional library; raises `NoReference` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NoReference(
            f"{name} is not installed, so the variant cannot be run: "
            f"pip install 'slmconform[{EXTRAS[name]}]'"
        ) from None


def versions(*names: str) -> dict[str, str]:
    """The versions of the libraries that ran a variant."""
    return {name: version(name) for name in names}


class Int8Linear(nn.Linear):
    """A linear layer with int8 weights whose inputs are rounded to int8 at each call.

    Both are symmetric with a scale of their own for every output row and every token:
    max |x| / 127.5, the values rounded half to even into [-128, 127]. Their product is a sum of
    integers, which float64 holds exactly, so every machine gives the same. This is the arithmetic
    of torchao's ``Int8DynamicActivationInt8WeightConfig``; torch's own ``quantize_dynamic`` is
    deprecated and its rounding differs between processors.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight, self.bias = base.weight, base.bias  # for those who look at them
        whole, scale = int8(base.weight.detach())
        self.whole: Tensor
        self.scale: Tensor
        self.register_buffer("whole", whole, persistent=False)
        self.register_buffer("scale", scale.squeeze(-1), persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """(..., in) -> (..., out) in the dtype of the input."""
        tokens, scale = int8(input)
        summed = functional.linear(tokens.double(), self.whole.double())
        result = summed * scale.double() * self.scale.double()
        if self.bias is not None:
            result = result + self.bias.double()
        return result.to(input.dtype)


def int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values and the float32 scale of each row along the last axis, (..., 1)."""
    exact = values.float()
    scale = exact.abs().amax(dim=-1, keepdim=True) / 127.5
    scale = scale.clamp(min=torch.finfo(torch.float32).eps)
    return torch.clamp(torch.round(exact * (1.0 / scale)), -128, 127).to(torch.int8), scale


def quantise(model: LoadedModel) -> int:
    """Replace every `torch.nn.Linear` of a model by its int8 form; how many there were.

    Subclasses are left alone, as torch's quantisation leaves them: they may compute otherwise.
    """
    made: dict[int, Int8Linear] = {}
    for parent in list(model.module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                if id(child) not in made:
                    made[id(child)] = Int8Linear(child)
                setattr(parent, name, made[id(child)])
    return len(made)


def assemble(root: Path, weights: Path, target: Path) -> Path:
    """A folder to load a variant from: its weights, with the configuration of its base.

    ``weights`` is one safetensors file, or a folder that may bring its own configuration.
    """
    target.mkdir(parents=True)
    for name in CONFIGURATIONS:
        if (root / name).is_file():
            shutil.copyfile(root / name, target / name)
    if weights.is_file():
        (target / "model.safetensors").symlink_to(weights.resolve())
        return target
    for file in sorted(weights.iterdir()):
        if file.name in CONFIGURATIONS:
            shutil.copyfile(file, target / file.name)
        elif file.name.endswith((".safetensors", ".safetensors.index.json")):
            (target / file.name).symlink_to(file.resolve())
    return target


def fill_from_gguf(model: LoadedModel, path: Path) -> LoadedModel:
    """A model with the weights of a GGUF file, read back into its dtype.

    Tensors named as in the module's ``state_dict`` are put there; those named as llama.cpp names
    them are left to transformers, which knows how it arranges them.
    Raises `CandidateError` and `NoReference`.
    """
    gguf = library("gguf")
    try:
        tensors = {str(one.name): one for one in gguf.GGUFReader(path).tensors}
        own = model.module.state_dict()
        if not tensors.keys() & own.keys():
            return _by_transformers(model, path)
        read = {}
        for name, one in tensors.items():
            values = torch.from_numpy(gguf.dequantize(one.data, one.tensor_type).copy())
            shape = [int(size) for size in reversed(one.shape.tolist())]
            read[name] = values.reshape(shape).to(DTYPES[model.loader.dtype])
        loading = _fill(own, read)
    except (CandidateError, NoReference):
        raise
    except Exception as error:
        raise CandidateError("load", error) from error
    return _with(model, model.module, loading)


def _fill(own: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> Loading:
    fitting = {n: v for n, v in read.items() if n in own and own[n].shape == v.shape}
    places = {own[name].data_ptr() for name in fitting}
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    missing = [n for n, v in own.items() if n not in read and v.data_ptr() not in places]
    return Loading(
        missing=tuple(sorted(missing)),
        unexpected=tuple(sorted(read.keys() - own.keys())),
        mismatched=tuple(sorted((read.keys() & own.keys()) - fitting.keys())),
    )


def _by_transformers(model: LoadedModel, path: Path) -> LoadedModel:
    if model.loader.kind != "transformers":
        raise LookupError("no tensor of the file is named as one of the model's")
    library("accelerate")  # which transformers needs for it
    module, info = type(model.module).from_pretrained(  # type: ignore[attr-defined]
        str(path.parent),
        gguf_file=path.name,
        dtype=DTYPES[model.loader.dtype],
        output_loading_info=True,
        local_files_only=True,
    )
    loading = Loading(
        missing=tuple(sorted(map(str, info.get("missing_keys") or ()))),
        mismatched=tuple(sorted(str(row[0]) for row in info.get("mismatched_keys") or ())),
    )
    return _with(model, module.eval().to(model.device), loading)


def _with(model: LoadedModel, module: nn.Module, loading: Loading) -> LoadedModel:
    filled = model.with_module(module)
    filled.loading = loading
    return filled


def run_onnx(path: Path, model: LoadedModel, inputs: Mapping[str, Tensor]) -> Outputs:
    """One pass of an ONNX file on the processor, one thread; the outputs by name.

    ``model`` is the base, which knows how a sentence embedding is made of hidden states.
    Raises `CandidateError` and `NoReference`.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        taken = {one.name: _fed(inputs, one) for one in session.get_inputs()}
        names = [one.name for one in session.get_outputs()]
        values = session.run(names, taken)
    except Exception as error:
        raise CandidateError("onnx", error) from error
    named = {
        name: torch.from_numpy(value.copy())
        for name, value in zip(names, values, strict=True)
        if hasattr(value, "dtype") and value.dtype.kind in "fiub"
    }
    return {**model.outputs(named, inputs), **named}  # what the file gives itself comes first


def _fed(inputs: Mapping[str, Tensor], wanted: Any) -> Any:
    """The array for an input of a session, in the dtype that it takes."""
    if wanted.name not in inputs:
        raise LookupError(f"it takes the input {wanted.name!r}, which is not declared")
    dtype = ONNX_DTYPES.get(wanted.type, inputs[wanted.name].dtype)
    return inputs[wanted.name].cpu().to(dtype).numpy()


def unfit(loading: Loading) -> Sequence[str]:
    """What a loader said of tensors that did not fit, in words."""
    return [
        f"{len(names)} {what}: {', '.join(names[:3])}"
        for what, names in (
            ("missing", loading.missing),
            ("unexpected", loading.unexpected),
            ("mismatched", loading.mismatched),
        )
        if names
    ]
