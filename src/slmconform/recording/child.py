"""The parts of `init`, `record` and `train` that need the model, in the candidate's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmconform.engine.registry import Nonconformance, Unanswered

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
            recipe = _recipe(bench, emit) if arguments.get("training") else {}
            emit(
                {
                    "training": recipe,
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


def _recipe(bench: Bench, emit: Emit) -> dict[str, Any]:
    """The loss that the task means, and the parameters that it does not depend on left out.

    A parameter that is used and gets no gradient is a defect and stays, for the check to fail.
    """
    from slmconform.measure.batches import loss_kind
    from slmconform.measure.derivative import idle
    from slmconform.measure.gradient import constants, probed_gradients

    emit({"phase": "gradients"})
    reached = probed_gradients(bench).of
    unreached = [n for n, _ in bench.model.module.named_parameters() if reached.get(n) is None]
    still = idle(bench, [n for n in unreached if n in reached])
    left = [name for name in unreached if name in constants(bench) or name in still]
    return {"loss": loss_kind(bench), "trainable": ["*", *(f"!{name}" for name in left)]}


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
    """Send everything that evidence holds of the loaded model; tensors go to the scratch folder.

    A recipe or a score that cannot be recorded is sent as ``refused``.
    """
    from safetensors.torch import save_file

    from slmconform.measure import evaluation, generation, reference, variants
    from slmconform.measure.configuration import effective
    from slmconform.measure.forward import float64
    from slmconform.measure.opening import opened
    from slmconform.recording import training

    with opened(arguments) as (bench, setting):
        emit({"phase": "float64 outputs"})
        records, tensors = reference.kept(float64(bench))
        inputs = bench.inputs("typical")
        tensors |= {f"input.{name}": value.contiguous() for name, value in inputs.items()}
        emit({"phase": "tokens"})
        greedy = _unless_unanswered(lambda: generation.in_float64(bench)) or []
        emit({"phase": "distance from float64"})
        device = _device(bench, setting)
        try:
            trained = training.measured(bench, arguments.get("time_budget"), emit)
            emit({"phase": "scores"})
            scores = evaluation.records(bench)
        except Unanswered as error:
            emit({"refused": str(error)})
            return
        if trained is not None:
            tensors |= trained.tensors
            device = device.model_copy(update={"training": trained.device})
        save_file(tensors, Path(arguments["scratch"]) / "evidence.safetensors")
        emit({"phase": "variants"})
        emit(
            {
                "configuration": effective(bench),
                "ties": bench.model.ties(),
                "inputs": sorted(inputs),
                "outputs": [record.model_dump() for record in records],
                "greedy": [row.model_dump() for row in greedy],
                "device": [setting["device"], device.model_dump()],
                "evaluations": [row.model_dump() for row in scores],
                "variants": [row.model_dump() for row in variants.records(bench)],
                "training": trained.record.model_dump() if trained else None,
                **_texts(bench),
            }
        )


def train(arguments: dict[str, Any], emit: Emit) -> None:
    """Send the plan of the reference training and each of its steps, then how many there were.

    A recipe that is not the recorded one is sent as ``differs``, what cannot be trained as
    ``refused``.
    """
    from slmconform.measure.opening import opened
    from slmconform.model.device import DeviceUnavailable
    from slmconform.model.loaded import CandidateError
    from slmconform.recording.rerun import rerun

    try:
        with opened(arguments) as (bench, setting):
            emit({"phase": "loading the model"})
            emit({"trained": rerun(bench, setting["device"], arguments["steps"], emit)})
    except Nonconformance as error:
        emit({"differs": f"{error.where}: {error} ({error.why}); {error.fix}"})
    except CandidateError as error:
        emit({"refused": f"the model raises in its {error.phase}: {error}"})
    except (DeviceUnavailable, Unanswered) as error:
        emit({"refused": str(error)})


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
    from slmconform.measure import conversing, tokenizing

    tokenizer = _unless_unanswered(lambda: tokenizing.encodings(bench))
    chat = _unless_unanswered(lambda: conversing.recorded(bench))
    return {
        "tokenizer": tokenizer.model_dump() if tokenizer else None,
        "chat": chat.model_dump() if chat else None,
    }


def _unless_unanswered(take: Callable[[], Any]) -> Any:
    try:
        return take()
    except Unanswered:
        return None
