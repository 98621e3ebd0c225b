"""The evidence ``conformance/evidence.json``: what a recording saw, for others to see again.

Numbers that need full precision (probe inputs, float64 outputs) stand in
``conformance/evidence.safetensors``; this file names them and holds everything else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Measure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]  # JSON has no other numbers


class Record(BaseModel):
    """A part of the evidence: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FileRecord(Record):
    """One file of the package at the time of recording; ``size`` in bytes."""

    path: str
    size: Count
    sha256: Sha256


class TensorRecord(Record):
    """One tensor; ``sha256`` is over its raw little-endian bytes."""

    name: str
    dtype: str
    shape: list[Count]
    sha256: Sha256


class ModelRecord(Record):
    """Which model the evidence belongs to, as its manifest named it."""

    name: str
    version: str
    task: str


class OutputRecord(Record):
    """How one reference output is kept.

    ``full``: tensor ``output.<name>`` of shape ``shape`` in float64. ``sketch``: for every
    position along the last axis the ``top`` largest values and their indices, the log-sum-exp,
    and ``projections`` inner products with fixed vectors of +-1, divided by sqrt(axis).
    """

    name: str
    kept: Literal["full", "sketch"]
    shape: list[Count]
    scale: Measure
    top: Count = 0
    projections: Count = 0


class ErrorRecord(Record):
    """Measured distance from float64 of one output in one dtype, over ``configurations``."""

    output: str
    dtype: str
    max_abs: Measure
    rms: Measure
    configurations: list[str]


class SummaryRecord(Record):
    """A float64 gradient, or change W_T - W_0, of one parameter.

    ``norm`` is its Frobenius norm, ``projections`` are inner products with two vectors of +-1,
    divided by the square root of its size.
    """

    name: str
    norm: Measure
    projections: Annotated[list[Finite], Field(min_length=2, max_length=2)]


class TrainingRecord(Record):
    """The reference training: loss and gradients of the first batch, and the float64 run.

    Batches stand in ``batch.<input>`` and ``labels.<name>``, (steps, rows, ...). ``steps`` may be
    fewer than the recipe's where a time budget asked for it. ``losses`` are one a step, before it.
    """

    recipe: dict[str, Any]
    data_sha256: Sha256 | None = None
    inputs: Annotated[list[str], Field(min_length=1)]
    labels: list[str]
    steps: Annotated[int, Field(ge=10)]
    losses: list[Finite]
    gradients: list[SummaryRecord]
    changes: list[SummaryRecord]


class DeviceTrainingRecord(Record):
    """The run in the shipped dtype on one class of device.

    ``envelope`` holds, step by step, the largest deviation of the loss from float64, over the
    larger of one and it, in ``configurations``. ``gradients`` and ``changes`` map parameter names
    to the largest distance from float64, over the global norm.
    """

    dtype: str
    losses: list[Finite]
    envelope: list[Measure]
    gradients: dict[str, Measure]
    changes: dict[str, Measure]
    configurations: list[str]


class DeviceRecord(Record):
    """What was measured on one class of device, and under which flags and versions."""

    environment: dict[str, Any]
    flags: dict[str, Any]
    errors: list[ErrorRecord]
    training: DeviceTrainingRecord | None = None


class EvaluationRecord(Record):
    """One metric as it was recomputed when recording.

    ``low`` and ``high`` are the 95 % bootstrap interval over ``rows`` examples, ``baseline`` the
    score of the trivial answer (None where there is none), ``report`` the score of each class.
    """

    metric: str
    k: int | None = None
    data: str
    sha256: Sha256
    rows: Count
    value: Finite
    low: Finite
    high: Finite
    baseline: float | None = None
    report: dict[str, dict[str, float]] = {}
    libraries: dict[str, str]


class VariantRecord(Record):
    """One variant against its base on the probe inputs, when recording; ``size`` in bytes."""

    name: str
    kind: str
    sha256: Sha256 | None = None
    size: Count | None = None
    base_size: Count
    kl: float | None = None
    top1: float | None = None
    cosine: float | None = None
    libraries: dict[str, str]


class TokenizerRecord(Record):
    """Probe texts with the ids they encode to and the text these ids decode to."""

    texts: list[str]
    ids: list[list[int]]
    decoded: list[str]
    size: Count


class ChatRecord(Record):
    """A conversation and the prompt that the chat template made of it."""

    messages: list[dict[str, str]]
    rendered: str


class GreedyRecord(Record):
    """Greedy continuation of one prompt; ``margins`` are float64 top-1 minus top-2 logits."""

    prompt: list[int]
    tokens: list[int]
    margins: list[Finite]


class Evidence(Record):
    """``evidence.json``, version 1.0."""

    spec: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    tool: str
    model: ModelRecord
    files: list[FileRecord]
    tensors: list[TensorRecord]
    weights_digest: Sha256
    evidence_tensors: Sha256
    configuration: dict[str, Any]
    ties: list[list[str]]
    inputs: list[str]
    outputs: list[OutputRecord]
    devices: dict[str, DeviceRecord]
    greedy: list[GreedyRecord] = []
    tokenizer: TokenizerRecord | None = None
    chat: ChatRecord | None = None
    training: TrainingRecord | None = None
    evaluations: list[EvaluationRecord] = []
    variants: list[VariantRecord] = []
