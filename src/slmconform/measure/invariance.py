"""The same question asked in another legal way, in float64: batch, rows, padding, cache, ..."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slmconform.engine.registry import Inconclusive, NotApplicable
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.compare import Difference, difference, worst
from slmconform.measure.forward import float64
from slmconform.model import probes
from slmconform.model.device import threads
from slmconform.model.loaded import LoadedModel, Outputs
from slmconform.model.probes import Inputs

CACHED_STEPS = 3
OTHER_ATTENTION = {"eager": "sdpa", "sdpa": "eager"}


def batch_of(bench: Bench) -> int:
    """Rows of the typical probe."""
    return int(next(iter(bench.inputs("typical").values())).shape[0])


def width_of(bench: Bench) -> int:
    """Tokens a row of the typical probe; not applicable where no input has a sequence axis."""
    for spec in bench.interface.inputs:
        axis = probes.sequence_axis(bench.interface, spec.name)
        if axis is not None:
            return int(bench.inputs("typical")[spec.name].shape[axis])
    raise NotApplicable("no input has a sequence axis")


def need_rows(bench: Bench) -> None:
    """Not applicable where the interface allows only one row."""
    if batch_of(bench) < 2:
        raise NotApplicable("the interface allows one row a batch")


@measurement
def alone(bench: Bench, row: int, length: int) -> Outputs:
    """Float64 outputs of one row of the typical probe by itself, cut to ``length`` tokens."""
    single = probes.rows(bench.inputs("typical"), slice(row, row + 1))
    if length:
        single = probes.cut(bench.interface, single, length, bench.rules)
    return bench.float64(single)


@measurement
def batch_gap(bench: Bench) -> Difference:
    """Rows alone against the same rows in their batch."""
    need_rows(bench)
    whole = float64(bench)
    parts = [alone(bench, row, 0) for row in range(2)]
    got = {name: torch.cat([part[name] for part in parts]) for name in whole}
    return difference(got, {name: value[:2] for name, value in whole.items()})


@measurement
def permuted_gap(bench: Bench) -> Difference:
    """The batch with its rows reversed against the batch, rows put back."""
    need_rows(bench)
    back = list(range(batch_of(bench)))[::-1]
    turned = bench.float64(probes.rows(bench.inputs("typical"), back))
    return difference({name: value[back] for name, value in turned.items()}, float64(bench))


@measurement
def unmasked_gap(bench: Bench) -> Difference:
    """No attention mask against a mask of ones."""
    mask = probes.by_role(bench.interface, "mask")
    if mask is None:
        raise NotApplicable("no input is an attention mask")
    inputs = {k: v for k, v in bench.inputs("typical").items() if k != mask.name}
    return difference(bench.float64(inputs), float64(bench))


def padded_lengths(bench: Bench) -> list[int]:
    """Different lengths for the rows, none of them the full width."""
    width, axis = width_of(bench), bench.interface.axes.get("sequence")
    least = axis.min if axis else 1
    wanted = [width - 1, width - 3, width // 2, width // 4 + 1]
    if max(least, 1) >= width:
        raise NotApplicable(f"the interface allows only sequences of {width}: nothing to pad")
    return [min(max(n, least), width - 1) for n in wanted][: batch_of(bench)]


@measurement
def padded_run(bench: Bench, side: str, *, masked: bool = True) -> Outputs:
    """Float64 outputs of rows of different lengths, padded on one side to one width."""
    singles = [
        probes.cut(
            bench.interface,
            probes.rows(bench.inputs("typical"), slice(row, row + 1)),
            length,
            bench.rules,
        )
        for row, length in enumerate(padded_lengths(bench))
    ]
    width = width_of(bench)
    batch = probes.padded(bench.interface, singles, width, side, bench.rules)
    mask = probes.by_role(bench.interface, "mask")
    if mask is None:
        raise NotApplicable("no input is an attention mask")
    if side == "left" and bench.interface.capabilities.causal:
        batch.update(_positions(bench, batch[mask.name]))
    if not masked:
        batch[mask.name] = torch.ones_like(batch[mask.name])
    return bench.float64(batch)


def _positions(bench: Bench, mask: Tensor) -> Inputs:
    declared = probes.by_role(bench.interface, "positions")
    if declared is not None:
        return {declared.name: probes.positions_of(mask)}
    if bench.loader.kind == "transformers" and "position_ids" in bench.model.accepts:
        return {"position_ids": probes.positions_of(mask)}
    return {}


@measurement
def padding_gap(bench: Bench, side: str) -> Difference:
    """Real tokens of padded rows against the same rows alone."""
    batch = padded_run(bench, side)
    rows = []
    for row, length in enumerate(padded_lengths(bench)):
        want = alone(bench, row, length)
        got = {}
        for name in want:
            value = batch[name][row : row + 1]
            axis = probes.sequence_axis(bench.interface, name)
            if axis is not None:
                start = 0 if side == "right" else value.shape[axis] - length
                value = value.narrow(axis, start, length)
            got[name] = value
        found = difference(got, want)
        here = found.where.replace("[0", f"[{row}", 1)
        where = f"{here}, counted over the {length} real tokens of the row"
        rows.append(replace(found, where=where))
    return worst(rows)


def mask_ignored(bench: Bench, side: str) -> bool:
    """Whether masked and unmasked padding give bitwise the same outputs."""
    masked, plain = padded_run(bench, side), padded_run(bench, side, masked=False)
    return all(torch.equal(masked[name], plain[name]) for name in masked)


def sequence_outputs(bench: Bench, outputs: Outputs) -> dict[str, int]:
    """Outputs with a sequence axis and its position; not applicable where there is none."""
    found = {
        name: axis
        for name in outputs
        if (axis := probes.sequence_axis(bench.interface, name)) is not None
    }
    if not found:
        raise NotApplicable("no output has a sequence axis")
    return found


@measurement
def future_gap(bench: Bench) -> Difference:
    """Outputs before the last position, with the last token changed and not changed."""
    want = float64(bench)
    axes, width = sequence_outputs(bench, want), width_of(bench)
    if width < 2:
        raise NotApplicable("the interface allows only one token a row")
    got = bench.float64(_other_last_token(bench))
    earlier = [
        {name: outputs[name].narrow(axis, 0, width - 1) for name, axis in axes.items()}
        for outputs in (got, want)
    ]
    return difference(*earlier)


def _other_last_token(bench: Bench) -> Inputs:
    changed = {}
    for spec in bench.interface.inputs:
        value = bench.inputs("typical")[spec.name].clone()
        axis = probes.sequence_axis(bench.interface, spec.name)
        if axis is not None and probes.role(spec) in ("tokens", "values"):
            last, first = value.select(axis, -1), value.select(axis, 0)
            low, high = spec.range or (0, 1)
            other = torch.where(first == last, low + high - last, first)
            last.copy_(other.to(value.dtype))
        changed[spec.name] = value
    return changed


@measurement
def prefix_gap(bench: Bench) -> Difference:
    """Outputs for the first half alone against the first half of the outputs."""
    want, width = float64(bench), width_of(bench)
    axes = sequence_outputs(bench, want)
    axis_range = bench.interface.axes.get("sequence")
    half = max(width // 2, axis_range.min if axis_range else 1)
    if half >= width:
        raise NotApplicable(f"the interface allows only sequences of {width}")
    got = bench.float64(probes.cut(bench.interface, bench.inputs("typical"), half, bench.rules))
    first = {name: want[name].narrow(axis, 0, half) for name, axis in axes.items()}
    return difference({name: got[name] for name in axes}, first)


@measurement
def cache_gap(bench: Bench) -> Difference:
    """Decoding token by token with a cache against one full pass, at the decoded positions."""
    decoder = "decoder-tokens" if bench.task == "seq2seq-lm" else "tokens"
    spec = probes.by_role(bench.interface, decoder)
    if spec is None:
        raise NotApplicable(f"no input holds {decoder}")
    if bench.task == "causal-lm" and not bench.interface.capabilities.causal:
        raise NotApplicable("a full pass looks both ways, which decoding token by token cannot")
    want = float64(bench)["logits"]
    width = bench.inputs("typical")[spec.name].shape[1]
    # A decoder beside an encoder is always begun with one token, and some know no other way.
    start = 1 if bench.task == "seq2seq-lm" else max(1, width - CACHED_STEPS)
    if start >= width:
        raise NotApplicable("the interface allows only one token a row")
    stop = min(width, start + CACHED_STEPS)
    got = bench.in_float64(lambda oracle: _decode(bench, oracle, spec.name, start, stop))
    bench.count(stop - start)
    return difference({"logits": got}, {"logits": want[:, start:stop]})


@measurement
def constants_gap(bench: Bench) -> Difference:
    """What one unit of rounding of every constant does: its buffers hold them in its own dtype.

    A constant that one way of computing reads from a buffer, and another derives anew, differs by
    its rounding, which float64 shows and which says nothing of the model.
    """

    def moved(oracle: LoadedModel) -> Outputs:
        twin = oracle.with_module(copy.deepcopy(oracle.module))
        generator = torch.Generator().manual_seed(59)
        for name, kept in bench.model.module.named_buffers():
            if kept.is_floating_point():
                signs = torch.randint(0, 2, kept.shape, generator=generator) * 2.0 - 1.0
                unit = 1 + torch.finfo(kept.dtype).eps * signs.double()
                twin.module.get_buffer(name).mul_(unit.to(kept.device))
        return twin.forward(bench.inputs("typical"))

    return difference(bench.in_float64(moved), float64(bench))


def _decode(bench: Bench, oracle: LoadedModel, name: str, start: int, stop: int) -> Tensor:
    inputs = dict(bench.inputs("typical"))
    tokens, cache, steps = inputs[name], None, []
    mask = probes.by_role(bench.interface, "mask")
    ends = list(range(start, stop + 1))
    for begin, end in zip([0, *ends], ends, strict=False):
        step: dict[str, Any] = {**inputs, name: tokens[:, begin:end], "use_cache": True}
        if mask is not None and name != "decoder_input_ids":
            step[mask.name] = inputs[mask.name][:, :end]
        for spec in bench.interface.inputs:
            if probes.role(spec) in ("segments", "positions") and name != "decoder_input_ids":
                step[spec.name] = inputs[spec.name][:, begin:end]
        if cache is not None:
            step[oracle.cache_name] = cache
        returned = oracle.call(step)
        cache = getattr(returned, oracle.cache_name)
        steps.append(returned.logits[:, -1:])
    return torch.cat(steps[1:], dim=1)


@measurement
def attention_gap(bench: Bench) -> Difference:
    """The other implementation of attention against the one in use."""
    want, oracle = float64(bench), bench.oracle
    module, other = oracle.module, other_attention(oracle)
    if other is None or not hasattr(module, "set_attn_implementation"):
        raise NotApplicable("the architecture offers no choice of attention implementation")
    if not getattr(module, "_supports_sdpa", False):
        raise NotApplicable("the architecture has no scaled-dot-product implementation")
    try:
        with oracle.attention(other):
            if oracle.config._attn_implementation != other:
                raise NotApplicable(f"the architecture does not switch to {other}")
            got = bench.float64(bench.inputs("typical"))
    except (ValueError, ImportError) as error:
        raise NotApplicable(f"the architecture has no {other} attention: {error}") from error
    return difference(got, want)


def other_attention(model: LoadedModel) -> str | None:
    """The implementation that could take the place of the one in use."""
    return OTHER_ATTENTION.get(str(getattr(model.config, "_attn_implementation", None)))


@measurement
def threads_gap(bench: Bench) -> Difference:
    """Two threads against one, on one row."""
    if bench.options.device.type != "cpu":
        raise NotApplicable("threads matter on the cpu only")
    row = probes.rows(bench.inputs("typical"), slice(0, 1))
    want = alone(bench, 0, 0)
    with threads(2):
        if torch.get_num_threads() != 2:
            raise Inconclusive("torch does not allow a second thread here")
        got = bench.float64(row)
    return difference(got, want)
