"""Forward passes on the probes, and what they leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import bits, digest
from slmconform.model.loaded import Outputs

SIZES = ("smallest", "typical", "largest")
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


@measurement
def observed(bench: Bench, which: str) -> tuple[Outputs, list[str]]:
    """Outputs in the model's own dtype for a probe size, and the inputs that the pass changed.

    The probes themselves stay as they were: the model gets copies.
    """
    as_loaded(bench)
    inputs = {n: v.clone().to(bench.options.device) for n, v in bench.inputs(which).items()}
    outputs = bench.native(inputs)
    probe = {name: bits(value) for name, value in bench.inputs(which).items()}
    return outputs, [n for n in inputs if not torch.equal(bits(inputs[n]).cpu(), probe[n])]


def native(bench: Bench, which: str) -> Outputs:
    """Outputs in the model's own dtype for a probe size."""
    return observed(bench, which)[0]


@measurement
def as_loaded(bench: Bench) -> dict[str, str]:
    """Digests of parameters and persistent buffers before the first measured pass."""
    return {name: digest(tensor) for name, tensor in bench.model.tensors().items()}


@measurement
def repeated(bench: Bench) -> Outputs:
    """The typical probe again, with the random generators in another state."""
    native(bench, "typical")
    with seeded(bench, 987_654_321):
        return bench.native(bench.inputs("typical"))


@contextmanager
def seeded(bench: Bench, seed: int) -> Iterator[None]:
    """Random generators at a seed, on the device too; they go on from where they were."""
    device = bench.options.device
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@measurement
def float64(bench: Bench) -> Outputs:
    """Outputs in forced float64 for the typical probe."""
    return bench.float64(bench.inputs("typical"))


@measurement
def side_effects(bench: Bench) -> tuple[list[str], list[str]]:
    """Inputs, and parameters or buffers, that the passes on the three probes changed, by name."""
    touched = {name for which in SIZES for name in observed(bench, which)[1]}
    before = as_loaded(bench)
    after = {name: digest(tensor) for name, tensor in bench.model.tensors().items()}
    changed = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    return sorted(touched), sorted(changed)


@measurement
def undefined(bench: Bench) -> list[str]:
    """Parameters and buffers that still hold what uninitialised memory is filled with.

    Under ``fill_uninitialized_memory`` torch fills new floating-point memory with NaN and
    integer memory with the largest value (torch/utils/deterministic).
    """
    module = bench.model.module
    found = []
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            found.append(name)
        elif tensor.numel() == 0:
            continue
        elif tensor.is_floating_point():
            if bool(torch.isnan(tensor.detach().sum()) and torch.isnan(tensor).any()):
                found.append(name)
        elif tensor.dtype in INTEGERS and bool((tensor == torch.iinfo(tensor.dtype).max).all()):
            found.append(name)
    return found


@measurement
def saved_and_reloaded(bench: Bench) -> Outputs:
    """Outputs of the typical probe after saving the model and loading what was saved."""
    from slmconform.model.loaded import CandidateError

    model, folder = bench.model, bench.options.scratch / "saved"
    folder.mkdir()
    try:
        model.save(folder)
    except Exception as error:
        raise CandidateError("save", error) from error
    reloaded = bench.load(folder)
    bench.count()
    return reloaded.forward(bench.inputs("typical"))
