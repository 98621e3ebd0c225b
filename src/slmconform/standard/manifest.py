"""The manifest ``slm.toml``: what the author of a model declares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from slmconform.standard.tasks import TASKS

SEMANTIC_VERSION = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)

FloatDtype = Literal["float64", "float32", "bfloat16", "float16"]
Dtype = Literal[
    "float64", "float32", "bfloat16", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"
]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
RelativePath = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$")]
AxisName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Axis = Annotated[int, Field(ge=1, le=2**31)] | AxisName
Role = Literal["tokens", "mask", "segments", "positions", "decoder-tokens", "values"]


class Section(BaseModel):
    """A table of the manifest: unknown keys are errors, values are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class BaseModelReference(Section):
    """The model that this one was made from."""

    name: Name
    relation: Literal["finetune", "adapter", "quantized", "pruned", "distilled", "merge"]
    license: Name


class ModelSection(Section):
    """Who the model is. ``version`` is a semantic version (semver.org 2.0.0)."""

    name: Name
    version: Annotated[str, Field(pattern=SEMANTIC_VERSION)]
    task: Annotated[str, Field(json_schema_extra={"enum": list(TASKS)})]
    license: Annotated[str, Field(min_length=1, max_length=400)]
    summary: Annotated[str, Field(max_length=1000)] = ""
    languages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,35}$")]] = []
    parameters: Annotated[int, Field(ge=1)] | None = None
    base: BaseModelReference | None = None


class LoaderSection(Section):
    """How the model is loaded.

    ``dtype`` is the dtype that it is shipped and run in; ``other_dtypes`` are further
    floating-point dtypes that some of its tensors are stored in. ``code`` lists further source
    files beside ``entry``. ``pooling`` and ``normalize`` make a sentence embedding of the
    last hidden state (batch, sequence, hidden) -> (batch, hidden).
    """

    kind: Literal["transformers", "torch"]
    class_: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None, alias="class"
    )
    entry: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+\.py:[A-Za-z_][A-Za-z0-9_]*$")] | None = (
        None
    )
    code: list[RelativePath] = []
    dtype: FloatDtype = "float32"
    other_dtypes: list[FloatDtype] = []
    attention: Literal["eager", "sdpa"] | None = None
    pooling: Literal["mean", "cls", "last", "max"] | None = None
    normalize: bool = False


class DependenciesSection(Section):
    """What the model needs: a PEP 440 range and PEP 508 requirements."""

    python: Annotated[str, Field(min_length=1, max_length=200)]
    requires: Annotated[list[Annotated[str, Field(min_length=1, max_length=400)]], Field()]


class TensorSpec(Section):
    """A named tensor: dtype and axes, each a size or the name of a declared axis."""

    name: Name
    dtype: Dtype
    axes: Annotated[list[Axis], Field(min_length=1, max_length=8)]


class InputSpec(TensorSpec):
    """An input; ``range`` holds the least and the greatest legal value, both included."""

    range: Annotated[list[int | float], Field(min_length=2, max_length=2)] | None = None
    role: Role | None = None
    required: bool = True


class OutputSpec(TensorSpec):
    """An output; ``negative_infinity`` allows -inf as a value (masked scores)."""

    negative_infinity: bool = False


class AxisRange(Section):
    """The least and the greatest size of an axis, both included."""

    min: Annotated[int, Field(ge=1, le=2**31)] = 1
    max: Annotated[int, Field(ge=1, le=2**31)]


class Capabilities(Section):
    """What the model can do. What is not declared is declared absent, and tested as absent."""

    causal: bool = False
    kv_cache: bool = False
    padding: list[Literal["right", "left"]] = []


class InterfaceSection(Section):
    """Inputs, outputs, the ranges of their named axes, and capabilities."""

    inputs: Annotated[list[InputSpec], Field(min_length=1, max_length=32)]
    outputs: Annotated[list[OutputSpec], Field(min_length=1, max_length=32)]
    axes: dict[AxisName, AxisRange] = Field(
        default={}, json_schema_extra={"additionalProperties": False}
    )
    capabilities: Capabilities = Capabilities()


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Loss = Literal[
    "cross-entropy", "binary-cross-entropy", "mean-squared-error", "contrastive", "custom"
]
Metric = Literal[
    "accuracy",
    "macro-f1",
    "micro-f1",
    "seqeval-f1",
    "matthews",
    "spearman",
    "exact-match",
    "perplexity",
    "ndcg",
    "recall",
]


class AdamW(Section):
    """AdamW (Loshchilov, Hutter 2019), as ``torch.optim.AdamW``."""

    name: Literal["adamw"]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Positive = 1e-8


class SGD(Section):
    """Stochastic gradient descent, as ``torch.optim.SGD``."""

    name: Literal["sgd"]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    momentum: Fraction = 0.0
    nesterov: bool = False


class Schedule(Section):
    """The factor on the learning rate: linear over ``warmup`` steps, then constant or falling.

    ``linear`` and ``cosine`` fall towards 0 at the end of the steps.
    """

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0, le=100_000)] = 0


class TrainingSection(Section):
    """The reference recipe: what is minimised, by which optimiser, over which batches.

    ``entry`` names own code ``file.py:function`` that takes outputs and labels (tensors by name)
    and returns the loss. A step sums over ``accumulation`` micro-batches, which share the
    ``batch_size`` rows. ``trainable`` are patterns of parameter names, ``!pattern`` excludes.
    ``data`` is a file of JSON lines; without it batches of random tokens are drawn. ``scale``
    multiplies the cosines of the contrastive loss.
    """

    loss: Loss
    entry: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+\.py:[A-Za-z_][A-Za-z0-9_]*$")] | None = (
        None
    )
    optimizer: Annotated[AdamW | SGD, Field(discriminator="name")]
    schedule: Schedule = Schedule()
    steps: Annotated[int, Field(ge=10, le=10_000)] = 50
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    max_grad_norm: Positive | None = None
    trainable: Annotated[list[Name], Field(min_length=1, max_length=200)] = ["*"]
    data: RelativePath | None = None
    scale: Positive = 20.0


class EvaluationSection(Section):
    """A claimed score: ``metric`` over ``data`` is ``value`` within ``tolerance``.

    ``k`` is the cutoff of ndcg and recall. ``reason`` says why the tolerance is wider than the
    sampling noise, where it is.
    """

    metric: Metric
    data: RelativePath
    value: Annotated[float, Field(allow_inf_nan=False)]
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    k: Annotated[int, Field(ge=1, le=10_000)] | None = None
    reason: Annotated[str, Field(max_length=1000)] = ""


class VariantSection(Section):
    """Another form of the same model, and how far its outputs may be from the base's.

    ``max_kl`` bounds the mean Kullback-Leibler divergence KL(base || variant) in nats,
    ``top1_agreement`` is the least share of equal arg-max, ``min_cosine`` the least cosine
    between output vectors. ``dynamic-int8`` is made by torch from the base and has no path.
    """

    name: Name
    kind: Literal["dynamic-int8", "safetensors", "onnx", "gguf"]
    path: RelativePath | None = None
    max_kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None = None


class Manifest(Section):
    """``slm.toml``, version 1.0."""

    spec: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    profile: Literal["packaged", "runnable", "reproducible", "trainable", "evaluated"]
    model: ModelSection
    loader: LoaderSection
    dependencies: DependenciesSection
    interface: InterfaceSection
    training: TrainingSection | None = None
    evaluation: Annotated[list[EvaluationSection], Field(max_length=32)] = []
    variants: Annotated[list[VariantSection], Field(max_length=32)] = []
