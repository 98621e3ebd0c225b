"""What a hub folder does not declare, inferred: statically from its files, then by measuring.

An inference never hides a defect: a causal language model is expected to be causal and a model
that takes an attention mask is expected to heed it, whatever was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from slmconform.engine.registry import Inconclusive
from slmconform.model import probes
from slmconform.model.architecture import bidirectional, task_and_class
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.model.probes import TokenRules, text_config
from slmconform.package.read import Package
from slmconform.package.tensors import FLOAT_NAMES
from slmconform.standard.manifest import (
    AxisRange,
    Capabilities,
    InputSpec,
    InterfaceSection,
    LoaderSection,
    OutputSpec,
)
from slmconform.standard.tasks import TASKS

LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "max_source_positions",
)
LONGEST = 512
POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}


def infer_loader(package: Package) -> tuple[str, LoaderSection]:
    """Task and loader from ``config.json`` and the folder; `Inconclusive` where it cannot be."""
    config = package.config
    if config is None or not isinstance(config.get("model_type"), str):
        raise Inconclusive(
            "cannot tell how to load this folder: config.json names no model_type; "
            "write slm.toml (`slmconform init`)"
        )
    task, cls = task_and_class(config)
    pooling, normalize = _pooling(package) if task == "sentence-embedding" else (None, False)
    fields: dict[str, Any] = {
        "kind": "transformers",
        "class": cls,
        "dtype": _dtype(package, config),
        "pooling": pooling,
        "normalize": normalize,
    }
    return task, LoaderSection(**fields)


def _dtype(package: Package, config: Mapping[str, Any]) -> str:
    declared = config.get("dtype", config.get("torch_dtype"))
    if declared in FLOAT_NAMES.values():
        return str(declared)
    shares: dict[str, int] = {}
    for entry in package.weights.tensors.values():
        if entry.dtype in FLOAT_NAMES:
            shares[entry.dtype] = shares.get(entry.dtype, 0) + entry.end - entry.begin
    return FLOAT_NAMES[max(shares, key=lambda k: shares[k])] if shares else "float32"


def _pooling(package: Package) -> tuple[str | None, bool]:
    """Pooling mode and normalisation as sentence-transformers' folders declare them."""
    modes = package.table("1_Pooling/config.json") or {}
    pooling = next((how for key, how in POOLING.items() if modes.get(key)), None)
    normalize = False
    if "modules.json" in package.folder.entries:
        modules = package.json("modules.json")
        normalize = isinstance(modules, list) and any(
            isinstance(m, dict) and str(m.get("type", "")).endswith("Normalize") for m in modules
        )
    return pooling, normalize


def infer_interface(
    model: LoadedModel, package: Package, count: Callable[[], None]
) -> InterfaceSection:
    """Inputs from the signature, axes and outputs by running the model."""
    draft = _draft(model, package)
    axes = dict(draft.axes)
    rules = TokenRules.of(model.config, model.task)

    def run(**sizes: int) -> Outputs | None:
        wanted = {**probes.sizes(draft, "typical"), **sizes}
        count()
        try:
            return model.forward(probes.build(draft, wanted, rules))
        except CandidateError as error:
            raised.append(str(error))
            return None

    raised: list[str] = []
    outputs, batch_limit = run(), None
    if outputs is None:
        outputs, batch_limit = run(batch=1), 1
    if outputs is None:
        raise Inconclusive(
            f"cannot tell the inputs of {type(model.module).__name__}: given "
            f"{', '.join(spec.name for spec in draft.inputs)} it raised {raised[-1]}; "
            "declare the interface in slm.toml"
        )
    typical = probes.sizes(draft, "typical")
    if batch_limit:
        typical["batch"] = 1
        axes["batch"] = AxisRange(min=1, max=1)
    for axis in ("sequence", "target"):
        if axis in axes:
            axes[axis] = _limits(run, axis, axes[axis].max, typical)
    return InterfaceSection(
        inputs=draft.inputs,
        outputs=_outputs(model, outputs, typical),
        axes=axes,
        capabilities=_capabilities(model, draft, rules, typical, count),
    )


def _draft(model: LoadedModel, package: Package) -> InterfaceSection:
    """What signature and configuration say; outputs and the real limits are left to be seen."""
    longest = _longest(model.module, package)
    axes = {"sequence": AxisRange(min=1, max=longest)}
    if model.task == "seq2seq-lm":
        axes["target"] = AxisRange(min=1, max=min(longest, 64))
    if model.task == "multiple-choice":
        axes["choices"] = AxisRange(min=2, max=4)
    unseen = OutputSpec(name="unknown", dtype="float32", axes=[1])
    return InterfaceSection(inputs=_inputs(model), outputs=[unseen], axes=axes)


def _inputs(model: LoadedModel) -> list[InputSpec]:
    config = model.config
    own = text_config(config)
    axes: list[Any] = ["batch", "sequence"]
    if model.task == "multiple-choice":
        axes = ["batch", "choices", "sequence"]
    span = _span(model)
    inputs = [InputSpec(name="input_ids", dtype="int64", axes=axes, range=span)]
    if "attention_mask" in model.accepts:
        inputs.append(InputSpec(name="attention_mask", dtype="int64", axes=axes, range=[0, 1]))
    types = int(getattr(own, "type_vocab_size", 0) or 0)
    if "token_type_ids" in model.accepts and types > 1:
        inputs.append(
            InputSpec(name="token_type_ids", dtype="int64", axes=axes, range=[0, types - 1])
        )
    if model.task == "seq2seq-lm" or _needs_decoder_tokens(model):
        target: list[Any] = ["batch", "target" if model.task == "seq2seq-lm" else "sequence"]
        span = _span(model, decoder=True)
        inputs.append(InputSpec(name="decoder_input_ids", dtype="int64", axes=target, range=span))
    return inputs


def _needs_decoder_tokens(model: LoadedModel) -> bool:
    """Whether the states of an encoder-decoder are asked for, which its decoder gives."""
    return (
        model.task == "sentence-embedding"
        and "decoder_input_ids" in model.accepts
        and bool(getattr(model.config, "is_encoder_decoder", False))
    )


def _span(model: LoadedModel, *, decoder: bool = False) -> list[int | float]:
    """The legal token ids: below the vocabulary size and the rows of the embedding."""
    config = model.config
    sizes = [
        getattr(text_config(config, decoder=decoder), "vocab_size", None),
        getattr(config, "vocab_size", None),
    ]
    size = next((s for s in sizes if isinstance(s, int) and s > 0), 2)
    if not decoder:
        rows = _embedding_rows(model.module)
        size = rows if rows and "src_vocab_size" in vars(config) else min(size, rows or size)
    return [0, size - 1]


def _embedding_rows(module: nn.Module) -> int | None:
    find: Callable[[], object] | None = getattr(module, "get_input_embeddings", None)
    try:
        table = find() if find else None
    except NotImplementedError:
        return None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def _longest(module: nn.Module, package: Package) -> int:
    """The longest sequence that configuration, tokenizer and position table allow, up to 512."""
    limits = [LONGEST]
    config = package.config or {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        limits += [v for k in LENGTH_KEYS if isinstance(v := source.get(k), int) and v > 0]
    declared = (package.table("tokenizer_config.json") or {}).get("model_max_length")
    limits += [declared] if isinstance(declared, int) and declared > 0 else []
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and name.endswith("position_embeddings"):
            offset = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - offset)
    return max(1, min(limits))


def _limits(
    run: Callable[..., Outputs | None], axis: str, longest: int, typical: Mapping[str, int]
) -> AxisRange:
    """The shortest and the longest size of an axis that the model runs on, in one row."""

    def runs(size: int) -> bool:
        return bool(run(**{axis: size, "batch": 1}))

    smallest = next((n for n in (1, 2, 4, 8) if n <= longest and runs(n)), typical[axis])
    while longest > typical[axis] and not runs(longest):
        longest //= 2
    return AxisRange(min=smallest, max=max(longest, smallest))


def _outputs(model: LoadedModel, outputs: Outputs, sizes: Mapping[str, int]) -> list[OutputSpec]:
    """The task's outputs that the model returned; free axes become the sizes that were seen."""
    specs = []
    for name, axes in TASKS[model.task].outputs.items():
        if name in outputs and outputs[name].dim() == len(axes):
            seen = outputs[name].shape
            known = [axis if axis in sizes else n for axis, n in zip(axes, seen, strict=True)]
            dtype: Any = str(outputs[name].dtype).removeprefix("torch.")
            specs.append(OutputSpec(name=name, dtype=dtype, axes=known))
    if not specs:
        given = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise Inconclusive(
            f"cannot tell the outputs of {type(model.module).__name__}: it returned "
            f"{given or 'no tensor'}, and {model.task} is judged by "
            f"{', '.join(TASKS[model.task].outputs)}; declare the interface in slm.toml"
        )
    return specs


def _capabilities(
    model: LoadedModel,
    draft: InterfaceSection,
    rules: TokenRules,
    sizes: Mapping[str, int],
    count: Callable[[], None],
) -> Capabilities:
    causal = model.task == "causal-lm" and not bidirectional(model.config)
    cache = model.task in ("causal-lm", "seq2seq-lm") and returns_cache(
        model, probes.build(draft, sizes, rules), count
    )
    padding: list[Any] = ["right"] if "attention_mask" in model.accepts else []
    return Capabilities(causal=causal, kv_cache=cache, padding=padding)


def returns_cache(model: LoadedModel, inputs: probes.Inputs, count: Callable[[], None]) -> bool:
    """Whether a forward pass with ``use_cache`` returns past keys and values."""
    if "use_cache" not in model.accepts or not model.cache_name:
        return False
    count()
    try:
        returned = model.call({**inputs, "use_cache": True, "return_dict": True})
    except CandidateError:
        return False
    return getattr(returned, model.cache_name, None) is not None


def attention_of(model: LoadedModel) -> str | None:
    """The attention implementation in use, where it is one that a manifest can name."""
    used = getattr(model.config, "_attn_implementation", None)
    return used if used in ("eager", "sdpa") else None
