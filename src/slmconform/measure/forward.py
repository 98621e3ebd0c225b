"""Forward passes on the probes, and what they leave behind."""

from __future__ import annotations

import torch
from torch import Tensor

from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import bits
from slmconform.model.loaded import Outputs

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


@measurement
def native(bench: Bench, which: str) -> Outputs:
    """Outputs in the model's own dtype for a probe size."""
    return bench.native(bench.inputs(which))


@measurement
def repeated(bench: Bench) -> Outputs:
    """The typical probe again, with the random generators in another state."""
    native(bench, "typical")
    with torch.random.fork_rng(devices=_devices(bench)):
        torch.manual_seed(987_654_321)
        return bench.native(bench.inputs("typical"))


def _devices(bench: Bench) -> list[int]:
    device = bench.options.device
    return [device.index or 0] if device.type == "cuda" else []


@measurement
def float64(bench: Bench) -> Outputs:
    """Outputs in forced float64 for the typical probe."""
    return bench.float64(bench.inputs("typical"))


@measurement
def side_effects(bench: Bench) -> tuple[list[str], list[str]]:
    """Inputs and parameters that one forward pass changed, by name."""
    inputs = {name: value.clone() for name, value in bench.inputs("typical").items()}
    before = {name: value.clone() for name, value in inputs.items()}
    tensors = bench.model.tensors()
    state = {name: (tensor._version, _checksum(tensor)) for name, tensor in tensors.items()}
    bench.native({name: v.to(bench.options.device) for name, v in inputs.items()})
    touched = [n for n, value in inputs.items() if not torch.equal(value, before[n])]
    after = bench.model.tensors()
    changed = [
        name
        for name, (version, checksum) in state.items()
        if name not in after
        or (after[name]._version != version and _checksum(after[name]) != checksum)
        or _checksum(after[name]) != checksum
    ]
    return touched, changed


def _checksum(tensor: Tensor) -> int:
    """Sum of the bits as integers: fast, and changed by any single change."""
    return int(bits(tensor).sum(dtype=torch.int64)) if tensor.numel() else 0


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

    folder = bench.options.scratch / "saved"
    folder.mkdir()
    try:
        bench.model.save(folder)
    except Exception as error:
        raise CandidateError("save", error) from error
    reloaded = bench.load(folder)
    reloaded.output_names = bench.model.output_names
    bench.count()
    return reloaded.forward(bench.inputs("typical"))
