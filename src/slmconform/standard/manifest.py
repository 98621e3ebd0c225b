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


class Manifest(Section):
    """``slm.toml``, version 1.0."""

    spec: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    profile: Literal["packaged", "runnable", "reproducible"]
    model: ModelSection
    loader: LoaderSection
    dependencies: DependenciesSection
    interface: InterfaceSection
