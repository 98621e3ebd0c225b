"""The parts of `init` and `record` that need the model, in the candidate's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmconform.engine.registry import Unanswered

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.standard.evidence import DeviceRecord
    from slmconform.standard.manifest import Capabilities

Emit = Callable[[dict[str, Any]], None]


def infer(arguments: dict[str, Any], emit: Emit) -> None:
    """Send task, loader and interface of a folder without a manifest."""
    from slmconform.measure.opening import opened
    from slmconform.model.device import DeviceUnavailable
    from slmconform.model.inference import attention_of
    from slmconform.model.loaded import CandidateError

    try:
        with opened(arguments) as (bench, _):
            emit({"phase": "load"})
            attention = attention_of(bench.model)
            loader = bench.loader.model_copy(update={"attention": attention})
            emit({"phase": "interface"})
            interface = bench.interface
            emit({"phase": "capabilities"})
            interface = interface.model_copy(update={"capabilities": _capabilities(bench)})
            emit(
                {
                    "task": bench.task,
                    "loader": loader.model_dump(mode="json", by_alias=True),
                    "interface": interface.model_dump(mode="json", by_alias=True),
                }
            )
    except (DeviceUnavailable, CandidateError, Unanswered) as error:
        emit({"refused": str(error)})


def _capabilities(bench: Bench) -> Capabilities:
    """What was inferred, narrowed to what the architecture really keeps.

    Padding that leaks although the mask has an effect is the architecture's way and is left out;
    a mask without any effect is a defect and stays declared, for the check to fail.
    """
    from slmconform.measure import invariance

    found = bench.interface.capabilities
    padding: list[Any] = [
        side
        for side in found.padding
        if _keeps(bench, side) or invariance.mask_ignored(bench, side)
    ]
    if found.padding and bench.task == "causal-lm" and _keeps(bench, "left"):
        padding.append("left")
    causal = found.causal or (bench.task != "causal-lm" and _looks_causal(bench))
    return found.model_copy(update={"padding": padding, "causal": causal})


def _keeps(bench: Bench, side: str) -> bool:
    from slmconform.measure.invariance import padding_gap
    from slmconform.model.loaded import CandidateError

    try:
        gap = padding_gap(bench, side)
    except (Unanswered, CandidateError):
        return False
    return gap.max_abs <= gap.bound


def _looks_causal(bench: Bench) -> bool:
    from slmconform.measure.invariance import future_gap

    try:
        return future_gap(bench).max_abs == 0.0
    except Unanswered:
        return False


def measure(arguments: dict[str, Any], emit: Emit) -> None:
    """Send everything that evidence holds of the loaded model; tensors go to the scratch folder."""
    from safetensors.torch import save_file

    from slmconform.measure import generation, reference
    from slmconform.measure.configuration import effective
    from slmconform.measure.forward import float64
    from slmconform.measure.opening import opened

    with opened(arguments) as (bench, setting):
        emit({"phase": "float64 outputs"})
        records, tensors = reference.kept(float64(bench))
        inputs = bench.inputs("typical")
        tensors |= {f"input.{name}": value.contiguous() for name, value in inputs.items()}
        save_file(tensors, Path(arguments["scratch"]) / "evidence.safetensors")
        emit({"phase": "tokens"})
        greedy = _unless_unanswered(lambda: generation.in_float64(bench)) or []
        emit({"phase": "distance from float64"})
        device = _device(bench, setting)
        emit(
            {
                "configuration": effective(bench),
                "ties": bench.model.ties(),
                "inputs": sorted(inputs),
                "outputs": [record.model_dump() for record in records],
                "greedy": [row.model_dump() for row in greedy],
                "device": [setting["device"], device.model_dump()],
                **_texts(bench),
            }
        )


def _device(bench: Bench, setting: dict[str, Any]) -> DeviceRecord:
    """Distances from float64 over every legitimate way of running, for each dtype needed."""
    from slmconform.measure import reference
    from slmconform.standard.evidence import DeviceRecord, ErrorRecord

    rows: list[ErrorRecord] = []
    for dtype in dict.fromkeys(("float32", bench.loader.dtype)):
        if dtype not in reference.FACTOR:
            continue
        ways = reference.legitimate(bench, dtype)
        seen = {way: reference.errors(bench, outputs) for way, outputs in ways.items()}
        rows += [
            ErrorRecord(
                output=name,
                dtype=dtype,
                max_abs=max(errors[name].max_abs for errors in seen.values()),
                rms=max(errors[name].rms for errors in seen.values()),
                configurations=list(ways),
            )
            for name in next(iter(seen.values()))
        ]
    return DeviceRecord(environment=setting["environment"], flags=setting["flags"], errors=rows)


def _texts(bench: Bench) -> dict[str, Any]:
    from slmconform.measure import tokenizing

    tokenizer = _unless_unanswered(lambda: tokenizing.encodings(bench))
    chat = _unless_unanswered(lambda: tokenizing.rendering(bench))
    return {
        "tokenizer": tokenizer.model_dump() if tokenizer else None,
        "chat": chat.model_dump() if chat else None,
    }


def _unless_unanswered(take: Callable[[], Any]) -> Any:
    try:
        return take()
    except Unanswered:
        return None
