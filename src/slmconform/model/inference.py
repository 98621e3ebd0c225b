"""What a hub folder does not declare, inferred: statically from its files, then by measuring.

An inference never hides a defect: a causal language model is expected to be causal and a model
that takes an attention mask is expected to heed it, whatever was measured.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from slmconform.engine.registry import Inconclusive
from slmconform.model import probes
from slmconform.model.loaded import CandidateError, LoadedModel, Outputs
from slmconform.model.probes import TokenRules
from slmconform.package.read import Package
from slmconform.standard.manifest import (
    AxisRange,
    Capabilities,
    InputSpec,
    InterfaceSection,
    LoaderSection,
    OutputSpec,
)
from slmconform.standard.tasks import TASKS

# Looked through in this order: some classes stand in more than one mapping.
MAPPINGS = {
    "seq2seq-lm": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "question-answering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "multiple-choice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "sentence-embedding": "MODEL_MAPPING_NAMES",
}

# Language-model heads that look both ways unless `is_decoder` is set, or always.
BIDIRECTIONAL = frozenset(
    [
        "albert",
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "flaubert",
        "megatron-bert",
        "mobilebert",
        "reformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
        "xmod",
    ]
)

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
SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def infer_loader(package: Package) -> tuple[str, LoaderSection]:
    """Task and loader from ``config.json`` and the folder; `Inconclusive` where it cannot be."""
    config = package.config
    if config is None or not isinstance(config.get("model_type"), str):
        raise Inconclusive(
            "cannot tell how to load this folder: config.json names no model_type; "
            "write slm.toml (`slmconform init`)"
        )
    task, cls = _task_and_class(config)
    pooling, normalize = _pooling(package) if task == "sentence-embedding" else (None, False)
    fields: dict[str, Any] = {
        "kind": "transformers",
        "class": cls,
        "dtype": _dtype(package, config),
        "pooling": pooling,
        "normalize": normalize,
    }
    return task, LoaderSection(**fields)


def _task_and_class(config: Mapping[str, Any]) -> tuple[str, str]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    named = config.get("architectures")
    wanted = named[0] if isinstance(named, list) and named else None
    for task, mapping in MAPPINGS.items():
        names = getattr(auto, mapping)
        found = names.get(config["model_type"]) if wanted is None else None
        if wanted is None and task != "sentence-embedding":
            continue
        for value in names.values() if wanted else (found,):
            classes = value if isinstance(value, (tuple, list)) else (value,)
            for cls in classes:
                if cls is not None and wanted in (None, cls):
                    return task, str(cls)
    raise Inconclusive(
        f"cannot tell the task of architecture {wanted or config['model_type']!r}: "
        "declare model.task and loader.class in slm.toml"
    )


def _dtype(package: Package, config: Mapping[str, Any]) -> str:
    declared = config.get("dtype", config.get("torch_dtype"))
    if declared in SAFETENSORS_DTYPES.values():
        return str(declared)
    shares: dict[str, int] = {}
    for entry in package.weights.tensors.values():
        if entry.dtype in SAFETENSORS_DTYPES:
            shares[entry.dtype] = shares.get(entry.dtype, 0) + entry.end - entry.begin
    return SAFETENSORS_DTYPES[max(shares, key=lambda k: shares[k])] if shares else "float32"


def _pooling(package: Package) -> tuple[str | None, bool]:
    """Pooling mode and normalisation as sentence-transformers' folders declare them."""
    pooling = None
    if "1_Pooling/config.json" in package.folder.entries:
        modes = package.json("1_Pooling/config.json")
        if isinstance(modes, dict):
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
    inputs = _inputs(model)
    longest = _longest(model.module, package)
    axes = {"sequence": AxisRange(min=1, max=longest)}
    if model.task == "seq2seq-lm":
        axes["target"] = AxisRange(min=1, max=min(longest, 64))
    if model.task == "multiple-choice":
        axes["choices"] = AxisRange(min=2, max=4)
    draft = InterfaceSection(
        inputs=inputs,
        outputs=[OutputSpec(name="unknown", dtype="float32", axes=[1])],
        axes=axes,
    )
    rules = TokenRules.of(model.config, model.task)

    def run(**sizes: int) -> Outputs | None:
        wanted = {**probes.sizes(draft, "typical"), **sizes}
        count()
        try:
            return model.forward(probes.build(draft, wanted, rules))
        except CandidateError:
            return None

    outputs, batch_limit = run(), None
    if outputs is None:
        outputs, batch_limit = run(batch=1), 1
    if outputs is None:  # let the interface check meet the failure and report it
        outputs = {}
    typical = probes.sizes(draft, "typical")
    if batch_limit:
        typical["batch"] = 1
        axes["batch"] = AxisRange(min=1, max=1)
    axes["sequence"] = _limits(run, longest, typical)
    return InterfaceSection(
        inputs=inputs,
        outputs=_outputs(model, outputs, typical) or draft.outputs,
        axes=axes,
        capabilities=_capabilities(model, draft, rules, typical, count),
    )


def _inputs(model: LoadedModel) -> list[InputSpec]:
    config = model.config
    own = config.get_text_config() if hasattr(config, "get_text_config") else config
    vocabulary = int(getattr(own, "vocab_size", 0) or getattr(config, "vocab_size", 0) or 2)
    axes: list[Any] = ["batch", "sequence"]
    if model.task == "multiple-choice":
        axes = ["batch", "choices", "sequence"]
    span: list[int | float] = [0, vocabulary - 1]
    inputs = [InputSpec(name="input_ids", dtype="int64", axes=axes, range=span)]
    if "attention_mask" in model.accepts:
        inputs.append(InputSpec(name="attention_mask", dtype="int64", axes=axes, range=[0, 1]))
    types = int(getattr(own, "type_vocab_size", 0) or 0)
    if "token_type_ids" in model.accepts and types > 1:
        inputs.append(
            InputSpec(name="token_type_ids", dtype="int64", axes=axes, range=[0, types - 1])
        )
    if model.task == "seq2seq-lm":
        target: list[Any] = ["batch", "target"]
        inputs.append(InputSpec(name="decoder_input_ids", dtype="int64", axes=target, range=span))
    return inputs


def _longest(module: nn.Module, package: Package) -> int:
    """The longest sequence that configuration, tokenizer and position table allow, up to 512."""
    limits = [LONGEST]
    config = package.config or {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        limits += [v for k in LENGTH_KEYS if isinstance(v := source.get(k), int) and v > 0]
    if "tokenizer_config.json" in package.folder.entries:
        tokenizer = package.json("tokenizer_config.json")
        declared = tokenizer.get("model_max_length") if isinstance(tokenizer, dict) else None
        limits += [int(declared)] if isinstance(declared, int) and declared > 0 else []
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and name.endswith("position_embeddings"):
            offset = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - offset)
    return max(1, min(limits))


def _limits(
    run: Callable[..., Outputs | None], longest: int, typical: Mapping[str, int]
) -> AxisRange:
    batch = {"batch": 1}
    smallest = next(
        (n for n in (1, 2, 4, 8) if n <= longest and run(sequence=n, **batch)),
        typical["sequence"],
    )
    while longest > typical["sequence"] and not run(sequence=longest, **batch):
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
    return specs


def _capabilities(
    model: LoadedModel,
    draft: InterfaceSection,
    rules: TokenRules,
    sizes: Mapping[str, int],
    count: Callable[[], None],
) -> Capabilities:
    causal = model.task == "causal-lm" and not _bidirectional(model.config)
    cache = model.task in ("causal-lm", "seq2seq-lm") and returns_cache(
        model, probes.build(draft, sizes, rules), count
    )
    padding: list[Any] = ["right"] if "attention_mask" in model.accepts else []
    return Capabilities(causal=causal, kv_cache=cache, padding=padding)


def _bidirectional(config: Any) -> bool:
    return getattr(config, "model_type", "") in BIDIRECTIONAL and not (
        getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    )


def returns_cache(model: LoadedModel, inputs: probes.Inputs, count: Callable[[], None]) -> bool:
    """Whether a forward pass with ``use_cache`` returns past keys and values."""
    if not {"use_cache", "past_key_values"} <= model.accepts:
        return False
    count()
    try:
        returned = model.call({**inputs, "use_cache": True, "return_dict": True})
    except CandidateError:
        return False
    return getattr(returned, "past_key_values", None) is not None


def attention_of(model: LoadedModel) -> str | None:
    """The attention implementation in use, where it is one that a manifest can name."""
    used = getattr(model.config, "_attn_implementation", None)
    return used if used in ("eager", "sdpa") else None
